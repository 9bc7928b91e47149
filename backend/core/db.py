"""The database: a transaction a request or step, messages sent after its commit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.orm import Session, sessionmaker

from backend.core import queue

# Writers wait for each other; beyond this, something is stuck.
SQLITE_BUSY_MILLISECONDS = 30_000
# A host that vanished answers nothing: seconds for a connection, milliseconds for a packet.
POSTGRES_PATIENCE = {"connect_timeout": 5, "tcp_user_timeout": 20_000}


class Database:
    """An engine; `transaction()` is the only way to a session."""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        # Templates read attributes after the commit.
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Session]:
        """Commit and send the outbox, or roll back on any exception."""
        with self._sessions() as session:
            with session.begin():
                session.connection(execution_options={"winnow_write": write})
                yield session
            queue.send_outbox(session)
            for act in session.info.pop("after_commit", []):
                act()

    def close(self) -> None:
        self.engine.dispose()


def after_commit(session: Session, act: Callable[[], None]) -> None:
    """Call `act` after the session's commit, if any."""
    session.info.setdefault("after_commit", []).append(act)


def make_engine(url: str) -> Engine:
    """Make an engine; pragmas let processes share SQLite."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, connect_args=POSTGRES_PATIENCE)
    engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_MILLISECONDS / 1000})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # _begin_sqlite begins transactions, not the driver.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "foreign_keys=ON",
        "synchronous=NORMAL",
        f"busy_timeout={SQLITE_BUSY_MILLISECONDS}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction cannot become a writer after another's write; an immediate transaction
    # waits.
    write = connection.get_execution_options().get("winnow_write", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _session(request: Request) -> Iterator[Session]:
    database: Database = request.app.state.database
    with database.transaction(write=request.method not in ("GET", "HEAD")) as session:
        yield session


# "function" commits before the response, so no page says "saved" too early.
SessionDep = Annotated[Session, Depends(_session, scope="function")]
