"""A small data set of real digits, trained and reviewed, ready to be cleansed."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from sklearn.datasets import load_digits
from sqlalchemy import select

from backend.core.db import Database
from backend.core.models import (
    Base,
    DataSet,
    Image,
    Review,
    Run,
    Suggestion,
    User,
    Version,
    images_of,
    now,
)
from backend.core.settings import Settings
from backend.core.storage import Storage

CLASSES = ["zero", "one", "<b>two</b>", "three"]
TRAIN, VALIDATION = 160, 40


class Scenario:
    """A database and storage: a data set, its version, a run and a review of its training images.

    flips: share of planted errors. train: number of training images.
    The run is not trained: `tests.worker` does that.
    """

    def __init__(
        self, home: Path, *, flips: float = 0.0, seed: int = 3, train: int = TRAIN
    ) -> None:
        self._open(home, seed)
        self._train = train
        Base.metadata.create_all(self.database.engine)
        with self.database.transaction() as session:
            self.owner = User(name="Olga", role="owner")
            self.reviewer = User(name="Rita", role="reviewer")
            session.add_all([self.owner, self.reviewer])
            session.flush()
            data_set = DataSet(
                name="Digits",
                state="ready",
                class_names=CLASSES,
                height=20,
                width=20,
                channels=1,
                created_by=self.owner.id,
            )
            session.add(data_set)
            session.flush()
            version = Version(data_set_id=data_set.id, parent_id=None, number=1)
            session.add(version)
            session.flush()
            data_set.current_version_id = version.id
            images = self._images(data_set, flips)
            session.add_all(images)
            session.flush()
            run = Run(
                data_set_id=data_set.id,
                version_id=version.id,
                seed=seed,
                recipe={},
                created_by=self.owner.id,
            )
            session.add(run)
            session.flush()
            self.data_set_id, self.version_id, self.run_id = data_set.id, version.id, run.id
        self.review_id = self.add_review(self.version_id, self.run_id)

    @classmethod
    def reopen(cls, home: Path, seed: int = 3) -> "Scenario":
        """A scenario that lies in `home` already."""
        scenario = cls.__new__(cls)
        scenario._open(home, seed)
        with scenario.database.transaction(write=False) as session:
            scenario.owner, scenario.reviewer = session.scalars(select(User).order_by(User.id))
            run = session.scalars(select(Run).order_by(Run.id)).first()
            assert run is not None
            scenario.data_set_id, scenario.version_id, scenario.run_id = (
                run.data_set_id,
                run.version_id,
                run.id,
            )
            scenario.review_id = session.scalars(select(Review.id).order_by(Review.id)).first() or 0
        return scenario

    def _open(self, home: Path, seed: int) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.settings = Settings(home=home, heartbeat_seconds=5.0)
        self.storage = Storage(self.settings.files)
        self.database = Database(self.settings.database)
        self.seed = seed

    def _images(self, data_set: DataSet, flips: float) -> list[Image]:
        digits = load_digits(n_class=len(CLASSES))
        generator = np.random.default_rng(self.seed)
        order = generator.permutation(len(digits.target))
        pixels = np.pad(
            np.kron(digits.images[order], np.ones((1, 2, 2))) * 15.9, ((0, 0), (2, 2), (2, 2))
        )
        path = self.storage.pixels(data_set.id)
        path.parent.mkdir(parents=True)
        stored = open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(order), 20, 20, 1))
        stored[:] = pixels.astype(np.uint8)[..., None]
        stored.flush()
        truth = digits.target[order].astype(int)
        labels = truth.copy()
        flipped = generator.choice(self._train, int(flips * self._train), replace=False)
        labels[flipped] = (
            truth[flipped] + generator.integers(1, len(CLASSES), len(flipped))
        ) % len(CLASSES)
        data_set.image_count, data_set.planted_count = len(order), len(flipped)
        return [
            Image(
                data_set_id=data_set.id,
                row=row,
                path=f"{row}.png",
                content_hash=f"{row:064x}",
                split="train"
                if row < self._train
                else "validation"
                if row < self._train + VALIDATION
                else "test",
                label=int(labels[row]),
                true_label=int(truth[row]) if labels[row] != truth[row] else None,
                width=20,
                height=20,
            )
            for row in range(len(order))
        ]

    def add_review(self, version_id: int, run_id: int) -> int:
        """A review of a version's training images, in order of their ids."""
        with self.database.transaction() as session:
            review = Review(
                data_set_id=self.data_set_id, version_id=version_id, run_id=run_id, state="ready"
            )
            session.add(review)
            session.flush()
            rows = [row for row in session.execute(images_of(version_id)) if row.split == "train"]
            for position, row in enumerate(rows, start=1):
                session.add(
                    Suggestion(
                        review_id=review.id,
                        image_id=row.id,
                        position=position,
                        brought_by="accuracy",
                        accuracy_rank=position,
                        label_rank=position,
                        accuracy_value=-1.0 / position,
                        label_value=-1.0 / position,
                        label=row.label,
                        predicted=0,
                        confidence=0.9,
                        label_confidence=0.1,
                        content_hash=f"{row.row:064x}",
                        path=f"{row.row}.png",
                        row=row.row,
                    )
                )
            review.suggestion_count = len(rows)
            return review.id

    def training_images(self) -> list[Image]:
        """The training images as imported, in order of id."""
        with self.database.transaction(write=False) as session:
            return list(
                session.scalars(select(Image).where(Image.split == "train").order_by(Image.id))
            )

    def decide(
        self,
        image_ids: Iterable[int],
        action: str = "remove",
        label: int | None = None,
        review_id: int | None = None,
    ) -> None:
        """Put a decision in force on images of the review."""
        with self.database.transaction() as session:
            for image_id in image_ids:
                suggestion = session.get_one(Suggestion, (review_id or self.review_id, image_id))
                suggestion.decision, suggestion.decision_label, suggestion.decided_at = (
                    action,
                    label,
                    now(),
                )

    def close(self) -> None:
        self.database.close()
