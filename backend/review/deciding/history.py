"""History of an image's decisions."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session, aliased

from backend.core.models import Decision, Review, User

# A disputed image may have more than a page can show.
MOST = 50


def list_acts(session: Session, review: Review, image_id: int) -> tuple[Sequence[Row[Any]], int]:
    """List the latest acts on an image, and count all.

    Rows: action, label, by, by_id, at; undoes, redoes: an earlier act; undone: taken back;
    together: on several images.
    """
    undoing = aliased(Decision)
    mine = (Decision.review_id == review.id, Decision.image_id == image_id)
    columns: list[Any] = [
        Decision.action,
        Decision.label,
        User.name.label("by"),
        Decision.user_id.label("by_id"),
        Decision.created_at.label("at"),
        Decision.undoes_id.is_not(None).label("undoes"),
        Decision.redoes_id.is_not(None).label("redoes"),
        Decision.batch.is_not(None).label("together"),
        select(undoing.id).where(undoing.undoes_id == Decision.id).exists().label("undone"),
    ]
    query = (
        select(*columns)
        .outerjoin(User, User.id == Decision.user_id)
        .where(*mine)
        .order_by(Decision.id.desc())
    )
    rows = session.execute(query.limit(MOST)).all()
    return rows, session.scalar(select(func.count()).select_from(Decision).where(*mine)) or 0
