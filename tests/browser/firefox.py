"""The distribution's Firefox, driven over WebDriver BiDi.

Playwright drives only its own patched Firefox, which no package index has.
"""

import json
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

PATIENCE = 60


def firefox_path() -> str | None:
    """Find the installed Firefox, if any."""
    return shutil.which("firefox-esr") or shutil.which("firefox")


class Firefox:
    """A window. `errors`: its pages' logged errors and exceptions."""

    def __init__(self, path: str, profile: Path) -> None:
        command = [
            path,
            "--headless",
            "--no-remote",
            "--profile",
            str(profile),
            "--remote-debugging-port",
            "0",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._told = profile / "WebDriverBiDiServer.json"
        self._closing = ExitStack()
        self._socket = self._closing.enter_context(
            connect(f"{self._address()}/session", max_size=None)
        )
        self._last = 0
        self.errors: list[str] = []
        self.ask("session.new", capabilities={})
        self.ask("session.subscribe", events=["log.entryAdded"])
        self._window = self.ask("browsingContext.getTree")["contexts"][0]["context"]

    def _address(self) -> str:
        """Read its address from its profile, once it listens."""
        deadline = time.monotonic() + PATIENCE
        while not self._told.exists() or not self._told.read_text():
            assert self._process.poll() is None, "Firefox ended before it listened"
            assert time.monotonic() < deadline, "Firefox did not begin to listen"
            time.sleep(0.05)  # only the file shows it
        found = json.loads(self._told.read_text())
        return f"ws://{found['ws_host']}:{found['ws_port']}"

    def ask(self, method: str, **parameters: Any) -> Any:
        """Send a command and return its answer; events meanwhile are collected."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE))
            if message.get("method") == "log.entryAdded" and message["params"]["level"] == "error":
                self.errors.append(message["params"]["text"])
            if message.get("id") == self._last:
                assert message["type"] == "success", message
                return message["result"]

    def open(self, address: str) -> None:
        self.ask("browsingContext.navigate", context=self._window, url=address, wait="complete")

    def resize(self, width: int, height: int) -> None:
        self.ask(
            "browsingContext.setViewport",
            context=self._window,
            viewport={"width": width, "height": height},
        )

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, or of the promise that it is: a text, a number or a truth."""
        answer = self.ask(
            "script.evaluate",
            expression=expression,
            target={"context": self._window},
            awaitPromise=True,
        )
        assert answer["type"] == "success", answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        actions = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self.ask(
            "input.performActions",
            context=self._window,
            actions=[{"type": "key", "id": "keyboard", "actions": actions}],
        )

    def close(self) -> None:
        self._closing.close()
        self._process.terminate()
        self._process.wait(PATIENCE)
