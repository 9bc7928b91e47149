"""Shared fixtures: a transaction with a ready review, and a data set ready to be cleansed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from backend.core import queue
from backend.core.db import Database
from backend.core.models import Review, User
from tests.cleansing_scenario import Scenario
from tests.reviewing import a_ready_review


@pytest.fixture
def session(database: Database, owner: User, reviewer: User) -> Iterator[Session]:
    """A transaction for each test; the people are added before, in transactions of their own."""
    with database.transaction() as session:
        yield session


@pytest.fixture
def review(session: Session) -> Review:
    return a_ready_review(session)


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scenario]:
    monkeypatch.setattr(queue, "send", lambda *_: None)
    made = Scenario(tmp_path / "home")
    yield made
    made.close()
