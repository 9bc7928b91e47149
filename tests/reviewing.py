"""Shared by the review's tests: a ready review, its queue, and keys for acts."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.models import Decision, MapPoint, Review, Suggestion, User
from backend.core.storage import Storage
from backend.review.deciding import decisions
from backend.review.deciding import undo as undoing
from backend.review.deciding.decision_log import Act, Choice
from tests.factories import a_data_set, a_review, a_run


def a_ready_review(
    session: Session, storage: Storage | None = None, *, seed: int = 0, **data_set: Any
) -> Review:
    """42 suggestions of three classes unless keywords for the data set say otherwise."""
    return a_review(session, a_run(session, a_data_set(session, storage, **data_set)), seed=seed)


def queue_of(session: Session, review: Review) -> Sequence[Suggestion]:
    """The review's suggestions by position, as they are in the database now."""
    wanted = (
        select(Suggestion).where(Suggestion.review_id == review.id).order_by(Suggestion.position)
    )
    return session.scalars(wanted.execution_options(populate_existing=True)).all()


def images_of(session: Session, review: Review, count: int) -> list[int]:
    """The first `count` images of the review's queue."""
    return [row.image_id for row in queue_of(session, review)[:count]]


def standing(session: Session, review: Review, count: int = 1) -> list[str | None]:
    """The decisions in force on the first `count` images of the review's queue."""
    return [row.decision for row in queue_of(session, review)[:count]]


def decisions_of(session: Session, review: Review) -> list[Decision]:
    """Every act on the review, in order."""
    return list(
        session.scalars(
            select(Decision).where(Decision.review_id == review.id).order_by(Decision.id)
        )
    )


def decide(
    session: Session,
    user: User,
    review: Review,
    image_id: int,
    action: str,
    label: int | None = None,
) -> Act:
    """Decide under a fresh key."""
    return decisions.decide(session, user, review, image_id, Choice(action, label), str(uuid4()))


def undo(session: Session, user: User, review: Review) -> Act:
    """Take back under a fresh key."""
    return undoing.undo(session, user, review, str(uuid4()))


def redo(session: Session, user: User, review: Review) -> Act:
    """Do again under a fresh key."""
    return undoing.redo(session, user, review, str(uuid4()))


def a_map(
    session: Session, review: Review, *, groups: int = 3, near: int = 6
) -> Sequence[Suggestion]:
    """Give every image a place on the map, a group and neighbours; returns the queue."""
    queue = queue_of(session, review)
    for place, row in enumerate(queue):
        like = {
            label: [other.image_id for other in queue if other.label == label and other is not row][
                :near
            ]
            for label in (row.label, row.predicted)
        }
        point = MapPoint(
            review_id=review.id,
            image_id=row.image_id,
            x=place / 10,
            y=(place % 7) / 10,
            in_group=1 + place % groups,
        )
        point.like_given, point.like_predicted = (
            like[row.label],
            like[row.predicted] if row.predicted != row.label else [],
        )
        session.add(point)
    session.flush()
    return queue
