"""Deciding and taking back. One act is one transaction; the same client key twice is the same act."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Row, String, Update, and_, case, cast, func, insert, literal, null, or_, select, update
from sqlalchemy.orm import Session, aliased

from backend.errors import Conflict, Invalid, NotFound
from backend.models import DataSet, Decision, Review, Suggestion, User, now
from backend.review import service
from backend.review.service import Filters

MOST_IMAGES = 5_000


@dataclass(frozen=True)
class Act:
    """What a request did: the images it touched (at most service.MOST_CHANGES are read back), how many, and how many it left alone."""

    items: list[Row[Any]]
    count: int
    left: int = 0


@dataclass(frozen=True)
class Choice:
    """What a person chose: remove | keep | relabel | unsure, with the new class for relabel."""

    action: str
    label: int | None = None

    def check(self, data_set: DataSet) -> None:
        """Invalid unless the action exists and its class does too."""
        if self.action not in service.DECISIONS:
            raise Invalid(f"“{self.action}” is no decision; it may be {', '.join(service.DECISIONS)}.")
        if self.action == "relabel" and (self.label is None or not 0 <= self.label < len(data_set.class_names)):
            raise Invalid("Choose the class that this image should have.")
        if self.action != "relabel" and self.label is not None:
            raise Invalid("Only “relabel” takes a class.")


def decide(session: Session, user: User, review: Review, image_id: int, choice: Choice, client_key: str) -> Act:
    """Record one person's decision on one image; a repeated client key changes nothing and answers with how the image stands."""
    review = _locked(session, user, review, choice)
    if (repeated := _repeated(session, review, user, client_key)) is not None:
        return repeated
    suggestion = service.suggestions_of(session, review, [image_id])[0]
    if choice.action == "relabel" and choice.label == suggestion.label:
        raise Invalid("The image already has this label. Keep it, or choose another class.")
    _record(session, user, review, [Suggestion.review_id == review.id, Suggestion.image_id == image_id], choice, literal(client_key), None)
    return Act(service.suggestions_of(session, review, [image_id]), 1)


def decide_many(session: Session, user: User, review: Review, image_ids: Sequence[int], choice: Choice, client_key: str) -> Act:
    """The same decision on a selection, taken back as one. Images that already have the new label are left alone."""
    review = _locked(session, user, review, choice)
    if (repeated := _repeated(session, review, user, client_key)) is not None:
        return repeated
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
    review = _locked(session, user, review, choice)
    if (repeated := _repeated(session, review, user, client_key)) is not None:
        return repeated
    where = service.conditions(review, bulk_filters(filters))
    there = session.scalar(select(func.count()).select_from(Suggestion).where(*where)) or 0
    if expected is not None and there != expected:
        raise Conflict(f"The view has changed: it now holds {there:,} images, not {expected:,}. Nothing was decided; look again.")
    return _record_batch(session, user, review, where, choice, client_key)


def bulk_filters(filters: Filters) -> Filters:
    """The view that an act on "all" touches: others' decisions only where they were asked for by name."""
    return filters if filters.decided else replace(filters, decision="undecided")


def undo(session: Session, user: User, review: Review, client_key: str) -> Act:
    """Take back this person's latest act that still stands; what was in force before it comes back.

    An image that somebody decided since keeps that decision (`left` counts them). NotFound when there is nothing to take back.
    """
    review = _locked(session, user, review)
    if (repeated := _repeated(session, review, user, client_key)) is not None:
        return repeated
    latest = _latest_act(session, user, review)
    if latest is None:
        raise NotFound("There is nothing of yours to undo.")
    rows = Decision.id == latest.id if latest.batch is None else and_(Decision.review_id == review.id, Decision.batch == latest.batch)
    _record_undo(session, user, rows, client_key, latest.batch is not None)
    change = _next_change(review)
    restored: int = session.execute(_restore(review, rows, change)).rowcount  # type: ignore[attr-defined]
    session.execute(_splice(review, rows))
    total = session.scalar(select(func.count()).select_from(Decision).where(rows)) or 0
    return Act(_changed(session, review, change), restored, total - restored)


def _locked(session: Session, user: User, review: Review, choice: Choice | None = None) -> Review:
    # The review's row is the lock: acts on one review come one after the other, so change numbers have no gaps in time.
    service.check_ready(review)
    if choice is not None:
        choice.check(service.data_set_of(session, user, review))
    return session.get_one(Review, review.id, with_for_update=True, populate_existing=True)


def _next_change(review: Review) -> int:
    review.last_change += 1
    return review.last_change


def _repeated(session: Session, review: Review, user: User, client_key: str) -> Act | None:
    """The outcome of the act that this key already stands for, read back; Conflict when it was somebody else's."""
    if not 0 < len(client_key) <= 36 or "\0" in client_key:
        raise Invalid("The client key must have 1 to 36 characters; a random UUID is best.")
    mine = and_(Decision.review_id == review.id, or_(Decision.client_key == client_key, Decision.batch == client_key))
    first = session.execute(select(Decision.user_id, func.count()).where(mine).group_by(Decision.user_id)).first()
    if first is None:
        return None
    user_id, count = first
    if user_id != user.id:
        raise Conflict("This key was used for another person's decision. Nothing was changed.")
    ids = session.scalars(select(Decision.image_id).where(mine).limit(service.MOST_CHANGES)).all()
    return Act(service.suggestions_of(session, review, ids), count)


def _record_batch(session: Session, user: User, review: Review, where: list[ColumnElement[bool]], choice: Choice, client_key: str) -> Act:
    if choice.action == "relabel":
        where = [*where, Suggestion.label != choice.label]
    change, count = _record(session, user, review, where, choice, _row_key(Suggestion.image_id), client_key)
    return Act(_changed(session, review, change), count)


def _row_key(image_id: Any) -> ColumnElement[str]:
    # 16 random hexadecimal digits and the image's number: fits the column, and no two acts share one.
    return literal(secrets.token_hex(8) + ":") + cast(image_id, String)


def _record(
    session: Session,
    user: User,
    review: Review,
    where: list[ColumnElement[bool]],
    choice: Choice,
    row_key: ColumnElement[str],
    batch: str | None,
) -> tuple[int, int]:
    """Append one decision for each suggestion that matches, and put it in force: two statements however many there are."""
    moment = now()
    columns = ["review_id", "image_id", "user_id", "client_key", "action", "label", "batch", "previous_id", "created_at"]
    values = select(
        Suggestion.review_id,
        Suggestion.image_id,
        literal(user.id),
        row_key,
        literal(choice.action),
        literal(choice.label) if choice.label is not None else null(),
        literal(batch) if batch is not None else null(),
        Suggestion.decision_id,
        literal(moment, Decision.created_at.type),
    ).where(*where)
    session.execute(insert(Decision).from_select(columns, values))
    recorded = select(Decision.id).where(Decision.review_id == review.id, Decision.client_key == row_key).scalar_subquery()
    change = _next_change(review)
    result = session.execute(
        update(Suggestion)
        .where(*where)
        .values(
            decision=choice.action,
            decision_label=choice.label,
            decision_id=recorded,
            decided_by=user.id,
            decided_at=moment,
            change=change,
        )
        .execution_options(synchronize_session=False)
    )
    return change, result.rowcount  # type: ignore[attr-defined]


def _latest_act(session: Session, user: User, review: Review) -> Decision | None:
    """This person's latest decision that is no undo and was not undone."""
    undoing = aliased(Decision)
    undone = select(undoing.id).where(undoing.undoes_id == Decision.id).exists()
    return session.scalars(
        select(Decision)
        .where(Decision.review_id == review.id, Decision.user_id == user.id, Decision.undoes_id.is_(None), ~undone)
        .order_by(Decision.id.desc())
        .limit(1)
    ).first()


def _record_undo(session: Session, user: User, rows: ColumnElement[bool], client_key: str, batch: bool) -> None:
    """Append one undo for each row of the act, saying what the image came back to."""
    before = aliased(Decision)
    in_force = Suggestion.decision_id == Decision.id
    columns = ["review_id", "image_id", "user_id", "client_key", "action", "label", "batch", "undoes_id", "created_at"]
    values = (
        select(
            Decision.review_id,
            Decision.image_id,
            literal(user.id),
            _row_key(Decision.image_id) if batch else literal(client_key),
            func.coalesce(case((in_force, before.action), else_=Suggestion.decision), "clear"),
            case((in_force, before.label), else_=Suggestion.decision_label),
            literal(client_key) if batch else null(),
            Decision.id,
            literal(now(), Decision.created_at.type),
        )
        .join(Suggestion, and_(Suggestion.review_id == Decision.review_id, Suggestion.image_id == Decision.image_id))
        .outerjoin(before, before.id == Decision.previous_id)
        .where(rows)
    )
    session.execute(insert(Decision).from_select(columns, values))


def _restore(review: Review, rows: ColumnElement[bool], change: int) -> Update:
    """Give the images on which the act is still in force back what was in force before it."""
    before = aliased(Decision)

    def earlier(column: Any) -> Any:
        joined = select(column).select_from(Decision).outerjoin(before, before.id == Decision.previous_id)
        return joined.where(Decision.id == Suggestion.decision_id).scalar_subquery()

    return (
        update(Suggestion)
        .where(Suggestion.review_id == review.id, Suggestion.decision_id.in_(select(Decision.id).where(rows)))
        .values(
            decision=earlier(before.action),
            decision_label=earlier(before.label),
            decided_by=earlier(before.user_id),
            decided_at=earlier(before.created_at),
            decision_id=earlier(before.id),
            change=change,
        )
        .execution_options(synchronize_session=False)
    )


def _splice(review: Review, rows: ColumnElement[bool]) -> Update:
    """A later decision that stood on the one taken back now stands on what was before: its own undo must not bring that back."""
    taken = aliased(Decision)
    # correlate(None): the act's rows lie in the table that is being updated.
    images, ids = (select(column).where(rows).correlate(None) for column in (Decision.image_id, Decision.id))
    return (
        update(Decision)
        .where(Decision.review_id == review.id, Decision.image_id.in_(images), Decision.previous_id.in_(ids))
        .values(previous_id=select(taken.previous_id).where(taken.id == Decision.previous_id).scalar_subquery())
        .execution_options(synchronize_session=False)
    )


def _changed(session: Session, review: Review, change: int) -> list[Row[Any]]:
    session.flush()
    return (service.changes_since(session, review, change - 1) or [])[: service.MOST_CHANGES]
