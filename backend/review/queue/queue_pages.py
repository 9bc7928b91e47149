"""The suggestions of a review, in pages or one by one: an index range each, and no join."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, SQLColumnExpression, func, select
from sqlalchemy.orm import Session

from backend.core.errors import NotFound
from backend.core.models import Image, Review, Suggestion, User
from backend.review.queue import counts, orderings
from backend.review.queue.filters import Filters, conditions
from backend.review.queue.orderings import Order
from backend.web.pagination import cut

LARGEST_PAGE = 500
# What a browser repaints at once; after a bigger act it loads its page anew.
MOST_CHANGES = 500
# As many matches are sorted faster than all images are walked to find them in order.
FEW = 4_000


@dataclass(frozen=True)
class Page:
    """Suggestions in order of rank, and whether there are more on either side."""

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
    """One index range: the first `limit` suggestions behind rank `after`, or the last `limit` ahead of rank `before` when that is given.
    matching: how many fit the filters, where the caller has counted them already.
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
    """The suggestions of a view, not yet in order: as rows, or where an index has all that is asked (`ids`) as ids alone."""

    matches: Select[Any]
    rank: SQLColumnExpression[int]
    ids: bool

    def read(self, session: Session, review: Review, statement: Select[Any]) -> list[Row[Any]]:
        """The rows of a statement made from `matches`, in its order."""
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
    ordering = orderings.find(session, review, order)
    if ordering.scoring_id is None and not filters.ranged:
        return _Matches(_rows().where(*conditions(review, filters)), ordering.rank, ids=False)
    ids = select(Suggestion.image_id)
    if ordering.scoring_id is None:
        # The place in the queue is what the index of views is sorted by; the other ranks must not lead to their own indexes.
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


def _rows() -> Select[Any]:
    # Columns, not objects: a page of 100 costs no identity map.
    return select(*Suggestion.__table__.columns)


def at_rank(session: Session, review: Review, order: Order, rank: int) -> Row[Any] | None:
    """The suggestion that stands at a rank, whatever the filters say: an address keeps its image after the decision."""
    rows, own = orderings.find(session, review, order).walk(_rows())
    return session.execute(rows.where(Suggestion.review_id == review.id, own == rank)).first()


def next_undecided(
    session: Session, review: Review, order: Order, filters: Filters, after: int
) -> Row[Any] | None:
    """The next one to decide in this view behind a rank, from the start again when there is none; None when all are decided."""
    wanted = filters if filters.decided else filters.model_copy(update={"decision": "undecided"})
    for start in dict.fromkeys((after, 0)):
        found = page(session, review, order=order, filters=wanted, after=start, limit=1)
        if found.items:
            return found.items[0]
    return None


def of_images(session: Session, review: Review, image_ids: Sequence[int]) -> list[Row[Any]]:
    """The suggestions of these images in order of the queue; NotFound unless each one belongs to this review."""
    wanted = set(image_ids)
    rows = session.execute(
        _rows()
        .where(Suggestion.review_id == review.id, Suggestion.image_id.in_(wanted))
        .order_by(Suggestion.position)
    ).all()
    if len(rows) != len(wanted):
        raise NotFound("There is no such image in this review.")
    return list(rows)


def changes_since(session: Session, review: Review, since: int) -> list[Row[Any]] | None:
    """Suggestions whose decision changed after change number `since`, oldest first; None when too many to repaint one by one."""
    if since >= review.last_change:
        return []
    rows = session.execute(
        _rows()
        .where(Suggestion.review_id == review.id, Suggestion.change > since)
        .order_by(Suggestion.change, Suggestion.image_id)
        .limit(MOST_CHANGES + 1)
    ).all()
    return list(rows) if len(rows) <= MOST_CHANGES else None


def names_of(session: Session, rows: Sequence[Row[Any]]) -> dict[int, str]:
    """User id → name of everybody who decided one of these rows; one query a page, none where nobody decided."""
    ids = {row.decided_by for row in rows if row.decided_by is not None}
    if not ids:
        return {}
    return {
        row.id: row.name
        for row in session.execute(select(User.id, User.name).where(User.id.in_(ids)))
    }


def original_size(session: Session, image_id: int) -> tuple[int, int]:
    """Width and height of the original in pixels: small ones are enlarged without blur."""
    row = session.execute(select(Image.width, Image.height).where(Image.id == image_id)).one()
    return row.width, row.height
