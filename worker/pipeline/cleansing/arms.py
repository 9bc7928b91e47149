"""Trainings of a cleansing: three arms, with the run's seed and with fresh seeds."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from backend.core.db import Database
from backend.core.models import Cleansing, DataSet, Image, Run
from backend.core.storage import Storage
from worker.engine import Images, Recipe
from worker.pipeline import load_images

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Task:
    """A training of a cleansing. id: in `runs`."""

    run_id: int
    protocol: str  # same_seed | fresh_seeds
    arm: str  # before | cleaned | random
    seed: int
    done: bool

    @property
    def key(self) -> tuple[str, int, str]:
        return self.protocol, self.seed, self.arm

    @property
    def title(self) -> str:
        start = (
            "same training repeated"
            if self.protocol == "same_seed"
            else f"fresh start with seed {self.seed}"
        )
        return f"{start}, {ARM_WORDS[self.arm]}"


ARM_WORDS = {"before": "nothing removed", "cleaned": "cleaned", "random": "random removal"}


@dataclass(frozen=True)
class Plan:
    """Data of a cleansing's trainings. N: training images of the parent version."""

    cleansing_id: int
    run_id: int
    seed: int
    fresh_seeds: list[int]
    tasks: list[Task]
    class_count: int
    parent: Images  # with the parent version's labels
    removed: Mask  # (N,) left out of the new version
    labels: npt.NDArray[np.int64]  # (N,) in the new version; old labels where removed
    planted: Mask | None  # (N,) planted errors that are still wrong
    left_wrong: Mask | None  # (N,) new label no better than a planted error
    validation: Images
    test: Images

    @property
    def relabelled(self) -> Mask:
        """Select the relabelled images, (N,)."""
        return np.not_equal(self.labels, self.parent.labels)

    @property
    def found(self) -> int | None:
        """Count planted errors among the removed and relabelled images."""
        return (
            None
            if self.planted is None
            else int((self.planted & (self.removed | self.relabelled)).sum())
        )

    @property
    def mislabelled(self) -> int | None:
        """Count found errors that got another wrong label."""
        return None if self.left_wrong is None else int((self.left_wrong & self.relabelled).sum())


def read(database: Database, storage: Storage, cleansing_id: int) -> Plan:
    with database.transaction(write=False) as session:
        cleansing = session.get_one(Cleansing, cleansing_id)
        data_set = session.get_one(DataSet, cleansing.data_set_id)
        runs = session.scalars(
            select(Run).where(Run.cleansing_id == cleansing_id).order_by(Run.id)
        ).all()
        original = session.get_one(Run, cleansing.run_id)

        def load(version_id: int, split: str) -> Images:
            return load_images.load(session, storage, version_id, split, original.recipe)

        parent = load(cleansing.parent_version_id, "train")
        cleaned = load(cleansing.version_id, "train")
        truth = select(Image.id, Image.true_label).where(
            Image.data_set_id == data_set.id, Image.true_label.is_not(None)
        )
        true_labels = {row.id: row.true_label for row in session.execute(truth)}
        removed, labels = compare(parent, cleaned)
        return Plan(
            cleansing_id=cleansing_id,
            run_id=cleansing.run_id,
            seed=original.seed,
            fresh_seeds=cleansing.fresh_seeds,
            tasks=[
                Task(
                    run.id,
                    run.protocol or "",
                    run.arm or "",
                    run.seed,
                    run.state == "done" and took_equal_steps(run, len(parent), bool(removed.any())),
                )
                for run in runs
            ],
            class_count=len(data_set.class_names),
            parent=parent,
            removed=removed,
            labels=labels,
            planted=planted_errors(parent, parent.labels, true_labels)
            if data_set.planted_count
            else None,
            left_wrong=planted_errors(parent, labels, true_labels)
            if data_set.planted_count
            else None,
            validation=load(cleansing.parent_version_id, "validation"),
            test=load(cleansing.parent_version_id, "test"),
        )


def compare(parent: Images, cleaned: Images) -> tuple[Mask, npt.NDArray[np.int64]]:
    """Return the images that the cleaned list lacks, (N,), and the new labels, (N,)."""
    order = np.argsort(cleaned.ids)
    removed = ~np.isin(parent.ids, cleaned.ids)
    labels = parent.labels.copy()
    labels[~removed] = cleaned.labels[order][
        np.searchsorted(cleaned.ids[order], parent.ids[~removed])
    ]
    return removed, labels


def planted_errors(
    images: Images, labels: npt.NDArray[np.int64], true_labels: Mapping[int, int | None]
) -> Mask:
    """Select images whose planted error is still wrong under these labels (N,), (N,)."""
    true = [true_labels.get(int(image_id)) for image_id in images.ids]
    return np.array(
        [
            label is not None and label != given
            for label, given in zip(true, labels.tolist(), strict=True)
        ],
        dtype=bool,
    )


def random_removal(labels: npt.NDArray[np.int64], removed: Mask, seed: int) -> Mask:
    """Draw as many images of each class as `removed` takes, (N,), by the seed alone."""
    generator = np.random.default_rng(seed)
    drawn = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels[removed]):
        members = np.flatnonzero(labels == label)
        count = int((removed & (labels == label)).sum())
        drawn[generator.choice(members, size=count, replace=False)] = True
    return drawn


def image_list(plan: Plan, task: Task) -> tuple[Images, Mask]:
    """List a training's images, and those left out of its sums.

    The same seed drops terms of the run's sums at the same divisor and order (the papers'
    counterfactual run). A fresh seed trains on a shorter list.
    """
    gone = removal(plan, task)
    labels = plan.labels if task.arm == "cleaned" else plan.parent.labels
    images = dataclasses.replace(plan.parent, labels=labels)
    if task.protocol == "same_seed":
        return images, gone
    left = np.flatnonzero(~gone)
    return images.subset(left), np.zeros(len(left), dtype=bool)


def make_recipe(plan: Plan, task: Task, original: Recipe) -> Recipe:
    """Make a training's recipe: as many steps in every arm as in "before"."""
    shorter = task.protocol == "fresh_seeds" and bool(removal(plan, task).any())
    return dataclasses.replace(
        original, seed=task.seed, epoch_images=len(plan.parent) if shorter else 0
    )


def took_equal_steps(run: Run, count: int, removes: bool) -> bool:
    """False for an arm that an older Winnow trained for fewer steps than "before"."""
    shorter = removes and run.protocol == "fresh_seeds" and run.arm != "before"
    return not shorter or run.recipe.get("epoch_images") == count


def removal(plan: Plan, task: Task) -> Mask:
    """Select the images that this arm leaves out, (N,)."""
    if task.arm == "cleaned":
        return plan.removed
    if task.arm == "random":
        return random_removal(plan.parent.labels, plan.removed, task.seed)
    return np.zeros(len(plan.parent), dtype=bool)


def same_as_before(plan: Plan, task: Task) -> bool:
    """True for a random arm that removes nothing."""
    return task.arm == "random" and not plan.removed.any()
