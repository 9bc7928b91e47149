"""Results of an import: rows, refusals, the first version and the report."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import delete, insert
from sqlalchemy.orm import Session

from backend.core.models import DataSet, Image, Refusal, Version
from backend.core.reports import ImportReport
from worker.jobs import JobFailed
from worker.pipeline.imports.class_folders import only_one_class
from worker.pipeline.imports.files import Entry, Found, natural
from worker.pipeline.imports.look_alikes import find_alike
from worker.pipeline.imports.manifest import only_one_class_in_table
from worker.pipeline.imports.messages import Decoded, Shape
from worker.pipeline.imports.questions import few, listed
from worker.pipeline.imports.reading import Reading
from worker.pipeline.imports.remarks import remarks
from worker.pipeline.imports.small_classes import assign_entries
from worker.pipeline.imports.splits import SPLITS

ROWS_AN_INSERT = 5_000
LOGGED_REFUSALS = 10
MOST_REFUSALS = 50_000  # rows
NAMED_ALONE = 3  # classes without images of a split


class Results:
    """Decoded images in the order of the pixel array, with labels and splits.

    Raises JobFailed if they make no data set, NeedsAnswer or LeaveOut for small classes.
    """

    def __init__(
        self,
        found: Found,
        answers: list[Decoded | str],
        seed: int,
        small_classes: str | None,
        reading: Reading | None = None,
    ) -> None:
        self.good = [
            (entry, answer)
            for entry, answer in zip(found.entries, answers, strict=True)
            if isinstance(answer, Decoded)
        ]
        self.names = _class_names(found, answers, [entry for entry, _ in self.good])
        numbers = {name: number for number, name in enumerate(self.names)}
        self.labels = [numbers[entry.label] for entry, _ in self.good]
        self.true_labels = [
            None if entry.true_label is None else numbers[entry.true_label]
            for entry, _ in self.good
        ]
        assigned = assign_entries(
            [entry for entry, _ in self.good],
            self.names,
            found,
            seed,
            small_classes,
            [decoded.content_hash for _, decoded in self.good],
        )
        self.splits = assigned.splits
        self.split_words = found.split_words or assigned.words
        self.found = found
        self.notes = [
            *remarks(self.good, reading or Reading()),
            *found.notes,
            *assigned.notes,
            *few(_empty_classes(found, self.names)),
            *few(find_alike(self.names)),
            *self._absent(),
        ]

    def _absent(self) -> list[str]:
        """Note the classes that a split lacks."""
        there = set(zip(self.labels, self.splits, strict=True))
        notes = []
        for split in SPLITS:
            absent = [name for label, name in enumerate(self.names) if (label, split) not in there]
            if len(absent) > NAMED_ALONE:
                notes.append(f"{len(absent):,} classes have no {split} image: {listed(absent)}.")
            else:
                notes += [f"The class “{name}” has no {split} image." for name in absent]
        return notes

    def lines(self) -> list[str]:
        return [
            *self.found.understood,
            f"{len(self.good):,} images, {len(self.names):,} classes. {self.split_words}",
            *self.notes,
        ]

    def write(
        self, session: Session, data_set_id: int, shape: Shape, refusals: list[tuple[str, str]]
    ) -> DataSet:
        """Write all rows of the import, and its first version."""
        _insert(session, Image, self._rows(data_set_id))
        data_set = session.get_one(DataSet, data_set_id)
        write_refusals(session, data_set, refusals)
        version = Version(
            data_set_id=data_set_id,
            number=1,
            state="accepted",
            note="As imported",
            created_by=data_set.created_by,
        )
        session.add(version)
        session.flush()
        data_set.class_names = self.names
        data_set.height, data_set.width, data_set.channels = shape
        data_set.image_count = len(self.good)
        data_set.planted_count = sum(label is not None for label in self.true_labels)
        data_set.duplicate_count, data_set.report = self._report(shape)
        data_set.current_version_id = version.id
        data_set.state = "ready"
        return data_set

    def _rows(self, data_set_id: int) -> Iterator[dict[str, Any]]:
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

    def _report(self, shape: Shape) -> tuple[int, dict[str, Any]]:
        first: dict[str, int] = {}  # row of each picture's first copy
        conflicting, across = set(), set()
        for row, (_, decoded) in enumerate(self.good):
            original = first.setdefault(decoded.content_hash, row)
            if self.labels[row] != self.labels[original]:
                conflicting.add(original)
            if self.splits[row] != self.splits[original]:
                across.add(original)
        stored = sum(self.good[row][1].stored for row in first.values())
        height, width, channels = shape
        report = ImportReport(
            understood=self.found.understood,
            columns=self.found.columns,
            names_encoding=self.found.names_encoding,
            split_words=self.split_words,
            notes=self.notes,
            conflicting_duplicates=len(conflicting),
            duplicates_across_splits=len(across),
            bytes=stored + len(self.good) * height * width * channels,
        )
        return len(self.good) - len(first), report.to_json()


def write_refusals(
    session: Session, data_set: DataSet, refusals: Sequence[tuple[str, str]]
) -> None:
    """Replace the data set's refusals; the count is of all, the rows are bounded."""
    session.execute(delete(Refusal).where(Refusal.data_set_id == data_set.id))
    data_set.refused_count = len(refusals)
    stored = list(refusals[:MOST_REFUSALS])
    if len(refusals) > MOST_REFUSALS:
        stored.append(("…", f"and {len(refusals) - MOST_REFUSALS:,} more"))
    _insert(
        session,
        Refusal,
        ({"data_set_id": data_set.id, "path": path, "reason": reason} for path, reason in stored),
    )


def refusal_lines(refusals: list[tuple[str, str]]) -> list[str]:
    lines = [f"Refused: {path}: {reason}." for path, reason in refusals[:LOGGED_REFUSALS]]
    more = len(refusals) - LOGGED_REFUSALS
    return (
        [*lines, f"{more:,} more {'file was' if more == 1 else 'files were'} refused."]
        if more > 0
        else lines
    )


def _class_names(found: Found, answers: list[Decoded | str], good: list[Entry]) -> list[str]:
    """Sort the class names naturally. Raises JobFailed for fewer than two."""
    names = {entry.label for entry in good} | {
        entry.true_label for entry in good if entry.true_label
    }
    if len(names) == 1:
        broken = [
            (entry.path, answer)
            for entry, answer in zip(found.entries, answers, strict=True)
            if isinstance(answer, str)
        ]
        if found.bad_rows is not None:
            raise JobFailed(only_one_class_in_table(next(iter(names)), [*found.bad_rows, *broken]))
        raise JobFailed(only_one_class(next(iter(names)), [*found.refusals.rows, *broken]))
    return sorted(names, key=natural)


def _empty_classes(found: Found, names: list[str]) -> list[str]:
    known = set(names)
    return [
        f"The class “{name}” has no usable image and was left out."
        for name in found.class_names
        if name not in known
    ]


def _insert(session: Session, table: type[Image | Refusal], rows: Iterator[dict[str, Any]]) -> None:
    while batch := list(islice(rows, ROWS_AN_INSERT)):
        session.execute(insert(table), batch)
