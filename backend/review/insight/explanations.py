"""Explanations: validation images made worse or better, and similar images.

A worker computes them; here they are requested and read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from backend.core.job_lifecycle import ACTIVE
from backend.core.models import Explanation, Image, Job, MapPoint, Review, User, VersionChange, now
from backend.jobs import service as jobs
from backend.review import service
from backend.review.queue import queue_pages

State = Literal["ready", "waiting", "none"]


@dataclass(frozen=True)
class Why:
    """An explanation's state, sentence, and affected images.

    state: ready, waiting for a worker, or none (not requested).
    """

    state: State
    sentence: str
    worse: Sequence[Row[Any]] = field(default_factory=list)
    better: Sequence[Row[Any]] = field(default_factory=list)


NOT_YET = "Not computed for this image yet."
FOUND = (
    "The validation images that this image affects most (an estimate; {looked:,} were looked at)."
)
NOTHING = (
    "This image has no measurable effect on any of {looked:,} validation images (an estimate)."
)
COMING = "Being computed; it takes a moment."


def read_explanation(session: Session, review: Review, image_id: int) -> Why:
    found = session.get(Explanation, (review.id, image_id))
    if found is None:
        return Why("none", NOT_YET)
    if found.state == "asked":
        job = _job(session, review)
        return (
            Why("waiting", _waiting(session, job))
            if job is not None and job.state in ACTIVE
            else Why("none", _stopped(job))
        )
    worse, better = _images(session, review, found.worse), _images(session, review, found.better)
    sentence = FOUND if worse or better else NOTHING
    return Why("ready", sentence.format(looked=found.looked), worse, better)


def list_similar(
    session: Session, review: Review, image_id: int
) -> tuple[list[Row[Any]], list[Row[Any]]]:
    """List similar suggestions: with its label, and with the predicted label."""
    point = session.get(MapPoint, (review.id, image_id))
    if point is None:
        return [], []
    rows = {
        row.image_id: row
        for row in queue_pages.read_images(
            session, review, [*point.like_given, *point.like_predicted]
        )
    }
    return [rows[near] for near in point.like_given], [rows[near] for near in point.like_predicted]


def request_explanation(session: Session, user: User, review: Review, image_id: int) -> Why:
    """Request an explanation unless it exists; one job serves all requests.

    Raises NotFound, or Conflict before the review is ready.
    """
    service.check_ready(review)
    queue_pages.read_images(session, review, [image_id])
    # The job ends under this lock: it sees the request, or we see its end.
    session.get_one(Review, review.id, with_for_update=True, populate_existing=True)
    found = session.get(Explanation, (review.id, image_id))
    if found is None:
        session.add(
            Explanation(review_id=review.id, image_id=image_id, state="asked", worse=[], better=[])
        )
    elif found.state == "asked":
        found.asked_at = now()
    else:
        return read_explanation(session, review, image_id)
    job = _job(session, review)
    if job is None or job.state not in ACTIVE:
        name = service.data_set_of(session, user, review).name[:200]
        title = f"Look at why, for {name}"
        payload = {"image_id": image_id}
        jobs.create(
            session,
            user,
            kind="explain",
            title=title,
            subject_id=review.id,
            data_set_id=review.data_set_id,
            payload=payload,
        )
    session.flush()
    return read_explanation(session, review, image_id)


def _job(session: Session, review: Review) -> Job | None:
    return session.scalar(
        select(Job)
        .where(Job.kind == "explain", Job.subject_id == review.id)
        .order_by(Job.id.desc())
        .limit(1)
    )


def _waiting(session: Session, job: Job | None) -> str:
    if job is None or job.state == "running":
        return COMING
    return jobs.describe_waiting(session, job) or COMING


def _stopped(job: Job | None) -> str:
    if job is not None and job.state == "failed":
        return f"It could not be computed: {job.error}"
    return NOT_YET


def _images(session: Session, review: Review, ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Read rows (id, content_hash, label in the review's version), ordered as `ids`."""
    changed = (VersionChange.image_id == Image.id) & (VersionChange.version_id == review.version_id)
    columns: list[Any] = [
        Image.id,
        Image.content_hash,
        Image.label,
        VersionChange.label.label("new_label"),
    ]
    rows = session.execute(
        select(*columns).outerjoin(VersionChange, changed).where(Image.id.in_(ids))
    ).all()
    return sorted(rows, key=lambda row: ids.index(row.id))
