"""Child processes that decode, one a core.

multiprocessing would import the worker's main module, with torch.
"""

import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from queue import LifoQueue
from types import TracebackType
from typing import Any, Self

import numpy as np

from worker.pipeline.imports.messages import Answer, Work, receive_answer, send_work

MOST_CHILDREN = 16
PROJECT = Path(__file__).resolve().parents[3]
CRASHED = "reading this image made the decoder crash"


class _Child:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        # A dying parent closes its end, which ends the child, even after kill -9.
        command = [sys.executable, "-m", "worker.pipeline.imports.child", str(theirs.fileno())]
        paths = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL
        )
        theirs.close()
        self._connection: Connection[Any, Any] = Connection(ours.detach())

    def decode(self, work: Work) -> Answer:
        """Send work and wait. Raises EOFError or ConnectionError if the child died."""
        send_work(self._connection, work)
        return receive_answer(self._connection)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._connection.close()


class Pool:
    """Answers work in order, with bounded work under way; its exit ends the children."""

    def __init__(self, size: int | None = None) -> None:
        self.size = size or min(len(os.sched_getaffinity(0)), MOST_CHILDREN)
        self._threads = ThreadPoolExecutor(self.size, thread_name_prefix="import")
        # Last in, first out: a small import needs only one child.
        self._idle: LifoQueue[_Child | None] = LifoQueue()
        self._children: list[_Child] = []
        self._closed = False
        for _ in range(self.size):
            self._idle.put(None)  # started when first needed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        # Ends the threads that wait for an answer.
        for child in list(self._children):
            child.process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for child in self._children:
            child.close()

    def run(self, works: Iterable[Work]) -> Iterator[Answer]:
        """Yield answers in the order of the work. Raises OSError on a full disk."""
        waiting: deque[Future[Answer]] = deque()
        for work in works:
            waiting.append(self._threads.submit(self._answer, work))
            if len(waiting) > self.size + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _answer(self, work: Work) -> Answer:
        try:
            return self._decode(work)
        except (EOFError, ConnectionError):
            if self._closed:
                raise
            # An image killed the child: retried singly, only that image is refused.
            if len(work.payloads) == 1:
                return Answer([CRASHED], np.empty((0, *(work.shape or (0, 0, 0))), np.uint8))
            parts = [self._answer(replace(work, payloads=[one])) for one in work.payloads]
            return Answer(
                [image for part in parts for image in part.images],
                np.concatenate([part.pixels for part in parts]),
            )

    def _decode(self, work: Work) -> Answer:
        child = self._idle.get()
        if child is None:
            child = _Child()
            self._children.append(child)
        try:
            answer = child.decode(work)
        except (EOFError, ConnectionError):
            child.close()
            self._children.remove(child)
            self._idle.put(None)
            raise
        except BaseException:
            self._idle.put(child)
            raise
        self._idle.put(child)
        return answer
