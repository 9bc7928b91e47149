"""Things to test with: rows and files as the application itself would make them, only smaller."""

import io
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.models import (
    DataSet,
    Image,
    Job,
    Review,
    Run,
    Score,
    Scoring,
    Suggestion,
    User,
    Version,
)
from backend.core.storage import Storage

SPLITS = {"train": 0.7, "validation": 0.15, "test": 0.15}


def a_user(session: Session, name: str = "olga", role: str = "owner") -> User:
    user = User(name=name, role=role)
    session.add(user)
    session.flush()
    return user


def a_job(
    session: Session,
    *,
    kind: str = "train",
    subject_id: int = 1,
    data_set_id: int | None = None,
    **values: object,
) -> Job:
    job = Job(
        kind=kind, title=f"A {kind} job", subject_id=subject_id, data_set_id=data_set_id, **values
    )
    session.add(job)
    session.flush()
    return job


def a_data_set(
    session: Session,
    storage: Storage | None = None,
    *,
    name: str = "Blocks",
    class_names: Sequence[str] = ("left", "middle", "right"),
    per_class: int = 20,
    side: int = 28,
    channels: int = 1,
    planted: int = 0,
    seed: int = 0,
) -> DataSet:
    """A ready data set and version; each class is a bright block. `planted` labels are wrong."""
    generator = np.random.default_rng(seed)
    count, classes = per_class * len(class_names), len(class_names)
    truth = np.arange(count) % classes
    pixels = generator.integers(0, 110, (count, side, side, channels), dtype=np.uint8)
    width = side // classes
    for row, label in enumerate(truth):
        pixels[row, :, label * width : (label + 1) * width] += 110
    splits = _splits(truth, classes)
    labels = truth.copy()
    wrong = generator.choice(np.flatnonzero(splits == "train"), planted, replace=False)
    labels[wrong] = (truth[wrong] + 1) % classes
    data_set = DataSet(
        name=name,
        source={"kind": "folder"},
        state="ready",
        class_names=list(class_names),
        height=side,
        width=side,
        channels=channels,
        image_count=count,
        planted_count=planted,
    )
    session.add(data_set)
    session.flush()
    hashes = [
        uuid.uuid5(uuid.NAMESPACE_OID, f"{data_set.id}/{row}").hex * 2 for row in range(count)
    ]
    for row in range(count):
        session.add(
            Image(
                data_set_id=data_set.id,
                row=row,
                path=f"{class_names[labels[row]]}/{row:05d}.png",
                content_hash=hashes[row],
                split=str(splits[row]),
                label=int(labels[row]),
                true_label=int(truth[row]) if row in wrong else None,
                width=side,
                height=side,
            )
        )
    version = Version(data_set_id=data_set.id, number=1, note="As imported")
    session.add(version)
    session.flush()
    data_set.current_version_id = version.id
    if storage is not None:
        _write_files(storage, data_set.id, pixels, hashes)
    session.flush()
    return data_set


def _splits(labels: np.ndarray, classes: int) -> np.ndarray:
    """The same fractions in every class."""
    splits = np.empty(len(labels), dtype=object)
    for label in range(classes):
        rows = np.flatnonzero(labels == label)
        train = round(len(rows) * SPLITS["train"])
        validation = train + round(len(rows) * SPLITS["validation"])
        splits[rows[:train]], splits[rows[train:validation]], splits[rows[validation:]] = (
            "train",
            "validation",
            "test",
        )
    return splits


def _write_files(
    storage: Storage, data_set_id: int, pixels: np.ndarray, hashes: Sequence[str]
) -> None:
    storage.data_set(data_set_id).mkdir(parents=True, exist_ok=True)
    np.save(storage.pixels(data_set_id), pixels, allow_pickle=False)
    for row, content_hash in enumerate(hashes):
        _write_webp(storage.thumbnail(data_set_id, content_hash), pixels[row])


def _write_webp(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = io.BytesIO()
    Picture.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(
        encoded, "WEBP", lossless=True
    )
    path.write_bytes(encoded.getvalue())


def a_run(
    session: Session, data_set: DataSet, *, state: str = "done", seed: int = 0, **recipe: object
) -> Run:
    """A run on the current version."""
    assert data_set.current_version_id is not None
    run = Run(
        data_set_id=data_set.id,
        version_id=data_set.current_version_id,
        state=state,
        seed=seed,
        recipe=recipe,
    )
    run.report = {"seconds": 1.0, "stored_bytes": 1000} if state == "done" else {}
    session.add(run)
    session.flush()
    return run


def a_review(session: Session, run: Run, *, seed: int = 0) -> Review:
    """A review that is ready: each training image once, in random orders."""
    generator = np.random.default_rng(seed)
    rows = session.scalars(
        select(Image)
        .where(Image.data_set_id == run.data_set_id, Image.split == "train")
        .order_by(Image.id)
    ).all()
    classes = len(session.get_one(DataSet, run.data_set_id).class_names)
    done = {"run_id": run.id, "state": "done", "report": {"seconds": 1.0, "stored_bytes": 1000}}
    harm, wrong = Scoring(method="sgd_influence", **done), Scoring(method="margin", **done)
    session.add_all((harm, wrong))
    session.flush()
    review = Review(
        data_set_id=run.data_set_id,
        version_id=run.version_id,
        run_id=run.id,
        state="ready",
        accuracy_scoring_id=harm.id,
        label_scoring_id=wrong.id,
        suggestion_count=len(rows),
    )
    session.add(review)
    session.flush()
    positions, first, second = (generator.permutation(len(rows)) + 1 for _ in range(3))
    for place, image in enumerate(rows):
        values = {
            "review_id": review.id,
            "image_id": image.id,
            "label": image.label,
            "predicted": int(generator.integers(classes)),
        }
        session.add(
            Suggestion(
                position=int(positions[place]),
                brought_by="accuracy",
                accuracy_rank=int(first[place]),
                label_rank=int(second[place]),
                accuracy_value=float(first[place]) - len(rows) / 2,
                label_value=float(second[place]) - len(rows) / 2,
                confidence=0.9,
                label_confidence=0.1,
                content_hash=image.content_hash,
                path=image.path,
                row=image.row,
                **values,
            )
        )
        for scoring, ranks in ((harm, first), (wrong, second)):
            value = float(ranks[place]) - len(rows) / 2
            session.add(
                Score(scoring_id=scoring.id, image_id=image.id, value=value, rank=int(ranks[place]))
            )
    session.flush()
    return review
