"""Tables to download: CSV that is safe to open in a spreadsheet, and Parquet."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import pyarrow
import pyarrow.parquet
from fastapi.responses import Response, StreamingResponse

from backend.core.db import Database

# A cell that begins with one of these is a formula to a spreadsheet; an apostrophe before it makes it text (OWASP, "CSV Injection").
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
CHUNK = 2_000  # rows read, or lines written, at a time
ROW_GROUP = 50_000

Row = TypeVar("Row")


def in_chunks(
    database: Database, read: Callable[..., tuple[Sequence[Row], int | None]]
) -> Iterator[Row]:
    """All rows that `read(session, after=cursor)` gives page by page, each page in a short transaction: a slow download holds none open."""
    after: int | None = 0
    while after is not None:
        with database.transaction(write=False) as session:
            rows, after = read(session, after=after)
        yield from rows


def csv_download(
    name: str, header: Iterable[str], rows: Iterable[Sequence[Any]]
) -> StreamingResponse:
    """The table as CSV, sent while it is read."""
    return StreamingResponse(
        csv_text(header, rows), media_type="text/csv; charset=utf-8", headers=_attachment(name)
    )


def parquet_download(
    name: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]
) -> Response:
    """The table as Parquet. columns: name → Arrow's word for its type."""
    return Response(
        parquet_bytes(columns, rows),
        media_type="application/vnd.apache.parquet",
        headers=_attachment(name),
    )


def safe_cell(value: Any) -> Any:
    """Text that no spreadsheet takes for a formula; numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def parquet_bytes(columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> bytes:
    """The table as Parquet, with its types also where it has no rows. columns: name → Arrow's word for its type."""
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


def csv_text(header: Iterable[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The table as CSV, many lines at a time, safe to open in a spreadsheet."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(header)
    for count, row in enumerate(rows, 1):
        writer.writerow([safe_cell(value) for value in row])
        if count % CHUNK == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
