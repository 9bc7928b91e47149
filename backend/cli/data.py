"""Commands for data: import, scores, a version's manifest."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.prompt import Prompt
from sqlalchemy.orm import Session

from backend.cli import jobs, supervisor
from backend.cli.console import console, say, show
from backend.cli.opening import acting, is_running, make_settings, opened, serving, transaction
from backend.core.db import Database
from backend.core.errors import Conflict, Invalid, NotFound
from backend.core.invocation import winnow
from backend.core.models import DataSet
from backend.core.name_encodings import NameEncoding
from backend.core.reports import Choice
from backend.core.settings import Settings
from backend.datasets import service as datasets
from backend.datasets.schemas import ImportOptions, Layout, SmallClasses, Source
from backend.runs import service as runs
from backend.web.exports import FORMATS, Reader, csv_bytes

FIRST_REFUSALS = 5

Output = Annotated[
    Path | None, typer.Option(dir_okay=False, help="File to write; standard output unless named.")
]
ReaderOption = Annotated[
    Reader,
    typer.Option(
        "--for",
        help="programs: every text as it is; spreadsheets: with a byte order mark, and no text "
        "that they would run as a formula.",
    ),
]


def _option(name: str) -> Any:
    """Return the option for a field of ImportOptions, with its bounds and its description."""
    field = ImportOptions.model_fields[name]
    lowest = next((bound.ge for bound in field.metadata if hasattr(bound, "ge")), None)
    highest = next((bound.le for bound in field.metadata if hasattr(bound, "le")), None)
    return typer.Option(min=lowest, max=highest, case_sensitive=False, help=field.description)


def import_(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="A folder of class folders, a zip (of class folders, or with a table), or a table."
        ),
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="The sample in place of a path.")
    ] = False,
    idx: Annotated[bool, typer.Option("--idx", help="The folder holds MNIST's IDX files.")] = False,
    name: Annotated[str, _option("name")] = "",
    seed: Annotated[int, _option("seed")] = 0,
    side: Annotated[int | None, _option("side")] = None,
    layout: Annotated[Layout | None, _option("layout")] = None,
    small_classes: Annotated[SmallClasses | None, _option("small_classes")] = None,
    path_column: Annotated[str | None, _option("path_column")] = None,
    label_column: Annotated[str | None, _option("label_column")] = None,
    split_column: Annotated[str | None, _option("split_column")] = None,
    names_encoding: Annotated[NameEncoding | None, _option("names_encoding")] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the import to end.")
    ] = True,
) -> None:
    """Import a data set from this machine, and say what was found."""
    settings = make_settings()
    source = _source(path, sample=sample, idx=idx)
    options = _checked(
        name=name,
        seed=seed,
        side=side,
        layout=layout,
        small_classes=small_classes,
        path_column=path_column,
        label_column=label_column,
        split_column=split_column,
        names_encoding=names_encoding,
    )
    with opened(settings) as database:
        with database.transaction() as session:
            data_set = datasets.create_import(session, acting(session), source, options)
            job = datasets.import_job(session, data_set)
        assert job is not None  # create_import has just made it
        if wait and is_running(settings):
            _follow(settings, database, data_set.id, job.id)
            return
    later = "" if is_running(settings) else f" as soon as Winnow runs ({winnow()} up)"
    say(f"Job {job.id} imports it{later}. See: winnow jobs show {job.id}")
    print(data_set.id)


def _checked(**given: Any) -> ImportOptions:
    """Return the options. Raises Invalid, with the option's name."""
    try:
        return ImportOptions(**given)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise Invalid(f"--{option}: {first['msg']}.") from error


def answer(
    data_set_id: Annotated[
        int,
        typer.Argument(metavar="DATA_SET", help="The data set's number, as its address shows it."),
    ],
    choice: Annotated[str, typer.Argument(metavar="ANSWER", help="A choice that it offers.")],
) -> None:
    """Answer the question that an import stopped at; it continues."""
    with transaction() as session:
        user = acting(session)
        datasets.answer(session, user, datasets.get(session, user, data_set_id), choice)
    say(f"The import of data set {data_set_id} continues.")


def scores(
    run_id: Annotated[
        int,
        typer.Argument(
            metavar="RUN", help="The run's number, as its address shows it: /runs/3 is 3."
        ),
    ],
    output: Output = None,
    format: Annotated[  # noqa: A002 - the option's name
        str | None,
        typer.Option(help=f"{' or '.join(FORMATS)}; as the output's name says, else csv."),
    ] = None,
    reader: ReaderOption = "programs",
) -> None:
    """Write the scores of a run's training images as CSV or Parquet."""
    suffix = output.suffix.lstrip(".") if output else ""
    chosen = format or (suffix if suffix in FORMATS else "csv")
    if chosen not in FORMATS:
        raise Invalid(f"There is no format {format!r}; there are {' and '.join(FORMATS)}.")
    with transaction(write=False) as session:
        review = runs.latest_review(session, runs.get(session, acting(session), run_id))
        rows = runs.score_rows(session, review)
        _write(output, FORMATS[chosen].parts(runs.DOWNLOAD_COLUMNS, rows, reader))


def export_version(
    data_set_id: Annotated[
        int,
        typer.Argument(metavar="DATA_SET", help="The data set's number, as its address shows it."),
    ],
    version: Annotated[
        int | None, typer.Option(min=1, help="The version's number; the current one unless given.")
    ] = None,
    output: Output = None,
    reader: ReaderOption = "programs",
) -> None:
    """Write a version as a CSV manifest (path, label, split): what a training outside of Winnow
    needs.
    """
    with transaction(write=False) as session:
        data_set = datasets.get(session, acting(session), data_set_id)
        rows = datasets.manifest(session, data_set, datasets.version(session, data_set, version))
        _write(output, csv_bytes(datasets.MANIFEST_COLUMNS, rows, reader))


def _source(path: Path | None, *, sample: bool, idx: bool) -> Source:
    if (path is None) != sample:
        raise Invalid("Say what to import: a path, or --sample.")
    if path is None:
        return Source(kind="sample", path=None)
    if not path.exists():
        raise Invalid(f"There is nothing at {path}.")
    if idx and not path.is_dir():
        raise Invalid(
            "--idx wants the folder that holds the IDX files. A zip of them needs no --idx."
        )
    kind = ("idx" if idx else "folder") if path.is_dir() else "zip"
    return Source(kind=kind, path=str(path.resolve()))


def _follow(settings: Settings, database: Database, data_set_id: int, job_id: int) -> None:
    try:
        jobs.follow(database, job_id, "Import")
        while _answer_question(database, data_set_id):
            jobs.follow(database, job_id, "Import")
    except KeyboardInterrupt:
        say(
            f"The import continues. See: winnow jobs show {job_id}; stop it: winnow jobs cancel "
            f"{job_id}"
        )
        raise typer.Exit(130) from None
    with database.transaction(write=False) as session:
        data_set = session.get(DataSet, data_set_id)
        if data_set is None:
            raise NotFound("The data set was deleted meanwhile.")
        _say_refusals(session, data_set)
        for sentence in _sentences(data_set):
            say(sentence)
        show(("", ""), _found(session, data_set))
    say(
        f"The next step, training, is there: "
        f"{supervisor.address(serving(settings))}/datasets/{data_set_id}"
    )


def _answer_question(database: Database, data_set_id: int) -> bool:
    """Ask the user what the import asks, on a terminal; False if it asks nothing."""
    with database.transaction(write=False) as session:
        data_set = session.get(DataSet, data_set_id)
        question = data_set.typed_report.question if data_set is not None else None
        if data_set is None or question is None:
            return False
        _say_refusals(session, data_set)
    say(question.sentence)
    for choice in question.choices:
        say(f"  {choice.answer}: {choice.words}{_preview(choice)}")
    answers = [choice.answer for choice in question.choices]
    if not can_ask():
        option = f"--{question.kind.replace('_', '-')}"
        raise Conflict(
            f"The import waits for an answer: {winnow()} answer {data_set_id} "
            f"{'|'.join(answers)}, or import again with {option}."
        )
    chosen = Prompt.ask("Answer", choices=answers, console=console)
    with database.transaction() as session:
        user = acting(session)
        datasets.answer(session, user, datasets.get(session, user, data_set_id), chosen)
    return True


def can_ask() -> bool:
    return sys.stdin.isatty()


def _preview(choice: Choice) -> str:
    """Describe the classes and splits that an answer makes."""
    classes = ", ".join(f"{name} ({count:,})" for name, count in choice.class_images.items())
    more = choice.class_count - len(choice.class_images)
    splits = [f"{folder} is {split}" for folder, split in choice.splits.items()]
    parts = [*splits, f"classes: {classes}" + (f" and {more:,} more" if more > 0 else "")]
    return f". {'; '.join(parts)}."


def _sentences(data_set: DataSet) -> list[str]:
    report = data_set.typed_report
    splits = [report.split_words] if report.split_words else []
    return [*report.understood, *splits, *report.notes]


def _found(session: Session, data_set: DataSet) -> list[tuple[str, Any]]:
    counts = datasets.counts(session, data_set)
    about = [
        ("data set", data_set.id),
        ("name", data_set.name),
        ("classes", len(data_set.class_names)),
        ("images", data_set.image_count),
    ]
    splits = [(split, sum(classes.values())) for split, classes in counts.items()]
    return [
        *about,
        *splits,
        ("refused", data_set.refused_count),
        ("duplicates", data_set.duplicate_count),
    ]


def _say_refusals(session: Session, data_set: DataSet) -> None:
    refused, more = datasets.refusals(session, data_set, limit=FIRST_REFUSALS)
    for one in refused:
        say(f"Refused: {one.path}: {one.reason}")
    if more is not None:
        say(
            f"… and {data_set.refused_count - len(refused)} more; the data set's page lists all "
            f"of them."
        )


def _write(output: Path | None, parts: Iterable[bytes]) -> None:
    """Write the file, whole or not at all, or standard output."""
    if output is None:
        for part in parts:
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
        return
    unfinished = output.with_name(f".{output.name}.part")
    try:
        with unfinished.open("wb") as file:
            file.writelines(parts)
        unfinished.replace(output)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise Invalid(f"{output} cannot be written: {error.strerror or error}.") from error
    say(f"Written: {output}")
