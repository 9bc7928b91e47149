"""A role beyond the product's own."""

import pytest

from backend.accounts import service as accounts
from backend.core.db import Database
from backend.core.models import User
from backend.web import access
from backend.web.access import ROLES, Role


@pytest.fixture
def viewer(database: Database, monkeypatch: pytest.MonkeyPatch) -> User:
    """A person with a role that is added to the table and nowhere else."""
    role = Role(frozenset(), "You can look at everything.")
    monkeypatch.setattr(access, "ROLES", {**ROLES, "viewer": role})
    monkeypatch.setattr(accounts, "ROLES", access.ROLES)
    with database.transaction() as session:
        return accounts.create_user(session, "Vera Viewer", "viewer")
