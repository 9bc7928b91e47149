"""Orders of a review."""

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
    # Not a union of two: a wrong value gets one sentence.
    Order = Literal[Own, MethodName]
RANKS: dict[Order, InstrumentedAttribute[int]] = {
    "queue": Suggestion.position,
    "accuracy": Suggestion.accuracy_rank,
    "label": Suggestion.label_rank,
}


@dataclass(frozen=True)
class Ordering:
    """An order to sort a query by.

    scoring_id: for a ranking in `scores`, else None.
    """

    rank: InstrumentedAttribute[int]
    scoring_id: int | None = None

    def walk(self, statement: Select[Any]) -> tuple[Select[Any], SQLColumnExpression[int]]:
        """Prepare a statement and its rank, sorted by the index of ranks."""
        if self.scoring_id is None:
            return statement, self.rank
        return statement.join(
            Score, and_(Score.scoring_id == self.scoring_id, Score.image_id == Suggestion.image_id)
        ), self.rank

    def gather(self, statement: Select[Any]) -> tuple[Select[Any], SQLColumnExpression[int]]:
        """Prepare the same for few matches: read their ranks, then sort."""
        if self.scoring_id is None:
            return statement, self.rank
        own = select(Score.rank).where(
            Score.scoring_id == self.scoring_id, Score.image_id == Suggestion.image_id
        )
        return statement, own.scalar_subquery()


def get_ordering(session: Session, review: Review, order: Order) -> Ordering:
    """Return an order by name. Raises Invalid for a method not scored here."""
    if order in RANKS:
        return Ordering(RANKS[order])
    scoring_id = latest_scorings(session, review).get(order)
    if scoring_id is None:
        called = METHODS[order].called if order in METHODS else order
        raise Invalid(
            f"There is no order by “{called}” for this training. "
            "Find its harmful images by that method first."
        )
    return Ordering(Score.rank, scoring_id)


def latest_scorings(session: Session, review: Review) -> Mapping[str, int]:
    """Map methods to the run's latest finished scoring, in the registry's order.

    An average's members count only if the method has no other scoring.
    """
    done = (Scoring.run_id == review.run_id, Scoring.state == "done")
    # Members come first, so that own and later scorings override them.
    rows = session.execute(
        select(Scoring.method, Scoring.id)
        .where(*done)
        .order_by(Scoring.review_id.is_(None), Scoring.id)
    ).all()
    found = {row.method: row.id for row in rows}
    return {method: found[method] for method in METHODS if method in found}


def read_ranks(
    session: Session, review: Review, order: Order, rows: Sequence[Row[Any]]
) -> dict[int, int]:
    """Map image ids to ranks in this order."""
    ordering = get_ordering(session, review, order)
    if ordering.scoring_id is None:
        return {row.image_id: getattr(row, ordering.rank.key) for row in rows}
    ids = [row.image_id for row in rows]
    wanted = select(Score.image_id, Score.rank).where(
        Score.scoring_id == ordering.scoring_id, Score.image_id.in_(ids)
    )
    return {row.image_id: row.rank for row in session.execute(wanted)}
