"""In which order to look at a review: its queue, either of its rankings, or any method's ranking that was worked out for its training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Row, Select, SQLColumnExpression, and_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from backend.core.catalogue import METHODS, MethodName
from backend.core.errors import Invalid
from backend.core.models import Review, Score, Scoring, Suggestion

Own = Literal["queue", "accuracy", "label"]
if TYPE_CHECKING:
    Order = str
else:
    # One list, not a union of two: a wrong value then gets one sentence.
    Order = Literal[Own, MethodName]
RANKS: dict[Order, InstrumentedAttribute[int]] = {
    "queue": Suggestion.position,
    "accuracy": Suggestion.accuracy_rank,
    "label": Suggestion.label_rank,
}


@dataclass(frozen=True)
class Ordering:
    """An order, ready to ask by. scoring_id: of a method's ranking, which lies in `scores`; None where the rank is the suggestion's own."""

    rank: InstrumentedAttribute[int]
    scoring_id: int | None = None

    def walk(self, statement: Select[Any]) -> tuple[Select[Any], SQLColumnExpression[int]]:
        """A statement over suggestions and the rank to order it by, to be read from the index of ranks: nothing is sorted."""
        if self.scoring_id is None:
            return statement, self.rank
        return statement.join(
            Score, and_(Score.scoring_id == self.scoring_id, Score.image_id == Suggestion.image_id)
        ), self.rank

    def gather(self, statement: Select[Any]) -> tuple[Select[Any], SQLColumnExpression[int]]:
        """The same for few matches: these are found first, then their ranks, and sorted."""
        if self.scoring_id is None:
            return statement, self.rank
        own = select(Score.rank).where(
            Score.scoring_id == self.scoring_id, Score.image_id == Suggestion.image_id
        )
        return statement, own.scalar_subquery()


def find(session: Session, review: Review, order: Order) -> Ordering:
    """The order by its name. Raises Invalid where it is a method's that was not worked out for this review's training."""
    if order in RANKS:
        return Ordering(RANKS[order])
    scoring_id = scored(session, review).get(order)
    if scoring_id is None:
        called = METHODS[order].called if order in METHODS else order
        raise Invalid(
            f"There is no order by “{called}” for this training. Find its harmful images by that method first."
        )
    return Ordering(Score.rank, scoring_id)


def scored(session: Session, review: Review) -> Mapping[str, int]:
    """Method → the latest finished scoring of the review's run, in the order of the registry. A member of an average counts only alone."""
    done = (Scoring.run_id == review.run_id, Scoring.state == "done")
    # Members first, so that a scoring of its own, and of those the latest, stands in the end.
    rows = session.execute(
        select(Scoring.method, Scoring.id)
        .where(*done)
        .order_by(Scoring.review_id.is_(None), Scoring.id)
    ).all()
    found = {row.method: row.id for row in rows}
    return {method: found[method] for method in METHODS if method in found}


def ranks(
    session: Session, review: Review, order: Order, rows: Sequence[Row[Any]]
) -> dict[int, int]:
    """Image id → rank in this order, for rows of suggestions."""
    ordering = find(session, review, order)
    if ordering.scoring_id is None:
        return {row.image_id: getattr(row, ordering.rank.key) for row in rows}
    ids = [row.image_id for row in rows]
    wanted = select(Score.image_id, Score.rank).where(
        Score.scoring_id == ordering.scoring_id, Score.image_id.in_(ids)
    )
    return {row.image_id: row.rank for row in session.execute(wanted)}
