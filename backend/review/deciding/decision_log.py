"""Shared steps of acts on a review."""

import secrets
import typing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    String,
    Table,
    and_,
    bindparam,
    cast,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from backend.core.errors import Conflict, Invalid
from backend.core.models import DataSet, Decision, Review, Suggestion, User, now
from backend.review import service
from backend.review.queue import queue_pages

# Every decision runs these: built once, on tables, which the ORM need not map.
_reviews, _suggestions, _decisions = (
    typing.cast(Table, model.__table__) for model in (Review, Suggestion, Decision)
)
_NEXT_CHANGE = (
    update(_reviews)
    .where(_reviews.c.id == bindparam("review"))
    .values(last_change=_reviews.c.last_change + 1)
    .returning(_reviews.c.last_change)
)
_BY_KEY = (
    select(_decisions.c.user_id, func.count())
    .where(
        _decisions.c.review_id == bindparam("review"),
        or_(_decisions.c.client_key == bindparam("key"), _decisions.c.batch == bindparam("key")),
    )
    .group_by(_decisions.c.user_id)
)
_APPEND = insert(_decisions).returning(_decisions.c.id)
_PUT_IN_FORCE = (
    update(_suggestions)
    .where(
        _suggestions.c.review_id == bindparam("review"),
        _suggestions.c.image_id == bindparam("image"),
    )
    .returning(*_suggestions.c)
)


@dataclass(frozen=True)
class Act:
    """Result of a request.

    items: touched images, at most queue_pages.MOST_CHANGES. left: images left alone.
    """

    items: list[Row[Any]]
    count: int
    left: int = 0


@dataclass(frozen=True)
class Choice:
    """A person's choice: remove | keep | relabel | unsure; relabel has a class."""

    action: str
    label: int | None = None

    def check(self, data_set: DataSet) -> None:
        """Raise Invalid unless the action and its class exist."""
        if self.action not in service.DECISIONS:
            raise Invalid(
                f"“{self.action}” is no decision; it may be {', '.join(service.DECISIONS)}."
            )
        if self.action == "relabel" and (
            self.label is None or not 0 <= self.label < len(data_set.class_names)
        ):
            raise Invalid("Choose the class that this image should have.")
        if self.action != "relabel" and self.label is not None:
            raise Invalid("Only “relabel” takes a class.")


def locked(session: Session, user: User, review: Review, choice: Choice | None = None) -> Review:
    """Lock the review: acts run in turn and change numbers have no gaps."""
    service.check_ready(review)
    if choice is not None:
        choice.check(service.data_set_of(session, user, review))
    if session.get_bind().dialect.name == "sqlite":
        # Nobody else has written since this transaction began, before it read the review.
        return session.get_one(Review, review.id)
    return session.get_one(Review, review.id, with_for_update=True, populate_existing=True)


def next_change(session: Session, review: Review) -> int:
    """Count the review's change and return its number."""
    change: int = session.execute(_NEXT_CHANGE, {"review": review.id}).scalar_one()
    set_committed_value(review, "last_change", change)
    return change


def repeated(session: Session, review: Review, user: User, client_key: str) -> Act | None:
    """Return the act with this key, if any; Conflict if another person made it."""
    if not 0 < len(client_key) <= 36 or "\0" in client_key:
        raise Invalid("The client key must have 1 to 36 characters; a random UUID is best.")
    first = session.execute(_BY_KEY, {"review": review.id, "key": client_key}).first()
    if first is None:
        return None
    user_id, count = first
    if user_id != user.id:
        raise Conflict("This key was used for another person's decision. Nothing was changed.")
    mine = of_act(review, client_key)
    ids = session.scalars(
        select(Decision.image_id).where(mine).limit(queue_pages.MOST_CHANGES)
    ).all()
    return Act(queue_pages.read_images(session, review, ids), count)


def row_key(image_id: Any) -> ColumnElement[str]:
    # 16 random hexadecimal digits and the image's number: unique, and short enough.
    return literal(secrets.token_hex(8) + ":") + cast(image_id, String)


def of_act(review: Review, client_key: str) -> ColumnElement[bool]:
    """Match decisions that an act with this key appended."""
    return and_(
        Decision.review_id == review.id,
        or_(Decision.client_key == client_key, Decision.batch == client_key),
    )


def record_one(
    session: Session,
    user: User,
    review: Review,
    suggestion: Row[Any],
    choice: Choice,
    client_key: str,
) -> Row[Any]:
    """Append a decision on one suggestion, put it in force, and return the suggestion."""
    moment = now()
    decision_id = session.execute(
        _APPEND,
        {
            "review_id": review.id,
            "image_id": suggestion.image_id,
            "user_id": user.id,
            "client_key": client_key,
            "action": choice.action,
            "label": choice.label,
            "previous_id": suggestion.decision_id,
            "created_at": moment,
        },
    ).scalar_one()
    return session.execute(
        _PUT_IN_FORCE,
        {
            "review": review.id,
            "image": suggestion.image_id,
            "decision": choice.action,
            "decision_label": choice.label,
            "decision_id": decision_id,
            "decided_by": user.id,
            "decided_at": moment,
            "change": next_change(session, review),
        },
    ).one()


def record(
    session: Session,
    user: User,
    review: Review,
    where: list[ColumnElement[bool]],
    choice: Choice,
    client_key: str,
    *,
    batch: bool,
    redoes: Any = None,
) -> tuple[int, int]:
    """Append a decision per matching suggestion and put it in force.

    Args:
        where: conditions on suggestions.
        redoes: column with the undo that each decision repeats.

    Returns:
        The change's number and the count.
    """
    moment = now()
    values = {
        "review_id": Suggestion.review_id,
        "image_id": Suggestion.image_id,
        "user_id": literal(user.id),
        "client_key": row_key(Suggestion.image_id) if batch else literal(client_key),
        "action": literal(choice.action),
        "label": literal(choice.label) if choice.label is not None else null(),
        "batch": literal(client_key) if batch else null(),
        "previous_id": Suggestion.decision_id,
        "redoes_id": null() if redoes is None else redoes,
        "created_at": literal(moment, Decision.created_at.type),
    }
    session.execute(
        insert(Decision).from_select(list(values), select(*values.values()).where(*where))
    )
    return _put_in_force(session, user, review, of_act(review, client_key), choice, moment)


def _put_in_force(
    session: Session,
    user: User,
    review: Review,
    rows: ColumnElement[bool],
    choice: Choice,
    moment: datetime,
) -> tuple[int, int]:
    # By rows, not conditions: the decision may have changed what matched.
    change = next_change(session, review)
    this = (
        select(Decision.id)
        .where(rows, Decision.image_id == Suggestion.image_id)
        .correlate(Suggestion)
        .scalar_subquery()
    )
    result = session.execute(
        update(Suggestion)
        .where(
            Suggestion.review_id == review.id,
            Suggestion.image_id.in_(select(Decision.image_id).where(rows)),
        )
        .values(
            decision=choice.action,
            decision_label=choice.label,
            decision_id=this,
            decided_by=user.id,
            decided_at=moment,
            change=change,
        )
        .execution_options(synchronize_session=False)
    )
    return change, result.rowcount  # type: ignore[attr-defined] # any result


def changed(session: Session, review: Review, change: int) -> list[Row[Any]]:
    """List suggestions that this change touched, none if too many."""
    session.flush()
    return (queue_pages.changes_since(session, review, change - 1) or [])[
        : queue_pages.MOST_CHANGES
    ]
