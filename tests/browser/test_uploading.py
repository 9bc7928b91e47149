"""Importing from the page: a zip from this machine, with JavaScript and without."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import select

from backend.core.db import Database
from backend.core.models import DataSet, User
from backend.core.storage import Storage
from tests.browser.conftest import PageErrors

pytestmark = pytest.mark.browser


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "Brüche & Kratzer.zip"
    path.write_bytes(b"PK" + b"x" * 3_000_000)
    return path


def import_button(page: Page) -> Locator:
    """Find the upload form's button; a folder has its own."""
    return page.locator("form", has_text="A zip file").get_by_role("button", name="Import")


def only(database: Database) -> DataSet:
    with database.transaction(write=False) as session:
        return session.scalars(select(DataSet)).one()


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_a_chosen_zip_is_uploaded_and_its_page_opens(
    visit: Callable[..., Page],
    owner: User,
    archive: Path,
    database: Database,
    storage: Storage,
    scripts: bool,
) -> None:
    page = visit(owner, java_script_enabled=scripts)
    page.goto("/datasets")
    page.get_by_label("Zip file", exact=True).set_input_files(archive)
    import_button(page).click()
    expect(page.get_by_role("heading", name="Brüche & Kratzer", exact=True)).to_be_visible()
    data_set = only(database)
    assert page.url.endswith(f"/datasets/{data_set.id}")
    (kept,) = storage.uploads.iterdir()
    assert kept.read_bytes() == archive.read_bytes()


def test_an_upload_that_is_refused_says_why_beside_the_button(
    page: Page, app: FastAPI, archive: Path, page_errors: PageErrors, storage: Storage
) -> None:
    page_errors.expect("422")
    page.goto("/datasets")
    page.get_by_label("Zip file", exact=True).set_input_files(archive)
    page.evaluate("document.querySelector('[name=kind]').value = 'usb stick'")
    import_button(page).click()
    expect(page.get_by_role("status")).to_contain_text("kind: must be")
    expect(import_button(page)).to_be_enabled()
    assert list(storage.uploads.iterdir()) == []
