"""Import a data set: a pixel array, thumbnails, labels and splits."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.exc import SQLAlchemyError

from backend.core import job_lifecycle
from backend.core.models import DataSet
from backend.core.reports import ImportReport
from backend.core.settings import Settings
from worker.jobs import ClaimLost, JobContext, JobFailed, JobInterrupted
from worker.pipeline.features.queueing import queue_if_photographs
from worker.pipeline.imports.class_folders import from_class_folders
from worker.pipeline.imports.columns import Wanted
from worker.pipeline.imports.files import Files, Found, natural, without_hidden
from worker.pipeline.imports.find_manifests import find_manifests
from worker.pipeline.imports.folder import open_folder
from worker.pipeline.imports.idx import find_pairs, from_idx
from worker.pipeline.imports.manifest import from_manifests
from worker.pipeline.imports.messages import Decoded
from worker.pipeline.imports.pixels import Decoding
from worker.pipeline.imports.pool import Pool
from worker.pipeline.imports.questions import NeedsAnswer
from worker.pipeline.imports.results import Results, refusal_lines, write_refusals
from worker.pipeline.imports.small_classes import LeaveOut, assign_entries, leave_out
from worker.pipeline.imports.table_text import SUFFIXES as TABLE_SUFFIXES
from worker.pipeline.imports.zip import open_zip

logger = logging.getLogger(__name__)

LISTING = "Reading the list of files"
CLEARED = (
    "Files in this data set's folder, left by an earlier attempt or from before a restore, were "
    "deleted."
)
# Where the bar is after the list, and after the images.
LISTED, DECODED = 0.02, 0.95


class ImportFailed(JobFailed):
    """A failed import with its problems: (path, reason), for the table of all of them."""

    def __init__(self, sentence: str, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__(sentence)
        self.problems = list(problems)


def import_data_set(context: JobContext) -> None:
    """Import the job's data set: all of its images, or none and no file left."""
    with context.database.transaction() as session:
        data_set = session.get_one(DataSet, context.subject_id)
        data_set.state, data_set.report = "importing", {}
        write_refusals(session, data_set, ())
    try:
        _import(context, data_set.source, data_set.seed)
    except (ClaimLost, JobInterrupted):
        raise  # another attempt continues
    except NeedsAnswer as asked:
        _ask(context, asked)
        return  # the answer needs the upload
    except ImportFailed as error:
        _mark_failed(context, error.problems)
        raise
    except BaseException:
        _mark_failed(context, ())
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
        decision = source.get("small_classes")
        if decision is not None:
            _leave_out_early(found, seed, decision)
        while True:
            decoding = Decoding(
                found,
                attempt.folder,
                source.get("side"),
                context.progress,
            )
            with Pool(context.settings.max_image_pixels) as pool:
                answers = decoding.run(pool)
            try:
                results, refusals = _settle(found, decoding, answers, seed, decision)
                break
            except LeaveOut as small:
                # Rows of the pixel array cannot be taken out.
                leave_out(found, small.reasons)
                attempt.clear()
        context.log(*refusal_lines(refusals), *results.lines())
        context.phase(DECODED, 1.0)
        context.progress(0, 1, "Writing the table")
        attempt.sync()
        with context.finish() as session:
            data_set = results.write(session, context.subject_id, decoding.shape, refusals)
            data_set.report = data_set.report | {"seconds": round(time.monotonic() - began, 2)}
            queue_if_photographs(session, data_set)
            attempt.publish()


def _settle(
    found: Found,
    decoding: Decoding,
    answers: list[Decoded | str],
    seed: int,
    decision: str | None,
) -> tuple[Results, list[tuple[str, str]]]:
    """Make rows of decoded images. Every refused file goes with an error."""
    refusals = found.refusals.rows + decoding.refusals(answers)
    try:
        if len(refusals) - len(found.refusals.rows) == len(answers):
            raise JobFailed(_nothing_usable(refusals))
        return Results(found, answers, seed, decision, decoding.reading), refusals
    except JobFailed as error:
        raise ImportFailed(str(error), refusals) from error
    except NeedsAnswer as asked:
        asked.rows += refusals
        raise


def _leave_out_early(found: Found, seed: int, decision: str) -> None:
    """Spare the decoding of classes that are too small even with every image."""
    names = sorted({entry.label for entry in found.entries}, key=natural)
    # Decoding finds what else is wrong, so it is reported together.
    with suppress(JobFailed):
        try:
            assign_entries(found.entries, names, found, seed, decision)
        except LeaveOut as small:
            leave_out(found, small.reasons)


def find(source: dict[str, Any], seed: int, context: JobContext, stack: ExitStack) -> Found:
    """Collect the images of the source; `stack` closes its files. Raises JobFailed."""
    if source["kind"] == "sample":
        # Imported late: scikit-learn takes a second.
        from worker.pipeline.imports.sample import sample

        return sample(seed)
    path = Path(source["path"])
    if not source.get("upload") and path.resolve() != path:
        raise JobFailed(
            f"{path} has become a link since the import was asked for. Import the place that it "
            f"leads to."
        )
    settings = context.settings
    is_table = not path.is_dir() and path.suffix.lower() in TABLE_SUFFIXES

    def tick() -> None:
        context.progress(0, 0, LISTING)

    if path.is_dir() or is_table:
        files = open_folder(path.parent if is_table else path, settings, tick)
    else:
        files = open_zip(path, settings, stack, source.get("names_encoding"))
    files.tick = tick
    wanted = Wanted(
        source.get("path_column"),
        source.get("label_column"),
        source.get("split_column"),
        source.get("names_encoding"),
    )
    manifest = path.name if is_table else None
    return arranged(files, settings, stack, manifest, source.get("layout"), wanted)


def arranged(
    files: Files,
    settings: Settings,
    stack: ExitStack,
    manifest: str | None,
    layout: str | None = None,
    wanted: Wanted | None = None,
) -> Found:
    """Choose the class and split of each image. Raises ImportFailed, NeedsAnswer."""
    try:
        found = _arranged(files, settings, stack, manifest, layout, wanted or Wanted())
    except JobFailed as error:
        raise ImportFailed(str(error), files.refusals.rows) from error
    found.notes += files.notes
    found.names_encoding = files.names_encoding
    return found


def _arranged(
    files: Files,
    settings: Settings,
    stack: ExitStack,
    manifest: str | None,
    layout: str | None,
    wanted: Wanted,
) -> Found:
    pairs = find_pairs(files)
    if pairs:
        return from_idx(files, pairs, settings, stack)
    manifests = find_manifests(files, wanted, manifest)
    if manifests.chosen:
        return from_manifests(files, manifests, settings)
    files.files, hidden = without_hidden(files.files)
    files.notes += hidden
    try:
        return from_class_folders(files, layout)
    except JobFailed:
        if manifests.unfit:
            raise manifests.unfit[0] from None
        raise


def _nothing_usable(refusals: list[tuple[str, str]]) -> str:
    if not refusals:
        return (
            "There is no image to import. Put the images of each class into a folder of that name."
        )
    path, reason = refusals[0]
    files = "1 file was" if len(refusals) == 1 else f"{len(refusals):,} files were"
    return f"There is no usable image. {files} refused; the first is “{path[:200]}”: {reason}."


def _ask(context: JobContext, asked: NeedsAnswer) -> None:
    with context.ask(asked.question.sentence) as session:
        data_set = session.get_one(DataSet, context.subject_id)
        data_set.state = "asking"
        data_set.report = ImportReport(question=asked.question).to_json()
        write_refusals(session, data_set, asked.rows)


def _mark_failed(context: JobContext, problems: Sequence[tuple[str, str]]) -> None:
    mine = exists().where(*job_lifecycle.is_held(context.job_id, context.claim))
    try:
        with context.database.transaction() as session:
            data_set = session.scalar(select(DataSet).where(DataSet.id == context.subject_id, mine))
            if data_set is not None:
                data_set.state = "failed"
                write_refusals(session, data_set, problems)
    except SQLAlchemyError as error:
        # The job's end is written next, and matters more.
        logger.warning("Data set %s was not marked as failed: %s", context.subject_id, error)
