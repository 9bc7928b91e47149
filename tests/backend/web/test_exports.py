"""Downloaded tables: no cell is a formula to a spreadsheet, programs get exact values."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.cli.data import scores
from backend.core.db import Database
from backend.core.errors import Invalid
from backend.core.models import Refusal
from backend.runs.api import add_score_downloads
from backend.web.exports import (
    CHUNK,
    FORMATS,
    FORMULA_STARTS,
    Format,
    csv_download,
    csv_text,
    in_chunks,
    parquet_bytes,
    safe_cell,
)
from backend.web.routes import TransactionRoute
from tests.factories import a_data_set, a_review, a_run
from tests.world import HOSTILE


def written(header: list[str], rows: list[list[object]]) -> list[list[str]]:
    text = "".join(csv_text(header, rows, "spreadsheets"))
    assert text.startswith("\ufeff")
    return list(csv.reader(io.StringIO(text[1:], newline="")))


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "=cmd|' /C calc'!A0",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        '=HYPERLINK("http://evil.example")',
        "=",
        "-",
    ],
)
def test_text_that_begins_like_a_formula_stays_text(cell: str) -> None:
    assert safe_cell(cell) == f"'{cell}"
    (_, (found,)) = written(["name"], [[cell]])
    assert found == f"'{cell}"
    assert not found.startswith(FORMULA_STARTS)


@pytest.mark.parametrize(
    "cell", ["", "a=1", "left", "'=1", " =1", "🦊", "1e5", "a,b", 'say "hi"', "two\nlines"]
)
def test_other_text_is_left_as_it_is(cell: str) -> None:
    assert safe_cell(cell) == cell
    assert written(["name", "more"], [[cell, "x"]])[1] == [cell, "x"]


@pytest.mark.parametrize(
    ("value", "text"), [(-1, "-1"), (-0.5, "-0.5"), (0, "0"), (None, ""), (1e-300, "1e-300")]
)
def test_numbers_stay_numbers_also_below_nothing(value: object, text: str) -> None:
    assert written(["value", "more"], [[value, "x"]])[1] == [text, "x"]


def test_a_name_with_everything_in_it_comes_back_whole() -> None:
    rows = [[name, number] for number, name in enumerate(HOSTILE)]
    found = written(["name", "number"], rows)[1:]
    assert [name.removeprefix("'") for name, _ in found] == [
        name.removeprefix("'") for name in HOSTILE
    ]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "'=1", "\t=1", "\r", "a", "🦊"])
def test_programs_get_every_text_as_it_is_and_no_mark(cell: str) -> None:
    text = "".join(csv_text(["name", "more"], [[cell, "x"]]))
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["name", "more"], [cell, "x"]]


def test_a_download_for_spreadsheets_is_called_so_and_begins_with_a_mark() -> None:
    kind = FORMATS["csv"]
    answer = kind.download("run-1-scores", {"a": "string"}, [["=1"]], "spreadsheets")
    assert (
        answer.headers["content-disposition"]
        == 'attachment; filename="run-1-scores-for-spreadsheets.csv"'
    )
    whole = b"".join(kind.parts({"a": "string"}, [["=1"]], "spreadsheets"))
    assert whole == "\ufeffa\r\n'=1\r\n".encode()
    with pytest.raises(Invalid, match="Parquet is for programs"):
        FORMATS["parquet"].download("x", {"a": "string"}, [], "spreadsheets")


def test_a_table_is_made_piece_by_piece() -> None:
    taken = 0

    def rows() -> Iterator[list[int]]:
        nonlocal taken
        for taken in range(1, 10 * CHUNK + 2):
            yield [taken]

    pieces = csv_text(["number"], rows())
    next(pieces)
    assert taken == CHUNK
    assert sum(piece.count("\n") for piece in pieces) + CHUNK + 1 == 10 * CHUNK + 2


def test_a_table_without_rows_has_its_header() -> None:
    assert "".join(csv_text(["a", "b"], [])) == "a,b\r\n"


def test_a_download_names_its_file_and_its_kind() -> None:
    text = csv_download("run-1-scores", ["a"], [])
    assert text.headers["content-disposition"] == 'attachment; filename="run-1-scores.csv"'
    assert text.headers["content-type"] == "text/csv; charset=utf-8"
    table = FORMATS["parquet"].download("run-1-scores", {"a": "int64"}, [])
    assert table.headers["content-disposition"] == 'attachment; filename="run-1-scores.parquet"'
    assert table.headers["content-type"] == "application/vnd.apache.parquet"


COLUMNS = {"id": "int64", "name": "string", "value": "double"}


def test_parquet_keeps_types_nulls_and_text_as_it_is() -> None:
    rows = [(1, "=1+1", -0.5), (2**40, "🦊", None), (3, None, float("inf"))]
    table = pyarrow.parquet.read_table(io.BytesIO(parquet_bytes(COLUMNS, rows)))
    assert {field.name: str(field.type) for field in table.schema} == COLUMNS
    assert [tuple(row.values()) for row in table.to_pylist()] == rows


def test_parquet_without_rows_has_its_columns() -> None:
    table = pyarrow.parquet.read_table(io.BytesIO(parquet_bytes(COLUMNS, [])))
    assert (table.num_rows, table.column_names) == (0, list(COLUMNS))


def test_parquet_of_many_rows_is_written_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.web.exports.ROW_GROUP", 10)
    file = pyarrow.parquet.ParquetFile(
        io.BytesIO(parquet_bytes({"id": "int64"}, ((number,) for number in range(25))))
    )
    assert file.num_row_groups == 3
    assert file.read()["id"].to_pylist() == list(range(25))


def test_a_type_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="No type alias"):
        parquet_bytes({"id": "int46"}, [])


def test_a_download_holds_no_transaction_open_between_its_pieces(database: Database) -> None:
    with database.transaction() as session:
        data_set = a_data_set(session, per_class=2)
        session.add_all(
            Refusal(data_set_id=data_set.id, path=str(number), reason="x") for number in range(5)
        )

    def two_at_a_time(
        session: Session, *, after: int, last: int
    ) -> tuple[list[Refusal], int | None]:
        found = list(
            session.scalars(
                select(Refusal)
                .where(Refusal.id > after, Refusal.id <= last)
                .order_by(Refusal.id)
                .limit(2)
            )
        )
        return found, found[-1].id if len(found) == 2 else None

    seen = []
    for row in in_chunks(database, partial(two_at_a_time, last=99)):
        seen.append(row.path)
        with database.transaction() as session:  # nobody is kept from writing
            session.add(Refusal(data_set_id=data_set.id, path="later", reason="x"))
        if len(seen) == 7:
            break
    assert seen == ["0", "1", "2", "3", "4", "later", "later"]


def test_a_format_in_the_registry_is_in_routes_pages_and_the_command_line(
    app: FastAPI, client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third format needs nothing but its entry."""

    def write(columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
        for row in (columns, *rows):
            yield ("\t".join(map(str, row)) + "\n").encode()

    with database.transaction() as session:
        run = a_run(session, a_data_set(session, per_class=4))
        review = a_review(session, run)
    monkeypatch.setitem(FORMATS, "tsv", Format("tsv", "TSV", "text/tab-separated-values", write))
    more = APIRouter(route_class=TransactionRoute)
    add_score_downloads(more)
    app.include_router(more)
    answer = client.get(f"/runs/{run.id}/scores.tsv")
    assert answer.headers["content-type"].startswith("text/tab-separated-values")
    assert answer.headers["content-disposition"].endswith('-scores.tsv"')
    assert answer.text.count("\n") == 1 + review.suggestion_count
    page = client.get(f"/runs/{run.id}").text
    assert f'href="/runs/{run.id}/scores.tsv">as TSV</a>' in page
    assert f'href="/runs/{run.id}/scores.csv?for=spreadsheets">as CSV for spreadsheets</a>' in page
    with pytest.raises(Invalid, match="there are csv and parquet and tsv"):
        scores(run.id, format="xlsx")
