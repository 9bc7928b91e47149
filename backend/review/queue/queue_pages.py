"""Suggestions of a review: one index range, no join."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Row, Select, SQLColumnExpression, bindparam, func, select
from sqlalchemy.orm import Session

from backend.core.errors import NotFound
from backend.core.models import Image, Review, Suggestion, User
from backend.review.queue import counts, orderings
from backend.review.queue.filters import Filters, conditions
from backend.review.queue.orderings import Order
from backend.web.pagination import cut

LARGEST_PAGE = 500
# A browser repaints this many at once, and reloads after more.
MOST_CHANGES = 500
# Below this, sorting the matches beats walking all images in order.
FEW = 4_000

# Built once, on tables, which the ORM need not map.
_columns, _users = Suggestion.__table__.c, User.__table__.c
_CHANGES = (
    select(Suggestion.__table__)
    .where(_columns.review_id == bindparam("review"), _columns.change > bindparam("since"))
    .order_by(_columns.change, _columns.image_id)
    .limit(MOST_CHANGES + 1)
)
_NAMES = select(_users.id, _users.name).where(_users.id.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True)
class Page:
    """Suggestions by rank, with flags for more on either side."""

    items: Sequence[Row[Any]]
    has_before: bool
    has_after: bool


def page(
    session: Session,
    review: Review,
    *,
    order: Order = "queue",
    filters: Filters | None = None,
    after: int = 0,
    before: int | None = None,
    limit: int = 100,
    matching: int | None = None,
) -> Page:
    """Read one index range: behind rank `after`, or ahead of rank `before` if given.

    matching: count of matches, if known.
    """
    view = _view(session, review, order, filters or Filters(), matching)
    rank, matches = view.rank, view.matches
    if before is None:
        here = matches.where(rank > after) if after else matches
        rows, more = cut(view.read(session, review, here.order_by(rank).limit(limit + 1)), limit)
        return Page(rows, after > 0 and _any(session, matches.where(rank <= after)), more)
    there = matches.where(rank < before).order_by(rank.desc())
    rows, more = cut(view.read(session, review, there.limit(limit + 1)), limit)
    return Page(rows[::-1], more, _any(session, matches.where(rank >= before)))


@dataclass(frozen=True)
class _Matches:
    """Unsorted suggestions of a view, or only `ids` where an index has them."""

    matches: Select[Any]
    rank: SQLColumnExpression[int]
    ids: bool

    def read(self, session: Session, review: Review, statement: Select[Any]) -> list[Row[Any]]:
        """Read the rows of a statement made from `matches`."""
        if not self.ids:
            return list(session.execute(statement).all())
        image_ids = session.scalars(statement).all()
        rows = session.execute(
            _rows().where(Suggestion.review_id == review.id, Suggestion.image_id.in_(image_ids))
        ).all()
        found = {row.image_id: row for row in rows}
        return [found[image_id] for image_id in image_ids]


def _view(
    session: Session, review: Review, order: Order, filters: Filters, matching: int | None
) -> _Matches:
    ordering = orderings.get_ordering(session, review, order)
    if ordering.scoring_id is None and not filters.ranged:
        return _Matches(_rows().where(*conditions(review, filters)), ordering.rank, ids=False)
    ids = select(Suggestion.image_id)
    if ordering.scoring_id is None:
        # The index of views is sorted by position; keep other ranks off their own indexes.
        rank = ordering.rank if order == "queue" else func.coalesce(ordering.rank, 0)
        return _Matches(ids.where(*conditions(review, filters, alone=True)), rank, ids=True)
    if matching is None and filters:
        matching = sum(counts.by_decision(session, review, filters).values())
    if filters and (matching or 0) <= FEW:
        return _Matches(
            *ordering.gather(ids.where(*conditions(review, filters, alone=filters.ranged))),
            ids=True,
        )
    return _Matches(*ordering.walk(ids.where(*conditions(review, filters, alone=True))), ids=True)


def _any(session: Session, matches: Select[Any]) -> bool:
    return session.execute(matches.limit(1)).first() is not None


@cache
def _rows() -> Select[Any]:
    # The table bypasses the identity map; made once, as its columns are many.
    return select(Suggestion.__table__)


def at_rank(session: Session, review: Review, order: Order, rank: int) -> Row[Any] | None:
    """Read the suggestion at a rank, ignoring filters."""
    rows, own = orderings.get_ordering(session, review, order).walk(_rows())
    return session.execute(rows.where(Suggestion.review_id == review.id, own == rank)).first()


def next_undecided(
    session: Session, review: Review, order: Order, filters: Filters, after: int
) -> Row[Any] | None:
    """Find the next undecided image behind a rank, or from the start."""
    wanted = filters if filters.decided else filters.model_copy(update={"decision": "undecided"})
    for start in dict.fromkeys((after, 0)):
        found = page(session, review, order=order, filters=wanted, after=start, limit=1)
        if found.items:
            return found.items[0]
    return None


@cache
def _of_images() -> Select[Any]:
    return (
        _rows()
        .where(_columns.review_id == bindparam("review"))
        .where(_columns.image_id.in_(bindparam("images", expanding=True)))
        .order_by(_columns.position)
    )


def read_images(session: Session, review: Review, image_ids: Sequence[int]) -> list[Row[Any]]:
    """Read suggestions in queue order. Raises NotFound if one is missing."""
    wanted = set(image_ids)
    rows = session.execute(_of_images(), {"review": review.id, "images": list(wanted)}).all()
    if len(rows) != len(wanted):
        raise NotFound("There is no such image in this review.")
    return list(rows)


def changes_since(session: Session, review: Review, since: int) -> list[Row[Any]] | None:
    """Read suggestions changed after `since`; None if too many to repaint."""
    if since >= review.last_change:
        return []
    rows = session.execute(_CHANGES, {"review": review.id, "since": since}).all()
    return list(rows) if len(rows) <= MOST_CHANGES else None


def read_names(
    session: Session, rows: Sequence[Row[Any]], me: User | None = None
) -> dict[int, str]:
    """Map user ids to names of deciders. me: need not be looked up."""
    known = {} if me is None else {me.id: me.name}
    ids = {row.decided_by for row in rows if row.decided_by is not None} - known.keys()
    if not ids:
        return known
    people = session.execute(_NAMES, {"ids": list(ids)})
    return known | {row.id: row.name for row in people}


def original_size(session: Session, image_id: int) -> tuple[int, int]:
    """Read the original's width and height; small images enlarge without blur."""
    row = session.execute(select(Image.width, Image.height).where(Image.id == image_id)).one()
    return row.width, row.height
