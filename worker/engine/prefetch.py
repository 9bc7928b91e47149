"""The next batch, made while this one is used."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """make(t) for steps t of an epoch, the next one made in a thread meanwhile. make must be a pure function, so no result changes.

    steps: of the epoch. towards: 1 where steps are asked for in order, −1 in reverse. An order that jumps costs a batch made in vain.
    """

    def __init__(self, make: Callable[[int], T], steps: int, towards: int = 1) -> None:
        self._make = make
        self._steps = range(steps)
        self._towards = towards
        self._pool = ThreadPoolExecutor(1, "ahead")
        self._next: tuple[int, Future[T]] | None = None

    def __call__(self, t: int) -> T:
        """make(t), and start on the one after it. Raises what make raises."""
        waiting, self._next = self._next, None
        if waiting is not None and waiting[0] != t:
            waiting[1].cancel()
            waiting = None
        result = self._make(t) if waiting is None else waiting[1].result()
        after = t + self._towards
        if after in self._steps:
            self._next = after, self._pool.submit(self._make, after)
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
