"""Tables to download, in every registered format.

Programs get every text as it is. Spreadsheets get a byte order mark, and an apostrophe before
text that they would run as a formula.
"""

import csv
import io
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar, get_args

from anyio import CapacityLimiter, to_thread
from fastapi import Query
from fastapi.responses import Response, StreamingResponse

from backend.core.db import Database
from backend.core.errors import Invalid

# Spreadsheets run such cells as formulas, unless an apostrophe precedes (OWASP, "CSV Injection").
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
CHUNK = 2_000  # rows at a time
ROW_GROUP = 50_000
_downloads = CapacityLimiter(4)
BYTE_ORDER_MARK = "\ufeff"  # Excel takes a table without it for the code page of its country

Reader = Literal["programs", "spreadsheets"]
READERS: tuple[Reader, ...] = get_args(Reader)
ReaderParameter = Annotated[
    Reader,
    Query(
        alias="for",
        description="programs: every text as it is. spreadsheets: a byte order mark, and an "
        "apostrophe before text that would be a formula.",
    ),
]

Row = TypeVar("Row")


def in_chunks(
    database: Database, read: Callable[..., tuple[Sequence[Row], int | None]]
) -> Iterator[Row]:
    """Yield all rows of `read(session, after=cursor)`, each page in a short transaction."""
    after: int | None = 0
    while after is not None:
        with database.transaction(write=False) as session:
            rows, after = read(session, after=after)
        yield from rows


def safe_cell(value: Any) -> Any:
    """Keep text from being read as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def csv_text(
    header: Iterable[str], rows: Iterable[Sequence[Any]], reader: Reader = "programs"
) -> Iterator[str]:
    """Write the table as CSV in chunks, exact for programs or safe for spreadsheets."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    if reader == "spreadsheets":
        buffer.write(BYTE_ORDER_MARK)
        rows = ([safe_cell(value) for value in row] for row in rows)
    writer.writerow(header)
    for count, row in enumerate(rows, 1):
        writer.writerow(row)
        if count % CHUNK == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def csv_bytes(
    columns: Iterable[str], rows: Iterable[Sequence[Any]], reader: Reader = "programs"
) -> Iterator[bytes]:
    return (part.encode() for part in csv_text(columns, rows, reader))


def parquet_bytes(columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Write the table as Parquet, typed even without rows. columns: name → Arrow type."""
    import pyarrow  # slow
    import pyarrow.parquet

    schema = pyarrow.schema(
        [(name, pyarrow.type_for_alias(kind)) for name, kind in columns.items()]
    )
    buffer, remaining = io.BytesIO(), iter(rows)
    with pyarrow.parquet.ParquetWriter(buffer, schema, compression="zstd") as writer:
        while group := list(islice(remaining, ROW_GROUP)):
            values = [
                pyarrow.array(column, field.type)
                for column, field in zip(zip(*group, strict=True), schema, strict=True)
            ]
            writer.write_table(pyarrow.table(values, schema=schema))
    return buffer.getvalue()


Write = Callable[[Mapping[str, str], Iterable[Sequence[Any]]], Iterable[bytes]]


@dataclass(frozen=True)
class Format:
    """A table's format.

    write: (columns, rows) → parts, a list if made whole; exact, for programs.
    write_for_spreadsheets: the same, if spreadsheets need another table.
    """

    suffix: str
    title: str
    media_type: str
    write: Write
    write_for_spreadsheets: Write | None = None

    def parts(
        self, columns: Mapping[str, str], rows: Iterable[Sequence[Any]], reader: Reader
    ) -> Iterable[bytes]:
        """Write the table. Raises Invalid for spreadsheets that cannot read the format."""
        if reader == "programs":
            return self.write(columns, rows)
        if self.write_for_spreadsheets is None:
            raise Invalid(f"{self.title} is for programs. Spreadsheets read CSV.")
        return self.write_for_spreadsheets(columns, rows)

    def download(
        self,
        name: str,
        columns: Mapping[str, str],
        rows: Iterable[Sequence[Any]],
        reader: Reader = "programs",
    ) -> Response:
        """Send the table, streamed if the format allows."""
        parts = self.parts(columns, rows, reader)
        if reader == "spreadsheets":
            name = f"{name}-for-spreadsheets"
        headers = {"Content-Disposition": f'attachment; filename="{name}.{self.suffix}"'}
        if isinstance(parts, list):
            return Response(b"".join(parts), media_type=self.media_type, headers=headers)
        return StreamingResponse(_in_turn(parts), media_type=self.media_type, headers=headers)


async def _in_turn(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Make each part in a thread; few downloads take threads and connections at once."""
    remaining = iter(parts)
    while (part := await to_thread.run_sync(next, remaining, None, limiter=_downloads)) is not None:
        yield part


FORMATS = {
    format_.suffix: format_
    for format_ in (
        Format(
            "csv",
            "CSV",
            "text/csv; charset=utf-8",
            csv_bytes,
            partial(csv_bytes, reader="spreadsheets"),
        ),
        Format(
            "parquet",
            "Parquet",
            "application/vnd.apache.parquet",
            lambda columns, rows: [parquet_bytes(columns, rows)],
        ),
    )
}


def csv_download(
    name: str, header: Iterable[str], rows: Iterable[Sequence[Any]], reader: Reader = "programs"
) -> Response:
    """Send text as CSV. name: of the file, without suffix."""
    return FORMATS["csv"].download(name, dict.fromkeys(header, "string"), rows, reader)
