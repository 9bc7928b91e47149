"""What every command begins with: settings, an open database, the person it acts for."""

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
    """The environment's settings, with what the command line gave."""
    return Settings(**{name: value for name, value in given.items() if value is not None})


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    """The database, brought up to date, and the broker to send jobs to."""
    migrations.prepare(settings)
    # A broker that is away is no news to a command: the job waits in its row, and the command says so itself.
    logging.getLogger(queue.__name__).setLevel(logging.ERROR)
    queue.configure(settings.broker)
    database = Database(settings.database)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def transaction(*, write: bool = True) -> Iterator[Session]:
    """One transaction on the database that the environment names."""
    with opened(make_settings()) as database, database.transaction(write=write) as session:
        yield session


def acting(session: Session) -> User:
    """Whom a command acts for: who may use it owns the machine, so the first owner."""
    return accounts.first_owner(session)


def serving(settings: Settings) -> Settings:
    """The settings with the address where this folder is served right now, if it is."""
    where = supervisor.running_address(settings)
    return settings.model_copy(update={"public_url": where}) if where else settings


def is_running(settings: Settings) -> bool:
    """Whether somebody is there to do a job. Where the broker is a server of its own, workers are too, and not ours to look for."""
    return bool(settings.broker_url) or supervisor.running_address(settings) is not None
