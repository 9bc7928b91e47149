"""Data sets: import, description, deletion."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import Any

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.orm import Session

from backend.core import job_lifecycle
from backend.core.catalogue import BACKBONES
from backend.core.discards import discard
from backend.core.errors import Conflict, Forbidden, Invalid, NotFound
from backend.core.job_lifecycle import ACTIVE, add_log_line
from backend.core.models import DataSet, Image, Job, Refusal, Run, User, Version, images_of, now
from backend.core.settings import Settings
from backend.core.storage import Storage
from backend.core.text import tidy
from backend.datasets import names
from backend.datasets.schemas import ImportOptions, Source
from backend.jobs import service as jobs
from backend.web.pagination import paginate

SPLITS = ("train", "validation", "test")
EXAMPLES = 8
# Images shown for a data set in the list.
COVER = 6
# Files and bytes of an import that takes seconds.
SMALL_FILES, SMALL_BYTES = 1_000, 20 * 2**20
QUESTIONS = ("layout", "small_classes", "label_column")  # kinds; options of an import, too
MANIFEST_COLUMNS = ("path", "label", "split")


def get(
    session: Session,
    user: User,  # noqa: ARG001 - visible to every user
    data_set_id: int,
) -> DataSet:
    """Return the data set. Raises NotFound."""
    data_set = session.get(DataSet, data_set_id)
    if data_set is None:
        raise NotFound("There is no such data set.")
    # The session forgets rows that nobody holds; a request asks for this one several times.
    session.info.setdefault("data_sets", set()).add(data_set)
    return data_set


def page(
    session: Session, *, after: int | None = None, limit: int = 50
) -> tuple[Sequence[DataSet], int | None]:
    """List data sets, newest first, and the id to continue after."""
    rows, following = paginate(
        session, select(DataSet), DataSet.id, after=after, limit=limit, newest_first=True
    )
    return [data_set for (data_set,) in rows], following


def check_path(settings: Settings, path: str | None) -> Path:
    """Resolve a path on the server.

    Raises Forbidden outside the import folders, Invalid where nothing is there.
    """
    if not path:
        raise Invalid("Say which folder or file on the server to import.")
    try:
        resolved = Path(path).resolve()
        if not any(resolved.is_relative_to(root) for root in settings.import_roots):
            raise Forbidden(
                "Winnow may not import from there. "
                "The administrator lists the folders it may read in WINNOW_IMPORT_FOLDERS."
            )
        there = resolved.exists()
    except (OSError, ValueError):  # too long, with a zero byte, or in a closed folder
        there = False
    if not there:
        raise Invalid(f"There is nothing at {tidy(path)[:200]} on the server that Winnow can read.")
    return resolved


def create_import(
    session: Session,
    user: User | None,
    source: Source,
    options: ImportOptions,
    *,
    upload: bool = False,
) -> DataSet:
    """Make the data set and queue its import, or return the same import in progress.

    A taken name gets a number behind it. Check the path first.

    upload: the file is ours, and deleted after the import.
    """
    if source.kind != "sample" and not source.path:
        raise Invalid("Say which folder or file to import.")
    wanted = {**source.model_dump(exclude_none=True), "upload": upload, **options.chosen()}
    asked = tidy(options.name)[: names.LONGEST] or _name_of(source)
    if user is not None:
        # Of a user's simultaneous requests, one makes the data set.
        session.execute(select(User.id).where(User.id == user.id).with_for_update(key_share=True))
    if started := _get_started(session, wanted, options.seed, asked):
        return started
    data_set = DataSet(
        name=names.make_unique(session, asked),
        source=wanted,
        seed=options.seed,
        created_by=user.id if user else None,
    )
    session.add(data_set)
    session.flush()
    job = jobs.create(
        session,
        user,
        kind="import",
        title=f"Import {data_set.name}",
        subject_id=data_set.id,
        data_set_id=data_set.id,
        lane="quick" if _is_small(source) else "long",
        payload={"asked": asked, "given": data_set.name},
    )
    if reason := explain_name(data_set, job):
        add_log_line(session, job.id, reason)
    return data_set


def _is_small(source: Source) -> bool:
    """Return True for an import of seconds, which need not wait behind a training."""
    if source.kind == "sample":
        return True
    path = Path(source.path or "")
    try:
        entries = path.rglob("*") if path.is_dir() else iter([path])
        found = [entry.lstat() for entry in islice(entries, SMALL_FILES + 1)]
    except OSError:  # the import itself says what is wrong
        return True
    size = sum(entry.st_size for entry in found if S_ISREG(entry.st_mode))
    return len(found) <= SMALL_FILES and size <= SMALL_BYTES


def answer(session: Session, user: User, data_set: DataSet, wanted: str) -> DataSet:
    """Answer the import's question and queue it again; the same answer twice is no error.

    Raises Invalid for an answer that is no choice, Conflict where nothing is asked.
    """
    job = import_job(session, data_set)
    question = data_set.typed_report.question
    if job is not None and question is not None:
        choices = {choice.answer: choice.words for choice in question.choices}
        if wanted not in choices:
            raise Invalid(f"“{wanted}” is no answer here. Choose {' or '.join(choices)}.")
        line = f"{user.name} answered: {choices[wanted]}."
        if job_lifecycle.answer_job(session, job.id, line):
            data_set.source = data_set.source | {question.kind: wanted}
            data_set.state, data_set.report = "importing", {}
            session.flush()
            session.refresh(job)
            return data_set
        session.refresh(data_set)
    if wanted in {data_set.source.get(kind) for kind in QUESTIONS}:
        return data_set
    raise Conflict("This import asks nothing. It may have been answered or stopped meanwhile.")


def explain_name(data_set: DataSet, job: Job | None) -> str | None:
    """Explain the number in a name that was taken; None after a rename, or without one."""
    asked = job.payload.get("asked", data_set.name) if job else data_set.name
    if job is None or asked == data_set.name or job.payload.get("given") != data_set.name:
        return None
    return f"There is another data set called “{asked}”, so this one is “{data_set.name}”."


def _get_started(session: Session, source: dict[str, Any], seed: int, asked: str) -> DataSet | None:
    """Return the data set that the same import is making now, or None."""
    now_importing = (
        select(DataSet, Job)
        .join(Job, (Job.subject_id == DataSet.id) & (Job.kind == "import"))
        .where(DataSet.seed == seed, Job.state.in_((*ACTIVE, "asking")))
        .order_by(DataSet.id)
    )
    for data_set, job in session.execute(now_importing):
        if data_set.source == source and job.payload.get("asked") == asked:
            return data_set
    return None


def import_jobs(session: Session, data_sets: Sequence[DataSet]) -> dict[int, Job]:
    """Map data set id → its import job, if kept."""
    wanted = (Job.data_set_id.in_([data_set.id for data_set in data_sets]), Job.kind == "import")
    return {
        job.subject_id: job for job in session.scalars(select(Job).where(*wanted).order_by(Job.id))
    }


def import_job(session: Session, data_set: DataSet) -> Job | None:
    """Return the data set's import job, or None."""
    return import_jobs(session, [data_set]).get(data_set.id)


def counts(
    session: Session, data_set: DataSet, version_id: int | None = None
) -> dict[str, dict[str, int]]:
    """Count images by split and class name, in a version or the current one."""
    version_id = version_id or data_set.current_version_id
    if version_id is None:
        return {}
    rows = images_of(version_id).order_by(None).subquery()
    found = session.execute(
        select(rows.c.split, rows.c.label, func.count()).group_by(rows.c.split, rows.c.label)
    ).all()
    table = {split: dict.fromkeys(data_set.class_names, 0) for split in SPLITS}
    for split, label, count in found:
        table[split][data_set.class_names[label]] = count
    return table


def examples(session: Session, data_set: DataSet) -> dict[int, list[Image]]:
    """Choose a few training images per class, by label."""
    ranked = (
        select(
            Image.id,
            func.row_number().over(partition_by=Image.label, order_by=Image.id).label("place"),
        )
        .where(Image.data_set_id == data_set.id, Image.split == "train")
        .subquery()
    )
    chosen = (
        select(Image)
        .join(ranked, ranked.c.id == Image.id)
        .where(ranked.c.place <= EXAMPLES)
        .order_by(Image.label, Image.id)
    )
    shown: dict[int, list[Image]] = {}
    for image in session.scalars(chosen):
        shown.setdefault(image.label, []).append(image)
    return shown


def covers(session: Session, data_sets: Sequence[DataSet]) -> dict[int, list[Image]]:
    """Choose a few images per data set, spread over its paths and so its classes."""
    wanted = [
        (data_set.id, data_set.image_count * place // COVER)
        for data_set in data_sets
        if data_set.state == "ready"
        for place in range(min(COVER, data_set.image_count))
    ]
    found: dict[int, list[Image]] = {}
    for image in session.scalars(
        select(Image).where(tuple_(Image.data_set_id, Image.row).in_(wanted)).order_by(Image.row)
    ):
        found.setdefault(image.data_set_id, []).append(image)
    return found


def refusals(
    session: Session, data_set: DataSet, *, after: int | None = None, limit: int = 100
) -> tuple[Sequence[Refusal], int | None]:
    """List refused files, and the id to continue after."""
    query = select(Refusal).where(Refusal.data_set_id == data_set.id)
    rows, following = paginate(session, query, Refusal.id, after=after, limit=limit)
    return [refusal for (refusal,) in rows], following


def version(session: Session, data_set: DataSet, number: int | None = None) -> Version:
    """Return the version with this number, or the current version.

    Raises NotFound, or Conflict before the import is done.
    """
    if number is None and data_set.current_version_id is None:
        raise Conflict("This data set has no version yet: its import is not done.")
    same = Version.id == data_set.current_version_id if number is None else Version.number == number
    found = session.scalar(select(Version).where(Version.data_set_id == data_set.id, same))
    if found is None:
        raise NotFound(f"{data_set.name} has no version {number}.")
    return found


def manifest_page(
    session: Session, *, data_set: DataSet, of: Version, after: int | None = 0, limit: int = 2_000
) -> tuple[list[tuple[str, str, str]], int | None]:
    """List MANIFEST_COLUMNS of a version's images, and the image id to continue after."""
    images = images_of(of.id).order_by(None).subquery()
    statement = select(Image.id, Image.path, images.c.label, images.c.split).join(
        images, images.c.id == Image.id
    )
    rows, following = paginate(session, statement, Image.id, after=after, limit=limit)
    return [(path, data_set.class_names[label], split) for _, path, label, split in rows], following


def manifest(session: Session, data_set: DataSet, of: Version) -> Iterator[tuple[str, str, str]]:
    """Yield all rows of a version's manifest, in chunks within one transaction."""
    after: int | None = 0
    while after is not None:
        rows, after = manifest_page(session, data_set=data_set, of=of, after=after)
        yield from rows


def planted(session: Session, data_set: DataSet) -> list[int]:
    """List the ids of training images with planted label errors."""
    wrong = (
        Image.data_set_id == data_set.id,
        Image.true_label.is_not(None),
        Image.true_label != Image.label,
    )
    return list(session.scalars(select(Image.id).where(*wrong).order_by(Image.id)))


def rename(session: Session, data_set: DataSet, name: str) -> DataSet:
    """Rename the data set, also in its jobs' titles.

    Raises Invalid for an empty name, Conflict for a taken name.
    """
    wanted, old = tidy(name)[: names.LONGEST], data_set.name
    if not wanted:
        raise Invalid("A data set needs a name.")
    if names.is_taken(session, wanted, other_than=data_set):
        raise Conflict(f"There is already a data set called {wanted}. Choose another name.")
    data_set.name = wanted
    names.retitle_jobs(session, data_set, old)
    session.flush()
    return data_set


def remove(session: Session, data_set: DataSet, storage: Storage) -> None:
    """Delete the data set with everything that depends on it.

    Raises Conflict while a job works on it.
    """
    busy = (Job.data_set_id == data_set.id, Job.state.in_(ACTIVE))
    if session.scalar(select(Job.id).where(*busy).limit(1)) is not None:
        raise Conflict("A job is working on this data set. Cancel it or wait, then delete.")
    run_ids = session.scalars(select(Run.id).where(Run.data_set_id == data_set.id)).all()
    data_set_id, uploads = data_set.id, uploads_of([data_set])
    session.execute(delete(DataSet).where(DataSet.id == data_set_id))
    session.flush()
    discard(session, storage, storage.names_of_data_set(data_set_id, run_ids, uploads))


def uploads_of(data_sets: Sequence[DataSet]) -> list[Path]:
    """List the uploaded archives that these data sets came from."""
    return [
        Path(data_set.source["path"]) for data_set in data_sets if data_set.source.get("upload")
    ]


def forget_uploads(
    session: Session, storage: Storage, older_than: timedelta = timedelta(hours=1)
) -> None:
    """Delete killed processes' uploads: neither being written nor needed by an import."""
    waiting = {
        path.name
        for path in uploads_of(
            session.scalars(select(DataSet).where(DataSet.state != "ready")).all()
        )
    }
    before = now() - older_than
    storage.discard(*(path for path in storage.uploads_before(before) if path.name not in waiting))


def list_features(data_set: DataSet, storage: Storage) -> list[str]:
    """List the backbones whose features of this data set are there."""
    return [
        name for name, facts in BACKBONES.items() if storage.has_features(data_set.id, facts.digest)
    ]


def describe(data_set: DataSet, job: Job | None) -> dict[str, Any]:
    """Return the API's fields of a data set."""
    columns = [
        column.name
        for column in DataSet.__table__.columns
        if column.name not in ("source", "created_by")
    ]
    return {name: getattr(data_set, name) for name in columns} | {"job": job}


def _name_of(source: Source) -> str:
    return (
        "Handwritten digits (sample)"
        if source.kind == "sample"
        else tidy(Path(source.path or "").stem)[:200] or "Unnamed"
    )
