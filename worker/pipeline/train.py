"""Job of a run: train its recipe in its folder, or resume."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy import delete
from sqlalchemy.orm import Session

from backend.core import reports
from backend.core.models import Run, RunEpoch, are_photographs
from worker import engine
from worker.engine import EpochReport, Images, Recipe
from worker.jobs import JobContext, JobFailed
from worker.pipeline import engine_setup, load_images
from worker.pipeline.features.job import work_out
from worker.pipeline.scoring import averages, costs

# Where the bar is once the features are there; a head trains in seconds.
FEATURES_READY = 0.8


def train_run(context: JobContext) -> None:
    """Train the run of this job; each epoch's figures are shown as soon as it ends."""
    device = engine_setup.ready(context.settings, context.storage)
    with context.database.transaction(write=False) as session:
        run = session.get_one(Run, context.subject_id)
        images = load_images.load(session, context.storage, run.version_id, "train")
        validation = load_images.load(session, context.storage, run.version_id, "validation")
        names = load_images.class_names(session, run.data_set_id)
        wants_features = _wants_features(session, run)
    if wants_features:
        context.phase(0.0, FEATURES_READY)
        stored = work_out(context, run.data_set_id)
        context.phase(FEATURES_READY, 1.0)
        images, validation = (
            load_images.of_features(stored, some.labels, some.ids, some.rows)
            for some in (images, validation)
        )
    recipe = _recipe(run, images, names)
    costs.check_room(recipe, len(images), context.settings.scoring_memory_bytes)
    context.log(_describe(recipe, images, validation))
    reporter = _Reporter(context, recipe.epochs)
    training = engine_setup.train(
        recipe,
        images,
        validation,
        context.storage,
        context.subject_id,
        log=context.log,
        on_epoch=reporter.on_epoch,
        progress=reporter.progress,
        device=device,
    )
    doubt = warn_of_guessing(training.history[-1].validation_accuracy, validation.labels)
    if doubt:
        context.log(doubt)
    priced = costs.of_run(
        training, len(images), len(validation), context.settings.scoring_memory_bytes
    )
    with context.finish() as session:
        # Locked: a request for an average sees this end, or is seen here.
        run = session.get_one(Run, context.subject_id, with_for_update=True)
        run.recipe = reports.Recipe(**vars(training.recipe)).to_json()
        run.params_hash = training.params_hash
        run.report = reports.RunReport(
            seconds=training.seconds,
            stored_bytes=engine_setup.stored_bytes(context.storage, context.subject_id),
            parameters=training.params.numel(),
            training_images=len(images),
            validation_images=len(validation),
            environment=training.record.environment,
            doubt=doubt,
            costs=priced,
        ).to_json()
        run.state = "done"
        averages.queue_members(session, run)


@dataclass
class _Reporter:
    """Reports a training to its job.

    Epochs of an earlier attempt are reported again before the first step; one line logs them.
    """

    context: JobContext
    epochs: int
    kept: int = 0
    begun: bool = False

    def on_epoch(self, report: EpochReport) -> None:
        """Record an epoch of this attempt or of an earlier attempt."""
        _record(self.context, report)
        if not self.begun:
            self.kept = report.epoch
            return
        self.context.note_safe_point()
        accuracy = (
            ""
            if report.validation_accuracy is None
            else f"validation accuracy {100 * report.validation_accuracy:.1f} %, "
        )
        self.context.log(
            f"Epoch {report.epoch} of {report.epochs}: training loss {report.train_loss:.4f}, "
            f"{accuracy}{report.seconds:.1f} s."
        )

    def progress(self, done: int, total: int) -> None:
        if not self.begun and self.kept:
            self.context.log(f"Continuing after epoch {self.kept}.")
        self.begun = True
        epoch = min(self.epochs, 1 + (done - 1) * self.epochs // total)
        self.context.progress(done, total, f"Training, epoch {epoch} of {self.epochs}")


def warn_of_guessing(accuracy: float | None, labels: np.ndarray) -> str | None:
    """Warn where always naming the largest class is as good, else None. labels: (M,)."""
    share = float(np.bincount(labels).max()) / len(labels)
    if accuracy is None or accuracy > share:
        return None
    return (
        f"The model has not learned: it names {100 * accuracy:.0f} % of the validation images "
        f"correctly, and always naming the largest class would get {100 * share:.0f} %. So its "
        "suggestions mean nothing. Train again with a lower learning rate, or for longer."
    )


def _wants_features(session: Session, run: Run) -> bool:
    """True for a head, which is the default for photographs (docs/method.md, section 9)."""
    asked = run.recipe
    if asked.get("network") or asked.get("weights"):
        return asked.get("network") == "linear_head"
    return are_photographs(session, run.data_set_id)


def _recipe(run: Run, images: Images, names: list[str]) -> Recipe:
    """Complete the recipe with defaults that fit the data."""
    absent = sorted(set(range(len(names))) - set(images.labels.tolist()))
    if absent:
        raise JobFailed(
            f"The class “{names[absent[0]]}” has no training image in this version; add some, or "
            "import without that class."
        )
    known = {
        name: value
        for name, value in run.recipe.items()
        if name not in ("mean", "std", "classes", "channels", "height", "width", "seed")
    }
    return engine.default_recipe(images, len(names), seed=run.seed, **known)


def _describe(recipe: Recipe, images: Images, validation: Images) -> str:
    return (
        f"{len(images):,} training and {len(validation):,} validation images, "
        f"{recipe.classes} classes. "
        f"Network {recipe.network}, {recipe.epochs} epochs of batches of {recipe.batch_size}, "
        f"learning rate {recipe.learning_rate:g} ({recipe.schedule}), seed {recipe.seed}."
    )


def _record(context: JobContext, report: EpochReport) -> None:
    """Write an epoch's row, replacing an earlier attempt's."""
    values = {name: value for name, value in vars(report).items() if name != "epochs"}
    same = (RunEpoch.run_id == context.subject_id, RunEpoch.epoch == report.epoch)

    def replace(session: Session) -> None:
        session.execute(delete(RunEpoch).where(*same))
        session.add(RunEpoch(run_id=context.subject_id, **values))

    context.database.write(replace)
