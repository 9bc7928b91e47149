"""`winnow serve` in a process of its own, on a free port."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil

from backend.core.settings import Settings


@dataclass
class Served:
    port: int
    process: psutil.Process
    log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def served(settings: Settings, **environment: str) -> Iterator[Served]:
    """Serve these settings' folder and database until the end of the block."""
    log = settings.home / "web.log"
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as door, log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "backend.cli", "serve", "--socket", str(door.fileno())],
            env={
                **os.environ,
                "WINNOW_HOME": str(settings.home),
                "WINNOW_DATABASE_URL": settings.database_url,
                **environment,
            },
            pass_fds=[door.fileno()],
            stdout=output,
            stderr=output,
        )
        try:
            made = Served(door.getsockname()[1], psutil.Process(process.pid), log)
            # The socket listens already: this waits until somebody answers.
            httpx2.get(f"{made.address}/health", timeout=30, trust_env=False).raise_for_status()
            yield made
        finally:
            process.terminate()
            process.wait(20)
