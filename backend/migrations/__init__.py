"""Migrations: `upgrade` a database, or `require_current`. A database belongs to its folder."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, exists, select
from sqlalchemy.exc import DatabaseError

from backend.core.db import DAMAGED, is_damage, make_engine
from backend.core.errors import Conflict
from backend.core.home import make_private
from backend.core.invocation import winnow
from backend.core.models import DataSet, Installation
from backend.core.settings import Settings
from backend.core.storage import Storage

FOLDER = Path(__file__).parent
OUTDATED = (
    "The database's schema is not this program's: it is {found}, and this program needs {needed}. "
    "Run `winnow migrate` (with Docker: `docker compose run --rm migrate`), then start again."
)
NEWER = (
    "The database's schema ({found}) is newer than this program's ({needed}), and a database never "
    "goes back. Start the newer Winnow again, or restore the backup from before the upgrade."
)
ABSENT = (
    "There is no Winnow in {home}. Go to the folder that yours was started from, or name its "
    "state: WINNOW_HOME=/srv/winnow. To begin a new one there: {winnow} up"
)
UNWRITABLE = (
    "{folder} cannot be written by this account (number {account}). Give the folder to it with "
    "chown, or choose another (WINNOW_HOME)."
)
NO_IDENTITY = (
    "{files} is not known as the folder of this database's files. Every web and worker needs the "
    "folder that the first one has, at WINNOW_HOME. If this is that folder, and lost its file "
    "`identity`, say so: winnow migrate --adopt-folder"
)
ANOTHERS = (
    "{files} holds the files of another database. Choose the database's own folder (WINNOW_HOME), "
    "or the folder's own database (WINNOW_DATABASE_URL)."
)


def config() -> Config:
    """Configure Alembic without an ini file."""
    made = Config()
    made.set_main_option("script_location", str(FOLDER))
    return made


def upgrade(settings: Settings, *, adopt_folder: bool = False) -> None:
    """Migrate the database to the newest revision; a concurrent process waits.

    Args:
        settings: database and folder.
        adopt_folder: take the folder as the database's, whatever it was.

    Raises:
        Conflict: the database is newer, or the folder is another's.
    """
    with _locked(settings.home):
        _with_engine(settings, lambda engine: _upgrade(engine, settings, adopt_folder))


def require_present(settings: Settings) -> None:
    """Raise Conflict where no Winnow ever ran: a command must not begin one there."""
    if not (settings.home if settings.database_url else settings.embedded_database).exists():
        raise Conflict(ABSENT.format(home=settings.home.resolve(), winnow=winnow()))


def require_current(settings: Settings) -> None:
    """Raise Conflict for a database whose schema is not current."""
    _with_engine(settings, _require_current)


def prepare(settings: Settings, *, new: bool = False) -> None:
    """Migrate an embedded database; require a current database server, and its folder.

    Raises:
        Conflict: no Winnow there (unless `new`), or a database or folder that does not fit.
    """
    if not new:
        require_present(settings)
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(settings.home, os.W_OK | os.X_OK):
        raise Conflict(UNWRITABLE.format(folder=settings.home.resolve(), account=os.geteuid()))
    make_private(settings)
    if settings.database.startswith("sqlite"):
        upgrade(settings)
        make_private(settings)
    else:
        _with_engine(settings, lambda engine: _require_ready(engine, settings))


def revision(engine: Engine) -> str | None:
    """Revision of the database, or None if it is empty."""
    with _reading(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    return ScriptDirectory(str(FOLDER)).get_current_head()


def _reading(engine: Engine) -> Connection:
    return engine.connect().execution_options(winnow_write=False)


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


def _upgrade(engine: Engine, settings: Settings, adopt_folder: bool) -> None:
    found = revision(engine)
    _refuse_newer(found)
    if found != head():
        made = config()
        with engine.begin() as connection:
            made.attributes["connection"] = connection
            command.upgrade(made, "head")
    storage = Storage(settings.files)
    with _reading(engine) as connection:
        if adopt_folder or _may_adopt(connection, storage, before=found):
            storage.write_identity(_identity(connection))
        _require_folder(connection, settings)


def _may_adopt(connection: Connection, storage: Storage, *, before: str | None) -> bool:
    if storage.read_identity() is not None:
        return False
    is_unmarked = before is None or before < Installation.SINCE
    return is_unmarked or not connection.scalar(select(exists(select(DataSet.id))))


def _require_ready(engine: Engine, settings: Settings) -> None:
    _require_current(engine)
    with _reading(engine) as connection:
        _require_folder(connection, settings)


def _require_current(engine: Engine) -> None:
    found = revision(engine)
    _refuse_newer(found)
    if found != head():
        raise Conflict(OUTDATED.format(found=found or "empty", needed=head()))


def _refuse_newer(found: str | None) -> None:
    known = {script.revision for script in ScriptDirectory(str(FOLDER)).walk_revisions()}
    if found is not None and found not in known:
        raise Conflict(NEWER.format(found=found, needed=head()))


def _require_folder(connection: Connection, settings: Settings) -> None:
    found = Storage(settings.files).read_identity()
    if found != _identity(connection):
        sentence = NO_IDENTITY if found is None else ANOTHERS
        raise Conflict(sentence.format(files=settings.files))


def _identity(connection: Connection) -> str:
    return connection.scalars(select(Installation.identity)).one()


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "migrate.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
