"""Pictures require a login; a page with a hundred of them queries the database once."""

from collections.abc import Callable

import pytest
from cachetools import TTLCache
from fastapi.testclient import TestClient
from sqlalchemy import delete

from backend.accounts import dependencies
from backend.core.db import Database
from backend.core.models import Credential, User
from backend.core.storage import Storage
from tests.factories import a_data_set


@pytest.fixture
def address(database: Database, storage: Storage) -> str:
    with database.transaction() as session:
        data_set = a_data_set(session, storage, per_class=4)
    picture = next(storage.data_set(data_set.id).glob("thumbnails/*/*.webp"))
    return f"/images/{data_set.id}/thumbnails/{picture.stem}.webp"


def test_pictures_are_for_people_who_are_signed_in(
    anonymous_client: TestClient, api_client: TestClient, address: str
) -> None:
    refused = anonymous_client.get(address, follow_redirects=False)
    assert (refused.status_code, refused.headers["Location"].startswith("/login")) == (303, True)
    anonymous_client.cookies.set(dependencies.COOKIE, "made up")
    assert anonymous_client.get(address, follow_redirects=False).status_code == 303
    assert api_client.get(address).status_code == 200
    assert (
        api_client.get(
            address, headers={"Authorization": "Bearer made up"}, follow_redirects=False
        ).status_code
        == 303
    )


def test_a_session_that_ended_loses_its_pictures_after_moments(
    sign_in: Callable[[User], TestClient],
    owner: User,
    address: str,
    database: Database,
) -> None:
    client = sign_in(owner)
    now = [1000.0]
    client.app.state.recent_sign_ins = TTLCache(
        dependencies.MOST_RECENT, dependencies.RECENT_SECONDS, lambda: now[0]
    )
    assert client.get(address).status_code == 200
    with database.transaction() as session:
        session.execute(delete(Credential))
    now[0] += dependencies.RECENT_SECONDS - 0.1
    assert client.get(address).status_code == 200
    now[0] += 0.2
    assert client.get(address, follow_redirects=False).status_code == 303


def test_what_is_remembered_of_sign_ins_stays_small(client: TestClient, address: str) -> None:
    recent = client.app.state.recent_sign_ins
    for number in range(dependencies.MOST_RECENT):
        recent[number.to_bytes(2)] = True
    assert client.get(address).status_code == 200
    assert len(recent) == dependencies.MOST_RECENT
