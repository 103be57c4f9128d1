"""Drives a headless Chromium over two pipes: no port, no package, no network."""

import base64
import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from select import select
from typing import Any

__all__ = ["Chromium", "find_chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-default-browser-check",
    "--no-first-run",
    "--remote-debugging-pipe",
)
_SECONDS = 60


def find_chromium() -> str | None:
    """Path of a Chromium, or None; MCA_CHROMIUM names another one."""
    named = os.environ.get("MCA_CHROMIUM")
    return named or next(filter(None, map(shutil.which, _NAMES)), None)


class Chromium:
    """One browser with one page; a context manager."""

    def __init__(self, executable: str, profile: Path) -> None:
        """Start it with a profile folder of its own."""
        child_in, self._out = os.pipe()
        self._in, child_out = os.pipe()
        # The browser reads from 3 and writes to 4; only a shell can put them there.
        script = f'exec "$@" 3<&{child_in} 4>&{child_out}'
        switches = (*_SWITCHES, f"--user-data-dir={profile}", "about:blank")
        self._process = subprocess.Popen(
            ["bash", "-c", script, "chromium", executable, *switches],
            pass_fds=(child_in, child_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(child_in)
        os.close(child_out)
        self._unread = b""
        self._last_id = 0
        self.events: list[dict[str, Any]] = []
        pages = self.send("Target.getTargets")["targetInfos"]
        target = next(page for page in pages if page["type"] == "page")
        self._session = self.send(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    _session: str | None = None

    def _read(self) -> dict[str, Any]:
        """Next message of the browser."""
        while b"\0" not in self._unread:
            ready, _, _ = select([self._in], [], [], _SECONDS)
            assert ready, f"the browser said nothing for {_SECONDS} s"
            chunk = os.read(self._in, 1 << 20)
            assert chunk, "the browser ended"
            self._unread += chunk
        message, self._unread = self._unread.split(b"\0", 1)
        return json.loads(message)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol and wait for its result."""
        self._last_id += 1
        call: dict[str, Any] = {"id": self._last_id, "method": method, "params": params}
        if self._session is not None:
            call["sessionId"] = self._session
        os.write(self._out, json.dumps(call).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == self._last_id:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self.events.append(message)

    def wait_for(self, method: str) -> None:
        """Wait for an event that has not come yet."""
        while all(event.get("method") != method for event in self.events):
            self.events.append(self._read())

    def open(
        self,
        page: Path | str,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
    ) -> None:
        """Load a file, or an address, as a window of this size would."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = "dark" if dark else "light"
        self.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.events.clear()
        url = page if isinstance(page, str) else page.resolve().as_uri()
        self.send("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression on the page."""
        answer = self.send(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key of the keyboard."""
        kind = "keyDown" if text else "rawKeyDown"
        codes = {"Enter": 13, "Tab": 9, "Escape": 27}
        codes |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        for step in (kind, "keyUp"):
            extra = {"text": text} if text and step == kind else {}
            self.send(
                "Input.dispatchKeyEvent",
                type=step,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes.get(key, 0),
                **extra,
            )

    def screenshot(self, target: Path, *, whole: bool = False) -> None:
        """Save what the page looks like as PNG."""
        answer = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        target.write_bytes(base64.b64decode(answer["data"]))

    def complaints(self) -> list[str]:
        """Everything that the console would show in red, and every request."""
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and params["type"] in (
                "error",
                "warning",
                "assert",
            ):
                found.append(str(params["args"]))
            elif method == "Log.entryAdded":
                found.append(str(params["entry"]))
            elif method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not url.startswith(("file:", "data:")):
                    found.append(f"request for {url}")
        return found

    def close(self) -> None:
        """End the browser."""
        with suppress(AssertionError, OSError):
            self._session = None
            self.send("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def __enter__(self) -> "Chromium":
        """Return the browser."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.close()
