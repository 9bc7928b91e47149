"""An import's job: files → decoded, upright images in one array, with thumbnails, labels and splits; each refused file with its reason."""

import ctypes
import logging
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import exists, insert, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from backend.models import DataSet, Image, Job, Refusal, Version
from backend.settings import Settings
from worker.jobs import ClaimLost, JobContext, JobFailed, JobInterrupted
from worker.pipeline.imports_files import Entry, Files, Found, natural
from worker.pipeline.imports_folder import open_folder
from worker.pipeline.imports_idx import find_pairs, from_idx
from worker.pipeline.imports_layout import first_reason, from_class_folders
from worker.pipeline.imports_manifest import find_manifest, from_manifest, unfit_table, why_no_manifest
from worker.pipeline.imports_messages import Decoded
from worker.pipeline.imports_pixels import Decoding
from worker.pipeline.imports_pool import Pool
from worker.pipeline.imports_splits import assign
from worker.pipeline.imports_zip import open_zip

logger = logging.getLogger(__name__)

LISTING = "Reading the list of files"
ROWS_AN_INSERT = 5_000
LOGGED_REFUSALS = 20
STORED = ("pixels.npy", "thumbnails", "full")


def import_data_set(context: JobContext) -> None:
    """Import the data set that this job is for. It ends with all images or, whatever happens, with none and no file left."""
    began = time.monotonic()
    with context.database.transaction() as session:
        data_set = session.get_one(DataSet, context.subject_id)
        data_set.state = "importing"
    with _workshop(context) as folder:
        context.progress(0, 0, LISTING)
        found = find(data_set.source, data_set.seed, context)
        if not found.entries:
            raise JobFailed(f"There is no image to import.{first_reason(found.refusals)}")
        decoding = Decoding(found, folder, data_set.source.get("side"), context.settings.max_image_pixels, context.progress)
        with Pool() as pool:
            answers = decoding.run(pool)
        imported = Imported(found, answers, data_set.seed)
        context.progress(len(answers), len(answers), "Writing the table")
        _sync(folder)
        for line in imported.lines():
            context.log(line)
        with context.finish() as session:
            imported.report["seconds"] = round(time.monotonic() - began, 2)
            _write(session, context.subject_id, imported, decoding.shape)
            _move_into_place(folder)
    if data_set.source.get("upload"):
        Path(data_set.source["path"]).unlink(missing_ok=True)


def find(source: dict[str, Any], seed: int, context: JobContext) -> Found:
    """The images of the source. Raises JobFailed where it cannot be used."""
    if source["kind"] == "sample":
        from worker.pipeline.imports_sample import sample  # scikit-learn takes a second to load, and only the sample needs it

        return sample(seed)
    path = Path(source["path"])
    settings = context.settings
    if path.is_dir():
        return arranged(open_folder(path, settings, lambda: context.progress(0, 0, LISTING)), settings)
    if path.suffix.lower() == ".csv":
        return arranged(open_folder(path.parent, settings, lambda: context.progress(0, 0, LISTING)), settings, manifest=path.name)
    return arranged(open_zip(path, settings), settings)


def arranged(files: Files, settings: Settings, manifest: str | None = None) -> Found:
    """The images among the files: in MNIST's IDX files, or as a manifest or class folders say. Raises JobFailed where there are none."""
    pairs = find_pairs(files)
    if pairs:
        return from_idx(files, pairs, settings)
    table = find_manifest(files, manifest)
    if table is not None:
        return from_manifest(files, table)
    try:
        return from_class_folders(files)
    except JobFailed:
        meant = unfit_table(files)
        if meant is not None:
            raise JobFailed(why_no_manifest(files, meant)) from None
        raise


class Imported:
    """What came of the found images: rows, refusals and the report. Raises JobFailed where that makes no data set."""

    def __init__(self, found: Found, answers: list[Decoded | str], seed: int) -> None:
        self.refusals = list(found.refusals.rows)
        self.good: list[tuple[Entry, Decoded]] = []
        for entry, answer in zip(found.entries, answers, strict=True):
            if isinstance(answer, Decoded):
                self.good.append((entry, answer))
            else:
                self.refusals.append((entry.path, answer))
        if not self.good:
            path, reason = self.refusals[0]
            raise JobFailed(
                f"None of the {len(answers):,} images can be used. The first is “{path[:200]}”: {reason}. "
                "See that they are images, then import again."
            )
        self.names = sorted(
            {entry.label for entry, _ in self.good} | {entry.true_label for entry, _ in self.good if entry.true_label}, key=natural
        )
        if len(self.names) < 2:
            raise JobFailed(
                f"There is only one class, “{self.names[0][:200]}”; telling classes apart takes two or more. "
                "Put the images of each class into a folder of its own."
            )
        numbers = {name: number for number, name in enumerate(self.names)}
        self.labels = [numbers[entry.label] for entry, _ in self.good]
        self.true_labels = [None if entry.true_label is None else numbers[entry.true_label] for entry, _ in self.good]
        self.splits, words = assign(self.labels, [entry.split for entry, _ in self.good], found.given, self.names, seed)
        self.notes = [*found.notes, *_empty_classes(found, self.names), *_alike(self.names)]
        self.report: dict[str, Any] = {"split_words": found.split_words or words, "notes": self.notes, "seed": seed, **self._copies()}

    def _copies(self) -> dict[str, int]:
        labels: dict[str, set[int]] = defaultdict(set)
        splits: dict[str, set[str]] = defaultdict(set)
        stored: dict[str, int] = {}
        for (_, decoded), label, split in zip(self.good, self.labels, self.splits, strict=True):
            labels[decoded.content_hash].add(label)
            splits[decoded.content_hash].add(split)
            stored[decoded.content_hash] = decoded.stored
        return {
            "duplicates": len(self.good) - len(stored),
            "conflicting_duplicates": sum(len(found) > 1 for found in labels.values()),
            "duplicates_across_splits": sum(len(found) > 1 for found in splits.values()),
            "bytes": sum(stored.values()),
        }

    def lines(self) -> list[str]:
        """For the job's log."""
        words = [f"{len(self.good):,} images, {len(self.names):,} classes. {self.report['split_words']}", *self.notes]
        words += [f"Refused: {path}: {reason}." for path, reason in self.refusals[:LOGGED_REFUSALS]]
        more = len(self.refusals) - LOGGED_REFUSALS
        return [*words, f"{more:,} more files were refused; the data set's page has all of them."] if more > 0 else words

    def rows(self, data_set_id: int) -> Iterator[dict[str, Any]]:
        """The rows of `images`, in the order of the pixel array."""
        for row, (entry, decoded) in enumerate(self.good):
            yield {
                "data_set_id": data_set_id,
                "row": row,
                "path": entry.path,
                "content_hash": decoded.content_hash,
                "split": self.splits[row],
                "label": self.labels[row],
                "true_label": self.true_labels[row],
                "width": decoded.width,
                "height": decoded.height,
            }


def _empty_classes(found: Found, names: list[str]) -> list[str]:
    return [f"The class “{name}” has no usable image and was left out." for name in found.class_names if name not in names]


def _alike(names: list[str]) -> list[str]:
    """A note for each class whose name differs from another's by upper and lower case only: kept apart, but probably meant as one."""
    first: dict[str, str] = {}
    notes = []
    for name in names:
        other = first.setdefault(name.casefold(), name)
        if other != name:
            notes.append(f"The classes “{other}” and “{name}” differ in upper and lower case only; they are two classes.")
    return notes


def _write(session: Session, data_set_id: int, imported: Imported, shape: tuple[int, int, int]) -> None:
    """All rows of the import, and its first version."""
    batch: list[dict[str, Any]] = []
    for row in imported.rows(data_set_id):
        batch.append(row)
        if len(batch) == ROWS_AN_INSERT:
            session.execute(insert(Image), batch)
            batch = []
    if batch:
        session.execute(insert(Image), batch)
    refused = [{"data_set_id": data_set_id, "path": path, "reason": reason} for path, reason in imported.refusals]
    for start in range(0, len(refused), ROWS_AN_INSERT):
        session.execute(insert(Refusal), refused[start : start + ROWS_AN_INSERT])
    data_set = session.get_one(DataSet, data_set_id)
    version = Version(data_set_id=data_set_id, number=1, state="accepted", note="As imported", created_by=data_set.created_by)
    session.add(version)
    session.flush()
    height, width, channels = shape
    report = imported.report | {"bytes": imported.report["bytes"] + len(imported.good) * height * width * channels}
    data_set.class_names = imported.names
    data_set.height, data_set.width, data_set.channels = shape
    data_set.image_count, data_set.refused_count = len(imported.good), len(imported.refusals)
    data_set.duplicate_count = report.pop("duplicates")
    data_set.planted_count = sum(label is not None for label in imported.true_labels)
    data_set.report = report
    data_set.current_version_id = version.id
    data_set.state = "ready"


@contextmanager
def _workshop(context: JobContext) -> Iterator[Path]:
    """A folder of this attempt's own inside the data set's, gone in the end. Nothing but a finished import leaves files behind."""
    home = context.storage.data_set(context.subject_id)
    folder = home / f"attempt-{context.claim.rsplit(':', 1)[-1]}"
    shutil.rmtree(home, ignore_errors=True)  # what a killed attempt left
    folder.mkdir(parents=True)
    try:
        yield folder
    except ClaimLost:
        # The folder beside ours may be another attempt's by now.
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except JobInterrupted:
        shutil.rmtree(home, ignore_errors=True)
        raise
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        _mark_failed(context)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _mark_failed(context: JobContext) -> None:
    mine = exists().where(Job.id == context.job_id, Job.claim == context.claim, Job.state == "running")
    try:
        with context.database.transaction() as session:
            session.execute(update(DataSet).where(DataSet.id == context.subject_id, mine).values(state="failed"))
    except SQLAlchemyError as error:
        # How the job ended is written next, and matters more.
        logger.warning("Data set %s was not marked as failed: %s", context.subject_id, error)


def _move_into_place(folder: Path) -> None:
    for name in STORED:
        if (folder / name).exists():
            (folder / name).rename(folder.parent / name)


def _sync(folder: Path) -> None:
    """See that the thumbnails are on the disk before the rows say that they are: one call, not one a file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:
            os.sync()
        elif syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)
