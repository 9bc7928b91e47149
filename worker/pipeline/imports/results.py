"""Results of an import: rows, refusals, the first version and the report."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from backend.core.models import DataSet, Image, Refusal, Version
from backend.core.reports import ImportReport
from worker.jobs import JobFailed
from worker.pipeline.imports.class_folders import only_one_class
from worker.pipeline.imports.files import Entry, Found, natural
from worker.pipeline.imports.manifest import only_one_class_in_table
from worker.pipeline.imports.messages import Decoded, Shape
from worker.pipeline.imports.splits import SPLITS, assign

ROWS_AN_INSERT = 5_000
LOGGED_REFUSALS = 10


class Results:
    """Decoded images in the order of the pixel array, with labels and splits.

    Raises JobFailed if they make no data set.
    """

    def __init__(self, found: Found, answers: list[Decoded | str], seed: int) -> None:
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
        self.splits, words = assign(
            self.labels, [entry.split for entry, _ in self.good], found.given, self.names, seed
        )
        self.split_words = found.split_words or words
        self.notes = [*_empty_classes(found, self.names), *_alike(self.names), *self._absent()]

    def _absent(self) -> list[str]:
        """Note each class that a split lacks."""
        there = set(zip(self.labels, self.splits, strict=True))
        pairs = (
            (name, split)
            for label, name in enumerate(self.names)
            for split in SPLITS
            if (label, split) not in there
        )
        return [f"The class “{name}” has no {split} image." for name, split in pairs]

    def lines(self) -> list[str]:
        return [
            f"{len(self.good):,} images, {len(self.names):,} classes. {self.split_words}",
            *self.notes,
        ]

    def write(
        self, session: Session, data_set_id: int, shape: Shape, refusals: list[tuple[str, str]]
    ) -> DataSet:
        """Write all rows of the import, and its first version."""
        _insert(session, Image, self._rows(data_set_id))
        _insert(
            session,
            Refusal,
            (
                {"data_set_id": data_set_id, "path": path, "reason": reason}
                for path, reason in refusals
            ),
        )
        data_set = session.get_one(DataSet, data_set_id)
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
        data_set.image_count, data_set.refused_count = len(self.good), len(refusals)
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
        labels: dict[str, set[int]] = defaultdict(set)
        splits: dict[str, set[str]] = defaultdict(set)
        stored: dict[str, int] = {}
        for (_, decoded), label, split in zip(self.good, self.labels, self.splits, strict=True):
            labels[decoded.content_hash].add(label)
            splits[decoded.content_hash].add(split)
            stored[decoded.content_hash] = decoded.stored
        height, width, channels = shape
        report = ImportReport(
            split_words=self.split_words,
            notes=self.notes,
            conflicting_duplicates=sum(len(found) > 1 for found in labels.values()),
            duplicates_across_splits=sum(len(found) > 1 for found in splits.values()),
            bytes=sum(stored.values()) + len(self.good) * height * width * channels,
        )
        return len(self.good) - len(stored), report.to_json()


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


def _alike(names: list[str]) -> list[str]:
    """Note classes whose names differ in case only, perhaps by mistake."""
    first: dict[str, str] = {}
    notes = []
    for name in names:
        other = first.setdefault(name.casefold(), name)
        if other != name:
            notes.append(
                f"The classes “{other}” and “{name}” differ in upper and lower case only; they "
                f"are two classes."
            )
    return notes


def _insert(session: Session, table: type[Image | Refusal], rows: Iterator[dict[str, Any]]) -> None:
    while batch := list(islice(rows, ROWS_AN_INSERT)):
        session.execute(insert(table), batch)
