"""A job's bar, which never runs backwards, and the time left."""

from dataclasses import dataclass

# First reports warm up, and a short look is too short for an estimate.
WARM_UP_SECONDS, PACE_SECONDS = 2.0, 4.0
# Units of a bar over several phases.
UNITS = 1_000


class Bar:
    """Joins the phases of a job into a single bar.

    A phase is a part of the job with its own units; its share is its part of the job's time.
    """

    def __init__(self) -> None:
        self._start, self._end = 0.0, 1.0
        self._has_phases = False
        self._shown = (0, 0)

    def begin_phase(self, start: float, end: float) -> None:
        """Begin a phase that takes the bar from `start` to `end`, both of 1."""
        self._start, self._end, self._has_phases = start, end, True

    def place(self, done: int, total: int) -> tuple[int, int]:
        """Place a phase's `done` of `total` on the bar: its done and total, never backwards."""
        if self._has_phases:
            share = min(1.0, done / total) if total else 0.0
            at = self._start + share * (self._end - self._start)
            done, total = round(UNITS * at), UNITS
        before, units = self._shown
        if total and units:
            done = max(done, round(before * total / units))
        if total:
            self._shown = (done, total)
        return done, total


@dataclass
class Pace:
    """Estimates the time left from this attempt's pace, once it has warmed up."""

    _began: float | None = None
    _start: tuple[int, int, float] | None = None  # done, total, clock

    def seconds_left(self, done: int, total: int, clock: float) -> float | None:
        """Estimate the seconds until `done` reaches `total`, or None; a new total restarts."""
        if self._began is None or (self._start and self._start[1] != total):
            self._began, self._start = clock, None
        if clock - self._began < WARM_UP_SECONDS:
            return None
        if self._start is None:
            self._start = (done, total, clock)
        start_done, _, start_clock = self._start
        if done <= start_done or clock - start_clock < PACE_SECONDS:
            return None
        return (clock - start_clock) / (done - start_done) * max(total - done, 0)
