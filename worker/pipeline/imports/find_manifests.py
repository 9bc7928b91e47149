"""Find the tables that label the images, or the question of which column does."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

from backend.core.reports import Choice, Question
from worker.jobs import JobFailed
from worker.pipeline.imports.columns import Columns, Unclear, Wanted, choose, possible_labels
from worker.pipeline.imports.files import SPLIT_NAMES, File, Files, cleaned
from worker.pipeline.imports.questions import NeedsAnswer
from worker.pipeline.imports.row_paths import FileFinder, Match
from worker.pipeline.imports.table_text import (
    SAMPLE,
    SUFFIXES,
    Record,
    Table,
    header_of,
    open_table,
    records,
)

ALWAYS = "manifest.csv"  # a manifest by its name, even with a bad header
HOW = (
    "Call its columns path and label, or choose them when you import: “Columns and names” on the "
    "page, path_column and label_column in the API, --path-column and --label-column."
)
MOST_CHOICES = 8  # columns to choose the label from
SHOWN_CLASSES = 12
MOST_TABLES = 100  # tables looked at
SUBMISSION = re.compile(r"(?:^|[_\-. ])submission", re.IGNORECASE)


@dataclass(frozen=True)
class Manifest:
    """A table of labels. split: of all its rows; hint: the split that its name or folder tells."""

    table: Table
    columns: Columns
    header: tuple[str, ...]
    hint: str | None
    split: str | None = None

    @cached_property
    def path(self) -> str:
        return self.table.file.path

    @cached_property
    def folder(self) -> tuple[str, ...]:
        return self.table.file.parts[:-1]


@dataclass(frozen=True)
class Manifests:
    """The tables that label the images. unfit: why other tables do not, or what they ask."""

    chosen: list[Manifest]
    unfit: list[JobFailed | NeedsAnswer]
    finder: FileFinder | None


def find_manifests(files: Files, wanted: Wanted, name: str | None = None) -> Manifests:
    """Find the tables that label the images: the uppermost that fit.

    name: the table that a person chose. Raises JobFailed if that or manifest.csv cannot be used.
    """
    tables = [file for file in files.files if file.suffix in SUFFIXES and name in (None, file.path)]
    if not tables:
        return Manifests([], [], None)
    tables.sort(key=lambda file: (len(file.parts), file.path))
    finder = FileFinder(files)
    fitting: list[Manifest] = []
    unfit: list[JobFailed | NeedsAnswer] = []
    for file in tables[:MOST_TABLES]:
        if fitting and len(file.parts) > len(fitting[0].table.file.parts):
            break
        try:
            fitting.append(_look(files, file, wanted, finder))
        except JobFailed as error:
            unfit.append(error)
        except Asks as error:
            if error.at_once:
                raise error.needs from error
            unfit.append(error.needs)
    if not fitting and (name or wanted.named or tables[0].parts[-1].lower() == ALWAYS):
        raise unfit[0]
    return Manifests(_split_by_name(fitting), unfit, finder)


def _look(files: Files, file: File, wanted: Wanted, finder: FileFinder) -> Manifest:
    """Choose the columns of a table. Raises JobFailed if it labels no image."""
    table = open_table(files, file, wanted.encoding)
    head = list(islice(records(files, table), SAMPLE + 1))
    if not head:
        raise JobFailed(f"The table “{file.path[:200]}” is empty. {HOW}")
    header = header_of(head[0])
    folder, hint = file.parts[:-1], _hint(file)

    def is_file(cell: str) -> bool:
        return bool(cell) and isinstance(finder.find(cleaned(cell), folder, hint), Match)

    sample = [record.cells for record in head[1:]]
    try:
        columns = choose(header, sample, wanted, is_file)
    except Unclear as error:
        if error.labels:
            raise Asks(files, table, header, error.labels, at_once=True) from error
        raise JobFailed(f"In the table “{file.path[:200]}”, {error}. {HOW}") from error
    if columns is None:
        _ask_for_label(files, table, header, sample, is_file)
    if columns is None or (SUBMISSION.search(file.parts[-1]) and not wanted.named):
        named = ", ".join(header)[:200]
        raise JobFailed(
            f"The table “{file.path[:200]}” has the columns “{named}”, of which none is known "
            f"to hold a path or a label. {HOW}"
        )
    if columns.inferred and len({image.parts[:-1] for image in finder.images}) > 1:
        raise JobFailed(
            f"The table “{file.path[:200]}” has no column that is known to hold a label. {HOW}"
        )
    if not columns.matched and not (columns.own_names and finder.lies_above(folder)):
        raise JobFailed(_none_named(file, header, columns, head, finder))
    return Manifest(table, columns, header, hint)


class Asks(Exception):
    """A table whose label a person must choose. at_once: its columns say that it has one."""

    def __init__(
        self,
        files: Files,
        table: Table,
        header: Sequence[str],
        labels: Sequence[int],
        *,
        at_once: bool,
    ) -> None:
        super().__init__(table.path)
        self.at_once = at_once
        counts: dict[int, Counter[str]] = {place: Counter() for place in labels[:MOST_CHOICES]}
        for record in islice(records(files, table), 1, None):
            for place, count in counts.items():
                count[cell(record, place)] += 1
        choices = [
            Choice(
                answer=header[place],
                words=f"The column “{header[place][:100]}”",
                class_count=len(count),
                class_images=dict(count.most_common(SHOWN_CLASSES)),
            )
            for place, count in counts.items()
        ]
        self.needs = NeedsAnswer(
            Question(
                kind="label_column",
                sentence=f"Which column of the table “{table.path[:200]}” has the labels?",
                choices=choices,
            )
        )


def _ask_for_label(
    files: Files,
    table: Table,
    header: Sequence[str],
    sample: Sequence[Sequence[str]],
    is_file: Callable[[str], bool],
) -> None:
    """Raise Asks for a table that names files, with columns that may be the label."""
    hits = [
        sum(is_file(row[place]) for row in sample if place < len(row))
        for place in range(len(header))
    ]
    path = hits.index(max(hits))
    labels = possible_labels(header, sample, path)
    if 2 * hits[path] > len(sample) and labels:
        raise Asks(files, table, header, labels, at_once=False)


def _none_named(
    file: File, header: Sequence[str], columns: Columns, head: list[Record], finder: FileFinder
) -> str:
    written = next((record.cells[columns.path] for record in head[1:] if any(record.cells)), "")
    example = f", such as “{finder.images[0].path[:200]}”" if finder.images else ""
    return (
        f"The table “{file.path[:200]}” has its paths in “{header[columns.path]}”, but none of "
        f"its first rows names a file of the {finder.what}: “{cleaned(written)[:200]}”. Write "
        f"paths as they are there{example}, then import again."
    )


def _hint(file: File) -> str | None:
    """Return the split that a table's name or folder tells, as in train.csv and train/x.csv."""
    words = [*re.split(r"[\W_]+", file.parts[-1].lower()), *file.parts[-2:-1]]
    found = {SPLIT_NAMES[word.lower()] for word in words if word.lower() in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def _split_by_name(fitting: list[Manifest]) -> list[Manifest]:
    """Take tables such as train.csv and test.csv as those splits, where they are several."""
    hinted = [found for found in fitting if found.hint is not None]
    if len({found.hint for found in hinted}) < 2:
        return fitting
    return [replace(found, split=found.hint) for found in hinted]


def cell(record: Record, place: int) -> str:
    return cleaned(record.cells[place]).strip() if place < len(record.cells) else ""
