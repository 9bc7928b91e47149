"""Lists in pages: one shape, one cursor, one query."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Generic, TypeVar, TypeVarTuple

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy import Row, Select
from sqlalchemy.orm import InstrumentedAttribute, Session

Item = TypeVar("Item")
AnyRow = TypeVar("AnyRow")
Columns = TypeVarTuple("Columns")
After = Annotated[int | None, Query(description="Cursor: `next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=200, description="Most items of the page.")]
LongLimit = Annotated[int, Query(ge=1, le=1000, description="Most items of the page.")]


class Page(BaseModel, Generic[Item]):
    """Some items in order, and the cursor of the next page."""

    items: list[Item]
    next: str | None = Field(description="Goes into `after`; null on the last page.")

    @classmethod
    def of(cls, items: Iterable[Any], following: int | None) -> "Page[Item]":
        cursor = None if following is None else str(following)
        return cls.model_validate({"items": list(items), "next": cursor}, from_attributes=True)


def paginate(
    session: Session,
    statement: Select[*Columns],
    key: InstrumentedAttribute[int],
    *,
    after: int | None,
    limit: int,
    newest_first: bool = False,
) -> tuple[Sequence[Row[*Columns]], int | None]:
    """Read a page of rows in order of a key, and the key to continue after.

    Args:
        statement: Selects the rows; its first column is the key, or its model.
        key: A unique, constant column, so that no row repeats or is missed.
        after: Key of the last row read, or None at the start.

    Returns:
        At most `limit` rows, and the last row's key, or None on the last page.
    """
    if after is not None:
        statement = statement.where(key < after if newest_first else key > after)
    ordered = statement.order_by(key.desc() if newest_first else key)
    rows, more = cut(session.execute(ordered.limit(limit + 1)).all(), limit)
    return rows, _key(next(iter(rows[-1])), key.key) if more else None


def cut(rows: Sequence[AnyRow], limit: int) -> tuple[Sequence[AnyRow], bool]:
    """Return at most `limit` rows, and whether more follow."""
    return rows[:limit], len(rows) > limit


def _key(first: Any, name: str) -> int:
    return int(getattr(first, name, first))
