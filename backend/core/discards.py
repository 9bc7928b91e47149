"""Deletion of files with their rows: after the commit, and surely."""

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from backend.core.db import Database, after_commit
from backend.core.models import Discard
from backend.core.storage import Storage


def discard(session: Session, storage: Storage, names: list[str]) -> None:
    """Delete files after the commit; what a kill leaves, the next sweep deletes."""
    session.add_all(Discard(path=name) for name in names)

    def delete_files() -> None:
        storage.discard_named(names)

    after_commit(session, delete_files)


def sweep_discards(database: Database, storage: Storage) -> None:
    """Delete what is noted, and forget it once it is gone."""
    with database.transaction(write=False) as session:
        noted = {row.id: row.path for row in session.scalars(select(Discard))}
    if not noted:
        return
    left = storage.discard_named(list(noted.values()))
    gone = [number for number, name in noted.items() if name not in left]
    with database.transaction() as session:
        session.execute(delete(Discard).where(Discard.id.in_(gone)))
