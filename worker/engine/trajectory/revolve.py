"""Walk an epoch backwards in bounded memory."""

import itertools
import math
from collections.abc import Callable, Iterator

import torch

from worker.engine.errors import EngineError
from worker.engine.trajectory.files import Point

# Fewest points in memory: start, later point, next point.
LEAST_ROOM = 3
# Alignment of torch's allocations.
ALIGNED_BYTES = {"cpu": 64, "cuda": 512}
Advance = Callable[[Point, int], Point]
OnEnd = Callable[[Point], None]


def backwards(
    start: Point, steps: int, room: int, advance: Advance, on_end: OnEnd
) -> Iterator[tuple[int, Point]]:
    """Replay an epoch's points, last first, repeating the fewest steps.

    Memory stays within `room` if the caller drops each point before the next.

    Args:
        start: θ and s at the epoch's start.
        room: most points in memory, at least 3.
        advance: advance(point, t) makes step t.
        on_end: called once, with the epoch's end.

    Yields:
        (t, (θ_t, s_t)).

    Source: Griewank and Walther 2000, Algorithm 799 (Revolve).
    """
    points = _PointStack(start, min(steps, room - 1))
    points.push(start)
    del start
    checkpoints = [0]  # steps on the stack
    end = steps
    while checkpoints:
        current = checkpoints[-1]
        while end - current > (free := room - len(checkpoints)):
            distance = _checkpoint_distance(end - current, free)
            points.push(advance(points.last(), current))
            for t in range(current + 1, current + distance):
                points.replace(advance(points.last(), t))
            current += distance
            checkpoints.append(current)
        checkpoints.pop()
        for t in range(current, end - 1):
            points.push(advance(points.last(), t))
        if end == steps:
            on_end(advance(points.last(), end - 1))
        for t in reversed(range(current, end)):
            yield t, points.pop()
        end = current


class _PointStack:
    """Points allocated together, or the heap fragments (docs/decisions/0022)."""

    def __init__(self, like: Point, count: int) -> None:
        self._params = _allocate_rows(like[0], count)
        self._state = {name: _allocate_rows(tensor, count) for name, tensor in like[1].items()}
        self._count = 0

    def push(self, point: Point) -> None:
        self._count += 1
        self.replace(point)

    def replace(self, point: Point) -> None:
        params, state = point
        self._params[self._count - 1] = params
        for name, rows in self._state.items():
            rows[self._count - 1] = state[name]

    def last(self) -> Point:
        """View the top point; valid until popped."""
        return self._params[self._count - 1], {
            name: rows[self._count - 1] for name, rows in self._state.items()
        }

    def pop(self) -> Point:
        params, state = self.last()
        self._count -= 1
        return params.clone(), {name: tensor.clone() for name, tensor in state.items()}


def _allocate_rows(like: torch.Tensor, count: int) -> torch.Tensor:
    """Allocate tensors aligned as if alone: alignment changes rounding."""
    aligned = ALIGNED_BYTES[like.device.type] // like.element_size()
    rows = torch.empty(
        count, -(-like.numel() // aligned) * aligned, dtype=like.dtype, device=like.device
    )
    return rows[:, : like.numel()].unflatten(1, like.shape) if like.dim() else rows[:, 0]


def _checkpoint_distance(steps: int, free: int) -> int:
    times = _repetitions(steps, free)
    return max(steps - _reachable_steps(free - 1, times), _reachable_steps(free, times - 2))


def _reachable_steps(free: int, times: int) -> int:
    """Most steps with at most `times` repetitions."""
    return math.comb(free - 1 + times, times)


def _repetitions(steps: int, free: int) -> int:
    """Most repetitions of a step in the best schedule."""
    return next(times for times in itertools.count(1) if _reachable_steps(free, times) >= steps)


def replayed_steps(steps: int, room: int) -> int:
    """Number of steps that `backwards` makes."""
    free = room - 1
    times = _repetitions(steps, free)
    return times * steps - math.comb(free + times - 1, times - 1) + 1


def room_for(steps: int, budget: int, size: int, elsewhere: int = 0) -> int:
    """Number of points that a memory budget allows.

    Args:
        steps: of an epoch.
        budget: bytes.
        size: bytes of a point.
        elsewhere: points that the caller holds.

    Raises:
        EngineError: budget below two points, or three if there are several steps.
    """
    if budget < 2 * size:
        raise EngineError(
            f"The memory budget of {budget:,} bytes is below two sets of parameters ({2 * size:,} "
            "bytes); allow more."
        )
    room = budget // size - elsewhere
    if room < min(steps + 1, LEAST_ROOM):
        least = min(steps + 1, LEAST_ROOM) + elsewhere
        raise EngineError(
            f"The memory budget of {budget:,} bytes holds {budget // size} sets of parameters, and "
            f"replaying an epoch of {steps} steps needs {least} ({least * size:,} bytes); allow "
            "more."
        )
    return room
