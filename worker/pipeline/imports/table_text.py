"""Read tables line by line: CSV in its usual forms, and JSON lines. Memory is bounded."""

import codecs
import csv
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from backend.core import file_kinds
from backend.core.name_encodings import codec, short_title
from worker.jobs import JobFailed
from worker.pipeline.imports.files import File, Files, cleaned
from worker.pipeline.imports.recognition import recognise
from worker.pipeline.imports.refused import Refused

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
JSON_SUFFIXES = (".jsonl", ".ndjson")
DELIMITERS = (",", ";", "\t", "|")
MOST_BYTES = 512 * 2**20
LONGEST_LINE = 1_000_000  # characters
SAMPLE = 100  # records that show what a column holds
CHUNK = 1 << 20
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WORDS_BEYOND_ASCII = re.compile(rb"[^\x00-\x2f:-@]*[\x80-\xff][^\x00-\x2f:-@]*")
UNREADABLE = (OSError, EOFError, Refused, zipfile.BadZipFile, zlib.error, UnicodeError)


@dataclass(frozen=True)
class Record:
    """A row of cells, with the lines of the file where it begins and ends."""

    line: int
    last_line: int
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """The format of a table. delimiter: None for JSON lines. keys: of JSON lines."""

    file: File
    encoding: str
    delimiter: str | None
    keys: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return self.file.path

    @property
    def has_mark(self) -> bool:
        """Return True for a byte order mark, which tables for spreadsheets begin with."""
        return self.encoding in ("utf-8-sig", "utf-16", "utf-32")


def open_table(files: Files, file: File, encoding: str | None = None) -> Table:
    """Look at a table's begin. encoding: chosen by a person. Raises JobFailed."""
    if file.size > MOST_BYTES:
        raise _failed(
            file, f"has {file.size:,} bytes, more than the limit of {MOST_BYTES:,} for a table"
        )
    try:
        with files.open(file) as raw:
            start = raw.read(CHUNK)
    except UNREADABLE as error:
        raise _failed(file, f"cannot be read: {error}") from error
    found = next((name for mark, name in BYTE_ORDER_MARKS if start.startswith(mark)), None)
    found = found or _utf16_without_mark(start)
    if found is None and _is_binary(start):
        kind = file_kinds.kind_of(start) or "binary data"
        raise _failed(file, f"is {kind}, not a table of text", "Save it as CSV UTF-8")
    notes: tuple[str, ...] = ()
    if found is None:
        found, notes = _without_mark(files, file, encoding)
    table = Table(file, found, ",", notes=notes)
    if file.suffix in JSON_SUFFIXES:
        table = Table(file, found, None, notes=notes)
        keys = {key: None for _, item in islice(_json(files, table), SAMPLE) for key in item}
        return Table(file, found, None, tuple(keys), notes)
    return Table(file, found, _delimiter(files, table), notes=notes)


def records(files: Files, table: Table) -> Iterator[Record]:
    """Yield all records with any text, the header first. Raises JobFailed."""
    if table.delimiter is None:
        yield Record(0, 0, list(table.keys))
        for line, item in _json(files, table):
            yield Record(line, line, [_text(item.get(key)) for key in table.keys])
        return
    lines = _Lines(files, table)
    reader = csv.reader(lines, delimiter=table.delimiter)
    line = 1
    try:
        for cells in reader:
            if lines.ended:
                raise _failed(
                    table.file,
                    f'has a quote (") that opens in line {line:,} and never closes, so all that '
                    "follows is one cell",
                    "Close the quote",
                )
            if any(cells) and not _is_separator_line(line, cells, table.delimiter):
                yield Record(line, lines.count, cells)
            line = lines.count + 1
    except csv.Error as error:
        if lines.count > line:
            why = f'has a quote (") that opens in line {line:,} and does not close'
        else:
            why = f"cannot be read in line {line:,}: {error}"
        raise _failed(table.file, why, "Correct that line") from error


class _Lines:
    """Lines of a text with a bound on their length. ended: True after the last."""

    def __init__(self, files: Files, table: Table) -> None:
        self.count = 0
        self.ended = False
        self._lines = self._read(files, table)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        return next(self._lines)

    def _read(self, files: Files, table: Table) -> Iterator[str]:
        try:
            with (
                files.open(table.file) as raw,
                io.TextIOWrapper(raw, encoding=table.encoding, newline="") as text,
            ):
                while line := text.readline(LONGEST_LINE + 1):
                    self.count += 1
                    if len(line) > LONGEST_LINE:
                        raise _failed(
                            table.file,
                            f"has a line of more than {LONGEST_LINE:,} characters, line "
                            f"{self.count:,}",
                            "Write a line for each image",
                        )
                    yield line
        except UNREADABLE as error:
            raise _failed(
                table.file, f"cannot be read after line {self.count:,}: {error}"
            ) from error
        self.ended = True


def _json(files: Files, table: Table) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = _Lines(files, table)
    for line in lines:
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _failed(
                table.file, f"has no JSON in line {lines.count:,}: {error}", "Correct that line"
            ) from error
        if not isinstance(item, dict):
            raise _failed(
                table.file,
                f"has no JSON object in line {lines.count:,}",
                'Write an object a line, such as {"path": "cat/1.png", "label": "cat"}',
            )
        yield lines.count, item


def _text(value: object) -> str:
    """Write a JSON value as a cell; lists and objects are no cells."""
    if isinstance(value, str):
        return value
    return "" if value is None or isinstance(value, (dict, list)) else json.dumps(value)


def _delimiter(files: Files, table: Table) -> str:
    """Choose the delimiter: as a line “sep=;” says, else the most frequent of the first line."""
    first = next(_Lines(files, table), "").strip()
    chosen = _separator(first)
    outside = re.sub(r'"[^"]*"', "", first)
    return chosen or max(DELIMITERS, key=outside.count)


def _separator(line: str) -> str | None:
    match = re.fullmatch(r'"?sep=(.)"?', line, re.IGNORECASE)
    if match:
        return match[1]
    return "\t" if line.strip('"').lower() == "sep=" else None


def _is_separator_line(line: int, cells: list[str], delimiter: str) -> bool:
    return line == 1 and _separator(delimiter.join(cells).strip()) is not None


def _is_binary(start: bytes) -> bool:
    """Recognise bytes that are no text: zeros beyond a slip in UTF-8."""
    if file_kinds.kind_of(start) is not None or 100 * start.count(0) > len(start):
        return True
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return b"\0" in start
    return False


def _utf16_without_mark(start: bytes) -> str | None:
    """Recognise UTF-16 by the zeros of its ASCII."""
    sample = start[: 2000 - 2000 % 2]
    half = len(sample) // 2
    if half and sample[1::2].count(0) > 0.8 * half and not sample[::2].count(0):
        return "utf-16-le"
    if half and sample[::2].count(0) > 0.8 * half and not sample[1::2].count(0):
        return "utf-16-be"
    return None


def _without_mark(files: Files, file: File, wanted: str | None) -> tuple[str, tuple[str, ...]]:
    """Return codec and note of a table without a sign of its encoding: UTF-8 where it fits."""
    foreign = _not_utf8(files, file)
    if foreign is None:
        return "utf-8", ()
    encoding = wanted or recognise(foreign)
    if encoding is None:
        raise _failed(file, "is not UTF-8 text", "Save it as CSV UTF-8")
    how = "as chosen" if wanted else "as its letters suggest"
    return codec(encoding), (
        f"The table “{file.path[:200]}” is not UTF-8; it was read as {short_title(encoding)}, "
        f"{how}.",
    )


def _not_utf8(files: Files, file: File) -> bytes | None:
    """Return words of the text that are not UTF-8, or None if all is."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with files.open(file) as raw:
            while chunk := raw.read(CHUNK):
                files.tick()
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    return b"\n".join(sorted(set(WORDS_BEYOND_ASCII.findall(chunk))))
    except UNREADABLE as error:
        raise _failed(file, f"cannot be read: {error}") from error
    return None


def header_of(record: Record) -> tuple[str, ...]:
    return tuple(cleaned(name).strip() for name in record.cells)


def _failed(file: File, what: str, fix: str = "Fix it") -> JobFailed:
    return JobFailed(f"The table “{file.path[:200]}” {what}. {fix}, then import again.")
