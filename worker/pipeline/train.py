"""A run's job: train its recipe in its folder, resuming what is there."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import delete

from backend.core.models import Run, RunEpoch
from worker import engine
from worker.engine import EpochReport, Images, Recipe
from worker.jobs import JobContext, JobFailed
from worker.pipeline import engine_setup, load_images
from worker.pipeline.scoring import averages, costs


def train_run(context: JobContext) -> None:
    """Train the run that this job is for; each epoch's figures are on the page as soon as it ends."""
    device = engine_setup.ready(context.settings, context.storage)
    with context.database.transaction(write=False) as session:
        run = session.get_one(Run, context.subject_id)
        images = load_images.load(session, context.storage, run.version_id, "train")
        validation = load_images.load(session, context.storage, run.version_id, "validation")
        recipe = _recipe(run, images, load_images.class_names(session, run.data_set_id))
    costs.check_room(recipe, len(images), context.settings.scoring_memory_bytes)
    context.log(_words(recipe, images, validation))
    told = _Told(context, recipe.epochs)
    training = engine_setup.train(
        recipe,
        images,
        validation,
        context.storage,
        context.subject_id,
        log=context.log,
        on_epoch=told.on_epoch,
        progress=told.progress,
        device=device,
    )
    doubt = guessing(training.history[-1].validation_accuracy, validation.labels)
    if doubt:
        context.log(doubt)
    priced = costs.of_run(
        training, len(images), len(validation), context.settings.scoring_memory_bytes
    )
    with context.finish() as session:
        # Held, so that whoever asks for an average just now sees the end of the training, or we see what was asked.
        run = session.get_one(Run, context.subject_id, with_for_update=True)
        run.recipe = recipe_values(training.recipe)
        run.params_hash = training.params_hash
        run.report = {
            "seconds": training.seconds,
            "stored_bytes": engine_setup.stored_bytes(context.storage, context.subject_id),
            "parameters": training.params.numel(),
            "training_images": len(images),
            "validation_images": len(validation),
            "environment": training.record.environment,
            "doubt": doubt,
            "costs": priced,
        }
        run.state = "done"
        averages.queue_members(session, run)


@dataclass
class _Told:
    """What a training tells the job. Epochs of an earlier attempt are reported again before the first step: they are logged as one."""

    context: JobContext
    epochs: int
    kept: int = 0
    begun: bool = False

    def on_epoch(self, report: EpochReport) -> None:
        """An epoch has ended, in this attempt or in an earlier one."""
        _record(self.context, report)
        if not self.begun:
            self.kept = report.epoch
            return
        accuracy = (
            ""
            if report.validation_accuracy is None
            else f"validation accuracy {100 * report.validation_accuracy:.1f} %, "
        )
        self.context.log(
            f"Epoch {report.epoch} of {report.epochs}: training loss {report.train_loss:.4f}, {accuracy}{report.seconds:.1f} s."
        )

    def progress(self, done: int, total: int) -> None:
        """A step has ended."""
        if not self.begun and self.kept:
            self.context.log(f"Going on after epoch {self.kept}.")
        self.begun = True
        epoch = min(self.epochs, 1 + (done - 1) * self.epochs // total)
        self.context.progress(done, total, f"Training, epoch {epoch} of {self.epochs}")


def guessing(accuracy: float | None, labels: np.ndarray) -> str | None:
    """A sentence where the model is right no more often than whoever always names the largest class; None where it is. labels: (M,)."""
    share = float(np.bincount(labels).max()) / len(labels)
    if accuracy is None or accuracy > share:
        return None
    return (
        f"The model has not learned: it names {100 * accuracy:.0f} % of the validation images correctly, and always naming the largest class "
        f"would get {100 * share:.0f} %. So its suggestions mean nothing. Train again with a lower learning rate, or for longer."
    )


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON values."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(recipe).items()
    }


def _recipe(run: Run, images: Images, names: list[str]) -> Recipe:
    """The whole recipe: what was asked, and defaults that fit the data for the rest."""
    absent = sorted(set(range(len(names))) - set(images.labels.tolist()))
    if absent:
        raise JobFailed(
            f"The class “{names[absent[0]]}” has no training image in this version; add some, or import without that class."
        )
    known = {
        name: value
        for name, value in run.recipe.items()
        if name not in ("mean", "std", "classes", "channels", "height", "width", "seed")
    }
    return engine.default_recipe(images, len(names), seed=run.seed, **known)


def _words(recipe: Recipe, images: Images, validation: Images) -> str:
    return (
        f"{len(images):,} training and {len(validation):,} validation images, {recipe.classes} classes. "
        f"Network {recipe.network}, {recipe.epochs} epochs of batches of {recipe.batch_size}, "
        f"learning rate {recipe.learning_rate:g} ({recipe.schedule}), seed {recipe.seed}."
    )


def _record(context: JobContext, report: EpochReport) -> None:
    """Write an epoch's row; an epoch that is reported again after a resume replaces its own."""
    values = {name: value for name, value in vars(report).items() if name != "epochs"}
    with context.database.transaction() as session:
        session.execute(
            delete(RunEpoch).where(
                RunEpoch.run_id == context.subject_id, RunEpoch.epoch == report.epoch
            )
        )
        session.add(RunEpoch(run_id=context.subject_id, **values))
