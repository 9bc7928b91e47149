"""Walk an epoch backwards within a memory budget (Griewank and Walther 2000)."""

import itertools
import math
from collections.abc import Callable, Iterator

import torch

from worker.engine.errors import EngineError
from worker.engine.trajectory.files import Point

# Sets of parameters that walking an epoch backwards holds at least: the start, a later point, and the one that is being made.
LEAST_ROOM = 3
# What torch's own memory begins at multiples of. A budget does not count what this leaves empty.
ALIGNED_BYTES = {"cpu": 64, "cuda": 512}
# Makes step t of an epoch: advance(point, t).
Advance = Callable[[Point, int], Point]
# Told where a replay ended.
Arrived = Callable[[Point], None]


def backwards(
    start: Point, steps: int, room: int, advance: Advance, arrived: Arrived
) -> Iterator[tuple[int, Point]]:
    """The points (t, (θ_t, s_t)) of an epoch, last first, replayed from its start with at most `room` of them in memory, three or more.

    That is as long as nobody holds a point while asking for the next.
    Where not all fit, some are kept on the way and what lies between them is replayed when its turn comes, by the schedule that repeats the
    fewest steps (Griewank and Walther 2000, Algorithm 799: Revolve). advance(point, t) makes step t. arrived(point) is called once with the
    epoch's end, to be checked.
    """
    points = _Points(start, min(steps, room - 1))
    points.push(start)
    del start
    kept = [0]  # where the points before the last stretch are
    last = steps
    while kept:
        first = kept[-1]
        # One of the room is for the point that is being made.
        while last - first > (free := room - len(kept)):
            ahead = _ahead(last - first, free)
            points.push(advance(points.last(), first))
            for t in range(first + 1, first + ahead):
                points.replace(advance(points.last(), t))
            first += ahead
            kept.append(first)
        kept.pop()
        for t in range(first, last - 1):
            points.push(advance(points.last(), t))
        if last == steps:
            arrived(advance(points.last(), last - 1))
        for t in reversed(range(first, last)):
            yield t, points.pop()
        last = first


class _Points:
    """θ's and optimizer states, last in, first out, in memory that is taken once.

    One by one they would lie in the heap between the batches, and tear it into pieces that the next ones do not fit into (docs/decisions/0022).
    """

    def __init__(self, like: Point, most: int) -> None:
        self._params = _rows(like[0], most)
        self._state = {name: _rows(tensor, most) for name, tensor in like[1].items()}
        self._count = 0

    def push(self, point: Point) -> None:
        """Keep a copy of one more."""
        self._count += 1
        self.replace(point)

    def replace(self, point: Point) -> None:
        """Keep a copy in the place of the last one."""
        params, state = point
        self._params[self._count - 1] = params
        for name, rows in self._state.items():
            rows[self._count - 1] = state[name]

    def last(self) -> Point:
        """The last one, to be read only, until it is popped."""
        return self._params[self._count - 1], {
            name: rows[self._count - 1] for name, rows in self._state.items()
        }

    def pop(self) -> Point:
        """The last one. A copy: for a tangent of a view, torch takes as much memory as for all that it is a view of."""
        params, state = self.last()
        self._count -= 1
        return params.clone(), {name: tensor.clone() for name, tensor in state.items()}


def _rows(like: torch.Tensor, most: int) -> torch.Tensor:
    """Memory for `most` tensors of a kind, each aligned as one that is made alone: libraries of matrix products may round by that."""
    aligned = ALIGNED_BYTES[like.device.type] // like.element_size()
    rows = torch.empty(
        most, -(-like.numel() // aligned) * aligned, dtype=like.dtype, device=like.device
    )
    return rows[:, : like.numel()].unflatten(1, like.shape) if like.dim() else rows[:, 0]


def _ahead(steps: int, free: int) -> int:
    """How far before the next kept point, of `steps` steps that `free` points in memory, the first among them, do not hold."""
    times = _times(steps, free)
    return max(steps - _reach(free - 1, times), _reach(free, times - 2))


def _reach(free: int, times: int) -> int:
    """The most steps that can be walked backwards with `free` points in memory where none is made more than `times` times."""
    return math.comb(free - 1 + times, times)


def _times(steps: int, free: int) -> int:
    """How many times a step is made at most, in the best schedule."""
    return next(times for times in itertools.count(1) if _reach(free, times) >= steps)


def replayed_steps(steps: int, room: int) -> int:
    """How many steps `backwards` makes."""
    free = room - 1
    times = _times(steps, free)
    return times * steps - math.comb(free + times - 1, times - 1) + 1


def room_for(steps: int, budget: int, size: int, beside: int = 0) -> int:
    """How many points of `size` bytes `backwards` may hold within `budget` bytes, where `beside` more are held elsewhere.

    Raises EngineError where the budget is below two points, or below the three that an epoch of several steps needs.
    """
    if budget < 2 * size:
        raise EngineError(
            f"The memory budget of {budget:,} bytes is below two sets of parameters ({2 * size:,} bytes); allow more."
        )
    room = budget // size - beside
    if room < min(steps + 1, LEAST_ROOM):
        least = min(steps + 1, LEAST_ROOM) + beside
        raise EngineError(
            f"The memory budget of {budget:,} bytes holds {budget // size} sets of parameters, and replaying an epoch of {steps} steps needs "
            f"{least} ({least * size:,} bytes); allow more."
        )
    return room
