"""Second opinions: what the people who looked at an image say together. The decision in force counts once another person has said the same."""

from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session, aliased

from backend.core.models import Decision, Review, Suggestion, User

CHANGES = ("remove", "relabel")


def agreed() -> ColumnElement[bool]:
    """Whether the decision in force changes the data set and somebody else stands by the same one."""
    return and_(Suggestion.decision.in_(CHANGES), _others(_same))


def waiting() -> ColumnElement[bool]:
    """Whether it would change the data set, but nobody else has said anything yet."""
    return and_(Suggestion.decision.in_(CHANGES), ~_others(_same), ~_others(_differs))


def disagreement() -> ColumnElement[bool]:
    """Whether somebody else says otherwise and nobody the same, and the data set hangs on it."""
    return and_(Suggestion.decision.is_not(None), ~_others(_same), _others(_differs))


def of_another(user_id: int) -> ColumnElement[bool]:
    """Whether the decision in force is that of anybody else, of people who left too."""
    return and_(Suggestion.decision.is_not(None), Suggestion.decided_by.is_distinct_from(user_id))


# The values of the filter `decision` that speak of more than one person.
FILTERS = {"waiting": waiting, "disagreement": disagreement}


def counts(session: Session, review: Review, user: User) -> tuple[int, int, int]:
    """How many images wait for a second opinion, on how many people disagree, and how many wait for this person's opinion."""
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
    # Unsure and keep leave the data set as it is, both.
    matters = or_(Suggestion.decision.in_(CHANGES), other.action.in_(CHANGES))
    return and_(matters, other.action != "unsure", ~_same(other))


def _others(says: Any) -> ColumnElement[bool]:
    """Whether anybody but the one whose decision is in force has a latest decision of which this is true."""
    other, later = aliased(Decision), aliased(Decision)
    newer = (
        select(later.id)
        .where(
            later.review_id == other.review_id,
            later.image_id == other.image_id,
            # Not by its index, in which SQLite would walk all later decisions of that person: an image has few.
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
    """Whether it is a decision that nobody has taken back."""
    undoing = aliased(Decision)
    return and_(
        decision.undoes_id.is_(None),
        ~select(undoing.id).where(undoing.undoes_id == decision.id).correlate(decision).exists(),
    )
