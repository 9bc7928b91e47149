"""Explanations: validation images that an image makes worse and better (docs/decisions/0025).

A review's scoring explains the first suggestions, and jobs on demand explain the others.
"""

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core import job_lifecycle
from backend.core.models import Explanation, Job, Review, Run, Scoring, Suggestion
from worker import engine
from worker.engine import EngineError, Images, Readout, Training
from worker.jobs import JobContext
from worker.pipeline import engine_setup, load_images

# On either side of an explanation.
SHOWN = 4
# Share of the scoring's time, its bounds in seconds, and images at most.
SHARE, LEAST_SECONDS, MOST_SECONDS, MOST_IMAGES = 0.25, 1.0, 60.0, 200

# Validation images examined, and images read to choose them (200 MB).
LOOKED_AT, READ_OUT = 96, 50_000
# Without a last layer: seconds and images at least.
SECONDS, LEAST_LOOKED = 1.5, 64


def count_affordable(training: Training, count: int) -> int:
    """Count the validation images that the training's pace allows to explain.

    Each costs three passes (docs/decisions/0016). count: training images.
    """
    epoch_seconds = statistics.median(report.seconds for report in training.history)
    return max(LEAST_LOOKED, int(SECONDS * count / max(epoch_seconds, 1e-3)))


def spread(validation: Images, count: int) -> Images:
    """Choose at most `count` validation images, evenly and deterministically."""
    if count >= len(validation):
        return validation
    return validation.subset(np.linspace(0, len(validation) - 1, count).astype(np.int64))


@dataclass(frozen=True)
class Explainer:
    """Explains training images of a run.

    validation: images to examine. span: the scoring's epochs. readout: their last-layer features.
    """

    training: Training
    images: Images
    validation: Images
    span: str
    readout: Readout | None = None

    @classmethod
    def of(
        cls, training: Training, images: Images, validation: Images, options: dict[str, Any]
    ) -> "Explainer":
        """Make an explainer for a scoring's options."""
        span = options.get("span", "last_epoch")
        many = spread(validation, READ_OUT)
        try:
            return cls(training, images, many, span, _readout(training, images, many))
        except EngineError:
            return cls(
                training, images, spread(validation, count_affordable(training, len(images))), span
            )

    def explain(self, image_id: int) -> dict[str, Any]:
        """Return an explanation's columns: at most SHOWN ids of images made worse, and better."""
        position = int(
            np.searchsorted(self.images.ids, image_id)
        )  # a version's images follow their ids
        places, changes = self._changes(position)
        # The loss of an image made worse falls without the image.
        worse = self.validation.ids[places[:SHOWN][changes[:SHOWN] < 0]].tolist()
        better = self.validation.ids[places[::-1][:SHOWN][changes[::-1][:SHOWN] > 0]].tolist()
        return {
            "image_id": image_id,
            "state": "done",
            "looked": len(self.validation),
            "worse": worse,
            "better": better,
        }

    def _changes(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Rank validation images by their loss changes: places and changes, (K,) each."""
        if self.readout is not None:
            return engine.explain_most(
                self.training,
                self.images,
                self.validation,
                position,
                self.readout,
                count=LOOKED_AT,
                span=self.span,
            )
        changes = engine.explain(
            self.training, self.images, self.validation, position, span=self.span
        )
        order = np.argsort(changes, kind="stable")
        return order, changes[order]


def _readout(training: Training, images: Images, validation: Images) -> Readout:
    """Load the readout, or make it. Raises EngineError."""
    path = training.folder / "why" / "readout.safetensors"
    if (found := engine.load_readout(path, training, validation)) is None:
        found = engine.read_out(training, images, validation)
        path.parent.mkdir(exist_ok=True)
        found.write(path)
    return found


def explain_first(
    context: JobContext, explainer: Explainer, image_ids: Iterable[int], seconds: float
) -> list[dict[str, Any]]:
    """Explain the first of these images within a share of the scoring's `seconds`."""
    budget = min(max(SHARE * seconds, LEAST_SECONDS), MOST_SECONDS)
    ends = time.monotonic() + budget
    rows: list[dict[str, Any]] = []
    for image_id in image_ids:
        left = ends - time.monotonic()
        if left < 0 or len(rows) == MOST_IMAGES:
            break
        spent = max(len(rows) / MOST_IMAGES, 1 - left / budget)
        context.progress(round(100 * spent), 100, "Looking at why")
        try:
            rows.append(explainer.explain(int(image_id)))
        except EngineError as error:
            # The scores still count; a request reports the error.
            context.log(f"Why an image is suggested cannot be computed: {error}")
            break
    return rows


def explain(context: JobContext) -> None:
    """Explain a review's requested images, and the next of its queue."""
    explainer = _explainer(context)
    ends, done = time.monotonic() + MOST_SECONDS, 0
    while (
        image_id := _next(context, ahead=done < MOST_IMAGES and time.monotonic() < ends)
    ) is not None:
        context.progress(done, MOST_IMAGES, "Looking at why")
        found = explainer.explain(image_id)
        done += 1
        _write(context, found)
    context.log(f"Explained {done} images.")
    with context.finish() as session:
        # The lock shows a new request here, or this job's end to it.
        session.get_one(Review, context.subject_id, with_for_update=True)
        if _find_requested(session, context.subject_id) is not None:
            _queue_again(session, context.job_id)


def _write(context: JobContext, found: dict[str, Any]) -> None:
    context.database.write(
        lambda session: session.merge(Explanation(review_id=context.subject_id, **found))
    )
    context.note_safe_point()


def _explainer(context: JobContext) -> Explainer:
    with context.database.transaction(write=False) as session:
        review = session.get_one(Review, context.subject_id)
        scoring = session.get_one(Scoring, review.accuracy_scoring_id)
        recipe = session.get_one(Run, review.run_id).recipe
        images, validation = (
            load_images.load(session, context.storage, review.version_id, split, recipe)
            for split in ("train", "validation")
        )
    engine_setup.ready(context.settings, context.storage)
    training = engine_setup.load_training(context.storage, review.run_id)
    return Explainer.of(training, images, validation, scoring.options)


def _next(context: JobContext, *, ahead: bool) -> int | None:
    """Choose a requested image, else the next of the queue if no work waits."""
    with context.database.transaction(write=False) as session:
        requested = _find_requested(session, context.subject_id)
        if requested is not None or not ahead:
            return requested
        waits = (Job.state == "queued", Job.lane.in_(context.settings.lanes))
        if job_lifecycle.count_jobs(session, *waits):
            return None
        mine = Suggestion.review_id == context.subject_id
        start = (
            select(Suggestion.position)
            .where(mine, Suggestion.image_id == context.payload.get("image_id"))
            .scalar_subquery()
        )
        known = select(Explanation.image_id).where(Explanation.review_id == context.subject_id)
        behind = select(Suggestion.image_id).where(
            mine,
            Suggestion.position > start,
            Suggestion.decision.is_(None),
            Suggestion.image_id.not_in(known),
        )
        return session.scalar(behind.order_by(Suggestion.position).limit(1))


def _find_requested(session: Session, review_id: int) -> int | None:
    """Find the latest request: earlier images are probably decided."""
    waiting = select(Explanation.image_id).where(
        Explanation.review_id == review_id, Explanation.state == "asked"
    )
    return session.scalar(waiting.order_by(Explanation.asked_at.desc()).limit(1))


def _queue_again(session: Session, job_id: int) -> None:
    job = session.get_one(Job, job_id)
    again = Job(
        kind=job.kind,
        title=job.title,
        subject_id=job.subject_id,
        data_set_id=job.data_set_id,
        payload=job.payload,
        created_by=job.created_by,
    )
    job_lifecycle.add_job(session, again)
