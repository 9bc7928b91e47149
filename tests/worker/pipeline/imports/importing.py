"""Import tests' pictures and archives, and a worker that imports them on SQLite."""

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from sqlalchemy import func, select, update

from backend.core import queue
from backend.core.db import Database
from backend.core.models import Base, DataSet, Image, Job, JobLogLine, Refusal, Version
from backend.core.settings import Settings
from backend.core.storage import Storage
from worker import jobs
from worker.pipeline.imports.columns import Wanted
from worker.pipeline.imports.files import Found
from worker.pipeline.imports.job import arranged
from worker.pipeline.imports.zip import open_zip

Files = Mapping[str, bytes]


class Importer:
    """A database, a storage and a worker for a test."""

    def __init__(self, folder: Path, database_url: str = "") -> None:
        self.folder = folder
        self.settings = Settings(
            home=folder / "home", database_url=database_url, max_attempts=3, heartbeat_seconds=0.1
        )
        self.settings.home.mkdir(parents=True)
        self.storage = Storage(self.settings.files)
        self.database = Database(self.settings.database)
        Base.metadata.create_all(self.database.engine)

    def queued(
        self, kind: str = "zip", path: Path | None = None, seed: int = 0, **options: Any
    ) -> tuple[int, int]:
        """A data set that waits for its import: the ids of data set and job."""
        with self.database.transaction() as session:
            data_set = DataSet(
                name="Things",
                source={"kind": kind, "path": str(path), "upload": False, **options},
                seed=seed,
            )
            session.add(data_set)
            session.flush()
            job = Job(
                kind="import", title="Import", subject_id=data_set.id, data_set_id=data_set.id
            )
            session.add(job)
            session.flush()
            return data_set.id, job.id

    def perform(self, job_id: int) -> Job:
        """Let the worker do it."""
        jobs.perform(job_id, self.database, self.storage, self.settings)
        return self.job(job_id)

    def requeue(self, job_id: int) -> None:
        """Change the row like “Try again”."""
        with self.database.transaction() as session:
            session.execute(
                update(Job)
                .where(Job.id == job_id)
                .values(
                    state="queued",
                    attempts=0,
                    attempts_without_progress=0,
                    cancel_requested=False,
                    error=None,
                )
            )

    def job(self, job_id: int) -> Job:
        with self.database.transaction(write=False) as session:
            return session.get_one(Job, job_id)

    def data_set(self, data_set_id: int) -> DataSet:
        with self.database.transaction(write=False) as session:
            return session.get_one(DataSet, data_set_id)

    def run(
        self, kind: str = "zip", path: Path | None = None, seed: int = 0, **options: Any
    ) -> "Imported":
        """Import; it must succeed."""
        data_set_id, job_id = self.queued(kind, path, seed, **options)
        job = self.perform(job_id)
        assert job.state == "done", job.error or self.log(job_id)
        return Imported(self, data_set_id)

    def zip(self, files: Files, seed: int = 0, **options: Any) -> "Imported":
        """Import a zip of these files; it must succeed."""
        return self.run("zip", write_zip(self.folder / "things.zip", files), seed, **options)

    def found(self, files: Files, wanted: Wanted | None = None) -> Found:
        """List the files of this zip as an import does, before decoding."""
        with ExitStack() as stack:
            path = write_zip(self.folder / "things.zip", files)
            listed = open_zip(path, self.settings, stack)
            return arranged(listed, self.settings, stack, None, wanted=wanted)

    def failing(self, kind: str, path: Path | None, **options: Any) -> str:
        """Import; it must fail, with nothing left behind. Returns the sentence."""
        data_set_id, job_id = self.queued(kind, path, **options)
        job = self.perform(job_id)
        assert job.state == "failed", job.state
        assert self.data_set(data_set_id).state == "failed"
        self.check_nothing_left(data_set_id)
        assert job.error is not None
        return job.error

    def check_nothing_left(self, data_set_id: int) -> None:
        """No image, no version and no file of this import; its problems stay."""
        with self.database.transaction(write=False) as session:
            for table in (Image, Version):
                assert (
                    session.scalar(
                        select(func.count())
                        .select_from(table)
                        .where(table.data_set_id == data_set_id)
                    )
                    == 0
                )
        assert not self.storage.data_set(data_set_id).exists()

    def log(self, job_id: int) -> str:
        with self.database.transaction(write=False) as session:
            return "\n".join(
                session.scalars(
                    select(JobLogLine.message)
                    .where(JobLogLine.job_id == job_id)
                    .order_by(JobLogLine.id)
                )
            )


class Imported:
    """Return everything that a finished import has stored."""

    def __init__(self, importer: Importer, data_set_id: int) -> None:
        self.storage = importer.storage
        with importer.database.transaction(write=False) as session:
            self.row = session.get_one(DataSet, data_set_id)
            self.images = session.scalars(
                select(Image).where(Image.data_set_id == data_set_id).order_by(Image.row)
            ).all()
            refused = session.scalars(
                select(Refusal).where(Refusal.data_set_id == data_set_id).order_by(Refusal.id)
            ).all()
            self.versions = session.scalars(
                select(Version).where(Version.data_set_id == data_set_id)
            ).all()
        self.refusals = {refusal.path: refusal.reason for refusal in refused}
        self.pixels: np.ndarray = np.load(
            self.storage.pixels(data_set_id), mmap_mode="r", allow_pickle=False
        )

    @property
    def labels(self) -> dict[str, str]:
        """Path → class name."""
        return {image.path: self.row.class_names[image.label] for image in self.images}

    @property
    def splits(self) -> dict[str, str]:
        """Path → split."""
        return {image.path: image.split for image in self.images}

    @property
    def essence(self) -> list[tuple[Any, ...]]:
        """All that a repeated import must give again."""
        columns = ("row", "path", "content_hash", "split", "label", "true_label", "width", "height")
        return [tuple(getattr(image, column) for column in columns) for image in self.images]

    def pixels_of(self, path: str) -> np.ndarray:
        """Pixels (H, W, C) by the image's path."""
        return self.pixels[next(image.row for image in self.images if image.path == path)]

    def view(self, path: str, full: bool = False) -> Picture.Image:
        """Thumbnail or full image, as the browser gets it."""
        image = next(image for image in self.images if image.path == path)
        place = self.storage.full_image if full else self.storage.thumbnail
        with Picture.open(place(self.row.id, image.content_hash)) as picture:
            picture.load()
        return picture


def noise(seed: int, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> Picture.Image:
    """A picture unlike any of another seed."""
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Picture.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def encoded(picture: Picture.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Encode the picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(seed: int, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> bytes:
    """A small PNG unlike any of another seed."""
    return encoded(noise(seed, size, mode), compress_level=1)


def class_folders(
    counts: Mapping[str, int],
    top: str = "",
    first: int = 0,
    size: tuple[int, int] = (32, 32),
    mode: str = "RGB",
) -> dict[str, bytes]:
    """Make this number of different PNGs in each folder."""
    numbers = iter(range(first, 10**6))
    return {
        f"{top}{name}/{index:02d}.png": png(next(numbers), size, mode)
        for name, count in counts.items()
        for index in range(count)
    }


def write_zip(
    path: Path,
    files: Files | Sequence[tuple[zipfile.ZipInfo | str, bytes]],
    method: int = zipfile.ZIP_STORED,
) -> Path:
    """A zip of these files, in this order."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items() if isinstance(files, Mapping) else files:
            archive.writestr(name, data)
    return path


def write_folder(path: Path, files: Files) -> Path:
    """A folder of these files."""
    for name, data in files.items():
        place = path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return path


@pytest.fixture
def importer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Importer]:
    monkeypatch.setattr(queue, "send", lambda *_: None)
    importer = Importer(tmp_path)
    yield importer
    jobs.stopping.clear()
    importer.database.close()
