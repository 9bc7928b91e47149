"""Files go with their rows: a kill between the commit and the deletion leaves nothing for ever."""

from pathlib import Path

import pytest
from sqlalchemy import func, select

from backend.core import discards
from backend.core.db import Database
from backend.core.models import Base, Discard
from backend.core.storage import Storage


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path / 'winnow.db'}")
    Base.metadata.create_all(made.engine)
    return made


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    made = Storage(tmp_path / "files")
    for folder in (made.data_set(1), made.data_set(2), made.run(7)):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x")
    return made


def noted(database: Database) -> int:
    with database.transaction(write=False) as session:
        return session.scalar(select(func.count()).select_from(Discard)) or 0


def discard(database: Database, storage: Storage) -> None:
    with database.transaction() as session:
        discards.discard(session, storage, storage.names_of_data_set(1, [7]))


def test_files_go_after_the_commit_and_the_sweep_forgets_them(
    database: Database, storage: Storage
) -> None:
    discard(database, storage)
    assert not storage.data_set(1).exists()
    assert not storage.run(7).exists()
    assert storage.data_set(2).exists()
    discards.sweep_discards(database, storage)
    assert noted(database) == 0


def test_what_a_kill_left_the_sweep_deletes(
    database: Database, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "discard_named", lambda *_: set())  # killed before it
        discard(database, storage)
    assert storage.data_set(1).exists()
    discards.sweep_discards(database, storage)
    assert not storage.data_set(1).exists()
    assert not storage.run(7).exists()
    assert storage.data_set(2).exists()
    assert noted(database) == 0


def test_what_cannot_be_deleted_stays_noted(
    database: Database, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "discard", lambda *_: None)
        discard(database, storage)
        discards.sweep_discards(database, storage)
    assert noted(database) == 2
    discards.sweep_discards(database, storage)
    assert noted(database) == 0


def test_a_rolled_back_deletion_deletes_nothing(database: Database, storage: Storage) -> None:
    def fails() -> None:
        with database.transaction() as session:
            discards.discard(session, storage, storage.names_of_data_set(1, [7]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert storage.data_set(1).exists()
    assert noted(database) == 0
