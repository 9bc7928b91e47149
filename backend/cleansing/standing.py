"""Standing of each data set between its import and its verdict, for the list of data sets."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from backend.core.models import Cleansing, DataSet, Review, Run, Suggestion


def map_waiting(session: Session, data_set_ids: Sequence[int]) -> dict[int, int]:
    """Map data sets to their newest cleansing whose verdict waits for a decision."""
    rows = session.execute(
        select(Cleansing.data_set_id, func.max(Cleansing.id))
        .join(DataSet, DataSet.id == Cleansing.data_set_id)
        .where(
            Cleansing.data_set_id.in_(data_set_ids),
            Cleansing.state == "measured",
            Cleansing.parent_version_id == DataSet.current_version_id,
        )
        .group_by(Cleansing.data_set_id)
    )
    return {row[0]: row[1] for row in rows}


def get_waiting(session: Session, data_set_id: int) -> int | None:
    """Return the id of the data set's cleansing whose verdict waits for a decision, or None."""
    return map_waiting(session, [data_set_id]).get(data_set_id)


@dataclass(frozen=True)
class Standing:
    """A data set's state. waiting: id of the cleansing whose verdict waits, or None.

    decided, total: images of the newest review of the current version; total 0 without one.
    """

    trained: bool
    decided: int
    total: int
    waiting: int | None

    @property
    def sentence(self) -> str:
        if self.total:
            return f"Trained · {self.decided:,} of {self.total:,} decided"
        return "Trained, not reviewed yet" if self.trained else "Not trained yet"


def map_standings(session: Session, data_sets: Sequence[DataSet]) -> dict[int, Standing]:
    """Map data set ids to their states, in a query per kind and none per data set."""
    versions = {
        data_set.current_version_id: data_set.id
        for data_set in data_sets
        if data_set.current_version_id is not None
    }
    trained = set(
        session.scalars(
            select(Run.version_id)
            .where(Run.version_id.in_(versions), Run.state == "done", Run.cleansing_id.is_(None))
            .distinct()
        )
    )
    newest = (
        select(func.max(Review.id))
        .where(Review.version_id.in_(versions), Review.state == "ready")
        .group_by(Review.version_id)
    )
    reviews = session.execute(
        select(Review.id, Review.version_id, Review.suggestion_count).where(Review.id.in_(newest))
    ).all()
    decided = dict(
        session.execute(
            select(Suggestion.review_id, func.count())
            .where(
                Suggestion.review_id.in_([review.id for review in reviews]),
                Suggestion.decision.is_not(None),
            )
            .group_by(Suggestion.review_id)
        ).all()
    )
    totals = {
        review.version_id: (decided.get(review.id, 0), review.suggestion_count)
        for review in reviews
    }
    waiting = map_waiting(session, list(versions.values()))
    return {
        data_set_id: Standing(
            version_id in trained, *totals.get(version_id, (0, 0)), waiting.get(data_set_id)
        )
        for version_id, data_set_id in versions.items()
    }
