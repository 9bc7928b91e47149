"""Job of a cleansing: train every arm, test once, give a verdict."""

import dataclasses
import io
import time
from threading import Event

import numpy as np
from sqlalchemy import delete
from sqlalchemy.orm import Session

from backend.core import reports
from backend.core.models import Cleansing, Run, RunEpoch
from backend.core.reports import RunReport, VerdictSeconds
from backend.core.storage import Storage
from worker import engine
from worker.engine import Recipe, Training
from worker.jobs import JobContext
from worker.pipeline import engine_setup
from worker.pipeline.cleansing import arms
from worker.pipeline.cleansing.arms import Plan, Task
from worker.pipeline.cleansing.verdict import Outcome, verdict

OUTCOME = "outcome.npz"
# Of a finished training.
KEPT = ("run.json", OUTCOME)
# Keeps logarithms finite.
SMALLEST = float(np.finfo(np.float32).tiny)


def cleanse(context: JobContext) -> None:
    started = time.monotonic()
    engine_setup.ready(context.settings, context.storage)
    plan = arms.read(context.database, context.storage, context.subject_id)
    original = engine_setup.load_training(context.storage, plan.run_id)
    context.log(
        f"{int(plan.removed.sum())} images leave, {int(plan.relabelled.sum())} get another label. "
        f"{len(plan.tasks)} results to compare on {len(plan.test)} test images."
    )
    if finished := sum(task.done for task in plan.tasks):
        context.log(f"Going on: {finished} of them are there already.")
    outcomes: dict[tuple[str, int, str], Outcome] = {}
    steps = [_steps(plan, task, original.recipe) for task in plan.tasks]
    for number, task in enumerate(plan.tasks):
        done, message = sum(steps[:number]), f"{number + 1} of {len(steps)}: {task.title}"
        context.progress(done, sum(steps), message)
        bar = _Bar(context, done, sum(steps), message)
        if arms.same_as_before(plan, task):
            outcomes[task.key] = outcomes[task.protocol, task.seed, "before"]
            _record_twin(context, plan, task)
        else:
            outcomes[task.key] = _measure(context, plan, task, original, bar)
    seconds = VerdictSeconds(
        retrain=_training_seconds(context, plan),
        this_attempt=round(time.monotonic() - started, 2),
    )
    result = verdict(plan, outcomes, seconds)
    context.log(result.sentence)
    with context.finish() as session:
        # Locked, against a person who accepts the version at this moment.
        cleansing = session.get_one(
            Cleansing, plan.cleansing_id, with_for_update=True, populate_existing=True
        )
        cleansing.verdict = result.to_json()
        # A person who accepted or rolled back without a verdict has decided.
        if cleansing.state == "queued":
            cleansing.state = "measured"


@dataclasses.dataclass(frozen=True)
class _Bar:
    """Turns one training's progress into the job's."""

    context: JobContext
    offset: int
    total: int
    message: str
    begun: Event = dataclasses.field(default_factory=Event)

    def __call__(self, done: int, _total: int) -> None:
        self.begun.set()
        self.context.progress(self.offset + done, self.total, self.message)

    def on_epoch(self, _report: engine.EpochReport) -> None:
        # Epochs of an earlier attempt are reported before the first step.
        if self.begun.is_set():
            self.context.note_safe_point()


def _repeats(task: Task) -> bool:
    """True for the "before" of the same seed, which is the run itself."""
    return task.protocol == "same_seed" and task.arm == "before"


def _steps(plan: Plan, task: Task, recipe: Recipe) -> int:
    if _repeats(task) or arms.same_as_before(plan, task):
        return 1
    return recipe.epochs * recipe.steps_per_epoch(len(plan.parent))


def _measure(context: JobContext, plan: Plan, task: Task, original: Training, bar: _Bar) -> Outcome:
    """Read the outcome of a finished training, or train and test it."""
    if task.done and (outcome := read_outcome(context.storage, task.run_id)) is not None:
        return outcome
    training = original if _repeats(task) else _train(plan, task, original, bar)
    outcome = examine(training, plan.test)
    write_outcome(context.storage, task.run_id, outcome)
    _record(context, plan, task, training, outcome)
    # A control is never retraced, so it needs no parameters of epochs.
    context.storage.keep_run_files(task.run_id, KEPT)
    accuracy, loss = float(outcome.correct(plan.test.labels).mean()), float(outcome.losses.mean())
    context.log(
        f"{task.title.capitalize()}: test accuracy {100 * accuracy:.1f} %, test loss {loss:.3f}."
    )
    return outcome


def _train(plan: Plan, task: Task, original: Training, bar: _Bar) -> Training:
    images, leave_out = arms.image_list(plan, task)
    # Only the repeated run's learning curve is shown.
    validation = plan.validation if task.protocol == "same_seed" else None
    # On the run's device: arms must differ in images, not in rounding.
    device = engine.choose_device("auto", original.record.environment).type
    return engine_setup.train(
        arms.make_recipe(plan, task, original.recipe),
        images,
        validation,
        bar.context.storage,
        task.run_id,
        log=bar.context.log,
        leave_out=leave_out,
        on_epoch=bar.on_epoch,
        progress=bar,
        device=device,
    )


def examine(training: Training, images: engine.Images) -> Outcome:
    """Predict each of the M test images with the finished model."""
    probabilities = engine.predict(training, images).astype(np.float64)  # (M, classes)
    given = probabilities[np.arange(len(images)), images.labels]
    return Outcome(
        probabilities.argmax(axis=1).astype(np.int64), -np.log(np.maximum(given, SMALLEST))
    )


def write_outcome(storage: Storage, run_id: int, outcome: Outcome) -> None:
    """Write an outcome next to its training, whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, predicted=outcome.predicted, losses=outcome.losses)
    storage.write_run_file(run_id, OUTCOME, buffer.getvalue())


def read_outcome(storage: Storage, run_id: int) -> Outcome | None:
    content = storage.read_run_file(run_id, OUTCOME)
    if content is None:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return Outcome(arrays["predicted"], arrays["losses"])


def _record(
    context: JobContext, plan: Plan, task: Task, training: Training, outcome: Outcome
) -> None:
    """Write the training's row; repeatable."""

    def replace(session: Session) -> None:
        run = session.get_one(Run, task.run_id)
        run.state = "done"
        run.recipe = reports.Recipe(**vars(training.recipe)).to_json()
        run.params_hash = training.params_hash
        run.test_accuracy = float(outcome.correct(plan.test.labels).mean())
        run.test_loss = float(outcome.losses.mean())
        report = RunReport(
            seconds=0.0 if _repeats(task) else round(training.seconds, 3),
            images_left_out=plan.parent.ids[arms.removal(plan, task)].tolist(),
        )
        if task.arm == "random":
            report.draw_seed = task.seed
        run.report = report.to_json()
        session.execute(delete(RunEpoch).where(RunEpoch.run_id == run.id))
        for epoch in training.history:
            values = dataclasses.asdict(epoch)
            del values["epochs"]
            session.add(RunEpoch(run_id=run.id, **values))

    context.database.write(replace)
    context.note_safe_point()


def _record_twin(context: JobContext, plan: Plan, task: Task) -> None:
    """Copy the before arm's row for an arm that removes nothing."""
    before = next(
        other for other in plan.tasks if other.key == (task.protocol, task.seed, "before")
    )
    with context.database.transaction() as session:
        run, same = session.get_one(Run, task.run_id), session.get_one(Run, before.run_id)
        run.state, run.recipe, run.params_hash = same.state, same.recipe, same.params_hash
        run.test_accuracy, run.test_loss = same.test_accuracy, same.test_loss
        report = RunReport(seconds=0.0, images_left_out=[], same_as_run=same.id)
        run.report = report.to_json()


def _training_seconds(context: JobContext, plan: Plan) -> float:
    with context.database.transaction(write=False) as session:
        spent = [
            session.get_one(Run, task.run_id).typed_report.seconds or 0.0 for task in plan.tasks
        ]
        return round(sum(spent), 2)
