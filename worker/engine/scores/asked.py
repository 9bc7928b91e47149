"""What every method is handed."""

from dataclasses import dataclass

from worker.engine.data import Images
from worker.engine.replay import Replay
from worker.engine.trajectory import Progress

SPANS = ("last_epoch", "all_epochs")


@dataclass(frozen=True)
class Asked:
    """One scoring as asked for. span: the epochs to retrace. damping: δ. verify: measure the top group's effect too."""

    replay: Replay
    validation: Images
    span: str
    damping: float
    verify: bool
    progress: Progress

    @property
    def epochs(self) -> list[int]:
        """The epochs of the span (from 0), last first."""
        last = self.replay.run.recipe.epochs - 1
        return [last] if self.span == "last_epoch" else list(range(last, -1, -1))
