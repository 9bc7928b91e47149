"""Decisions on an image, a selection or a whole view, each in one transaction."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, not_, or_, select
from sqlalchemy.orm import Session

from backend.core.errors import Conflict, Invalid
from backend.core.models import Review, Suggestion, User
from backend.review import service
from backend.review.deciding.decision_log import (
    Act,
    Choice,
    changed,
    locked,
    record,
    record_one,
    repeated,
)
from backend.review.insight import wording
from backend.review.queue import queue_pages
from backend.review.queue.filters import Filters, conditions

MOST_IMAGES = 5_000


class Overtaken(Conflict):
    """Another person decided meanwhile, unseen. `suggestion`: its present state."""

    def __init__(self, sentence: str, suggestion: Row[Any]) -> None:
        super().__init__(sentence)
        self.suggestion = suggestion


def decide(
    session: Session,
    user: User,
    review: Review,
    image_id: int,
    choice: Choice,
    client_key: str,
    seen: int | None = None,
) -> Act:
    """Record a decision on one image; a repeated client key changes nothing.

    Raises Overtaken if another person decided otherwise after change number `seen`.
    """
    review = locked(session, user, review, choice)
    if (again := repeated(session, review, user, client_key)) is not None:
        return again
    suggestion = queue_pages.read_images(session, review, [image_id])[0]
    if choice.action == "relabel" and choice.label == suggestion.label:
        raise Invalid("The image already has this label. Keep it, or choose another class.")
    # Where two must agree, another decision overwrites nothing.
    if (
        seen is not None
        and not review.second_opinion
        and _is_unseen(suggestion, user, choice, seen)
    ):
        raise Overtaken(_overtaken(session, user, review, suggestion), suggestion)
    return Act([record_one(session, user, review, suggestion, choice, client_key)], 1)


def _is_unseen(suggestion: Row[Any], user: User, choice: Choice, seen: int) -> bool:
    """Tell if another person decided differently after a change; `_unseen` for one row."""
    return (
        suggestion.change > seen
        and suggestion.decision is not None
        and suggestion.decided_by != user.id
        and (suggestion.decision, suggestion.decision_label) != (choice.action, choice.label)
    )


def _unseen(user: User, choice: Choice, seen: int) -> ColumnElement[bool]:
    """Match other people's different decisions after a change."""
    return and_(
        Suggestion.change > seen,
        Suggestion.decision.is_not(None),
        or_(Suggestion.decided_by != user.id, Suggestion.decided_by.is_(None)),
        or_(
            Suggestion.decision != choice.action,
            Suggestion.decision_label.is_distinct_from(choice.label),
        ),
    )


def _overtaken(session: Session, user: User, review: Review, suggestion: Row[Any]) -> str:
    name = queue_pages.read_names(session, [suggestion]).get(suggestion.decided_by)
    label = suggestion.decision_label
    class_name = (
        None if label is None else service.data_set_of(session, user, review).class_names[label]
    )
    return wording.overtaken(name, suggestion.decision, class_name)


def decide_many(
    session: Session,
    user: User,
    review: Review,
    image_ids: Sequence[int],
    choice: Choice,
    client_key: str,
    seen: int | None = None,
) -> Act:
    """Record one decision on a selection, as one act.

    Skips images that have the new label. `left` counts those on which another person decided after
    change number `seen`.
    """
    review = locked(session, user, review, choice)
    if (again := repeated(session, review, user, client_key)) is not None:
        return again
    if not 0 < len(image_ids) <= MOST_IMAGES:
        raise Invalid(f"Select at least one image, and at most {MOST_IMAGES:,}.")
    queue_pages.read_images(session, review, image_ids)
    where = [Suggestion.review_id == review.id, Suggestion.image_id.in_(set(image_ids))]
    return _record_batch(session, user, review, where, choice, client_key, seen)


def decide_all(
    session: Session,
    user: User,
    review: Review,
    filters: Filters,
    choice: Choice,
    client_key: str,
    expected: int | None = None,
    seen: int | None = None,
) -> Act:
    """Record one decision on every image of a view, as one act.

    Skips decided images unless the filters choose by decision. Raises Conflict if the view does not
    hold `expected` images; with the change number `seen`, fewer are fine: others' later decisions
    stay, counted in `left`.
    """
    review = locked(session, user, review, choice)
    if (again := repeated(session, review, user, client_key)) is not None:
        return again
    where = conditions(review, bulk_filters(filters))
    there = session.scalar(select(func.count()).select_from(Suggestion).where(*where)) or 0
    gone = 0 if expected is None or seen is None else max(expected - there, 0)
    if expected is not None and there + gone != expected:
        raise Conflict(
            f"The view has changed: it now holds {there:,} images, not {expected:,}. "
            "Nothing was decided; look again."
        )
    act = _record_batch(session, user, review, where, choice, client_key, seen)
    return replace(act, left=act.left + gone)


def bulk_filters(filters: Filters) -> Filters:
    """Return the view that "all" means: without decided images unless filtered by decision."""
    return filters if filters.decided else filters.model_copy(update={"decision": "undecided"})


def _record_batch(
    session: Session,
    user: User,
    review: Review,
    where: list[ColumnElement[bool]],
    choice: Choice,
    client_key: str,
    seen: int | None,
) -> Act:
    if choice.action == "relabel":
        where = [*where, Suggestion.label != choice.label]
    left = 0
    if seen is not None and not review.second_opinion:
        unseen = _unseen(user, choice, seen)
        left = (
            session.scalar(select(func.count()).select_from(Suggestion).where(*where, unseen)) or 0
        )
        where = [*where, not_(unseen)]
    change, count = record(session, user, review, where, choice, client_key, batch=True)
    return Act(changed(session, review, change), count, left)
