"""Undo and redo of a person's own acts."""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Update,
    and_,
    case,
    false,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session, aliased

from backend.core.errors import NotFound
from backend.core.models import Decision, Review, Suggestion, User, now
from backend.review.deciding.decision_log import (
    Act,
    Choice,
    changed,
    locked,
    next_change,
    of_act,
    record,
    repeated,
    row_key,
)


def undo(session: Session, user: User, review: Review, client_key: str) -> Act:
    """Undo this person's latest act not undone yet, and restore the state before.

    Others' later decisions stay (counted in `left`). Raises NotFound if there is nothing to undo.
    """
    review = locked(session, user, review)
    if (again := repeated(session, review, user, client_key)) is not None:
        return again
    latest = _latest_act(session, user, review)
    if latest is None:
        raise NotFound("There is nothing of yours to undo.")
    rows = of_act(review, latest.batch or latest.client_key)
    _record_undo(session, user, rows, client_key, latest.batch is not None)
    change = next_change(session, review)
    restoring = session.execute(_restore(review, rows, change))
    restored: int = restoring.rowcount  # type: ignore[attr-defined]  # typed as any result
    session.execute(_splice(review, rows))
    total = session.scalar(select(func.count()).select_from(Decision).where(rows)) or 0
    return Act(changed(session, review, change), restored, total - restored)


def redo(session: Session, user: User, review: Review, client_key: str) -> Act:
    """Redo this person's latest undo, unless they decided something new since.

    Others' later decisions stay (counted in `left`). Raises NotFound if there is nothing to redo.
    """
    review = locked(session, user, review)
    if (again := repeated(session, review, user, client_key)) is not None:
        return again
    latest = _latest_undo(session, user, review)
    if latest is None:
        raise NotFound("There is nothing of yours to do again.")
    taken = session.get_one(Decision, latest.undoes_id)
    rows = and_(of_act(review, latest.batch or latest.client_key), _not_redone())
    total = session.scalar(select(func.count()).select_from(Decision).where(rows)) or 0
    free = select(Decision.image_id).where(rows, ~_overtaken(user, review))
    undo_of_image = (
        select(Decision.id)
        .where(rows, Decision.image_id == Suggestion.image_id)
        .correlate(Suggestion)
        .scalar_subquery()
    )
    where = [Suggestion.review_id == review.id, Suggestion.image_id.in_(free)]
    choice, batch = Choice(taken.action, taken.label), latest.batch is not None
    change, count = record(
        session, user, review, where, choice, client_key, batch=batch, redoes=undo_of_image
    )
    return Act(changed(session, review, change), count, total - count)


def _latest_undo(session: Session, user: User, review: Review) -> Decision | None:
    """Find this person's latest undo that can be redone and was not overtaken."""
    newer = aliased(Decision)
    begun_again = (
        select(newer.id)
        .where(
            newer.review_id == Decision.review_id,
            newer.user_id == user.id,
            newer.id > Decision.id,
            newer.undoes_id.is_(None),
            newer.redoes_id.is_(None),
        )
        .exists()
    )
    return session.scalars(
        select(Decision)
        .where(
            Decision.review_id == review.id,
            Decision.user_id == user.id,
            Decision.undoes_id.is_not(None),
        )
        .where(_not_redone(), ~begun_again, ~_overtaken(user, review))
        .order_by(Decision.id.desc())
        .limit(1)
    ).first()


def _not_redone() -> ColumnElement[bool]:
    redoing = aliased(Decision)
    return ~select(redoing.id).where(redoing.redoes_id == Decision.id).correlate(Decision).exists()


def _overtaken(user: User, review: Review) -> ColumnElement[bool]:
    """Match undos whose image has another person's later, different decision.

    None where two must agree: there a decision is an opinion beside others.
    """
    if review.second_opinion:
        return false()
    later, undoing, taken = aliased(Decision), aliased(Decision), aliased(Decision)
    return (
        select(later.id)
        .join(taken, taken.id == Decision.undoes_id)
        .where(
            later.review_id == Decision.review_id,
            later.image_id == Decision.image_id,
            later.id > Decision.undoes_id,
            or_(later.user_id != user.id, later.user_id.is_(None)),
            later.undoes_id.is_(None),
            or_(later.action != taken.action, later.label.is_distinct_from(taken.label)),
            ~select(undoing.id).where(undoing.undoes_id == later.id).exists(),
        )
        .correlate(Decision)
        .exists()
    )


def _latest_act(session: Session, user: User, review: Review) -> Decision | None:
    """Find this person's latest decision not undone yet."""
    undoing = aliased(Decision)
    undone = select(undoing.id).where(undoing.undoes_id == Decision.id).exists()
    return session.scalars(
        select(Decision)
        .where(
            Decision.review_id == review.id,
            Decision.user_id == user.id,
            Decision.undoes_id.is_(None),
            ~undone,
        )
        .order_by(Decision.id.desc())
        .limit(1)
    ).first()


def _record_undo(
    session: Session, user: User, rows: ColumnElement[bool], client_key: str, batch: bool
) -> None:
    """Append an undo per row of the act, with the state it restores."""
    before = aliased(Decision)
    in_force = Suggestion.decision_id == Decision.id
    columns = [
        "review_id",
        "image_id",
        "user_id",
        "client_key",
        "action",
        "label",
        "batch",
        "undoes_id",
        "created_at",
    ]
    values = (
        select(
            Decision.review_id,
            Decision.image_id,
            literal(user.id),
            row_key(Decision.image_id) if batch else literal(client_key),
            func.coalesce(case((in_force, before.action), else_=Suggestion.decision), "clear"),
            case((in_force, before.label), else_=Suggestion.decision_label),
            literal(client_key) if batch else null(),
            Decision.id,
            literal(now(), Decision.created_at.type),
        )
        .join(
            Suggestion,
            and_(
                Suggestion.review_id == Decision.review_id, Suggestion.image_id == Decision.image_id
            ),
        )
        .outerjoin(before, before.id == Decision.previous_id)
        .where(rows)
    )
    session.execute(insert(Decision).from_select(columns, values))


def _restore(review: Review, rows: ColumnElement[bool], change: int) -> Update:
    """Restore the earlier decision where the act is in force."""
    before = aliased(Decision)

    def earlier(column: Any) -> Any:
        joined = (
            select(column)
            .select_from(Decision)
            .outerjoin(before, before.id == Decision.previous_id)
        )
        return joined.where(Decision.id == Suggestion.decision_id).scalar_subquery()

    return (
        update(Suggestion)
        .where(
            Suggestion.review_id == review.id,
            Suggestion.decision_id.in_(select(Decision.id).where(rows)),
        )
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
    """Relink later decisions past the undone act, so that no undo restores it."""
    taken = aliased(Decision)
    # correlate(None): the act's rows are in the updated table.
    images, ids = (
        select(column).where(rows).correlate(None) for column in (Decision.image_id, Decision.id)
    )
    return (
        update(Decision)
        .where(
            Decision.review_id == review.id,
            Decision.image_id.in_(images),
            Decision.previous_id.in_(ids),
        )
        .values(
            previous_id=select(taken.previous_id)
            .where(taken.id == Decision.previous_id)
            .scalar_subquery()
        )
        .execution_options(synchronize_session=False)
    )
