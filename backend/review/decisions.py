"""Deciding on one image, on a selection, on a whole view. One act is one transaction; the same client key twice is the same act."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from backend.errors import Conflict, Invalid
from backend.models import Review, Suggestion, User
from backend.review import service
from backend.review.acts import Act, Choice, changed, locked, record, repeated
from backend.review.service import Filters

MOST_IMAGES = 5_000


def decide(session: Session, user: User, review: Review, image_id: int, choice: Choice, client_key: str) -> Act:
    """Record one person's decision on one image; a repeated client key changes nothing and answers with how the image stands."""
    review = locked(session, user, review, choice)
    if (again := repeated(session, review, user, client_key)) is not None:
        return again
    suggestion = service.suggestions_of(session, review, [image_id])[0]
    if choice.action == "relabel" and choice.label == suggestion.label:
        raise Invalid("The image already has this label. Keep it, or choose another class.")
    record(session, user, review, [Suggestion.review_id == review.id, Suggestion.image_id == image_id], choice, client_key, batch=False)
    return Act(service.suggestions_of(session, review, [image_id]), 1)


def decide_many(session: Session, user: User, review: Review, image_ids: Sequence[int], choice: Choice, client_key: str) -> Act:
    """The same decision on a selection, taken back as one. Images that already have the new label are left alone."""
    review = locked(session, user, review, choice)
    if (again := repeated(session, review, user, client_key)) is not None:
        return again
    if not 0 < len(image_ids) <= MOST_IMAGES:
        raise Invalid(f"Select at least one image, and at most {MOST_IMAGES:,}.")
    service.suggestions_of(session, review, image_ids)
    where = [Suggestion.review_id == review.id, Suggestion.image_id.in_(set(image_ids))]
    return _record_batch(session, user, review, where, choice, client_key)


def decide_all(
    session: Session, user: User, review: Review, filters: Filters, choice: Choice, client_key: str, expected: int | None = None
) -> Act:
    """The same decision on every image of a view, taken back as one.

    Decided images are left alone unless the filter names a decision or a person. `expected` is the count that the person was told:
    Conflict when it is no longer true.
    """
    review = locked(session, user, review, choice)
    if (again := repeated(session, review, user, client_key)) is not None:
        return again
    where = service.conditions(review, bulk_filters(filters))
    there = session.scalar(select(func.count()).select_from(Suggestion).where(*where)) or 0
    if expected is not None and there != expected:
        raise Conflict(f"The view has changed: it now holds {there:,} images, not {expected:,}. Nothing was decided; look again.")
    return _record_batch(session, user, review, where, choice, client_key)


def bulk_filters(filters: Filters) -> Filters:
    """The view that an act on "all" touches: others' decisions only where they were asked for by name."""
    return filters if filters.decided else replace(filters, decision="undecided")


def _record_batch(session: Session, user: User, review: Review, where: list[ColumnElement[bool]], choice: Choice, client_key: str) -> Act:
    if choice.action == "relabel":
        where = [*where, Suggestion.label != choice.label]
    change, count = record(session, user, review, where, choice, client_key, batch=True)
    return Act(changed(session, review, change), count)
