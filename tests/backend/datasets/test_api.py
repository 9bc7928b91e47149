"""Data sets over the API: imports of every kind, uploads, reports, renaming, deleting."""

import io
import os
import zipfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from backend.accounts.dependencies import COOKIE
from backend.core.db import Database
from backend.core.discards import sweep_discards
from backend.core.models import (
    Base,
    DataSet,
    Decision,
    Image,
    Job,
    Refusal,
    Score,
    Suggestion,
    Version,
    VersionChange,
)
from backend.core.settings import Settings
from backend.core.storage import Storage
from backend.datasets import service
from tests.asgi import form, send_in_pieces
from tests.conftest import OWN_PAGE
from tests.factories import a_data_set, a_job, a_review, a_run

API = "/api/v1/data-sets"


def upload(
    client: TestClient, content: bytes = b"PK", file_name: str = "photos.zip", **fields: str
):  # type: ignore[no-untyped-def] # the test client's own response class
    return client.post(f"{API}/upload", files={"file": (file_name, content)}, data=fields)


def uploads(storage: Storage) -> list[Path]:
    return list(storage.uploads.glob("*"))


def source_of(database: Database, data_set_id: int) -> dict[str, object]:
    with database.transaction(write=False) as session:
        return session.get_one(DataSet, data_set_id).source


# ── starting an import ────────────────────────────────────────────────────────────────────────────


def test_the_sample_is_imported_by_a_job(api_client: TestClient, database: Database) -> None:
    answer = api_client.post(API, json={"source": {"kind": "sample"}, "seed": 3})
    assert answer.status_code == 202
    made = answer.json()
    assert (made["name"], made["state"], made["seed"], made["counts"]) == (
        "Handwritten digits (sample)",
        "importing",
        3,
        {},
    )
    job = made["job"]
    assert (job["kind"], job["state"], job["subject_id"], job["data_set_id"]) == (
        "import",
        "queued",
        made["id"],
        made["id"],
    )


def test_a_folder_on_the_server_is_imported(
    api_client: TestClient, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "import" / "birds & bees"
    folder.mkdir(parents=True)
    made = api_client.post(
        API, json={"source": {"kind": "folder", "path": str(folder)}, "side": 32}
    ).json()
    assert made["name"] == "birds & bees"
    assert source_of(database, made["id"]) == {
        "kind": "folder",
        "path": str(folder),
        "upload": False,
        "side": 32,
    }


def test_small_imports_are_quick_jobs_and_large_ones_are_long(
    api_client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SMALL_FILES", 3)
    monkeypatch.setattr(service, "SMALL_BYTES", 100)
    opened = tmp_path / "import"
    for name, sizes in {"small": [10, 20], "many": [1] * 4, "large": [60, 60]}.items():
        folder = opened / name / "cat"
        folder.mkdir(parents=True)
        for number, size in enumerate(sizes):
            (folder / f"{number}.png").write_bytes(bytes(size))
    (opened / "small.zip").write_bytes(b"PK" + bytes(50))
    (opened / "large.zip").write_bytes(b"PK" + bytes(150))
    lanes = {}
    for path in sorted(opened.iterdir()):
        source = {"kind": "folder", "path": str(path)}
        lanes[path.name] = api_client.post(API, json={"source": source}).json()["job"]["lane"]
    assert lanes == {
        "large": "long",
        "large.zip": "long",
        "many": "long",
        "small": "quick",
        "small.zip": "quick",
    }
    assert upload(api_client).json()["job"]["lane"] == "quick"


@pytest.mark.parametrize("inside", ["..", "../elsewhere", "../../../../../etc/passwd", "link"])
def test_nothing_outside_of_the_folders_that_the_administrator_opened_is_read(
    api_client: TestClient, tmp_path: Path, inside: str
) -> None:
    opened = tmp_path / "import"
    opened.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (opened / "link").symlink_to(tmp_path / "elsewhere")
    answer = api_client.post(API, json={"source": {"kind": "folder", "path": f"{opened}/{inside}"}})
    assert answer.status_code == 403
    assert "WINNOW_IMPORT_FOLDERS" in answer.json()["detail"]


def test_a_folder_whose_name_only_begins_like_an_opened_one_is_not_read(
    api_client: TestClient, tmp_path: Path
) -> None:
    (tmp_path / "import-secret").mkdir()
    assert (
        api_client.post(
            API, json={"source": {"kind": "folder", "path": str(tmp_path / "import-secret")}}
        ).status_code
        == 403
    )


@pytest.mark.parametrize("name", ["nothing", "x" * 300])
def test_a_path_where_nothing_is_says_so(api_client: TestClient, tmp_path: Path, name: str) -> None:
    (tmp_path / "import").mkdir()
    answer = api_client.post(
        API, json={"source": {"kind": "folder", "path": f"{tmp_path}/import/{name}"}}
    )
    assert answer.status_code == 422
    assert "There is nothing at" in answer.json()["detail"]


def test_a_source_without_a_path_is_refused(api_client: TestClient) -> None:
    for kind in ("folder", "zip", "idx"):
        for path in (None, ""):
            answer = api_client.post(API, json={"source": {"kind": kind, "path": path}})
            assert (answer.status_code, answer.json()["detail"]) == (
                422,
                "Say which folder or file on the server to import.",
            )


def test_values_out_of_range_are_refused_alike_in_json_and_in_an_upload(
    api_client: TestClient, storage: Storage
) -> None:
    for values in (
        {"side": 7},
        {"side": 225},
        {"seed": -1},
        {"seed": 2**31},
        {"name": "x" * 201},
        {"seed": "one"},
    ):
        by_json = api_client.post(API, json={"source": {"kind": "sample"}, **values})
        by_form = upload(api_client, **{name: str(value) for name, value in values.items()})
        for answer in (by_json, by_form):
            assert answer.status_code == 422
            assert [error["field"] for error in answer.json()["errors"]] == list(values)
    assert uploads(storage) == []


# ── uploads ───────────────────────────────────────────────────────────────────────────────────────


def test_an_upload_lies_byte_for_byte_in_the_folder_of_uploads(
    api_client: TestClient, database: Database, storage: Storage
) -> None:
    content = b"PK" + os.urandom(3 * 2**20 + 17) + b"\r\n--" + b"\r\n"
    answer = upload(api_client, content, seed="5", side="64")
    assert answer.status_code == 202
    made = answer.json()
    assert (made["name"], made["seed"]) == ("photos", 5)
    (kept,) = uploads(storage)
    assert kept.read_bytes() == content
    assert source_of(database, made["id"]) == {
        "kind": "zip",
        "path": str(kept),
        "upload": True,
        "side": 64,
    }


def test_columns_and_the_encoding_of_names_may_be_chosen(
    api_client: TestClient, database: Database, tmp_path: Path
) -> None:
    chosen = {"path_column": "where", "label_column": "Kind of thing", "names_encoding": "gbk"}
    by_form = upload(api_client, **(chosen | {"names_encoding": "GBK", "split_column": ""})).json()
    (tmp_path / "import").mkdir()
    source = {"kind": "folder", "path": str(tmp_path / "import")}
    by_json = api_client.post(API, json={"source": source, **chosen}).json()
    for made in (by_form, by_json):
        kept = source_of(database, made["id"])
        assert {name: kept.get(name) for name in (*chosen, "split_column")} == chosen | {
            "split_column": None
        }
    wrong = upload(api_client, names_encoding="klingon")
    assert wrong.status_code == 422
    assert [error["field"] for error in wrong.json()["errors"]] == ["names_encoding"]


@pytest.mark.parametrize("plain", [b"", b'filename="caf.zip"; '])
def test_a_name_of_a_file_may_be_encoded_as_some_programs_do(
    api_client: TestClient, storage: Storage, plain: bytes
) -> None:
    """RFC 5987: filename* in place of, or next to, filename."""
    body = (
        b'--xyz\r\nContent-Disposition: form-data; name="file"; '
        + plain
        + b"filename*=UTF-8''caf%C3%A9.zip\r\n\r\nPK\r\n--xyz--\r\n"
    )
    answer = api_client.post(
        f"{API}/upload",
        content=body,
        headers={"Content-Type": "multipart/form-data; boundary=xyz"},
    )
    assert (answer.status_code, answer.json()["name"]) == (202, "café")
    assert len(uploads(storage)) == 1


def test_boundaries_may_fall_anywhere(
    app: FastAPI, client: TestClient, database: Database, storage: Storage
) -> None:
    """A body cut after every byte is the same upload."""
    content = b"PK\r\n--xy\r\n--xyzz--\r\n-" * 3
    body = form(("name", None, "Füchse".encode()), ("file", "a.zip", content), ("seed", None, b"9"))
    headers = OWN_PAGE | {"Content-Type": "multipart/form-data; boundary=xyz"}
    headers["Cookie"] = f"{COOKIE}={client.cookies[COOKIE]}"
    answer = send_in_pieces(
        app, f"{API}/upload", headers, [body[place : place + 1] for place in range(len(body))]
    )
    assert answer.status == 202
    (kept,) = uploads(storage)
    assert kept.read_bytes() == content
    with database.transaction(write=False) as session:
        data_set = session.scalars(select(DataSet)).one()
        assert (data_set.name, data_set.seed) == ("Füchse", 9)


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("../../etc/passwd.zip", "passwd"),
        ("C:\\fakepath\\My photos.zip", "My photos"),
        ("<script>alert(1)</script>.zip", "script>"),
        ("🦊.zip", "🦊"),
        ("=1+1.zip", "=1+1"),
        ("x" * 300 + ".zip", "x" * 200),
        (".zip", "Unnamed"),
    ],
)
def test_a_data_set_is_called_as_its_archive_whose_name_names_no_file_of_ours(
    api_client: TestClient, storage: Storage, file_name: str, name: str
) -> None:
    assert upload(api_client, file_name=file_name).json()["name"].startswith(name)
    (kept,) = uploads(storage)
    assert kept.parent == storage.uploads


def test_a_given_name_is_one_line_without_what_databases_refuse(api_client: TestClient) -> None:
    assert (
        upload(api_client, name=" My\tbirds\n\x00 and  bees ").json()["name"] == "My birds and bees"
    )
    made = api_client.post(API, json={"source": {"kind": "sample"}, "name": "a\x00b"}).json()
    assert made["name"] == "a b"


@pytest.mark.parametrize(
    ("headers", "body", "sentence"),
    [
        ({"Content-Type": "application/zip"}, b"PK", "the form's field “file”"),
        (
            {"Content-Type": "application/x-www-form-urlencoded"},
            b"name=x",
            "the form's field “file”",
        ),
        ({"Content-Type": "multipart/form-data"}, b"PK", "not a form"),
        ({"Content-Type": "multipart/form-data; boundary=xyz"}, b"nonsense", "not a form"),
        (
            {"Content-Type": "multipart/form-data; boundary=xyz"},
            form(("name", None, b"x")),
            "the form's field “file”",
        ),
        (
            {"Content-Type": "multipart/form-data; boundary=xyz"},
            form(("file", "", b"")),
            "the form's field “file”",
        ),
        (
            {"Content-Type": "multipart/form-data; boundary=xyz"},
            form(("file", "a.zip", b"PK"))[:-20],
            "broke off",
        ),
        ({"Content-Type": "multipart/form-data; boundary=xyz"}, b"", "broke off"),
        (
            {"Content-Type": "multipart/form-data; boundary=xyz"},
            form(("file", "a.zip", b"Dear Sir or Madam,")),
            "not a zip archive",
        ),
        (
            {"Content-Type": "multipart/form-data; boundary=xyz"},
            form(("file", "a.zip", b"")),
            "zero bytes",
        ),
        (
            {"Content-Type": "multipart/form-data; boundary=xyz"},
            form(("file", None, b"x" * 20_000)),
            "belongs into the field “file”",
        ),
        (
            {"Content-Type": "multipart/form-data; boundary=xyz"},
            form(("file", "a.zip", b"1"), ("file", "b.zip", b"2")),
            "one archive at a time",
        ),
        (
            {"Content-Type": "multipart/form-data; boundary=xyz"},
            form(("name", None, b"x"), ("name", None, b"x")),
            "“name” came twice",
        ),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=x&a=y", "“a” came twice"),
        (
            {"Content-Type": "multipart/form-data; boundary=xyz"},
            form(*((f"{number}", None, b"x") for number in range(60))),
            "more than 50 fields",
        ),
    ],
)
def test_what_is_not_an_upload_says_so_and_leaves_nothing(
    api_client: TestClient,
    database: Database,
    storage: Storage,
    headers: dict[str, str],
    body: bytes,
    sentence: str,
) -> None:
    answer = api_client.post(f"{API}/upload", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert sentence in answer.json()["detail"]
    assert uploads(storage) == []
    with database.transaction(write=False) as session:
        assert session.scalar(select(func.count()).select_from(DataSet)) == 0


def test_a_zip_that_unpacks_itself_is_a_zip(api_client: TestClient, storage: Storage) -> None:
    archive = io.BytesIO(b"MZ, a program")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("cat/1.png", b"x")
    assert archive.getvalue().startswith(b"MZ")
    assert upload(api_client, archive.getvalue()).status_code == 202
    (kept,) = uploads(storage)
    assert kept.read_bytes() == archive.getvalue()


def test_an_upload_that_fails_afterwards_leaves_no_file(
    client: TestClient, storage: Storage
) -> None:
    for wrong in ({"seed": "none"}, {"side": "-1"}):
        assert upload(client, **wrong).status_code == 422
    assert uploads(storage) == []


def test_a_full_disk_is_said_to_be_so(
    api_client: TestClient, storage: Storage, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    storage.uploads.mkdir(parents=True)
    on_a_full_disk = storage.uploads / "full.zip"
    on_a_full_disk.symlink_to("/dev/full")
    monkeypatch.setattr(storage, "new_upload", lambda _suffix: on_a_full_disk)
    answer = upload(api_client, b"x" * 100_000)
    assert (answer.status_code, answer.json()["title"]) == (507, "The disk is full")
    assert uploads(storage) == []
    with database.transaction(write=False) as session:
        assert session.scalar(select(func.count()).select_from(DataSet)) == 0


def test_no_program_can_make_us_delete_a_file_of_the_servers(
    api_client: TestClient, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "import").mkdir()
    precious = tmp_path / "import" / "precious.zip"
    precious.write_bytes(b"PK")
    source = {"kind": "zip", "path": str(precious)}
    assert api_client.post(API, json={"source": source | {"upload": True}}).status_code == 422
    made = api_client.post(API, json={"source": source}).json()
    assert source_of(database, made["id"])["upload"] is False
    api_client.post(f"/api/v1/jobs/{made['job']['id']}/cancel")
    assert api_client.delete(f"{API}/{made['id']}").status_code == 204
    assert precious.exists()


def test_what_killed_processes_left_of_uploads_is_deleted_at_the_next_start(
    database: Database, storage: Storage
) -> None:
    abandoned, waiting, imported, young = (storage.new_upload(".zip") for _ in range(4))
    for path in (abandoned, waiting, imported):
        os.utime(path, (0, 0))
    with database.transaction() as session:
        session.add(
            DataSet(
                name="failed",
                state="failed",
                source={"kind": "zip", "path": str(waiting), "upload": True},
            )
        )
        session.add(
            DataSet(
                name="ready",
                state="ready",
                source={"kind": "zip", "path": str(imported), "upload": True},
            )
        )
    with database.transaction(write=False) as session:
        service.forget_uploads(session, storage, timedelta(hours=1))
    assert set(uploads(storage)) == {waiting, young}


# ── what an import found ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def blocks(database: Database, storage: Storage) -> DataSet:
    with database.transaction() as session:
        return a_data_set(session, storage, planted=3)


def test_a_data_set_says_what_was_found_class_by_class(
    api_client: TestClient, blocks: DataSet
) -> None:
    found = api_client.get(f"{API}/{blocks.id}").json()
    assert (found["state"], found["class_names"], found["image_count"], found["planted_count"]) == (
        "ready",
        ["left", "middle", "right"],
        60,
        3,
    )
    assert {split: sum(counts.values()) for split, counts in found["counts"].items()} == {
        "train": 42,
        "validation": 9,
        "test": 9,
    }
    assert set(found["counts"]["test"].values()) == {3}
    assert "source" not in found


def test_counts_are_those_of_the_current_version(
    api_client: TestClient, database: Database, blocks: DataSet
) -> None:
    with database.transaction() as session:
        first, second = session.scalars(
            select(Image)
            .where(Image.split == "train", Image.label == 0)
            .order_by(Image.id)
            .limit(2)
        )
        version = Version(data_set_id=blocks.id, number=2, parent_id=blocks.current_version_id)
        session.add(version)
        session.flush()
        session.add_all(
            (
                VersionChange(version_id=version.id, image_id=first.id, label=None),
                VersionChange(version_id=version.id, image_id=second.id, label=2),
            )
        )
        session.get_one(DataSet, blocks.id).current_version_id = version.id
        before = service.counts(session, blocks, blocks.current_version_id)["train"]
    after = api_client.get(f"{API}/{blocks.id}").json()["counts"]["train"]
    assert after == {
        "left": before["left"] - 2,
        "middle": before["middle"],
        "right": before["right"] + 1,
    }


def test_versions_are_listed_newest_first(
    api_client: TestClient, database: Database, blocks: DataSet
) -> None:
    with database.transaction() as session:
        session.add(
            Version(
                data_set_id=blocks.id,
                number=2,
                parent_id=blocks.current_version_id,
                state="proposed",
                note="Cleaned",
                removed_count=4,
            )
        )
    found = api_client.get(f"{API}/{blocks.id}/versions").json()
    assert [(one["number"], one["state"], one["removed_count"]) for one in found] == [
        (2, "proposed", 4),
        (1, "accepted", 0),
    ]


def test_planted_errors_are_named_to_owners_only(
    api_client: TestClient, reviewer_client: TestClient, database: Database, blocks: DataSet
) -> None:
    planted = api_client.get(f"{API}/{blocks.id}/planted").json()["image_ids"]
    with database.transaction(write=False) as session:
        wrong = session.scalars(select(Image).where(Image.id.in_(planted))).all()
    assert len(wrong) == 3
    assert all(image.true_label != image.label for image in wrong)
    assert reviewer_client.get(f"{API}/{blocks.id}/planted").status_code == 403


@pytest.mark.slow
def test_refused_files_come_in_pages_and_as_a_table(
    api_client: TestClient, database: Database, blocks: DataSet
) -> None:
    with database.transaction() as session:
        other = a_data_set(session, name="Other", per_class=3)
        session.add(Refusal(data_set_id=other.id, path="not mine.png", reason="it is another's"))
        session.add_all(
            Refusal(data_set_id=blocks.id, path=f"{number:05}.png", reason="it is empty")
            for number in range(5_003)
        )
        session.add(
            Refusal(
                data_set_id=blocks.id,
                path="=cmd|' /C calc'!A0.png",
                reason="it is, “quoted”\nand long",
            )
        )
    first = api_client.get(f"{API}/{blocks.id}/refusals?limit=2").json()
    assert [one["path"] for one in first["items"]] == ["00000.png", "00001.png"]
    table = api_client.get(f"{API}/{blocks.id}/refusals.csv")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert (
        table.headers["content-disposition"]
        == f'attachment; filename="data-set-{blocks.id}-refused.csv"'
    )
    lines = table.text.splitlines()
    assert lines[:2] == ["path,reason", "00000.png,it is empty"]
    assert len(lines) == 1 + 5_003 + 2
    assert lines[-2] == "=cmd|' /C calc'!A0.png,\"it is, “quoted”"
    assert "not mine" not in table.text
    safe = api_client.get(f"{API}/{blocks.id}/refusals.csv?for=spreadsheets").text
    assert safe.startswith("\ufeffpath,reason")
    assert safe.splitlines()[-2] == "'=cmd|' /C calc'!A0.png,\"it is, “quoted”"
    assert api_client.get(f"{API}/{blocks.id}/refusals.csv?for=me").status_code == 422


def test_a_version_comes_as_a_table_for_programs_and_for_spreadsheets(
    api_client: TestClient, database: Database
) -> None:
    with database.transaction() as session:
        data_set = a_data_set(session, class_names=("-1", "+1"), per_class=10)
        first = session.scalars(select(Image).where(Image.data_set_id == data_set.id)).first()
        assert first is not None
        second = Version(data_set_id=data_set.id, number=2, parent_id=data_set.current_version_id)
        session.add(second)
        session.flush()
        session.add(VersionChange(version_id=second.id, image_id=first.id, label=1))
    address = f"{API}/{data_set.id}/versions/2/manifest.csv"
    answer = api_client.get(address)
    assert (
        answer.headers["content-disposition"]
        == f'attachment; filename="data-set-{data_set.id}-version-2.csv"'
    )
    lines = answer.text.splitlines()
    assert lines[0] == "path,label,split"
    assert f"{first.path},+1,{first.split}" in lines
    assert len(lines) == 1 + 20
    safe = api_client.get(f"{address}?for=spreadsheets")
    assert "-for-spreadsheets.csv" in safe.headers["content-disposition"]
    assert f"'{first.path},'+1,{first.split}" in safe.text.splitlines()
    assert api_client.get(f"{API}/{data_set.id}/versions/3/manifest.csv").status_code == 404


def test_the_list_has_neither_counts_nor_reports_and_is_newest_first(
    api_client: TestClient, database: Database
) -> None:
    with database.transaction() as session:
        ids = [a_data_set(session, name=str(number), per_class=3).id for number in range(3)]
    items = api_client.get(API).json()["items"]
    assert [one["id"] for one in items] == ids[::-1]
    assert "counts" not in items[0]


# ── changing ──────────────────────────────────────────────────────────────────────────────────────


def test_a_data_set_is_renamed(api_client: TestClient, blocks: DataSet) -> None:
    renamed = api_client.patch(f"{API}/{blocks.id}", json={"name": " <b>Blöcke</b>\n🧱 "}).json()
    assert renamed["name"] == "<b>Blöcke</b> 🧱"
    for name in ("", " ", "\x00", "x" * 201):
        assert api_client.patch(f"{API}/{blocks.id}", json={"name": name}).status_code == 422
    assert api_client.get(f"{API}/{blocks.id}").json()["name"] == "<b>Blöcke</b> 🧱"


# session: a Session.
def everything_on(session, storage: Storage, data_set: DataSet) -> None:  # type: ignore[no-untyped-def]
    """A run with review, decisions, scores, second version, finished job, refusals and files."""
    run = a_run(session, data_set)
    review = a_review(session, run)
    image_id = session.scalars(
        select(Suggestion.image_id).where(Suggestion.review_id == review.id)
    ).first()
    session.add(Decision(review_id=review.id, image_id=image_id, client_key="k", action="remove"))
    version = Version(data_set_id=data_set.id, number=2, parent_id=data_set.current_version_id)
    session.add(version)
    session.flush()
    session.add(VersionChange(version_id=version.id, image_id=image_id, label=None))
    session.add(Refusal(data_set_id=data_set.id, path="x", reason="y"))
    a_job(session, kind="import", subject_id=data_set.id, data_set_id=data_set.id, state="done")
    storage.run(run.id).mkdir(parents=True)
    (storage.run(run.id) / "trajectory.safetensors").write_bytes(b"x")


def rows_of(database: Database) -> dict[str, int]:
    with database.transaction(write=False) as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table)) or 0
            for table in Base.metadata.sorted_tables
        }


def test_deleting_takes_all_rows_and_files_and_leaves_those_of_others(
    api_client: TestClient, database: Database, storage: Storage
) -> None:
    with database.transaction() as session:
        everything_on(session, storage, a_data_set(session, storage, name="Stays", per_class=4))
    before = rows_of(database)
    kept = sorted(storage.root.rglob("*"))
    with database.transaction() as session:
        doomed = a_data_set(session, storage, name="Goes", per_class=4)
        everything_on(session, storage, doomed)
        archive = storage.new_upload(".zip")
        doomed.source = {"kind": "zip", "path": str(archive), "upload": True}
    assert api_client.delete(f"{API}/{doomed.id}").status_code == 204
    sweep_discards(database, storage)
    assert rows_of(database) == before
    assert sorted(path for path in storage.root.rglob("*") if path != storage.uploads) == kept
    assert api_client.get(f"{API}/{doomed.id}").status_code == 404


def test_files_stay_when_the_rows_cannot_be_deleted(
    database: Database, storage: Storage, blocks: DataSet
) -> None:
    def fails() -> None:
        with database.transaction() as session:
            service.remove(session, session.get_one(DataSet, blocks.id), storage)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert np.load(storage.pixels(blocks.id), allow_pickle=False).shape == (60, 28, 28, 1)
    assert len(list(storage.data_set(blocks.id).rglob("*.webp"))) == 60


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_data_set_that_a_job_works_on_is_not_deleted(
    api_client: TestClient, database: Database, blocks: DataSet, state: str
) -> None:
    with database.transaction() as session:
        job = a_job(session, subject_id=1, data_set_id=blocks.id, state=state)
    answer = api_client.delete(f"{API}/{blocks.id}")
    assert (answer.status_code, answer.json()["title"]) == (409, "Not possible right now")
    assert "Cancel it or wait" in answer.json()["detail"]
    with database.transaction() as session:
        session.execute(update(Job).where(Job.id == job.id).values(state="failed"))
    assert api_client.delete(f"{API}/{blocks.id}").status_code == 204


def test_a_number_is_not_used_again_so_that_old_addresses_lead_nowhere(
    api_client: TestClient, blocks: DataSet
) -> None:
    api_client.delete(f"{API}/{blocks.id}")
    made = api_client.post(API, json={"source": {"kind": "sample"}}).json()
    assert made["id"] > blocks.id
    assert api_client.get(f"{API}/{blocks.id}").status_code == 404


def test_scores_and_suggestions_go_with_their_images(
    api_client: TestClient, database: Database, storage: Storage
) -> None:
    with database.transaction() as session:
        data_set = a_data_set(session, per_class=4)
        everything_on(session, storage, data_set)
    assert rows_of(database)["scores"] > 0
    api_client.delete(f"{API}/{data_set.id}")
    with database.transaction(write=False) as session:
        assert session.scalar(select(func.count()).select_from(Score)) == 0
        assert session.scalar(select(func.count()).select_from(Suggestion)) == 0


@pytest.mark.postgres
def test_deleting_takes_everything_on_postgresql_too(
    tmp_path: Path, postgres_database: str
) -> None:
    storage = Storage(tmp_path)
    database = Database(postgres_database)
    with database.transaction() as session:
        data_set = a_data_set(session, storage, per_class=4)
        everything_on(session, storage, data_set)
    with database.transaction() as session:
        service.remove(session, session.get_one(DataSet, data_set.id), storage)
    sweep_discards(database, storage)
    assert set(rows_of(database).values()) == {0}
    database.close()
    assert not storage.data_set(data_set.id).exists()


def test_uploads_end_where_the_settings_say(settings: Settings, storage: Storage) -> None:
    assert storage.uploads.is_relative_to(settings.files)
