"""Import a data set: a pixel array, thumbnails, labels and splits."""

import logging
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import exists, update
from sqlalchemy.exc import SQLAlchemyError

from backend.core import job_lifecycle
from backend.core.models import DataSet
from backend.core.settings import Settings
from worker.jobs import ClaimLost, JobContext, JobFailed, JobInterrupted
from worker.pipeline.imports.class_folders import from_class_folders
from worker.pipeline.imports.files import Files, Found
from worker.pipeline.imports.folder import open_folder
from worker.pipeline.imports.idx import find_pairs, from_idx
from worker.pipeline.imports.manifest import (
    find_manifest,
    from_manifest,
    unfit_table,
    why_no_manifest,
)
from worker.pipeline.imports.pixels import Decoding
from worker.pipeline.imports.pool import Pool
from worker.pipeline.imports.results import Results, refusal_lines
from worker.pipeline.imports.zip import open_zip

logger = logging.getLogger(__name__)

LISTING = "Reading the list of files"
CLEARED = (
    "Files in this data set's folder, left by an earlier attempt or from before a restore, were "
    "deleted."
)
# Where the bar is after the list, and after the images.
LISTED, DECODED = 0.02, 0.95


def import_data_set(context: JobContext) -> None:
    """Import the job's data set: all of its images, or none and no file left."""
    with context.database.transaction() as session:
        data_set = session.get_one(DataSet, context.subject_id)
        data_set.state = "importing"
    try:
        _import(context, data_set.source, data_set.seed)
    except (ClaimLost, JobInterrupted):
        raise  # another attempt continues
    except BaseException:
        _mark_failed(context)
        raise
    if data_set.source.get("upload"):
        context.storage.discard(Path(data_set.source["path"]))


def _import(context: JobContext, source: dict[str, Any], seed: int) -> None:
    began = time.monotonic()
    attempt = context.storage.attempt_folder(context.subject_id, context.claim.rpartition(":")[2])
    with attempt, ExitStack() as stack:
        if attempt.cleared:
            context.log(CLEARED)
        context.phase(0.0, LISTED)
        context.progress(0, 0, LISTING)
        found = find(source, seed, context, stack)
        context.phase(LISTED, DECODED)
        decoding = Decoding(
            found,
            attempt.folder,
            source.get("side"),
            context.settings.max_image_pixels,
            context.progress,
        )
        with Pool() as pool:
            answers = decoding.run(pool)
        refusals = found.refusals.rows + decoding.refusals(answers)
        for line in refusal_lines(refusals):
            context.log(line)
        if len(refusals) - len(found.refusals.rows) == len(answers):
            raise JobFailed(_nothing_usable(refusals))
        results = Results(found, answers, seed)
        for line in results.lines():
            context.log(line)
        context.phase(DECODED, 1.0)
        context.progress(0, 1, "Writing the table")
        attempt.sync()
        with context.finish() as session:
            data_set = results.write(session, context.subject_id, decoding.shape, refusals)
            data_set.report = data_set.report | {"seconds": round(time.monotonic() - began, 2)}
            attempt.publish()


def find(source: dict[str, Any], seed: int, context: JobContext, stack: ExitStack) -> Found:
    """Collect the images of the source; `stack` closes its files. Raises JobFailed."""
    if source["kind"] == "sample":
        # Imported late: scikit-learn takes a second.
        from worker.pipeline.imports.sample import sample

        return sample(seed)
    path = Path(source["path"])
    settings = context.settings
    is_table = path.suffix.lower() == ".csv"
    if path.is_dir() or is_table:
        files = open_folder(
            path.parent if is_table else path, settings, lambda: context.progress(0, 0, LISTING)
        )
    else:
        files = open_zip(path, settings, stack)
    return arranged(files, settings, stack, path.name if is_table else None)


def arranged(files: Files, settings: Settings, stack: ExitStack, manifest: str | None) -> Found:
    pairs = find_pairs(files)
    if pairs:
        return from_idx(files, pairs, settings, stack)
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


def _nothing_usable(refusals: list[tuple[str, str]]) -> str:
    if not refusals:
        return (
            "There is no image to import. Put the images of each class into a folder of that name."
        )
    path, reason = refusals[0]
    files = "1 file was" if len(refusals) == 1 else f"{len(refusals):,} files were"
    return f"There is no usable image. {files} refused; the first is “{path[:200]}”: {reason}."


def _mark_failed(context: JobContext) -> None:
    mine = exists().where(*job_lifecycle.is_held(context.job_id, context.claim))
    try:
        with context.database.transaction() as session:
            session.execute(
                update(DataSet).where(DataSet.id == context.subject_id, mine).values(state="failed")
            )
    except SQLAlchemyError as error:
        # The job's end is written next, and matters more.
        logger.warning("Data set %s was not marked as failed: %s", context.subject_id, error)
