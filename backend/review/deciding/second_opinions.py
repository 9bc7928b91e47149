"""Second opinions: a decision counts once another person agrees."""

from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session, aliased

from backend.core.models import Decision, Review, Suggestion, User

CHANGES = ("remove", "relabel")


def agreed() -> ColumnElement[bool]:
    """Match changes of the data set with another person's agreement."""
    return and_(Suggestion.decision.in_(CHANGES), _others(_same))


def waiting() -> ColumnElement[bool]:
    """Match changes of the data set without another opinion."""
    return and_(Suggestion.decision.in_(CHANGES), ~_others(_same), ~_others(_differs))


def disagreement() -> ColumnElement[bool]:
    """Match images with disagreement about such a change."""
    return and_(Suggestion.decision.is_not(None), ~_others(_same), _others(_differs))


def of_another(user_id: int) -> ColumnElement[bool]:
    """Match decisions in force by others, people who left included."""
    return and_(Suggestion.decision.is_not(None), Suggestion.decided_by.is_distinct_from(user_id))


# Values of the filter `decision`.
FILTERS = {"waiting": waiting, "disagreement": disagreement}


def counts(session: Session, review: Review, user: User) -> tuple[int, int, int]:
    """Count images waiting, in disagreement, and waiting for this person."""
    columns = [func.count().filter(condition()) for condition in FILTERS.values()]
    another = of_another(user.id).label("another")
    decided = (Suggestion.review_id == review.id, Suggestion.decision.is_not(None))
    rows = session.execute(select(another, *columns).where(*decided).group_by("another")).all()
    return (
        sum(row[1] for row in rows),
        sum(row[2] for row in rows),
        sum(row[1] for row in rows if row.another),
    )


def _same(other: Any) -> ColumnElement[bool]:
    return and_(
        other.action == Suggestion.decision,
        other.label.is_not_distinct_from(Suggestion.decision_label),
    )


def _differs(other: Any) -> ColumnElement[bool]:
    # Unsure and keep both leave the data set unchanged.
    matters = or_(Suggestion.decision.in_(CHANGES), other.action.in_(CHANGES))
    return and_(matters, other.action != "unsure", ~_same(other))


def _others(says: Any) -> ColumnElement[bool]:
    """Match images where another person's latest decision meets a condition."""
    other, later = aliased(Decision), aliased(Decision)
    newer = (
        select(later.id)
        .where(
            later.review_id == other.review_id,
            later.image_id == other.image_id,
            # coalesce: an index would make SQLite walk all of that person's later decisions.
            func.coalesce(later.user_id, 0) == func.coalesce(other.user_id, 0),
            later.id > other.id,
            _stands(later),
        )
        .correlate(other)
        .exists()
    )
    return (
        select(other.id)
        .where(
            other.review_id == Suggestion.review_id,
            other.image_id == Suggestion.image_id,
            other.user_id.is_distinct_from(Suggestion.decided_by),
            _stands(other),
            ~newer,
            says(other),
        )
        .correlate(Suggestion)
        .exists()
    )


def _stands(decision: Any) -> ColumnElement[bool]:
    undoing = aliased(Decision)
    return and_(
        decision.undoes_id.is_(None),
        ~select(undoing.id).where(undoing.undoes_id == decision.id).correlate(decision).exists(),
    )
