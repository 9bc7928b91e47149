"""Begin a command: settings, an open database, its user."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.orm import Session

from backend import migrations
from backend.accounts import service as accounts
from backend.cli import supervisor
from backend.core import queue
from backend.core.db import Database
from backend.core.models import User
from backend.core.settings import Settings


def make_settings(**given: Any) -> Settings:
    return Settings(**{name: value for name, value in given.items() if value is not None})


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    migrations.prepare(settings)
    # Commands report themselves that a job waits for the broker.
    logging.getLogger(queue.__name__).setLevel(logging.ERROR)
    queue.configure(settings.broker)
    database = Database(settings.database)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def transaction(*, write: bool = True) -> Iterator[Session]:
    with opened(make_settings()) as database, database.transaction(write=write) as session:
        yield session


def acting(session: Session) -> User:
    """Return the first owner: the machine's owner runs the commands."""
    return accounts.first_owner(session)


def serving(settings: Settings) -> Settings:
    """Return the settings with the address that serves this folder, if any."""
    where = supervisor.running_address(settings)
    return settings.model_copy(update={"public_url": where}) if where else settings


def is_running(settings: Settings) -> bool:
    """True if this folder is served, or an external broker has workers of its own."""
    return bool(settings.broker_url) or supervisor.running_address(settings) is not None
