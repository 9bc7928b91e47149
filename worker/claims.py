"""Names of claims, by which a worker recognizes its dead predecessor's jobs."""

import os
import secrets
import socket
from functools import cache
from pathlib import Path

import psutil
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.models import Job

# The clock may be set in between.
START_TOLERANCE_SECONDS = 2.0


def new() -> str:
    """Make a unique name: machine:pid:start:random."""
    pid = os.getpid()
    return f"{_machine()}:{pid}:{psutil.Process(pid).create_time():.2f}:{secrets.token_hex(8)}"


def is_dead(claim: str) -> bool:
    try:
        machine, pid, start, _ = claim.rsplit(":", 3)
        pid_number, started = int(pid), float(start)
    except ValueError:
        return False
    if machine != _machine():
        return False
    try:
        process = psutil.Process(pid_number)
        return bool(
            process.status() == psutil.STATUS_ZOMBIE
            or abs(process.create_time() - started) > START_TOLERANCE_SECONDS
        )
    except psutil.NoSuchProcess:
        return True


def of_dead_processes(session: Session) -> list[str]:
    held = session.scalars(select(Job.claim).where(Job.state == "running", Job.claim.is_not(None)))
    return [claim for claim in held if claim is not None and is_dead(claim)]


@cache
def _machine() -> str:
    """Name the space in which a process number means one process.

    Hosts may share a name, and containers a host; a boot and a namespace of processes tell them
    apart.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", "")[:16]
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # not Linux
        boot, namespace = f"{psutil.boot_time():.0f}", 0
    return f"{socket.gethostname()[:30]}/{boot}/{namespace}"
