"""Who may ask the server of a review.

Only a browser on this machine that was given the address with its token, and only a
page of this server: other origins, other names for this machine and other tokens get
nothing.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

__all__ = ["HEADERS", "App", "guard", "make_token"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
App = Callable[[_Message, _Receive, _Send], Awaitable[None]]
"""An ASGI application."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""What every answer carries."""

# Names under which a browser on this machine, or behind a tunnel to it, asks.
_LOCAL = {"127.0.0.1", "localhost", "::1"}
_CHECKED = ("host", "origin", "sec-fetch-site")


def make_token() -> str:
    """Make the part of an address that nobody guesses."""
    return secrets.token_urlsafe(24)


def _host_of(value: str) -> str:
    try:
        return urlsplit(f"//{value}").hostname or ""
    except ValueError:
        return ""


def _refusal(scope: _Message, token: str) -> tuple[int, str] | None:
    """Why a request is refused; None for one that is answered."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in _CHECKED and key in headers:
            return 400, "the same header twice"
        headers[key] = value.decode("latin-1")
    host, origin = headers.get("host", ""), headers.get("origin")
    # A name that an attacker's page made to point here is not among these.
    if _host_of(host) not in _LOCAL:
        return 403, "this server answers to localhost only"
    if origin is None and scope["method"] not in ("GET", "HEAD"):
        return 403, "no origin"
    if origin is not None and origin != f"http://{host}":
        return 403, "another origin"
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return 403, "another site"
    parts = scope["path"].split("/")
    given = os.fsencode(parts[1]) if len(parts) > 2 else b""
    if not secrets.compare_digest(given, os.fsencode(token)):
        return 404, "not found"
    return None


def guard(inner: App, token: str) -> App:
    """Let through to an application only who may ask, and mark its answers.

    Args:
      inner: What answers.
      token: First part of every path.
    """

    async def guarded(scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            # A web socket is let in by nobody, and nothing waits for a start.
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return

        async def marked(message: _Message) -> None:
            if message["type"] == "http.response.start":
                own = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                if all(name != b"cache-control" for name, _ in message["headers"]):
                    own.append((b"cache-control", b"no-store"))
                message["headers"] = [*message["headers"], *own]
            await send(message)

        refused = _refusal(scope, token)
        if refused is None:
            await inner(scope, receive, marked)
            return
        body = json.dumps({"error": refused[1]}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        start = {
            "type": "http.response.start",
            "status": refused[0],
            "headers": headers,
        }
        await marked(start)
        await marked({"type": "http.response.body", "body": body})

    return guarded
