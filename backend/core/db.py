"""The database: a transaction a request or step, messages sent after its commit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session, sessionmaker

from backend.core import queue

# Writers wait for each other; beyond this, something is stuck.
SQLITE_BUSY_SECONDS = 30.0
# A host that vanished answers nothing: seconds for a connection, milliseconds for a packet.
POSTGRES_PATIENCE = {"connect_timeout": 5, "tcp_user_timeout": 20_000}
# The web's readers and writers (backend/web/transactions.py); then downloads, which may read within
# a request's transaction, sweep and health check.
POOL = {"pool_size": 12, "max_overflow": 20, "pool_timeout": 10}

DAMAGED = (
    "The database's file is damaged. The administrator must stop Winnow, put a copy of winnow.db "
    "aside, and restore the latest backup (docs/operations.md)."
)


class Database:
    """An engine; `transaction()` is the only way to a session."""

    def __init__(self, url: str, *, busy_seconds: float = SQLITE_BUSY_SECONDS) -> None:
        self.engine = make_engine(url, busy_seconds=busy_seconds)
        # Templates read attributes after the commit.
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Session]:
        """Commit and send the outbox, or roll back on any exception."""
        later: list[Callable[[], None]] = []
        with self.transaction_alone(later, write=write) as session:
            yield session
        for act in later:
            act()

    @contextmanager
    def transaction_alone(
        self, later: list[Callable[[], None]], *, write: bool = True
    ) -> Iterator[Session]:
        """Commit or roll back; `later` takes what is to be done after the commit."""
        with self._sessions() as session:
            with session.begin():
                session.connection(execution_options={"winnow_write": write})
                yield session
            if "outbox" in session.info:
                later.append(partial(queue.send_outbox, session))
            later += session.info.pop("after_commit", [])

    def find_damage(self) -> str | None:
        """Return the first fault that SQLite finds in its file, or None. Reads all of it."""
        if self.engine.dialect.name != "sqlite":
            return None
        try:
            with self.transaction(write=False) as session:
                found = str(session.scalar(text("PRAGMA quick_check(1)")))
        except DatabaseError as error:
            if not is_damage(error):
                raise
            return str(error.orig)
        return None if found == "ok" else found

    def close(self) -> None:
        self.engine.dispose()


def is_damage(error: DatabaseError) -> bool:
    """True for SQLite's errors about a damaged file."""
    return any(words in str(error.orig) for words in ("malformed", "not a database"))


def after_commit(session: Session, act: Callable[[], None]) -> None:
    """Call `act` after the session's commit, if any."""
    session.info.setdefault("after_commit", []).append(act)


def make_engine(url: str, *, busy_seconds: float = SQLITE_BUSY_SECONDS) -> Engine:
    """Make an engine; pragmas let processes share SQLite.

    busy_seconds: how long a writer waits for SQLite's other writers.
    """
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, connect_args=POSTGRES_PATIENCE, **POOL)
    engine = create_engine(url, connect_args={"timeout": busy_seconds}, **POOL)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # _begin_sqlite begins transactions, not the driver.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction cannot become a writer after another's write; an immediate transaction
    # waits.
    write = connection.get_execution_options().get("winnow_write", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
