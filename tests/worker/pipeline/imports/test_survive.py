"""An import that is cancelled, killed, replaced or out of disk leaves nothing, and restarts."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

from backend.core.models import DataSet, Job
from backend.core.storage import AttemptFolder
from tests.running import ROOT, seconds_of_a_job, until_it_hits, wait_until
from tests.worker.pipeline.imports.importing import (
    Imported,
    Importer,
    class_folders,
    importer,
    write_zip,
)
from worker import jobs
from worker.jobs import JobContext
from worker.pipeline.imports.pixels import PixelFile
from worker.pipeline.imports.results import Results

__all__ = ["importer"]  # a fixture
FILES = class_folders({"cat": 12, "dog": 12})


@pytest.fixture
def archive(importer: Importer) -> Path:
    return write_zip(importer.folder / "things.zip", FILES)


@pytest.fixture(autouse=True)
def _many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make chunks so small that an import can be disturbed at many moments."""
    monkeypatch.setattr("worker.pipeline.imports.pixels.MOST_IMAGES_A_CHUNK", 2)
    monkeypatch.setattr(jobs, "PROGRESS_SECONDS", 0.0)


def at_message(
    monkeypatch: pytest.MonkeyPatch, start: str, act: Callable[[JobContext], object]
) -> None:
    """Do something the moment the import first reports a message that begins like this."""
    report, acted = JobContext.progress, []

    def reporting(context: JobContext, done: int, total: int, message: str = "") -> None:
        if message.startswith(start) and not acted:
            acted.append(message)
            act(context)
        report(context, done, total, message)

    monkeypatch.setattr(JobContext, "progress", reporting)


def ask_to_cancel(context: JobContext) -> None:
    with context.database.transaction() as session:
        session.execute(update(Job).where(Job.id == context.job_id).values(cancel_requested=True))


MOMENTS = [
    "Reading the list of files",
    "Looking at some of the images",
    "Decoding 2 of 24",
    "Decoding 14 of 24",
    "Writing the table",
]


def finished(importer: Importer, data_set_id: int, job_id: int) -> Imported:
    """Let the same job be done again, and this time undisturbed."""
    importer.requeue(job_id)
    assert importer.perform(job_id).state == "done"
    return Imported(importer, data_set_id)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_cancelled_import_leaves_nothing_and_can_be_tried_again(
    importer: Importer, archive: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    data_set_id, job_id = importer.queued("zip", archive, upload=True)
    with monkeypatch.context() as patched:
        at_message(patched, moment, ask_to_cancel)
        assert importer.perform(job_id).state == "cancelled"
    importer.check_nothing_left(data_set_id)
    assert importer.data_set(data_set_id).state == "failed"
    assert finished(importer, data_set_id, job_id).row.image_count == 24
    assert not archive.exists()


@pytest.mark.slow
def test_a_folder_that_is_another_data_sets_is_emptied_first(
    importer: Importer, archive: Path
) -> None:
    # A restored database gives a number out again, and the files of its first owner are there.
    data_set_id, job_id = importer.queued(path=archive)
    old = importer.storage.data_set(data_set_id)
    (old / "thumbnails" / "ab").mkdir(parents=True)
    (old / "thumbnails" / "ab" / "old.webp").write_bytes(b"old")
    (old / "pixels.npy").write_bytes(b"old")
    assert importer.perform(job_id).state == "done"
    assert list(old.rglob("old.webp")) == []
    assert importer.storage.pixels(data_set_id).stat().st_size > 1000
    assert "from before a restore, were deleted" in importer.log(job_id)


@pytest.mark.slow
def test_an_import_whose_worker_is_asked_to_stop_goes_back_into_the_queue(
    importer: Importer, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_set_id, job_id = importer.queued("zip", archive)
    with monkeypatch.context() as patched:
        at_message(patched, "Decoding", lambda _: jobs.stopping.set())
        assert importer.perform(job_id).state == "queued"
    importer.check_nothing_left(data_set_id)
    assert importer.data_set(data_set_id).state == "importing"
    jobs.stopping.clear()
    assert importer.perform(job_id).state == "done"


def rob(context: JobContext) -> None:
    """Another attempt owns the job by now, and is at work in the data set's folder."""
    with context.database.transaction() as session:
        session.execute(
            update(Job).where(Job.id == context.job_id).values(claim="elsewhere:1:1:other")
        )
    place = context.storage.data_set(context.subject_id) / "attempt-other"
    place.mkdir(parents=True)
    (place / "pixels.npy").write_bytes(b"the other's")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["Decoding", "Writing the table"])
def test_an_attempt_that_lost_its_claim_writes_nothing_and_leaves_the_others_files_alone(
    importer: Importer, archive: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    data_set_id, job_id = importer.queued("zip", archive)
    at_message(monkeypatch, moment, rob)
    assert importer.perform(job_id).state == "running"
    home = importer.storage.data_set(data_set_id)
    assert [path.relative_to(home).as_posix() for path in home.rglob("*")] == [
        "attempt-other",
        "attempt-other/pixels.npy",
    ]
    assert importer.data_set(data_set_id).state == "importing"


@pytest.mark.slow
def test_an_attempt_whose_folder_is_taken_away_does_not_harm_the_one_that_took_it(
    importer: Importer, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another attempt clears the folder before this attempt notices and fails on its files."""
    data_set_id, job_id = importer.queued("zip", archive)
    taken: list[AttemptFolder] = []

    def take(context: JobContext) -> None:
        # First the files: the loss of its claim interrupts this attempt.
        taken.append(context.storage.attempt_folder(context.subject_id, "other").__enter__())
        (taken[0].folder / "pixels.npy").write_bytes(b"the other's")
        with context.database.transaction() as session:
            session.execute(
                update(Job).where(Job.id == context.job_id).values(claim="elsewhere:1:1:other")
            )
        raise FileNotFoundError(errno.ENOENT, "gone")

    at_message(monkeypatch, "Decoding 14", take)
    importer.perform(job_id)
    assert (taken[0].folder / "pixels.npy").read_bytes() == b"the other's"
    assert importer.data_set(data_set_id).state == "importing"
    assert importer.job(job_id).claim == "elsewhere:1:1:other"


@pytest.mark.slow
def test_thousands_of_remarks_are_counted_and_logged_at_once(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 70 classes, 69 have neither a validation nor a test image."""
    files = class_folders({f"c{number}": 1 for number in range(70)}, "train/", size=(8, 8))
    files |= class_folders({"c0": 1}, "val/", first=100) | class_folders({"c0": 1}, "test/", 200)
    calls: list[int] = []
    log = JobContext.log
    monkeypatch.setattr(
        JobContext, "log", lambda self, *lines: (calls.append(len(lines)), log(self, *lines))[1]
    )
    notes = importer.zip(files).row.report["notes"]
    assert len(notes) < 5
    assert "69 classes have no validation image" in " ".join(notes)
    assert calls[-1] > 1  # a transaction for all lines


# ── a full disk ───────────────────────────────────────────────────────────────────────────────────


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (PixelFile, "append"),
        (PixelFile, "finish"),
        (AttemptFolder, "sync"),
        (AttemptFolder, "publish"),
        (Results, "write"),
    ],
)
def test_a_full_disk_fails_the_import_with_a_sentence_and_harms_nothing(
    importer: Importer, archive: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    data_set_id, job_id = importer.queued("zip", archive, upload=True)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, full)
        job = importer.perform(job_id)
    check_full(importer, data_set_id, job)
    assert finished(importer, data_set_id, job_id).row.image_count == 24


def check_full(importer: Importer, data_set_id: int, job: Job) -> None:
    assert (job.state, job.error) == ("failed", jobs.DISK_FULL)
    importer.check_nothing_left(data_set_id)
    with importer.database.transaction(write=False) as session:
        assert session.scalar(select(DataSet.state).where(DataSet.id == data_set_id)) == "failed"
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"


@pytest.mark.slow
def test_a_disk_that_is_full_when_the_files_are_in_place_leaves_none_of_them(
    importer: Importer, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is the last to write: its transaction fails after the files were moved."""
    data_set_id, job_id = importer.queued("zip", archive)
    publish = AttemptFolder.publish

    def publish_then_fail(attempt: AttemptFolder) -> None:
        publish(attempt)
        assert (attempt.home / "pixels.npy").exists()
        full()

    with monkeypatch.context() as patched:
        patched.setattr(AttemptFolder, "publish", publish_then_fail)
        job = importer.perform(job_id)
    check_full(importer, data_set_id, job)


@pytest.fixture
def small_disk(importer: Importer) -> Iterator[Path]:
    """A real file system of 256 KB for the files, where mounting is allowed."""
    place = importer.settings.files
    place.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_really_full_fails_the_import_wherever_it_happens(
    importer: Importer, small_disk: Path
) -> None:
    """A child writes thumbnails, this process the array; either may meet the full disk."""
    archive = write_zip(importer.folder / "many.zip", class_folders({"cat": 60, "dog": 60}))
    data_set_id, job_id = importer.queued("zip", archive)
    check_full(importer, data_set_id, importer.perform(job_id))
    assert list((small_disk / "datasets").iterdir()) == []


# ── kill -9 ───────────────────────────────────────────────────────────────────────────────────────

WORKER = """
import sys
from pathlib import Path
from backend.core import queue
from backend.core.db import Database
from backend.core.settings import Settings
from backend.core.storage import Storage
from worker import jobs
queue.send = lambda *_: None
settings = Settings(home=Path(sys.argv[1]))
print("ready", flush=True)
jobs.perform(int(sys.argv[2]), Database(settings.database), Storage(settings.files), settings)
"""


@pytest.mark.faults
def test_an_import_killed_at_random_moments_has_each_image_once(importer: Importer) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # pytest shows it when the test fails
    dice = random.Random(seed)
    archive = write_zip(importer.folder / "more.zip", class_folders({"cat": 150, "dog": 150}))
    undisturbed = importer.run("zip", archive, seed=9)

    def hit() -> bool:
        data_set_id, job_id = importer.queued("zip", archive, seed=9)
        hits = killed_up_to_three_times(importer, job_id, dice)
        if importer.job(job_id).state == "queued":
            assert importer.perform(job_id).state == "done"
        disturbed = Imported(importer, data_set_id)
        assert disturbed.essence == undisturbed.essence
        assert (disturbed.pixels == undisturbed.pixels).all()
        assert all(
            importer.storage.thumbnail(data_set_id, image.content_hash).exists()
            for image in disturbed.images
        )
        assert not list(importer.storage.data_set(data_set_id).glob("attempt-*/*"))
        return hits > 0

    until_it_hits(hit)


def killed_up_to_three_times(importer: Importer, job_id: int, dice: random.Random) -> int:
    """Run three workers in turn, each killed at a random moment; returns how many died at work."""
    hits = 0
    for _ in range(3):
        seconds = dice.uniform(0.0, seconds_of_a_job(importer.database, "import"))
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(importer.settings.home), str(job_id)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert worker.stdout is not None
        worker.stdout.readline()
        wait_until(lambda: importer.job(job_id).state != "queued", 30, "the import to start")
        time.sleep(seconds)
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        state = importer.job(job_id).state
        if state == "done":
            break
        assert state == "running"
        hits += 1
        importer.requeue(job_id)
    return hits
