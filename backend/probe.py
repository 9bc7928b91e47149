"""Probes for supervisors: `python -m backend.probe web`, `python -m backend.probe worker`.

They load almost nothing, so that a busy machine answers them in time. `winnow health` says more.
"""

import os
import socket
import sys
from pathlib import Path

from backend.core.liveness import SILENT_SECONDS, own_sign

WEB_SECONDS = 8.0


def web() -> str:
    """Ask the web, and through it the database. Raises OSError."""
    host, port = os.environ.get("WINNOW_HOST", "127.0.0.1"), os.environ.get("WINNOW_PORT", "8000")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    request = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, int(port)), WEB_SECONDS) as connection:
        connection.sendall(request.encode())
        status = connection.makefile("rb").readline().decode("latin-1").split()
    if status[1:2] != ["200"]:
        raise OSError(f"the web answers {' '.join(status) or 'nothing'}")
    return f"The web answers at {host}:{port}."


def worker() -> str:
    """Look for a sign of life of this host's worker. Raises OSError."""
    sign = own_sign(Path(os.environ.get("WINNOW_HOME", ".winnow")))
    if sign is None:
        raise OSError("no worker of this host runs in this folder")
    said = f"worker {sign.pid} gave its last sign of life {sign.age:.0f} s ago"
    if not sign.is_fresh:
        raise OSError(f"{said}; more than {SILENT_SECONDS:.0f} s are too many")
    return f"The {said}."


PROBES = {"web": web, "worker": worker}


def main(words: list[str]) -> int:
    """Print a sentence; return 0 if what the word names is well."""
    if len(words) != 1 or words[0] not in PROBES:
        print("Say what to ask: python -m backend.probe web, or worker.", file=sys.stderr)
        return 2
    try:
        print(PROBES[words[0]]())
    except (OSError, ValueError) as error:
        print(f"Not well: {error}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
