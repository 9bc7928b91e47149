"""Contributors to a review."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from backend.core.models import Review, Suggestion, User
from backend.review import service

MOST = 500


def list_contributors(session: Session, review: Review) -> Sequence[Row[Any]]:
    """List people by decisions in force, the most first.

    Rows: (user_id, name, decided, last_at, a count per decision). People who left share a row.
    """
    kinds = [
        func.count().filter(Suggestion.decision == kind).label(kind) for kind in service.DECISIONS
    ]
    decided = func.count().label("decided")
    columns: list[Any] = [
        Suggestion.decided_by.label("user_id"),
        User.name,
        decided,
        func.max(Suggestion.decided_at).label("last_at"),
        *kinds,
    ]
    return session.execute(
        select(*columns)
        .outerjoin(User, User.id == Suggestion.decided_by)
        .where(Suggestion.review_id == review.id, Suggestion.decision.is_not(None))
        .group_by(Suggestion.decided_by, User.name)
        .order_by(decided.desc(), User.name)
        .limit(MOST)
    ).all()
