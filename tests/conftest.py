"""The cast: an owner, a reviewer and an outsider, on a real database in a folder of its own."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from fastapi.testclient import TestClient

from backend.accounts import service as accounts
from backend.core import queue
from backend.core.db import Database
from backend.core.models import Base, User
from backend.core.settings import Settings
from backend.core.storage import Storage
from backend.main import apply_settings, create_app
from tests import servers
from tests.factories import a_user

# As in worker/app.py: waiting threads must not occupy the core. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Tests run side by side, and tiny networks are slower with two threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A browser's headers for an address that a person opened.
NAVIGATION = {"Sec-Fetch-Mode": "navigate"}
# A browser's headers for a request by a page of Winnow.
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
END_OTHER_CONNECTIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND
  pid <> pg_backend_pid()
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        action="store_true",
        help="give every test's application a PostgreSQL database in place of SQLite",
    )

    parser.addoption(
        "--outage",
        default="5",
        help="seconds for which tests/faults/test_database_away.py takes PostgreSQL away",
    )
    parser.addoption(
        "--kills",
        default="8",
        help="processes that tests/faults/test_kill_storm.py kills",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests, so that none of them runs alone at the end."""
    longest = [Path(__file__).parent / name for name in ("loop", "faults")]
    items.sort(key=lambda item: not any(folder in item.path.parents for folder in longest))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with servers.postgres() as url:
        yield url


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings with a database of their own: SQLite, or PostgreSQL with --postgres."""
    url = (
        request.getfixturevalue("postgres_database") if request.config.getoption("postgres") else ""
    )
    return Settings(
        home=tmp_path / "home", import_folders=str(tmp_path / "import"), database_url=url
    )


@pytest.fixture(scope="session")
def postgres_with_tables(postgres_server: str) -> str:
    database = Database(postgres_server)
    Base.metadata.create_all(database.engine)
    database.close()
    return postgres_server


@pytest.fixture
def postgres_database(postgres_with_tables: str) -> str:
    """A database with empty tables; emptying is quicker than making another."""
    orders = sa.create_engine(postgres_with_tables, poolclass=sa.NullPool)
    tables = ", ".join(f'"{name}"' for name in Base.metadata.tables)
    with orders.begin() as connection:
        connection.execute(sa.text(END_OTHER_CONNECTIONS))
        connection.execute(sa.text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
    return postgres_with_tables


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with empty tables; copying is quicker than making another."""
    path = tmp_path_factory.mktemp("database") / "winnow.db"
    database = Database(f"sqlite:///{path}")
    Base.metadata.create_all(database.engine)
    database.close()
    return path


@pytest.fixture(scope="session")
def shared_event_loop() -> Iterator[None]:
    """Share an event loop: test clients would start a loop and threads for each request."""
    with start_blocking_portal() as portal:
        TestClient.portal = portal
        yield
        TestClient.portal = None


@pytest.fixture(scope="session")
def shared_app(shared_event_loop: None, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The application of all tests; making another and its first request are slow."""
    return create_app(Settings(home=tmp_path_factory.mktemp("no-test")))


@pytest.fixture
def app(
    settings: Settings, shared_app: FastAPI, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FastAPI]:
    """The application without a broker: messages are dropped, the job row is the truth.

    Its state and the routes that a test adds are the test's own.
    """
    monkeypatch.setattr(queue, "send", lambda *_: None)
    routes = list(shared_app.router.routes)
    apply_settings(shared_app, settings)
    if not settings.database_url:
        shutil.copy(empty_database, settings.home / "winnow.db")
    yield shared_app
    shared_app.state.database.close()
    if shared_app.router.routes != routes:
        shared_app.router.routes[:] = routes
        shared_app.openapi_schema = None


@pytest.fixture
def database(app: FastAPI) -> Database:
    return app.state.database


@pytest.fixture
def storage(app: FastAPI) -> Storage:
    return app.state.storage


@pytest.fixture
def owner(database: Database) -> User:
    with database.transaction() as session:
        return a_user(session, "olga", "owner")


@pytest.fixture
def reviewer(database: Database) -> User:
    with database.transaction() as session:
        return a_user(session, "rita", "reviewer")


class Browser(TestClient):
    """Read pages like browsers: white space collapses to a space."""

    def request(self, *args: Any, **kwargs: Any) -> Any:
        answer = super().request(*args, **kwargs)
        if answer.headers.get("content-type", "").startswith("text/html"):
            answer._content = re.sub(rb"[ \t\r\n]+", b" ", answer.content)
        return answer


@pytest.fixture
def sign_in(app: FastAPI, database: Database) -> Callable[[User], TestClient]:
    """A browser of that person, signed in by a login link, on Winnow's own pages."""

    def signed_in(user: User) -> TestClient:
        with database.transaction() as session:
            link = accounts.issue_login_link(session, user)
        client = Browser(app, raise_server_exceptions=False, headers=OWN_PAGE)
        client.post("/login", data={"token": link}, follow_redirects=False)
        return client

    return signed_in


@pytest.fixture
def client(sign_in: Callable[[User], TestClient], owner: User) -> TestClient:
    """The owner's browser."""
    return sign_in(owner)


@pytest.fixture
def reviewer_client(sign_in: Callable[[User], TestClient], reviewer: User) -> TestClient:
    return sign_in(reviewer)


@pytest.fixture
def anonymous_client(app: FastAPI) -> TestClient:
    """The outsider's browser."""
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def api_client(app: FastAPI, database: Database, owner: User) -> TestClient:
    """A program with the owner's API token."""
    with database.transaction() as session:
        token = accounts.create_token(session, owner, "tests")
    return TestClient(
        app, raise_server_exceptions=False, headers={"Authorization": f"Bearer {token}"}
    )
