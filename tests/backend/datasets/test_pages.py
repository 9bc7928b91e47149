"""Data sets as pages: the ways to import, the report, and the pictures."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from backend.core.db import Database
from backend.core.models import DataSet, Image, Job, Refusal, Run, Version
from backend.core.storage import Storage
from tests.factories import a_data_set, a_job, a_review, a_run


@pytest.fixture
def blocks(database: Database, storage: Storage) -> DataSet:
    with database.transaction() as session:
        return a_data_set(
            session, storage, class_names=("left", "<i>middle</i>", "right"), planted=3
        )


def only(database: Database) -> DataSet:
    with database.transaction(write=False) as session:
        return session.scalars(select(DataSet)).one()


# ── importing ─────────────────────────────────────────────────────────────────────────────────────


def test_the_first_page_says_what_to_do(client: TestClient) -> None:
    text = client.get("/datasets").text
    assert "No data set yet" in text
    assert "your own images below" in text
    assert 'enctype="multipart/form-data"' in text


def test_a_reviewer_is_not_offered_what_only_owners_do(
    reviewer_client: TestClient, blocks: DataSet
) -> None:
    assert 'method="post"' not in reviewer_client.get("/datasets").text
    text = reviewer_client.get(f"/datasets/{blocks.id}").text
    assert "Train a model" not in text
    assert "Delete this data set" not in text


def test_a_folder_can_only_be_chosen_where_one_was_opened(app: FastAPI, client: TestClient) -> None:
    assert "A folder on the server" in client.get("/datasets").text
    app.state.settings.import_folders = ""
    assert "A folder on the server" not in client.get("/datasets").text


def test_an_uploaded_zip_leads_to_its_page_with_progress(
    client: TestClient, database: Database, storage: Storage
) -> None:
    answer = client.post(
        "/datasets",
        files={"file": ("photos.zip", b"PK")},
        data={"kind": "upload", "name": ""},
        follow_redirects=False,
    )
    data_set = only(database)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/datasets/{data_set.id}")
    assert (data_set.name, data_set.state) == ("photos", "importing")
    text = client.get(answer.headers["location"]).text
    assert "Waiting for a free worker" in text
    assert 'hx-trigger="every 1s"' in text


def test_the_sample_and_a_folder_are_imported_too(
    client: TestClient, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "import" / "Birds"
    folder.mkdir(parents=True)
    assert (
        client.post(
            "/datasets", data={"kind": "folder", "path": str(folder)}, follow_redirects=False
        ).status_code
        == 303
    )
    assert only(database).source == {"kind": "folder", "path": str(folder), "upload": False}
    assert (
        client.post("/datasets", data={"kind": "sample"}, follow_redirects=False).status_code == 303
    )


def test_an_archive_on_the_server_is_told_from_a_folder(
    client: TestClient, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "import").mkdir()
    (tmp_path / "import" / "a.zip").write_bytes(b"PK")
    client.post("/datasets", data={"kind": "folder", "path": str(tmp_path / "import" / "a.zip")})
    assert only(database).source["kind"] == "zip"


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"kind": "upload"}, 422, "Choose a zip file first"),
        ({}, 422, "Choose a zip file first"),
        ({"kind": "folder", "path": ""}, 422, "Say which folder or file on the server to import."),
        ({"kind": "folder", "path": "/etc"}, 403, "WINNOW_IMPORT_FOLDERS"),
        ({"kind": "usb stick"}, 422, "kind: must be"),
        ({"kind": "sample", "name": "x" * 201}, 422, "name: must have at most 200 characters"),
        ({"kind": "sample", "seed": "-1"}, 422, "seed: must be 0 or more"),
    ],
)
def test_what_cannot_be_imported_is_said_in_a_sentence(
    client: TestClient, fields: dict[str, str], status: int, sentence: str
) -> None:
    answer = client.post("/datasets", data=fields)
    assert answer.status_code == status
    assert f'role="alert">{sentence}' in answer.text or sentence in answer.text
    assert "No data set yet" in client.get("/datasets").text


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_an_import_that_failed_says_why_and_offers_another_try_and_to_delete_it(
    client: TestClient, database: Database, state: str
) -> None:
    with database.transaction() as session:
        data_set = DataSet(
            name="Broken",
            state="failed" if state == "failed" else "importing",
            source={"kind": "sample"},
        )
        session.add(data_set)
        session.flush()
        job = a_job(
            session, kind="import", subject_id=data_set.id, data_set_id=data_set.id, state=state
        )
        job.error = "The archive ends too early. Send it again." if state == "failed" else None
    text = client.get(f"/datasets/{data_set.id}").text
    assert (
        "The archive ends too early. Send it again." if state == "failed" else "This was stopped"
    ) in text
    assert f'action="/jobs/{job.id}/retry"' in text
    assert f'action="/datasets/{data_set.id}/delete"' in text
    assert 'href="/datasets#import">Choose another file' in text
    assert (
        f"The import {'failed' if state == 'failed' else 'was stopped'}."
        in client.get("/datasets").text
    )
    refused = client.get(f"/datasets/{data_set.id}/runs/new")
    assert (refused.status_code, "so there is nothing to train on" in refused.text) == (409, True)
    client.post(f"/jobs/{job.id}/retry")
    with database.transaction(write=False) as session:
        assert session.get_one(Job, job.id).state == "queued"


# ── what was found ────────────────────────────────────────────────────────────────────────────────


def test_the_page_shows_classes_counts_and_examples_and_the_next_step(
    client: TestClient, blocks: DataSet
) -> None:
    text = client.get(f"/datasets/{blocks.id}").text
    assert "60 images, 3 classes, grey. The model sees them at 28 × 28 pixels." in text
    assert "<b>3</b> training labels were made wrong on purpose" in text
    assert "&lt;i&gt;middle&lt;/i&gt;" in text
    assert f'href="/datasets/{blocks.id}/runs/new">Train a model' in text
    assert text.count(f'src="/images/{blocks.id}/thumbnails/') == 3 * 8


def test_once_there_is_a_training_the_next_step_is_to_go_on_with_it(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    with database.transaction() as session:
        run = a_run(session, blocks)
    text = client.get(f"/datasets/{blocks.id}").text
    assert f'href="/runs/{run.id}">Continue with training {run.id}' in text
    assert "Train again" in text


def test_the_training_that_is_furthest_on_is_gone_on_with(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    with database.transaction() as session:
        finished, reviewed = a_run(session, blocks), a_run(session, blocks)
        a_review(session, reviewed)
        a_run(session, blocks, state="queued")
    assert f"Continue with training {reviewed.id}" in client.get(f"/datasets/{blocks.id}").text
    with database.transaction() as session:
        session.delete(session.get_one(Run, reviewed.id))
    assert f"Continue with training {finished.id}" in client.get(f"/datasets/{blocks.id}").text


def test_the_list_leads_to_the_form_that_imports(client: TestClient, blocks: DataSet) -> None:
    text = client.get("/datasets").text
    assert 'href="#import"' in text
    assert 'id="import"' in text


def test_behind_the_oldest_data_set_the_list_says_so(client: TestClient, blocks: DataSet) -> None:
    text = client.get("/datasets?after=-1").text
    assert "No older data sets" in text
    assert "No data set yet" not in text


def test_after_an_accepted_cleansing_the_next_step_is_a_second_round(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    with database.transaction() as session:
        a_run(session, blocks)
        version = Version(data_set_id=blocks.id, number=2, parent_id=blocks.current_version_id)
        session.add(version)
        session.flush()
        session.get_one(DataSet, blocks.id).current_version_id = version.id
    assert (
        f'href="/datasets/{blocks.id}/runs/new">Train a model'
        in client.get(f"/datasets/{blocks.id}").text
    )


def test_trainings_name_their_version_and_the_first_version_is_as_imported(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    with database.transaction() as session:
        run = a_run(session, blocks)
        version = Version(
            data_set_id=blocks.id, number=2, parent_id=blocks.current_version_id, state="accepted"
        )
        session.add(version)
        session.flush()
        session.get_one(DataSet, blocks.id).current_version_id = version.id
    text = client.get(f"/datasets/{blocks.id}").text
    assert f"Training {run.id}</a> on version 1 " in text
    assert re.findall(r'Version (\d)(?:</a>)? <span class="badge[^>]*>([^<]+)<', text) == [
        ("2", "current"),
        ("1", "as imported"),
    ]


def test_refused_files_are_shown_with_reasons_and_the_rest_can_be_downloaded(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    with database.transaction() as session:
        session.add_all(
            Refusal(data_set_id=blocks.id, path=f"<b>{number}</b>.png", reason="it is empty & sad")
            for number in range(25)
        )
        session.get_one(DataSet, blocks.id).refused_count = 25
    text = client.get(f"/datasets/{blocks.id}").text
    assert "25 files were refused" in text
    assert "&lt;b&gt;19&lt;/b&gt;.png" in text
    assert "&lt;b&gt;20&lt;/b&gt;.png" not in text
    assert "it is empty &amp; sad" in text
    assert "The download has all of them." in text
    assert len(client.get(f"/datasets/{blocks.id}/refusals.csv").text.splitlines()) == 26


def test_what_the_import_understood_stands_before_the_training(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    with database.transaction() as session:
        session.get_one(DataSet, blocks.id).report = {
            "understood": ["Splits found as folders: <b>train, eval is test."],
            "split_words": "Splits as given.",
            "notes": ["The images in pred have no labels and were left out."],
        }
    text = client.get(f"/datasets/{blocks.id}").text
    places = [
        text.index(words)
        for words in (
            "What the import understood",
            "Splits found as folders: &lt;b&gt;train, eval is test.",
            "The images in pred have no labels and were left out.",
            "Train a model",
        )
    ]
    assert places == sorted(places)


def test_each_table_can_be_had_for_programs_and_for_spreadsheets(
    client: TestClient, blocks: DataSet
) -> None:
    text = client.get(f"/datasets/{blocks.id}").text
    address = f"/datasets/{blocks.id}/versions/1/manifest.csv"
    assert f'<a href="{address}">for programs</a>' in text
    assert f'<a href="{address}?for=spreadsheets">for spreadsheets</a>' in text
    assert client.get(address).text.startswith("path,label,split\r\n")
    assert client.get(f"{address}?for=spreadsheets").text.startswith("\ufeffpath,label,split\r\n")


def test_the_form_lets_columns_and_encodings_be_chosen(client: TestClient) -> None:
    text = client.get("/datasets").text
    for name in ("path_column", "label_column", "split_column", "names_encoding"):
        assert f'name="{name}"' in text
    assert '<option value="gbk">GBK (simplified Chinese)</option>' in text


def test_older_data_sets_are_a_page_further_on(client: TestClient, database: Database) -> None:
    with database.transaction() as session:
        session.add_all(DataSet(name=f"Number {number}", state="ready") for number in range(51))
    first = client.get("/datasets").text
    assert "Number 50<" in first
    assert "Number 0<" not in first
    assert "Number 0<" in client.get("/datasets?after=2").text


# ── changing ──────────────────────────────────────────────────────────────────────────────────────


def test_a_data_set_is_renamed_and_deleted(
    client: TestClient, blocks: DataSet, storage: Storage
) -> None:
    renamed = client.post(
        f"/datasets/{blocks.id}/rename",
        data={"name": "Bricks & <b>more</b>"},
        follow_redirects=False,
    )
    assert renamed.headers["location"] == f"/datasets/{blocks.id}"
    assert ">Bricks &amp; &lt;b&gt;more&lt;/b&gt;</h1>" in client.get(f"/datasets/{blocks.id}").text
    assert client.post(f"/datasets/{blocks.id}/rename", data={"name": " "}).status_code == 422
    gone = client.post(f"/datasets/{blocks.id}/delete", follow_redirects=False)
    assert (gone.status_code, gone.headers["location"]) == (303, "/datasets")
    assert client.get(f"/datasets/{blocks.id}").status_code == 404
    assert not storage.data_set(blocks.id).exists()


def test_deleting_is_asked_about_first(client: TestClient, blocks: DataSet) -> None:
    assert (
        'data-question="Delete this data set with its images, trainings and verdicts? This '
        'cannot be undone."' in (client.get(f"/datasets/{blocks.id}").text)
    )


# ── pictures ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def picture(database: Database, blocks: DataSet) -> str:
    with database.transaction(write=False) as session:
        return (
            session.scalars(
                select(Image.content_hash).where(Image.data_set_id == blocks.id)
            ).first()
            or ""
        )


def test_a_picture_is_sent_once_and_then_kept_by_the_browser(
    client: TestClient, blocks: DataSet, picture: str, storage: Storage
) -> None:
    address = f"/images/{blocks.id}/thumbnails/{picture}.webp"
    answer = client.get(address)
    assert answer.content == storage.thumbnail(blocks.id, picture).read_bytes()
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    for known in (
        answer.headers["etag"],
        f"W/{answer.headers['etag']}",
        f'"other", {answer.headers["etag"]}',
    ):
        again = client.get(address, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (
            304,
            b"",
            answer.headers["etag"],
        )
    assert client.get(address, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_large_picture_is_the_thumbnail_where_that_shows_every_pixel(
    client: TestClient, blocks: DataSet, picture: str, storage: Storage
) -> None:
    address = f"/images/{blocks.id}/full/{picture}.webp"
    assert client.get(address).content == storage.thumbnail(blocks.id, picture).read_bytes()
    large = storage.full_image(blocks.id, picture)
    large.parent.mkdir(parents=True)
    large.write_bytes(b"large")
    assert client.get(address).content == b"large"


ELSEWHERE = (
    ("thumbnails", "0" * 64),
    ("thumbnails", "../../../../secret"),
    ("thumbnails", "..%2f..%2f..%2fsecret"),
    ("thumbnails", "%2e%2e%2f%2e%2e%2fsecret"),
    ("thumbnails", "%00"),
    ("thumbnails", "A" * 64),
    ("thumbnails", "a" * 63),
    ("thumbnails", "a" * 64 + "%0a"),
    ("..", "a" * 64),
    ("%2e%2e", "a" * 64),
    ("pixels", "a" * 64),
)


def test_no_name_leads_out_of_the_folder_of_pictures(client: TestClient, blocks: DataSet) -> None:
    for view, name in ELSEWHERE:
        assert client.get(f"/images/{blocks.id}/{view}/{name}.webp").status_code == 404, (
            view,
            name,
        )


def test_a_picture_of_one_data_set_is_not_found_in_another(
    client: TestClient, blocks: DataSet, picture: str, database: Database
) -> None:
    with database.transaction() as session:
        other = a_data_set(session, name="Other", per_class=2)
    assert client.get(f"/images/{other.id}/thumbnails/{picture}.webp").status_code == 404


def test_a_picture_whose_file_is_gone_is_not_found(
    client: TestClient, blocks: DataSet, picture: str, storage: Storage
) -> None:
    storage.thumbnail(blocks.id, picture).unlink()
    assert client.get(f"/images/{blocks.id}/thumbnails/{picture}.webp").status_code == 404


def test_pictures_are_for_who_is_signed_in(
    anonymous_client: TestClient, blocks: DataSet, picture: str
) -> None:
    headers = {"Sec-Fetch-Mode": "no-cors"}
    assert (
        anonymous_client.get(
            f"/images/{blocks.id}/thumbnails/{picture}.webp", headers=headers
        ).status_code
        == 401
    )
