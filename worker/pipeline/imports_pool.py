"""Child processes that measure and decode, one a core. Plain subprocesses: the worker's own main module (torch and all) is not imported again."""

import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import numpy as np

from worker.pipeline.imports_child import DecodeChunk, DecodedChunk, MeasureChunk
from worker.pipeline.imports_decoding import Measured

MOST_CHILDREN = 16
PROJECT = Path(__file__).resolve().parents[2]
CRASHED = "reading this image made the decoder crash"


class _Child:
    """A process and our end of its socket."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        # A dying parent closes its end, which ends the child; nothing is left running after kill -9.
        command = [sys.executable, "-m", "worker.pipeline.imports_child", str(theirs.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL)
        theirs.close()
        self._connection: Connection[Any, Any] = Connection(ours.detach())

    def ask(self, chunk: object) -> Any:
        """Send a chunk and wait for the answer. Raises EOFError or ConnectionError when the child died of it."""
        self._connection.send(chunk)
        answer = self._connection.recv()
        if isinstance(answer, OSError):
            raise answer
        return answer

    def close(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()


class Pool:
    """Answers chunks in their order, with a bounded number under way. A context manager: leaving it ends the children at once."""

    def __init__(self, size: int | None = None) -> None:
        self.size = size or min(len(os.sched_getaffinity(0)), MOST_CHILDREN)
        self._threads = ThreadPoolExecutor(self.size, thread_name_prefix="import")
        self._idle: SimpleQueue[_Child | None] = SimpleQueue()
        self._children: list[_Child] = []
        for _ in range(self.size):
            self._idle.put(None)  # started when first needed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for child in list(self._children):
            child.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def measure(self, chunks: Iterable[MeasureChunk]) -> Iterator[list[Measured | str]]:
        """Sizes, chunk by chunk in order."""
        return self._in_order(chunks, self._measure)

    def decode(self, chunks: Iterable[DecodeChunk]) -> Iterator[DecodedChunk]:
        """Pixels and hashes, chunk by chunk in order. Raises OSError where the disk is full."""
        return self._in_order(chunks, self._decode)

    def _in_order[Chunk, Answer](self, chunks: Iterable[Chunk], work: Callable[[Chunk], Answer]) -> Iterator[Answer]:
        waiting: deque[Future[Answer]] = deque()
        for chunk in chunks:
            waiting.append(self._threads.submit(work, chunk))
            if len(waiting) > self.size + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _measure(self, chunk: MeasureChunk) -> list[Measured | str]:
        try:
            return list(self._ask(chunk))
        except (EOFError, ConnectionError):
            if len(chunk.payloads) == 1:
                return [CRASHED]
            return [answer for one in chunk.payloads for answer in self._measure(replace(chunk, payloads=[one]))]

    def _decode(self, chunk: DecodeChunk) -> DecodedChunk:
        try:
            answer: DecodedChunk = self._ask(chunk)
        except (EOFError, ConnectionError):
            # One image of the chunk killed the child: one by one, only that one is refused.
            if len(chunk.payloads) == 1:
                return DecodedChunk([CRASHED], np.empty((0, chunk.height, chunk.width, chunk.channels), np.uint8))
            parts = [self._decode(replace(chunk, payloads=[one])) for one in chunk.payloads]
            return DecodedChunk([answer for part in parts for answer in part.answers], np.concatenate([part.pixels for part in parts]))
        return answer

    def _ask(self, chunk: object) -> Any:
        child = self._idle.get()
        if child is None:
            child = _Child()
            self._children.append(child)
        try:
            answer = child.ask(chunk)
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
