"""Shares of a review's queue: nobody's parts overlap.

A part is a rule, so that people may come and go: of n sharers, by number, each has every n-th pair
of places. Pairs give everybody both of the alternating rankings.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, select
from sqlalchemy.orm import Session

from backend.core.errors import Forbidden
from backend.core.models import Review, ReviewPart, Suggestion, User
from backend.web.access import may

PAIR = (Suggestion.position - 1) // 2


def holds(review: Review, user_id: int) -> ColumnElement[bool]:
    """Match suggestions in this person's part, if any."""
    those = ReviewPart.review_id == review.id
    count = select(func.count()).select_from(ReviewPart).where(those).scalar_subquery()
    place = (
        select(func.count())
        .select_from(ReviewPart)
        .where(those, ReviewPart.user_id < user_id)
        .scalar_subquery()
    )
    takes = select(ReviewPart.user_id).where(those, ReviewPart.user_id == user_id).exists()
    return and_(takes, PAIR % func.nullif(count, 0) == place)


def list_sharers(session: Session, review: Review) -> Sequence[Row[Any]]:
    """List sharers by number: rows (user_id, name, taken_at)."""
    columns: list[Any] = [ReviewPart.user_id, User.name, ReviewPart.taken_at]
    query = (
        select(*columns)
        .join(User, User.id == ReviewPart.user_id)
        .where(ReviewPart.review_id == review.id)
    )
    return session.execute(query.order_by(ReviewPart.user_id)).all()


def sizes(session: Session, review: Review, count: int) -> list[tuple[int, int]]:
    """Count (suggestions, undecided) in each part, ordered as `list_sharers`."""
    if not count:
        return []
    place = (PAIR % count).label("place")
    undecided = func.count().filter(Suggestion.decision.is_(None))
    rows = session.execute(
        select(place, func.count(), undecided)
        .where(Suggestion.review_id == review.id)
        .group_by(place)
    ).all()
    found = {number: (images, left) for number, images, left in rows}
    return [found.get(number, (0, 0)) for number in range(count)]


def take(session: Session, user: User, review: Review) -> None:
    """Take a part of the queue, shrinking the others'. Idempotent."""
    session.get_one(Review, review.id, with_for_update=True)
    if session.get(ReviewPart, (review.id, user.id)) is None:
        session.add(ReviewPart(review_id=review.id, user_id=user.id))
        session.flush()


def leave(session: Session, user: User, review: Review, user_id: int) -> None:
    """Give a part back; decisions stay. Raises Forbidden for another's, except to owners."""
    if user_id != user.id and not may(user, "arrange"):
        raise Forbidden("Only an owner may take another person's part away.")
    session.execute(
        delete(ReviewPart).where(ReviewPart.review_id == review.id, ReviewPart.user_id == user_id)
    )
