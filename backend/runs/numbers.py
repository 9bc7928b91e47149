"""Numbers and names of trainings within their data set."""

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.models import Run

# Not made for a verdict or an average.
OWN = (Run.cleansing_id.is_(None), Run.repeats_run_id.is_(None))


def map_numbers(session: Session, data_set_id: int) -> dict[int, int]:
    """Map run id → its number within the data set, from 1; only its own trainings have one."""
    own = select(Run.id).where(Run.data_set_id == data_set_id, *OWN).order_by(Run.id)
    return {run_id: number for number, run_id in enumerate(session.scalars(own), start=1)}


def get_title(run: Run, numbers: Mapping[int, int]) -> str:
    """Name a run on pages. numbers: see `map_numbers`."""
    if run.id in numbers:
        return f"Training {numbers[run.id]}"
    repeated = numbers.get(run.repeats_run_id or 0)
    return f"Training {repeated} with seed {run.seed}" if repeated else "Training for a verdict"
