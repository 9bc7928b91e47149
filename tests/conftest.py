"""The cast: an owner, a reviewer and an outsider, on a real database in a folder of its own."""

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from backend.accounts import service as accounts
from backend.core import queue
from backend.core.db import Database
from backend.core.models import Base, User
from backend.core.settings import Settings
from backend.core.storage import Storage
from backend.main import create_app
from tests import servers
from tests.factories import a_user

# As in the worker (worker/app.py): threads that wait must not take the core from whoever works. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What a browser says of an address that a person opened.
NAVIGATION = {"Sec-Fetch-Mode": "navigate"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        action="store_true",
        help="give every test's application a PostgreSQL database in place of SQLite",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The engine's tests first: what everything else stands on, and the quickest to say that something is wrong."""
    items.sort(
        key=lambda item: Path(__file__).parent / "worker" / "engine" not in item.path.parents
    )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with servers.postgres() as url:
        yield url


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Of an application with a database of its own: SQLite, or with --postgres one of PostgreSQL's."""
    url = (
        request.getfixturevalue("postgres_database") if request.config.getoption("postgres") else ""
    )
    return Settings(
        home=tmp_path / "home", import_folders=str(tmp_path / "import"), database_url=url
    )


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> sa.Engine:
    """A database with all tables and no row, which PostgreSQL copies for each test; an engine of another one, to give orders on."""
    orders = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with orders.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE empty_winnow"))
    template = Database(
        str(orders.url.set(database="empty_winnow").render_as_string(hide_password=False))
    )
    Base.metadata.create_all(template.engine)
    template.close()
    return orders


@pytest.fixture
def postgres_database(postgres_template: sa.Engine) -> Iterator[str]:
    name = f"winnow_{uuid.uuid4().hex}"
    with postgres_template.connect() as connection:
        connection.execute(
            sa.text(f"CREATE DATABASE {name} TEMPLATE empty_winnow STRATEGY file_copy")
        )
    yield postgres_template.url.set(database=name).render_as_string(hide_password=False)
    with postgres_template.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all tables and no row: copied for each test, as making it takes longer than most tests do."""
    path = tmp_path_factory.mktemp("database") / "winnow.db"
    database = Database(f"sqlite:///{path}")
    Base.metadata.create_all(database.engine)
    database.close()
    return path


@pytest.fixture
def app(
    settings: Settings, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FastAPI]:
    """The application without a broker: messages are dropped, the job row is the truth."""
    monkeypatch.setattr(queue, "send", lambda _task, _job_id: None)
    app = create_app(settings)
    if not settings.database_url:
        shutil.copy(empty_database, settings.home / "winnow.db")
    yield app
    app.state.database.close()


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


@pytest.fixture
def sign_in(app: FastAPI, database: Database) -> Callable[[User], TestClient]:
    """A browser of that person, signed in by a login link; unsafe requests carry the CSRF token, as htmx sends it."""

    def signed_in(user: User) -> TestClient:
        with database.transaction() as session:
            link = accounts.issue_login_link(session, user)
        client = TestClient(app, raise_server_exceptions=False)
        client.get("/", params={"token": link}, headers=NAVIGATION, follow_redirects=False)
        found = re.search(r'name="csrf-token" content="([^"]+)"', client.get("/account").text)
        assert found is not None
        client.headers["X-CSRF-Token"] = found.group(1)
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
