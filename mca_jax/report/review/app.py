"""The pages and answers of a review, as an application for an ASGI server.

Needs Starlette, of the extra ``review``: nothing imports this module before somebody
wants to review. A picture is asked for by its row, never by a path.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mca_jax.core.errors import InputError
from mca_jax.core.text import load_json
from mca_jax.report.review.desk import Desk, StaleError
from mca_jax.report.review.guard import App, guard

__all__ = ["build_app"]

_MOST_BYTES = 2**25
_ASSETS = {
    "": ("review.html", "text/html"),
    "review.js": ("review.js", "text/javascript"),
    "base.css": ("base.css", "text/css"),
    "review.css": ("review.css", "text/css"),
}
_STALE = "Another window has changed the groups; this one shows them as they are now"


def _failure(text: str, status: int) -> Response:
    return JSONResponse({"error": text}, status)


def _asset(request: Request) -> Response:
    """The page, or one of its parts."""
    found = _ASSETS.get(request.path_params.get("asset", ""))
    if found is None:
        return _failure("not found", 404)
    file, kind = found
    folder = resources.files("mca_jax.report") / "templates"
    return Response((folder / file).read_bytes(), media_type=kind)


def _number(request: Request, name: str, default: int | None = None) -> int:
    text = request.query_params.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError as error:
        raise InputError(f"Expected a number for {name}") from error


async def _read_json(request: Request) -> dict[str, Any] | Response:
    """The object that a request holds, or the answer to one that holds none."""
    if request.headers.get("content-type", "").split(";")[0] != "application/json":
        return _failure("expected JSON", 415)
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > _MOST_BYTES:
            return _failure("too long", 413)
    try:
        body = load_json(bytes(content))
    except ValueError:
        body = None
    return body if isinstance(body, dict) else _failure("expected an object", 400)


class _Answers:
    """Answers requests at a desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._asked: dict[str, Callable[[Request], Any]] = {
            "state": lambda request: desk.state(),
            "version": lambda request: {"version": desk.version()},
            "rows": self._rows,
            "duplicates": lambda request: desk.duplicates(),
            "suggest": lambda request: desk.suggest(_number(request, "group")),
            "like": lambda request: desk.like(_number(request, "row")),
            "word": lambda request: desk.word(request.query_params.get("text", "")),
            "tree": lambda request: desk.tree(),
            "compare": self._compare,
        }
        self._told: dict[str, Callable[[dict[str, Any]], Any]] = {
            "edit": desk.edit,
            "learn": lambda body: desk.learn(body.get("version")),
            "questions": lambda body: desk.ask(body.get("skip", [])),
            "export": lambda body: desk.export(str(body.get("format"))),
        }

    def _rows(self, request: Request) -> Any:
        return self._desk.rows(
            _number(request, "group"),
            order=request.query_params.get("order", "sure"),
            offset=_number(request, "offset", 0),
            limit=_number(request, "limit", 100),
        )

    def _compare(self, request: Request) -> Any:
        query = request.query_params
        return self._desk.compare(query.get("first", ""), query.get("second", ""))

    def _answer(self, make: Callable[[Any], Any] | None, asked: Any) -> Response:
        if make is None:
            return _failure("not found", 404)
        try:
            return JSONResponse(make(asked))
        except StaleError:
            return JSONResponse({"error": _STALE, "state": self._desk.state()}, 409)
        except InputError as error:
            return _failure(str(error), 400)

    def ask(self, request: Request) -> Response:
        return self._answer(self._asked.get(request.path_params["name"]), request)

    async def tell(self, request: Request) -> Response:
        body = await _read_json(request)
        if isinstance(body, Response):
            return body
        make = self._told.get(request.path_params["name"])
        return await run_in_threadpool(self._answer, make, body)

    def picture(self, request: Request) -> Response:
        try:
            row = int(request.path_params["row"])
            if not 0 <= row < self._desk.num_images:
                raise ValueError("no such picture")
            size = "large" if "large" in request.query_params else "small"
            jpeg = self._desk.pictures.jpeg(row, size)
        except ValueError as error:
            return _failure(str(error), 404)
        keep = {"Cache-Control": "private, max-age=86400"}
        return Response(jpeg, media_type="image/jpeg", headers=keep)


def build_app(desk: Desk, token: str) -> App:
    """Build the application.

    Args:
      desk: What it shows and changes.
      token: First part of every path.
    """
    answers = _Answers(desk)
    inner = Starlette(
        routes=[
            Route(f"/{token}/", _asset),
            Route(f"/{token}/picture/{{row}}", answers.picture),
            Route(f"/{token}/ask/{{name}}", answers.ask),
            Route(f"/{token}/tell/{{name}}", answers.tell, methods=["POST"]),
            Route(f"/{token}/{{asset}}", _asset),
        ]
    )
    return guard(inner, token)
