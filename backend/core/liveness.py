"""Signs of life of workers: a file of each in the home folder, touched while its process runs.

Uses the standard library only, so that a probe starts in a moment.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

BEAT_SECONDS = 5.0
SILENT_SECONDS = 30.0
FORGOTTEN_SECONDS = 86_400.0


@dataclass(frozen=True)
class Sign:
    """The last sign of a worker. work: what it takes, as a person reads it."""

    host: str
    pid: int
    work: str
    age: float

    @property
    def is_fresh(self) -> bool:
        return self.age <= SILENT_SECONDS


@contextmanager
def beating(home: Path, work: str) -> Iterator[None]:
    """Give signs of life of this process from a thread, until the block ends."""
    folder = _folder(home)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _forget_dead(folder)
    path = folder / f"{_host()}.{os.getpid()}.json"
    path.write_text(json.dumps({"host": _host(), "pid": os.getpid(), "work": work}))
    stopped = threading.Event()

    def beat() -> None:
        while not stopped.wait(BEAT_SECONDS):
            with suppress(OSError):  # such as a file server that is away
                now = time.time()
                os.utime(path, (now, now))

    threading.Thread(target=beat, name="sign of life", daemon=True).start()
    try:
        yield
    finally:
        stopped.set()
        with suppress(OSError):
            path.unlink()


def signs(home: Path) -> list[Sign]:
    """List the last sign of each worker, by host and process."""
    found = []
    for path in sorted(_folder(home).glob("*.json")):
        # A file may vanish, or be half written.
        with suppress(OSError, ValueError, KeyError):
            age = time.time() - path.stat().st_mtime
            written = json.loads(path.read_text())
            found.append(Sign(written["host"], written["pid"], written["work"], max(age, 0.0)))
    return found


def own_sign(home: Path) -> Sign | None:
    """Return the freshest sign of this host's workers."""
    mine = [sign for sign in signs(home) if sign.host == _host()]
    return min(mine, key=lambda sign: sign.age, default=None)


def _forget_dead(folder: Path) -> None:
    for path in folder.glob("*.json"):
        with suppress(OSError):
            host, pid, _ = path.name.rsplit(".", 2)
            gone = host == _host() and not Path(f"/proc/{pid}").exists()
            if gone or time.time() - path.stat().st_mtime > FORGOTTEN_SECONDS:
                path.unlink()


def _folder(home: Path) -> Path:
    return home / "run" / "workers"


def _host() -> str:
    return socket.gethostname()
