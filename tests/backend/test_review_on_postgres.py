"""The tests of looking and deciding once more, on a real PostgreSQL: its locks, its planner and its types are others."""

from collections.abc import Iterator

import pytest

from backend.db import Database
from backend.models import Base
from tests.backend import test_review_decisions, test_review_service
from tests.servers import postgres

pytestmark = pytest.mark.postgres

# pytest collects what it finds under these names here too; each test then gets this file's `database`.
for module in (test_review_service, test_review_decisions):
    globals().update({name: value for name, value in vars(module).items() if name.startswith("test_")})
session, review, begun = test_review_decisions.session, test_review_decisions.review, test_review_service.begun


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture
def database(server: str) -> Iterator[Database]:
    database = Database(server)
    Base.metadata.create_all(database.engine)
    yield database
    Base.metadata.drop_all(database.engine)
    database.close()
