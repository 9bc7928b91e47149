"""Tables to download: CSV that is safe to open in a spreadsheet, and Parquet."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow
import pyarrow.parquet
from fastapi.responses import Response, StreamingResponse

# A cell that begins with one of these is a formula to a spreadsheet; an apostrophe before it makes it text (OWASP, "CSV Injection").
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
LINES = 1_000


def csv_download(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> StreamingResponse:
    """The table as CSV, line by line."""
    return StreamingResponse(csv_text(header, rows), media_type="text/csv; charset=utf-8", headers=_attachment(name))


def parquet_download(name: str, columns: dict[str, list[Any]]) -> Response:
    """The table as Parquet. columns: name → values, all of one length."""
    return Response(parquet_bytes(columns), media_type="application/vnd.apache.parquet", headers=_attachment(name))


def safe_cell(value: Any) -> Any:
    """Text that no spreadsheet takes for a formula; numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def parquet_bytes(columns: dict[str, list[Any]]) -> bytes:
    """The table as Parquet. columns: name → values, all of one length."""
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The table as CSV, many lines at a time, safe to open in a spreadsheet."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(header)
    for count, row in enumerate(rows, 1):
        writer.writerow([safe_cell(value) for value in row])
        if count % LINES == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
