"""Prepare the next batch during the current step."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Compute make(t) one step ahead, in a thread.

    Args:
        stride: 1 for steps in order, −1 in reverse.
    """

    def __init__(self, make: Callable[[int], T], steps: int, stride: int = 1) -> None:
        self._make = make
        self._steps = range(steps)
        self._stride = stride
        self._pool = ThreadPoolExecutor(1, "prefetch")
        self._next: tuple[int, Future[T]] | None = None

    def __call__(self, t: int) -> T:
        """Return make(t) and start on the next step."""
        pending, self._next = self._next, None
        if pending is not None and pending[0] != t:
            pending[1].cancel()
            pending = None
        result = self._make(t) if pending is None else pending[1].result()
        following = t + self._stride
        if following in self._steps:
            self._next = following, self._pool.submit(self._make, following)
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
