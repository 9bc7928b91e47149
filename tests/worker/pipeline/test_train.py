"""A training's job describes the resulting model."""

import json

import numpy as np
import pytest
from sqlalchemy import select

from backend.core.db import Database
from backend.core.models import Job, JobLogLine, Run, RunEpoch, User
from backend.core.settings import Settings
from backend.core.storage import Storage
from backend.jobs import service as jobs
from tests.factories import a_data_set, a_job, a_run
from worker.jobs import JobCancelled, JobContext, perform
from worker.pipeline.train import warn_of_guessing

LABELS = np.array([0, 0, 0, 1])


def test_a_model_that_only_guesses_is_told_from_one_that_learned() -> None:
    assert warn_of_guessing(0.76, LABELS) is None
    assert warn_of_guessing(None, LABELS) is None


@pytest.mark.parametrize("accuracy", [0.75, 0.3])
def test_guessing_is_a_sentence_that_says_what_to_do(accuracy: float) -> None:
    sentence = warn_of_guessing(accuracy, LABELS)
    assert sentence is not None
    assert f"names {100 * accuracy:.0f} % of the validation images correctly" in sentence
    assert "would get 75 %" in sentence
    assert "Train again with a lower learning rate" in sentence


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_and_logs_each_epoch_once(
    database: Database,
    storage: Storage,
    settings: Settings,
    owner: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id, run_id = stopped_after_two_epochs(database, storage, settings, monkeypatch)
    with database.transaction() as session:
        jobs.retry(session, owner, job_id)
    perform(job_id, database, storage, settings)
    lines, epochs = what_it_says(database, job_id, run_id)
    told = [line[:25] for line in lines if line.startswith(("Epoch", "Continuing"))]
    assert [line.split(":")[0] for line in told] == [
        "Epoch 1 of 3",
        "Epoch 2 of 3",
        "Continuing after epoch 2.",
        "Epoch 3 of 3",
    ]
    assert epochs == [1, 2, 3]


@pytest.mark.slow
def test_a_training_that_another_machine_takes_over_begins_anew(
    database: Database,
    storage: Storage,
    settings: Settings,
    owner: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id, run_id = stopped_after_two_epochs(database, storage, settings, monkeypatch)
    # As recorded by a machine that rounds otherwise.
    path = storage.run(run_id) / "run.json"
    record = json.loads(path.read_text())
    record["first_steps"][1] = "0" * 64
    path.write_text(json.dumps(record))
    with database.transaction() as session:
        jobs.retry(session, owner, job_id)
    perform(job_id, database, storage, settings)
    lines, epochs = what_it_says(database, job_id, run_id)
    told = [
        line.split(":")[0] for line in lines if line.startswith("Epoch") or "starts again" in line
    ]
    assert [line[:12] for line in told] == [
        "Epoch 1 of 3",
        "Epoch 2 of 3",
        "This trainin",
        "Epoch 1 of 3",
        "Epoch 2 of 3",
        "Epoch 3 of 3",
    ]
    assert epochs == [1, 2, 3]
    with database.transaction(write=False) as session:
        assert session.get_one(Job, job_id).state == "done"


def test_a_network_that_could_not_be_scored_is_not_trained(
    database: Database, storage: Storage, settings: Settings
) -> None:
    with database.transaction() as session:
        data_set = a_data_set(session, storage)
        run = a_run(session, data_set, state="queued", epochs=1)
        job_id = a_job(session, kind="train", subject_id=run.id, data_set_id=data_set.id).id
    perform(
        job_id, database, storage, settings.model_copy(update={"scoring_memory_bytes": 100_000})
    )
    with database.transaction(write=False) as session:
        job = session.get_one(Job, job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert "too large to be scored here" in job.error
    assert (
        "WINNOW_SCORING_MEMORY_BYTES allows 100,000. Raise that setting, or choose a smaller "
        "network" in job.error
    )
    assert not storage.run(run.id).exists()


@pytest.mark.slow
def test_a_training_whose_worker_dies_after_each_epoch_is_not_given_up(
    database: Database, storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.transaction() as session:
        data_set = a_data_set(session, storage)
        runs = [a_run(session, data_set, state="queued", epochs=6, batch_size=42) for _ in "ab"]
        undisturbed, job_id = (
            a_job(session, kind="train", subject_id=run.id, data_set_id=data_set.id).id
            for run in runs
        )
    perform(undisturbed, database, storage, settings)
    note = JobContext.note_safe_point

    def die_then(context: JobContext) -> None:
        note(context)
        raise SystemExit

    monkeypatch.setattr(JobContext, "note_safe_point", die_then)
    few = settings.model_copy(update={"max_attempts": 2})
    for _ in range(6):
        with pytest.raises(SystemExit):
            perform(job_id, database, storage, few)
        with database.transaction() as session:
            job = session.get_one(Job, job_id)
            job.state, job.claim = "queued", None
    perform(job_id, database, storage, few)
    with database.transaction(write=False) as session:
        job = session.get_one(Job, job_id)
        assert (job.state, job.attempts) == ("done", 7)
        first, second = (session.get_one(Run, run.id).params_hash for run in runs)
    assert first is not None
    assert first == second


def stopped_after_two_epochs(
    database: Database, storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, int]:
    """A training's job that was cancelled in its third epoch, and its run."""
    with database.transaction() as session:
        data_set = a_data_set(session, storage)
        run = a_run(
            session, data_set, state="queued", epochs=3, batch_size=14
        )  # 42 training images: three steps an epoch
        job_id = a_job(session, kind="train", subject_id=run.id, data_set_id=data_set.id).id

    def stops(_: JobContext, done: int, total: int, message: str = "") -> None:
        if done > 7:
            raise JobCancelled

    with monkeypatch.context() as patched:
        patched.setattr(JobContext, "progress", stops)
        perform(job_id, database, storage, settings)
    return job_id, run.id


def what_it_says(database: Database, job_id: int, run_id: int) -> tuple[list[str], list[int]]:
    """The lines of the job's log, and the epochs that the run's page shows."""
    with database.transaction(write=False) as session:
        lines = list(
            session.scalars(
                select(JobLogLine.message)
                .where(JobLogLine.job_id == job_id)
                .order_by(JobLogLine.id)
            )
        )
        epochs = list(
            session.scalars(
                select(RunEpoch.epoch).where(RunEpoch.run_id == run_id).order_by(RunEpoch.epoch)
            )
        )
    return lines, epochs
