"""The job of features: shared, killed, cancelled, and what bad input gets."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from sqlalchemy import select, update

from backend.core import catalogue
from backend.core.models import DataSet, Job
from backend.datasets import service as datasets
from tests.running import ROOT, wait_until
from tests.worker.engine.features.pictures import plainly
from tests.worker.pipeline.imports.importing import Imported, Importer, class_folders, importer
from worker import engine, jobs
from worker.engine.features import store as stores
from worker.jobs import JobContext
from worker.pipeline.features import job as features_job

__all__ = ["importer"]  # a fixture

FACTS = catalogue.BACKBONES[catalogue.DEFAULT_BACKBONE]
LARGE = class_folders({"cat": 8, "dog": 8}, size=(70, 90))
# Of a picture that is stored as thumbnail and as full image.
LARGER = class_folders({"cat": 4, "dog": 4}, size=(200, 170))
PROGRAM = """
import sys
from pathlib import Path
from backend.core import queue
from backend.core.db import Database
from backend.core.settings import Settings
from backend.core.storage import Storage
from worker import jobs
from worker.engine.features import store
store.PART_ROWS = 4
queue.send = lambda *_: None
settings = Settings(home=Path(sys.argv[1]), max_attempts=3, heartbeat_seconds=0.1)
database = Database(settings.database)
jobs.perform(int(sys.argv[2]), database, Storage(settings.files), settings)
"""


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make parts so small that a job can be disturbed between them."""
    monkeypatch.setattr(stores, "PART_ROWS", 4)
    monkeypatch.setattr(jobs, "PROGRESS_SECONDS", 0.0)


@pytest.fixture
def imported(importer: Importer) -> Imported:
    return importer.zip(LARGE)


def queued(importer: Importer) -> list[int]:
    with importer.database.transaction(write=False) as session:
        waiting = (Job.kind == "features", Job.state == "queued")
        return list(session.scalars(select(Job.id).where(*waiting)))


def another(importer: Importer, data_set_id: int) -> int:
    """Queue one more such job."""
    with importer.database.transaction() as session:
        job = Job(kind="features", title="T", subject_id=data_set_id, data_set_id=data_set_id)
        session.add(job)
        session.flush()
        return job.id


def folder_of(importer: Importer, imported: Imported) -> Path:
    return importer.storage.features(imported.row.id, FACTS.digest)


def opened(importer: Importer, imported: Imported) -> engine.StoredFeatures:
    keys = [image.content_hash for image in imported.images]
    folder = folder_of(importer, imported)
    return engine.FeatureStore(folder, FACTS.digest, FACTS.features, keys).open()


def seen(imported: Imported) -> list[Picture.Image]:
    return [imported.view(image.path) for image in imported.images]


@pytest.mark.slow
def test_an_import_of_photographs_queues_features_which_are_those_of_its_pictures(
    importer: Importer, imported: Imported
) -> None:
    (job_id,) = queued(importer)
    assert not importer.storage.has_features(imported.row.id, FACTS.digest)
    job = importer.perform(job_id)
    assert (job.state, job.title) == ("done", "Work out features of Things")
    assert importer.storage.has_features(imported.row.id, FACTS.digest)
    assert "smaller than the 224 pixels" in importer.log(job_id)
    features = opened(importer, imported)
    truth = plainly(engine.load_backbone(fold=False), seen(imported)[:3])
    np.testing.assert_allclose(features.array[:3], truth, rtol=2e-3, atol=2e-3)
    train = [image.split == "train" for image in imported.images]
    np.testing.assert_allclose(features.mean, features.array[train].mean(0, dtype=float), rtol=1e-5)


def test_an_import_of_small_pictures_queues_none(importer: Importer) -> None:
    importer.zip(class_folders({"cat": 4, "dog": 4}))
    assert queued(importer) == []


@pytest.mark.slow
def test_what_is_there_is_not_computed_again_and_goes_with_the_data_set(
    importer: Importer, imported: Imported, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job_id,) = queued(importer)
    importer.perform(job_id)
    monkeypatch.setattr(engine, "load_backbone", lambda *_: pytest.fail("loaded again"))
    assert importer.perform(another(importer, imported.row.id)).state == "done"
    with importer.database.transaction() as session:
        data_set = session.get_one(DataSet, imported.row.id)
        datasets.remove(session, data_set, importer.storage)
    wait_until(lambda: not importer.storage.data_set(imported.row.id).exists(), 5, "deletion")


def at_picture(monkeypatch: pytest.MonkeyPatch, number: int, act: object) -> None:
    """Do something when that many pictures have been read."""
    read, count = features_job._Pictures.read, [0]

    def reading(pictures: features_job._Pictures, row: int) -> Picture.Image:
        count[0] += 1
        if count[0] == number:
            act()  # type: ignore[operator]
        return read(pictures, row)

    monkeypatch.setattr(features_job._Pictures, "read", reading)


@pytest.mark.slow
def test_a_cancelled_job_stops_and_goes_on_from_its_parts(
    importer: Importer, imported: Imported, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job_id,) = queued(importer)

    def cancel() -> None:
        with importer.database.transaction() as session:
            session.execute(update(Job).where(Job.id == job_id).values(cancel_requested=True))

    with monkeypatch.context() as patched:
        at_picture(patched, 9, cancel)
        assert importer.perform(job_id).state == "cancelled"
    parts = sorted((folder_of(importer, imported) / "parts").glob("*.part"))
    assert 2 <= len(parts) < 4
    importer.requeue(job_id)
    report, messages = JobContext.progress, []

    def reporting(context: JobContext, done: int, total: int, message: str = "") -> None:
        messages.append((done, message))
        report(context, done, total, message)

    monkeypatch.setattr(JobContext, "progress", reporting)
    assert importer.perform(job_id).state == "done"
    # The first report counts what was kept.
    first = next(done for done, message in messages if message.startswith("Working out"))
    assert first >= 8
    assert messages[-1][1] == "Working out features, 16 of 16"


@pytest.mark.slow
def test_a_killed_worker_loses_one_part_and_another_takes_it_up(
    importer: Importer, imported: Imported
) -> None:
    (job_id,) = queued(importer)
    parts = folder_of(importer, imported) / "parts"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(importer.settings.home), str(job_id)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    wait_until(lambda: len(list(parts.glob("*.part"))) >= 1, 120, "a part")
    process.send_signal(signal.SIGKILL)
    process.wait()
    importer.requeue(job_id)
    job = importer.perform(job_id)
    assert job.state == "done", job.error
    assert len(opened(importer, imported).array) == 16


@pytest.mark.slow
def test_two_workers_share_the_parts(
    importer: Importer, imported: Imported, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = queued(importer)
    second = another(importer, imported.row.id)
    write, written = stores.FeatureStore.write, []

    def writing(store: stores.FeatureStore, rows: range, features: np.ndarray) -> None:
        written.append((threading.get_ident(), rows.start))
        time.sleep(0.1)
        write(store, rows, features)

    monkeypatch.setattr(stores.FeatureStore, "write", writing)
    threads = [threading.Thread(target=importer.perform, args=(job,)) for job in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert {importer.job(job).state for job in (first, second)} == {"done"}
    assert sorted(start for _, start in written) == [0, 4, 8, 12]  # each part once
    assert len(opened(importer, imported).array) == 16


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["thumbnail", "full_image"])
@pytest.mark.parametrize("damage", ["vanished", "cut"])
def test_a_picture_that_vanished_is_a_sentence(importer: Importer, kind: str, damage: str) -> None:
    imported = importer.zip(LARGE if kind == "thumbnail" else LARGER)
    (job_id,) = queued(importer)
    image = imported.images[5]
    path = getattr(importer.storage, kind)(imported.row.id, image.content_hash)
    if damage == "vanished":
        path.unlink()
    else:
        os.truncate(path, 100)
    job = importer.perform(job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert f"“{image.path}” is missing or damaged" in job.error
