"""Read classes and splits from tables: a row for each image, as most programs write them."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from backend.core.settings import Settings
from worker.jobs import JobFailed
from worker.pipeline.imports.columns import ONE, Columns
from worker.pipeline.imports.files import (
    LONG_NAME,
    LONGEST_CLASS_NAME,
    SPLIT_NAMES,
    Entry,
    Files,
    Found,
    cleaned,
    natural,
    why_no_image,
)
from worker.pipeline.imports.find_manifests import Manifest, Manifests, cell
from worker.pipeline.imports.row_paths import Match, describe_matches, without_guard
from worker.pipeline.imports.table_text import Record, records

NAMED_ROWS = 3  # bad rows named in an error
MOST_BAD_ROWS = 50_000  # listed; more are counted
TICK = 10_000  # rows


def from_manifests(files: Files, manifests: Manifests, settings: Settings) -> Found:
    """Collect the images that the tables name. Raises JobFailed for an unreadable table."""
    found = Found([], lambda entry: files.read(entry.key), files.refusals, bad_rows=[])
    reader = _Reader(files, manifests, found)
    rows = 0
    for manifest in manifests.chosen:
        for record in _rows(files, manifest):
            rows += 1
            if rows > settings.max_files:
                raise JobFailed(
                    f"The table “{manifest.path[:200]}” has more rows than "
                    f"{settings.max_files:,}, the limit for the files of an import. "
                    "Import a part of it."
                )
            if rows % TICK == 0:
                files.tick()
            reader.read(manifest, record)
    reader.settle()
    return found


def _rows(files: Files, manifest: Manifest) -> Iterator[Record]:
    found = records(files, manifest.table)
    return islice(found, 1, None) if manifest.columns.has_header else found


def only_one_class_in_table(name: str, bad_rows: Sequence[tuple[str, str]]) -> str:
    """Report too few classes, with refused rows: they may hold the others."""
    count = len(bad_rows)
    first = "; ".join(f"“{path[:200]}”: {why}" for path, why in bad_rows[:NAMED_ROWS])
    rows = (
        f" {count:,} {'row' if count == 1 else 'rows'} of the manifest cannot be used"
        f"{', first' if count > NAMED_ROWS else ''}: {first}."
    )
    return (
        f"There is only one class with images, “{name[:200]}”; telling classes apart takes two "
        f"or more.{rows if bad_rows else ''} "
        "Fix the manifest, then import again."
    )


class _Reader:
    def __init__(self, files: Files, manifests: Manifests, found: Found) -> None:
        assert manifests.finder is not None
        self.files = files
        self.finder = manifests.finder
        self.found = found
        self.manifests = manifests.chosen
        self.named: dict[str, tuple[str, int, str]] = {}  # path → table, line, label
        self.given = {manifest.split for manifest in manifests.chosen if manifest.split}
        self.bad_count = 0
        self.unguarded = 0
        self.matches: Counter[str] = Counter()
        self.examples: dict[str, tuple[str, str]] = {}

    def read(self, manifest: Manifest, record: Record) -> None:
        written = cell(record, manifest.columns.path)
        reason = self._take(manifest, record, written)
        if reason is not None:
            self.refuse(written or f"{manifest.path}, line {record.line}", reason)

    def _take(self, manifest: Manifest, record: Record, written: str) -> str | None:
        """Add the row's image, or return the reason against it."""
        place = f"line {record.line} of {self._name(manifest)}"
        if not written:
            return f"{place} gives no path"
        if record.last_line > record.line and "\n" in record.cells[manifest.columns.path]:
            return f"a quote opens in line {record.line} and closes in line {record.last_line}"
        split, split_word = self._split(manifest, record)
        match = self._find(manifest, record, written)
        if isinstance(match, str):
            return f"{place} names it, but {match}"
        self._count(match, written)
        label = self._label(manifest, record, match)
        earlier = self.named.setdefault(match.file.path, (manifest.path, record.line, label))
        if earlier[:2] != (manifest.path, record.line):
            return self._again(place, manifest, earlier, label)
        if split_word and split is None:
            return (
                f"“{split_word[:100]}” ({place}) is no split; there are train, validation and test"
            )
        if not label:
            return f"{place} gives {self._why_no_label(manifest, record)}"
        if len(label) > LONGEST_CLASS_NAME:
            return LONG_NAME
        reason = why_no_image(match.file)
        if reason is None:
            file = match.file
            self.found.entries.append(Entry(file.path, label, split, file.size, file))
        return reason

    def _find(self, manifest: Manifest, record: Record, written: str) -> Match | str:
        whole = record.cells[manifest.columns.path]
        if whole != written and isinstance(found := self.finder.find(cleaned(whole)), Match):
            return found  # a name may begin with a space
        return self.finder.find(written, manifest.folder, manifest.hint)

    def _split(self, manifest: Manifest, record: Record) -> tuple[str | None, str]:
        if manifest.columns.split is None:
            return manifest.split, ""
        word = cell(record, manifest.columns.split)
        split = SPLIT_NAMES.get(word.lower())
        if split is not None:
            self.given.add(split)
        return split, word

    def _label(self, manifest: Manifest, record: Record, match: Match) -> str:
        columns = manifest.columns
        if columns.label is None:
            marked = _marked(columns, record)
            return marked[0] if len(marked) == 1 else ""
        label = cell(record, columns.label)
        if manifest.table.has_mark or match.how == "apostrophe":
            self.unguarded += without_guard(label) != label
            label = without_guard(label)
        return sys.intern(label)

    def _why_no_label(self, manifest: Manifest, record: Record) -> str:
        marked = [] if manifest.columns.label is not None else _marked(manifest.columns, record)
        if len(marked) > 1:
            return f"{len(marked)} classes, “{marked[0]}” and “{marked[1]}”; an image has one label"
        return "no label"

    def _again(
        self, place: str, manifest: Manifest, earlier: tuple[str, int, str], label: str
    ) -> str:
        table, line, other = earlier
        if table != manifest.path and not self.given:
            raise JobFailed(
                f"The tables “{table[:200]}” and “{manifest.path[:200]}” name the same "
                "image. Keep the one that counts; a column named split says which rows train "
                "and test."
            )
        there = f"line {line}" if table == manifest.path else f"line {line} of “{table}”"
        label_there = "" if other == label else f", there with the label “{other[:100]}”"
        return f"{place} names it again; {there} counts{label_there}"

    def _name(self, manifest: Manifest) -> str:
        return "the manifest" if len(self.manifests) == 1 else f"“{manifest.path[:200]}”"

    def _count(self, match: Match, written: str) -> None:
        if match.how:
            self.matches[match.how] += 1
            self.examples.setdefault(match.how, (written, match.file.path))

    def refuse(self, path: str, reason: str) -> None:
        """List the row; of too many, count it only."""
        self.bad_count += 1
        if self.bad_count <= MOST_BAD_ROWS:
            self.found.refusals.add(path, reason)
            if self.found.bad_rows is not None:
                self.found.bad_rows.append((path, reason))

    def settle(self) -> None:
        """Sort the images, and refuse those that no row names."""
        found = self.found
        if self.given:
            for entry in (entry for entry in found.entries if entry.split is None):
                self.refuse(
                    entry.path, "the manifest gives a split to other images, but none to this one"
                )
            found.entries = [entry for entry in found.entries if entry.split is not None]
        self._refuse_unnamed()
        found.entries.sort(key=lambda entry: entry.path)
        found.given = frozenset(self.given)
        found.class_names = tuple(
            sorted({label for _, _, label in self.named.values() if label}, key=natural)
        )
        found.columns = _report(self.manifests[0])
        found.understood += self._sentences()

    def _refuse_unnamed(self) -> None:
        unnamed = [file.path for file in self.finder.images if file.path not in self.named]
        for path in unnamed[:MOST_BAD_ROWS]:
            self.found.refusals.add(path, "the manifest does not name it")
        more = max(0, self.bad_count - MOST_BAD_ROWS)
        if more:
            self.found.refusals.add("…", f"and {more:,} more rows cannot be used")
        if len(unnamed) > MOST_BAD_ROWS:
            more = len(unnamed) - MOST_BAD_ROWS
            self.found.refusals.add("…", f"the manifest does not name {more:,} more images")

    def _sentences(self) -> Iterator[str]:
        for manifest in self.manifests:
            yield from manifest.table.notes
            yield from _describe(manifest)
        yield from describe_matches(self.matches, self.examples)
        if self.unguarded:
            yield (
                "The apostrophe that keeps spreadsheets from running a text was taken off "
                f"{self.unguarded:,} {'label' if self.unguarded == 1 else 'labels'}."
            )


def _marked(columns: Columns, record: Record) -> list[str]:
    return [name for place, name in columns.classes.items() if cell(record, place).lower() in ONE]


def _report(manifest: Manifest) -> dict[str, str]:
    """Name the columns that were read."""
    columns = manifest.columns
    places = {"path": columns.path, "label": columns.label, "split": columns.split}
    named = {
        what: manifest.header[place] if columns.has_header else f"column {place + 1}"
        for what, place in places.items()
        if place is not None
    }
    return named if columns.label is not None else named | {"label": "a column for each class"}


def _describe(manifest: Manifest) -> Iterator[str]:
    """Say how a table was read, unless its columns have Winnow's own names."""
    named = _report(manifest)
    table = f"The table “{manifest.path[:200]}”"
    if not manifest.columns.has_header:
        yield f"{table} has no line with the names of its columns."
    read = [f"{what}: “{name[:100]}”" for what, name in named.items() if name.lower() != what]
    if read:
        yield f"{table} was read by these columns: {', '.join(read)}."
    if manifest.split is not None:
        yield f"{table} gives the split {manifest.split}, as its name says."
