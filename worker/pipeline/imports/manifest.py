"""Read classes and splits from a CSV manifest: path,label or path,label,split."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from worker.jobs import JobFailed
from worker.pipeline.imports.files import (
    IMAGE_SUFFIXES,
    LONG_NAME,
    LONGEST_CLASS_NAME,
    SPLIT_NAMES,
    Entry,
    File,
    Files,
    Found,
    cleaned,
    natural,
    why_no_image,
    why_unsafe,
)
from worker.pipeline.imports.refused import Refused

HEADER = "path,label or path,label,split"
ALWAYS = "manifest.csv"  # a manifest by its name, even with a bad header
NAMED_ROWS = 3  # bad rows named in an error
DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Header:
    delimiter: str
    columns: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """True if path and label are there, and no column repeats."""
        return {"path", "label"} <= set(self.columns) and max(Counter(self.columns).values()) == 1


@dataclass(frozen=True)
class Row:
    line: int
    path: str
    label: str
    split: str | None


def find_manifest(files: Files, wanted: str | None = None) -> File | None:
    """Find the CSV file above all images with a fitting header, or the `wanted` file.

    Raises JobFailed for two manifests, and for a bad header.
    """
    tables = _tables(files)
    if wanted is not None:
        tables = [table for table in tables if table.parts == (wanted,)]
    fitting = [table for table in tables if _header(files, table).fits]
    if len(fitting) > 1:
        raise JobFailed(
            f"There are two manifests, “{fitting[0].path}” and “{fitting[1].path}”. Keep one; a "
            f"column named split says which rows train and test."
        )
    if fitting:
        return fitting[0]
    for table in tables:
        if wanted is not None or table.parts[-1].lower() == ALWAYS:
            raise JobFailed(why_no_manifest(files, table))
    return None


def unfit_table(files: Files) -> File | None:
    """Find a CSV file that may have been meant as the manifest."""
    return next(iter(_tables(files)), None)


def why_no_manifest(files: Files, table: File) -> str:
    if _is_utf16(files, table):
        return _not_utf8(table, 0)
    found = ",".join(_header(files, table).columns)[:100]
    return (
        f"The manifest “{table.path}” must begin with the line {HEADER}; it begins with "
        f"“{found}”. Fix that line, then import again."
    )


def from_manifest(files: Files, manifest: File) -> Found:
    """Collect the images that the manifest names. Raises JobFailed for an unreadable table."""
    found = Found([], lambda entry: files.read(entry.key), files.refusals, bad_rows=[])
    reader = _Reader(files, manifest, found)
    for row in _rows(files, manifest):
        reason = reader.take(row)
        if reason is not None:
            reader.refuse(row.path or f"{manifest.path}, line {row.line}", reason)
    reader.settle()
    return found


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
    def __init__(self, files: Files, manifest: File, found: Found) -> None:
        self.files = files
        self.manifest = manifest
        self.found = found
        self.by_path = {file.path: file for file in files.files}
        self.folder = "".join(f"{part}/" for part in manifest.parts[:-1])
        self.named: dict[str, Row] = {}
        self.given: set[str] = set()

    def take(self, row: Row) -> str | None:
        """Add the row's image, or return the reason against it."""
        path = row.path.removeprefix("./")
        if not path:
            return f"line {row.line} of the manifest gives no path"
        unsafe = why_unsafe(path)
        if unsafe is not None:
            return f"line {row.line} of the manifest names it, but {unsafe}"
        split = SPLIT_NAMES.get(row.split.lower()) if row.split else None
        if split is not None:
            self.given.add(split)
        return self._add(row, path, split)

    def _add(self, row: Row, path: str, split: str | None) -> str | None:
        file = self.by_path.get(self.folder + path) or self.by_path.get(path)
        if file is None:
            return (
                f"line {row.line} of the manifest names it, but it is not in the {self.files.what}"
            )
        earlier = self.named.setdefault(file.path, row)
        if earlier is not row:
            other = (
                ""
                if earlier.label == row.label
                else f", there with the label “{earlier.label[:100]}”"
            )
            return (
                f"line {row.line} of the manifest names it again; line {earlier.line} counts{other}"
            )
        if row.split and split is None:
            return (
                f"“{row.split[:100]}” (line {row.line} of the manifest) is no split; there are "
                f"train, validation and test"
            )
        if not row.label:
            return f"line {row.line} of the manifest gives no label"
        if len(row.label) > LONGEST_CLASS_NAME:
            return LONG_NAME
        reason = why_no_image(file)
        if reason is None:
            self.found.entries.append(Entry(file.path, row.label, split, file.size, file))
        return reason

    def refuse(self, path: str, reason: str) -> None:
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
        for path, file in self.by_path.items():
            if file.suffix in IMAGE_SUFFIXES and path not in self.named:
                found.refusals.add(path, "the manifest does not name it")
        found.entries.sort(key=lambda entry: entry.path)
        found.given = frozenset(self.given)
        found.class_names = tuple(
            sorted({row.label for row in self.named.values() if row.label}, key=natural)
        )


def _tables(files: Files) -> list[File]:
    """List the CSV files of the uppermost folder with any, if it holds all images."""
    tables = [file for file in files.files if file.suffix == ".csv"]
    if not tables:
        return []
    depth = min(len(table.parts) for table in tables)
    tables = [table for table in tables if len(table.parts) == depth]
    folder = tables[0].parts[:-1]
    images = (file for file in files.files if file.suffix in IMAGE_SUFFIXES)
    return (
        [table for table in tables if table.parts[:-1] == folder]
        if all(file.parts[: depth - 1] == folder for file in images)
        else []
    )


def _header(files: Files, table: File) -> Header:
    try:
        with files.open(table) as file:
            first = file.readline(10_000).decode("utf-8-sig", errors="replace").strip()
    except (OSError, Refused):
        return Header(",", ("(it cannot be read)",))
    delimiter = max(DELIMITERS, key=first.count)
    return Header(
        delimiter,
        tuple(
            cleaned(name).strip().lower()
            for name in next(csv.reader([first], delimiter=delimiter), [""])
        ),
    )


def _is_utf16(files: Files, table: File) -> bool:
    """Detect UTF-16, which spreadsheets call Unicode text."""
    try:
        with files.open(table) as file:
            return file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    except (OSError, Refused):
        return False


def _not_utf8(manifest: File, line: int) -> str:
    place = f" (after line {line})" if line else ""
    return (
        f"The manifest “{manifest.path}” is not UTF-8 text{place}. Save it as CSV UTF-8, then "
        f"import again."
    )


def _rows(files: Files, manifest: File) -> Iterator[Row]:
    header = _header(files, manifest)
    place = {
        name: header.columns.index(name)
        for name in ("path", "label", "split")
        if name in header.columns
    }

    def cell(row: list[str], name: str) -> str:
        return cleaned(row[place[name]]).strip() if name in place and place[name] < len(row) else ""

    line = 1
    try:
        with (
            files.open(manifest) as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text,
        ):
            table = csv.reader(text, delimiter=header.delimiter)
            next(table)
            for row in table:
                line = table.line_num
                if any(row):
                    yield Row(
                        line, cell(row, "path"), cell(row, "label"), cell(row, "split") or None
                    )
    except UnicodeDecodeError as error:
        raise JobFailed(_not_utf8(manifest, line)) from error
    except (csv.Error, Refused, OSError) as error:
        raise JobFailed(
            f"The manifest “{manifest.path}” cannot be read after line {line}: {error}. Fix it, "
            f"then import again."
        ) from error
