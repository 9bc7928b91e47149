"""Tests of viewing, deciding and refusing again on PostgreSQL: other locks, planner and types.

All of this folder's run there with `pytest tests/backend --postgres`.
"""

from pathlib import Path

import pytest

from backend.core.settings import Settings
from tests.backend.review import test_service
from tests.backend.review.deciding import test_decisions
from tests.backend.web import test_error_handlers

pytestmark = pytest.mark.postgres

# pytest collects imported tests here too; each then gets this file's `settings`.
for module in (test_error_handlers, test_service, test_decisions):
    globals().update(
        {name: value for name, value in vars(module).items() if name.startswith("test_")}
    )
begun = test_service.begun


@pytest.fixture
def settings(postgres_database: str, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        import_folders=str(tmp_path / "import"),
        database_url=postgres_database,
    )
