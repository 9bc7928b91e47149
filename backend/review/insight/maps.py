"""Map of a review's images: places, groups, selections."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Row, delete, func, insert, literal, select
from sqlalchemy.orm import Session

from backend.core.errors import Conflict, Invalid, NotFound
from backend.core.job_lifecycle import ACTIVE
from backend.core.models import Job, MapPoint, Review, Selection, SelectionImage, Suggestion, User
from backend.jobs import service as jobs
from backend.review import service

Layout = Literal["overview", "neighbours"]

# Largest coordinate sent.
SIDE = 10_000
# Limits: selections in a review, images in a selection, images in a statement.
MOST_SELECTIONS, MOST_SELECTED, AT_A_TIME = 50, 200_000, 5_000
# Pictures per group.
EXAMPLES = 6
# Decisions are sent as indexes into this list.
DECISION_CODES = (None, *service.DECISIONS)


@dataclass(frozen=True)
class Group:
    """A group of similar images, with its most frequent label.

    doubted: images predicted as another class. examples: rows (image_id, content_hash, label,
    predicted), in queue order.
    """

    number: int
    count: int
    decided: int
    doubted: int
    label: int
    share: float
    examples: Sequence[Row[Any]]


def read_places(session: Session, review: Review, layout: Layout) -> dict[str, Any]:
    """Read the map as columns, one entry an image; empty without that layout."""
    across, down = (
        (MapPoint.x, MapPoint.y) if layout == "overview" else (MapPoint.near_x, MapPoint.near_y)
    )
    rows = session.execute(
        select(
            MapPoint.image_id,
            across,
            down,
            Suggestion.label,
            Suggestion.predicted,
            Suggestion.decision,
        )
        .join(
            Suggestion,
            (Suggestion.review_id == MapPoint.review_id)
            & (Suggestion.image_id == MapPoint.image_id),
        )
        .where(MapPoint.review_id == review.id, across.is_not(None))
        .order_by(MapPoint.image_id)
    ).all()
    names = ("image_ids", "x", "y", "labels", "predicted", "decisions")
    if not rows:
        return {name: [] for name in names}
    ids, x, y, labels, predicted, decisions = zip(*rows, strict=True)
    # One scale for both axes keeps distances comparable.
    scale = SIDE / (max(max(x) - min(x), max(y) - min(y)) or 1)
    codes = [DECISION_CODES.index(decision) for decision in decisions]
    at = (
        [round((value - min_) * scale) for value in column]
        for column, min_ in ((x, min(x)), (y, min(y)))
    )
    return dict(zip(names, map(list, (ids, *at, labels, predicted, codes)), strict=True))


@dataclass(frozen=True)
class LayoutState:
    """State of the layout "neighbours", with a sentence."""

    state: Literal["ready", "waiting", "none"]
    sentence: str = ""


def read_state(session: Session, review: Review) -> LayoutState:
    there = (
        select(MapPoint.image_id)
        .where(MapPoint.review_id == review.id, MapPoint.near_x.is_not(None))
        .limit(1)
    )
    if session.execute(there).first() is not None:
        return LayoutState("ready")
    job = _job(session, review)
    if job is not None and job.state in ACTIVE:
        return LayoutState(
            "waiting", "A map that keeps neighbours together is being made; it appears by itself."
        )
    return LayoutState(
        "none",
        f"A map that keeps neighbours together could not be made: {job.error}"
        if job is not None and job.error
        else "",
    )


def request_layout(session: Session, user: User, review: Review) -> LayoutState:
    """Request the layout "neighbours" unless it exists or is queued.

    Raises Conflict without a map.
    """
    service.check_ready(review)
    # Of simultaneous requests, one makes the job.
    session.get_one(Review, review.id, with_for_update=True, populate_existing=True)
    if (
        session.execute(
            select(MapPoint.image_id).where(MapPoint.review_id == review.id).limit(1)
        ).first()
        is None
    ):
        raise Conflict("There is no map of this review. Find the harmful images again to get one.")
    found = read_state(session, review)
    if found.state == "none":
        name = service.data_set_of(session, user, review).name[:200]
        title = f"Arrange the map of {name}"
        jobs.create(
            session,
            user,
            kind="map",
            title=title,
            subject_id=review.id,
            data_set_id=review.data_set_id,
        )
        session.flush()
        return read_state(session, review)
    return found


def _job(session: Session, review: Review) -> Job | None:
    return session.scalar(
        select(Job)
        .where(Job.kind == "map", Job.subject_id == review.id)
        .order_by(Job.id.desc())
        .limit(1)
    )


def list_groups(session: Session, review: Review) -> list[Group]:
    """List groups of similar images, largest first."""
    mine = (Suggestion.review_id == MapPoint.review_id) & (Suggestion.image_id == MapPoint.image_id)
    doubted = func.count().filter(Suggestion.label != Suggestion.predicted)
    counts = session.execute(
        select(
            MapPoint.in_group,
            Suggestion.label,
            func.count().label("images"),
            func.count(Suggestion.decision).label("decided"),
            doubted,
        )
        .join(Suggestion, mine)
        .where(MapPoint.review_id == review.id)
        .group_by(MapPoint.in_group, Suggestion.label)
    ).all()
    examples = _examples(session, review)
    found: dict[int, list[Any]] = {}
    for row in counts:
        found.setdefault(row.in_group, []).append(row)
    return [
        _group(number, rows, examples.get(number, [])) for number, rows in sorted(found.items())
    ]


def _group(number: int, rows: Sequence[Row[Any]], examples: Sequence[Row[Any]]) -> Group:
    count, decided, doubted = (sum(row[column] for row in rows) for column in (2, 3, 4))
    largest = max(rows, key=lambda row: (row.images, -row.label))
    return Group(number, count, decided, doubted, largest.label, largest.images / count, examples)


def _examples(session: Session, review: Review) -> dict[int, list[Row[Any]]]:
    place = (
        func.row_number()
        .over(partition_by=MapPoint.in_group, order_by=Suggestion.position)
        .label("place")
    )
    ranked = (
        select(
            MapPoint.in_group,
            Suggestion.image_id,
            Suggestion.content_hash,
            Suggestion.label,
            Suggestion.predicted,
            place,
        )
        .join(
            Suggestion,
            (Suggestion.review_id == MapPoint.review_id)
            & (Suggestion.image_id == MapPoint.image_id),
        )
        .where(MapPoint.review_id == review.id)
        .subquery()
    )
    found: dict[int, list[Row[Any]]] = {}
    for row in session.execute(
        select(ranked).where(ranked.c.place <= EXAMPLES).order_by(ranked.c.in_group, ranked.c.place)
    ):
        found.setdefault(row.in_group, []).append(row)
    return found


def save_selection(
    session: Session, user: User, review: Review, image_ids: Sequence[int]
) -> Selection:
    """Save a selection; drop the oldest beyond MOST_SELECTIONS.

    Raises NotFound for another review's image.
    """
    service.check_ready(review)
    wanted = sorted(set(image_ids))
    if not 0 < len(wanted) <= MOST_SELECTED:
        raise Invalid(f"Pick out at least one image, and at most {MOST_SELECTED:,}.")
    selection = Selection(review_id=review.id, created_by=user.id)
    session.add(selection)
    session.flush()
    kept = 0
    for start in range(0, len(wanted), AT_A_TIME):
        some = Suggestion.image_id.in_(wanted[start : start + AT_A_TIME])
        images = select(literal(selection.id), Suggestion.image_id).where(
            Suggestion.review_id == review.id, some
        )
        adding = insert(SelectionImage).from_select(["selection_id", "image_id"], images)
        # PostgreSQL counts inserted rows only on request.
        added = session.execute(adding.execution_options(preserve_rowcount=True))
        kept += added.rowcount  # type: ignore[attr-defined]  # typed as any result
    if kept != len(wanted):
        raise NotFound("There is no such image in this review.")
    mine = (
        select(Selection.id).where(Selection.review_id == review.id).order_by(Selection.id.desc())
    )
    session.execute(
        delete(Selection).where(Selection.id.in_(mine.offset(MOST_SELECTIONS).limit(1_000)))
    )
    return selection
