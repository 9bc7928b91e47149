"""The names of claims: which machine, which process, and a random part. A restarted worker knows by them what its dead predecessor held."""

import os
import secrets
import socket
from functools import cache

import psutil
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.models import Job

# Start times come from the clock, which may be set meanwhile.
START_TOLERANCE_SECONDS = 2.0


def new() -> str:
    """A name that no other attempt has: machine:pid:start:random."""
    pid = os.getpid()
    return f"{_machine()}:{pid}:{psutil.Process(pid).create_time():.2f}:{secrets.token_hex(8)}"


def is_dead(claim: str) -> bool:
    """Whether the process that made this claim ran on this machine and is gone. False where that cannot be known."""
    try:
        machine, pid, start, _ = claim.rsplit(":", 3)
        number, began = int(pid), float(start)
    except ValueError:
        return False
    if machine != _machine():
        return False
    try:
        process = psutil.Process(number)
        return bool(
            process.status() == psutil.STATUS_ZOMBIE
            or abs(process.create_time() - began) > START_TOLERANCE_SECONDS
        )
    except psutil.NoSuchProcess:
        return True


def of_dead_processes(session: Session) -> list[str]:
    """The claims of running jobs whose process is gone."""
    held = session.scalars(select(Job.claim).where(Job.state == "running", Job.claim.is_not(None)))
    return [claim for claim in held if claim is not None and is_dead(claim)]


@cache
def _machine() -> str:
    # Containers can share a host name while their process numbers mean nothing to each other: the namespace tells them apart.
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # not Linux: no such namespaces
        namespace = 0
    return f"{socket.gethostname()[:40]}/{namespace}"
