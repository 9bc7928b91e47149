"""The web's transactions: each in one thread, few at once, waiting outside of threads.

A transaction that spans threads can starve: those who wait for it fill the threads that it needs.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, TypeVar

from anyio import to_thread
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
READERS = {"sqlite": 2, "postgresql": 8}
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


class Line:
    """Threads that call functions in turn, first come, first served.

    They take the next function themselves: asking the event loop would cost each several rounds.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._threads = ThreadPoolExecutor(places, "transactions")
        self._unfinished = 0

    async def call(self, act: Callable[[], Result]) -> Result:
        """Return `act()`. Raises Busy instead of waiting long."""
        if max(0, self._unfinished - self._places) >= MOST_WAITING:
            raise Busy
        job = self._threads.submit(act)
        # Cancels only what has not begun.
        patience = asyncio.get_running_loop().call_later(LONGEST_WAIT_SECONDS, job.cancel)
        self._unfinished += 1
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            if patience.when() <= asyncio.get_running_loop().time() and job.cancelled():
                raise Busy from None
            raise
        finally:
            patience.cancel()
            self._unfinished -= 1


class Transactions:
    """Runs functions in transactions, in turn."""

    def __init__(self, database: Database) -> None:
        self._database = database
        dialect = database.engine.dialect.name
        self._readers = Line(READERS[dialect])
        self._writers = Line(WRITERS[dialect])
        self._checks = Line(CHECKS)

    async def read(self, act: Callable[[Session], Result]) -> Result:
        """Return `act(session)`. Raises Busy."""
        result, _ = await self._readers.call(partial(self._run, act, write=False))
        return result

    async def write(self, act: Callable[[Session], Result]) -> Result:
        """Return `act(session)` after its commit. Raises Busy."""
        result, later = await self._writers.call(partial(self._run, act, write=True))
        # The next writer waits neither for the broker nor for files to be deleted.
        if later:
            await to_thread.run_sync(_call, later)
        return result

    async def check(self) -> None:
        """Raise unless the database answers; waits behind nobody."""
        ask = partial(self._run, lambda session: session.execute(text("SELECT 1")), write=False)
        await self._checks.call(ask)

    def _run(self, act: Callable[[Session], Result], *, write: bool) -> tuple[Result, Acts]:
        later: Acts = []
        with self._database.transaction_alone(later, write=write) as session:
            result = act(session)
        return result, later


def _call(acts: Acts) -> None:
    for act in acts:
        act()


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
