"""Child processes that decode, one a core.

multiprocessing would import the worker's main module, with torch.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from queue import LifoQueue
from types import TracebackType
from typing import Any, Self

import numpy as np

from worker.pipeline.imports.limits import memory_of
from worker.pipeline.imports.memory import Memory
from worker.pipeline.imports.messages import Answer, Work, receive_answer, send_work

MOST_CHILDREN = 16
SECONDS_AN_IMAGE = 20  # of processor
MOST_BYTES_UNDER_WAY = 32 << 20
TICK_SECONDS = 0.5
PROJECT = Path(__file__).resolve().parents[3]
# What a Python may need to start; no password, key or address.
KEPT_ENVIRONMENT = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
CRASHED = "reading this image made the decoder crash"
TOO_SLOW = "decoding took longer than {seconds} s of processor time"


def ended_its_decoder(reason: str) -> bool:
    return reason in (CRASHED, TOO_SLOW.format(seconds=SECONDS_AN_IMAGE))


class _Died(Exception):
    """A child died: the place of its image in the work, and the reason to refuse that."""

    def __init__(self, place: int, reason: str) -> None:
        self.place = place
        self.reason = reason


class _Child:
    def __init__(self, max_pixels: int) -> None:
        ours, theirs = socket.socketpair()
        self._place = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115, closed by close()
        # A dying parent closes its end, which ends the child, even after kill -9.
        descriptors = [theirs.fileno(), self._place.fileno()]
        arguments = [*descriptors, max_pixels, SECONDS_AN_IMAGE]
        module = "worker.pipeline.imports.child"
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            pass_fds=descriptors,
            env=_environment(),
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._connection: Connection[Any, Any] = Connection(ours.detach())

    def decode(self, work: Work, memory: Memory) -> Answer:
        """Send work and wait. Raises _Died."""
        try:
            send_work(self._connection, work)
            return receive_answer(self._connection, lambda size: memory.take(self, size))
        except (EOFError, ConnectionError) as error:
            raise self._death() from error
        finally:
            memory.give_back(self)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._connection.close()
        self._place.close()

    def _death(self) -> _Died:
        place = int.from_bytes(os.pread(self._place.fileno(), 4, 0), "little")
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        self.process.kill()
        if self.process.wait() == -signal.SIGXCPU:
            return _Died(place, TOO_SLOW.format(seconds=SECONDS_AN_IMAGE))
        return _Died(place, CRASHED)


class Pool:
    """Answers work in order, with bounded work under way; its exit ends the children."""

    def __init__(self, max_pixels: int, size: int | None = None) -> None:
        self.size = size or min(len(os.sched_getaffinity(0)), MOST_CHILDREN)
        self._max_pixels = max_pixels
        self._memory = Memory(memory_of(max_pixels))
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
        try:
            self._end()
        except BaseException:  # an interruption, which comes once
            self._end()
            raise

    def _end(self) -> None:
        self._closed = True
        self._memory.close()
        # Ends the threads that wait for an answer.
        for child in list(self._children):
            child.process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for child in self._children:
            child.close()

    def run(
        self, works: Iterable[Work], tick: Callable[[], None] = lambda: None
    ) -> Iterator[Answer]:
        """Yield answers in the order of the work; calls `tick` while it waits.

        Raises OSError on a full disk.
        """
        waiting: deque[tuple[Future[Answer], int]] = deque()
        held = 0
        for work in works:
            waiting.append((self._threads.submit(self._answer, work), work.bytes))
            held += work.bytes
            while len(waiting) > self.size + 2 or (waiting and held > MOST_BYTES_UNDER_WAY):
                future, size = waiting.popleft()
                yield _result(future, tick)
                held -= size
        while waiting:
            yield _result(waiting.popleft()[0], tick)

    def _answer(self, work: Work) -> Answer:
        """Answer the work; an image that ends its child is refused alone."""
        try:
            return self._decode(work)
        except _Died as death:
            if self._closed:
                raise
            place, reason = death.place, death.reason
        before, after = work.payloads[:place], work.payloads[place + 1 :]
        refusal = Answer([reason], np.empty((0, *work.shape), np.uint8))
        parts = [
            *([self._answer(replace(work, payloads=before))] if before else []),
            refusal,
            *([self._answer(replace(work, payloads=after))] if after else []),
        ]
        return Answer(
            [image for part in parts for image in part.images],
            np.concatenate([part.pixels for part in parts]),
            [sample for part in parts for sample in part.samples],
        )

    def _decode(self, work: Work) -> Answer:
        child = self._idle.get()
        if child is None:
            child = _Child(self._max_pixels)
            self._children.append(child)
            if self._closed:  # the exit may have missed it
                child.process.kill()
        try:
            answer = child.decode(work, self._memory)
        except _Died:
            child.close()
            self._children.remove(child)
            self._idle.put(None)
            raise
        except BaseException:
            self._idle.put(child)
            raise
        self._idle.put(child)
        return answer


def _result(future: Future[Answer], tick: Callable[[], None]) -> Answer:
    tick()
    while not wait([future], timeout=TICK_SECONDS).done:
        tick()
    return future.result()


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    paths = os.pathsep.join(filter(None, [str(PROJECT), kept.get("PYTHONPATH")]))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**kept, **threads, "PYTHONPATH": paths, "PYTHONUTF8": "1"}
