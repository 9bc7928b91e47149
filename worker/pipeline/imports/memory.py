"""The memory that all decodings under way share."""

import threading
from collections import deque
from typing import Any


class Memory:
    """Hands out bytes in the order of asking; what asks for all of them is alone."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._held: dict[Any, int] = {}
        self._queue: deque[Any] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def take(self, holder: Any, size: int) -> None:
        """Wait until `size` bytes are free; they replace what the holder had."""
        size = min(size, self._total)
        with self._changed:
            self._held.pop(holder, None)
            self._queue.append(holder)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or self._is_turn(holder, size))
            self._queue.remove(holder)
            self._held[holder] = size
            self._changed.notify_all()

    def give_back(self, holder: Any) -> None:
        with self._changed:
            if self._held.pop(holder, None) is not None:
                self._changed.notify_all()

    def close(self) -> None:
        """Let all go on: their work is over."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _is_turn(self, holder: Any, size: int) -> bool:
        return self._queue[0] is holder and sum(self._held.values()) + size <= self._total
