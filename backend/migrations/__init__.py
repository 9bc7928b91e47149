"""Migrations: `upgrade` a database, or `require_current`."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from backend.core.db import DAMAGED, is_damage, make_engine
from backend.core.errors import Conflict
from backend.core.home import make_private
from backend.core.settings import Settings

FOLDER = Path(__file__).parent
OUTDATED = (
    "The database's schema is not this program's. Run `winnow migrate` "
    "(with Docker: `docker compose run --rm migrate`), then start again."
)


def config() -> Config:
    """Configure Alembic without an ini file."""
    made = Config()
    made.set_main_option("script_location", str(FOLDER))
    return made


def upgrade(settings: Settings) -> None:
    """Migrate the database to the newest revision; a concurrent process waits."""
    with _locked(settings.home):
        _with_engine(settings, _upgrade)


def require_current(settings: Settings) -> None:
    """Raise Conflict for a database server whose schema is not current."""
    _with_engine(settings, _require_current)


def prepare(settings: Settings) -> None:
    """Migrate an embedded database; require a current database server."""
    make_private(settings)
    if settings.database.startswith("sqlite"):
        upgrade(settings)
        make_private(settings)
    else:
        require_current(settings)


def revision(engine: Engine) -> str | None:
    """Revision of the database, or None if it is empty."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    return ScriptDirectory(str(FOLDER)).get_current_head()


def _with_engine(settings: Settings, act: Callable[[Engine], None]) -> None:
    engine = make_engine(settings.database)
    try:
        act(engine)
    except DatabaseError as error:
        if not is_damage(error):
            raise
        raise Conflict(DAMAGED) from error
    finally:
        engine.dispose()


def _upgrade(engine: Engine) -> None:
    if revision(engine) == head():
        return
    made = config()
    with engine.begin() as connection:
        made.attributes["connection"] = connection
        command.upgrade(made, "head")


def _require_current(engine: Engine) -> None:
    if revision(engine) != head():
        raise Conflict(OUTDATED)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "migrate.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
