"""The web's transactions: each in one thread, few at once, waiting outside of threads.

A transaction that spans threads can starve: those who wait for it fill the threads that it needs.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, TypeVar

from anyio import CapacityLimiter, move_on_after, to_thread
from fastapi import Depends, Request
from sqlalchemy import text
from sqlalchemy.orm import Session

from backend.core.db import Database
from backend.core.errors import Unavailable
from backend.web.cross_origin import SAFE_METHODS

Result = TypeVar("Result")
Acts = list[Callable[[], None]]

# SQLite takes one writer; its own waiting is unfair. SQLite works in this process, so more readers
# only take time from the writer. PostgreSQL's writers of a review wait for each other's row lock.
WRITERS = {"sqlite": 1, "postgresql": 4}
READERS = {"sqlite": 4, "postgresql": 8}
CHECKS = 2
# Shorter than a browser's patience.
LONGEST_WAIT_SECONDS = 10.0
MOST_WAITING = 1000


class Busy(Unavailable):
    """Too many requests wait for the database."""

    retry_after = 2

    def __init__(self) -> None:
        super().__init__(
            "Winnow is busy: too many requests are waiting. Nothing was changed; try again in a "
            "few seconds."
        )


class Transactions:
    """Runs functions in transactions, in turn."""

    def __init__(self, database: Database) -> None:
        self._database = database
        dialect = database.engine.dialect.name
        self._readers = CapacityLimiter(READERS[dialect])
        self._writers = CapacityLimiter(WRITERS[dialect])
        self._checks = CapacityLimiter(CHECKS)

    async def read(self, act: Callable[[Session], Result]) -> Result:
        """Return `act(session)`. Raises Busy."""
        async with _turn(self._readers):
            result, _ = await self._run(act, write=False)
        return result

    async def write(self, act: Callable[[Session], Result]) -> Result:
        """Return `act(session)` after its commit. Raises Busy."""
        async with _turn(self._writers):
            result, later = await self._run(act, write=True)
        # The next writer waits neither for the broker nor for files to be deleted.
        if later:
            await to_thread.run_sync(_call, later)
        return result

    async def check(self) -> None:
        """Raise unless the database answers; waits behind nobody."""
        async with _turn(self._checks):
            await self._run(lambda session: session.execute(text("SELECT 1")), write=False)

    async def _run(self, act: Callable[[Session], Result], *, write: bool) -> tuple[Result, Acts]:
        def whole() -> tuple[Result, Acts]:
            later: Acts = []
            with self._database.transaction_alone(later, write=write) as session:
                result = act(session)
            return result, later

        # Its own limiter: whose turn it is gets a thread at once.
        return await to_thread.run_sync(whole, limiter=CapacityLimiter(1))


def _call(acts: Acts) -> None:
    for act in acts:
        act()


@asynccontextmanager
async def _turn(limiter: CapacityLimiter) -> AsyncIterator[None]:
    """Wait in line, first come, first served. Raises Busy."""
    if limiter.statistics().tasks_waiting >= MOST_WAITING:
        raise Busy
    borrower = object()
    with move_on_after(LONGEST_WAIT_SECONDS) as waiting:
        await limiter.acquire_on_behalf_of(borrower)
    if waiting.cancelled_caught:
        raise Busy
    try:
        yield
    finally:
        limiter.release_on_behalf_of(borrower)


class Pending:
    """A request's transaction, which begins once the endpoint is called."""

    def __init__(self, request: Request) -> None:
        self._request = request

    async def run(self, act: Callable[[Session], Result]) -> Result:
        """Check the sender again, and call `act`, in one transaction."""
        transactions: Transactions = self._request.app.state.transactions
        check: Callable[[Session], None] | None = getattr(self._request.state, "check_sender", None)

        def checked(session: Session) -> Result:
            if check is not None:
                check(session)
            return act(session)

        if self._request.method in SAFE_METHODS:
            return await transactions.read(checked)
        return await transactions.write(checked)


async def _pending(request: Request) -> Pending:
    return Pending(request)


# Endpoints get the session that backend/web/routes.py makes of it.
SessionDep = Annotated[Session, Depends(_pending)]
