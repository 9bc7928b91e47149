"""The migrations make exactly the schema of the models, on both databases."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from backend import migrations
from backend.core.db import Database, make_engine
from backend.core.errors import Conflict
from backend.core.models import Base
from backend.core.settings import Settings
from tests import servers
from tests.factories import a_data_set


@pytest.fixture
def sqlite(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, database_url="")


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with servers.postgres() as url:
        yield url


def differences(url: str) -> list[object]:
    """Return the changes that Alembic would still make, with foreign keys, types and indexes."""
    engine = make_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "target_metadata": Base.metadata}
        )
        found = compare_metadata(context, Base.metadata)
    engine.dispose()
    return found


def test_migrations_make_the_schema_of_the_models_on_sqlite(sqlite: Settings) -> None:
    migrations.upgrade(sqlite)
    assert differences(sqlite.database) == []


@pytest.mark.postgres
def test_migrations_make_the_schema_of_the_models_on_postgresql(
    tmp_path: Path, postgres_url: str
) -> None:
    migrations.upgrade(Settings(home=tmp_path, database_url=postgres_url))
    assert differences(postgres_url) == []


def test_a_missing_column_would_be_noticed(sqlite: Settings) -> None:
    migrations.upgrade(sqlite)
    engine = make_engine(sqlite.database)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE users DROP COLUMN role"))
    engine.dispose()
    assert differences(sqlite.database) != []


def test_a_second_upgrade_changes_nothing_and_keeps_the_rows(sqlite: Settings) -> None:
    migrations.upgrade(sqlite)
    engine = make_engine(sqlite.database)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO users (name, role, created_at) VALUES ('owner', 'owner', '2026-01-01')"
            )
        )
    migrations.upgrade(sqlite)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM users")).scalar() == 1
    engine.dispose()


def test_downgrading_to_nothing_leaves_only_alembics_own_table(sqlite: Settings) -> None:
    migrations.upgrade(sqlite)
    engine = make_engine(sqlite.database)
    with engine.begin() as connection:
        made = migrations.config()
        made.attributes["connection"] = connection
        migrations.command.downgrade(made, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()


def test_a_starting_process_brings_an_embedded_database_up_to_date(sqlite: Settings) -> None:
    migrations.prepare(sqlite, new=True)
    migrations.require_current(sqlite)


@pytest.mark.parametrize(
    "act", [migrations.upgrade, migrations.prepare, migrations.require_current]
)
def test_a_database_from_a_newer_program_is_refused_with_what_to_do(
    sqlite: Settings, act: Callable[[Settings], None]
) -> None:
    migrations.upgrade(sqlite)
    write(sqlite, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Conflict, match=r"\(9999\) is newer .* Start the newer Winnow again"):
        act(sqlite)


def write(settings: Settings, order: str) -> None:
    engine = make_engine(settings.database)
    with engine.begin() as connection:
        connection.execute(text(order))
    engine.dispose()


# ── the folder that belongs to the database ───────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_process_that_sees_another_folder_refuses_to_start(tmp_path: Path) -> None:
    """As a worker of another machine whose volume is its own."""
    first = Settings(home=tmp_path / "first", database_url=f"sqlite:///{tmp_path / 'shared.db'}")
    migrations.upgrade(first)
    with closing(Database(first.database)) as database, database.transaction() as session:
        a_data_set(session)
    other = first.model_copy(update={"home": tmp_path / "other"})
    other.home.mkdir()
    with pytest.raises(Conflict, match="not known as the folder of this database's files"):
        migrations.prepare(other)
    migrations.upgrade(Settings(home=other.home, database_url=""))
    with pytest.raises(Conflict, match="holds the files of another database"):
        migrations.prepare(other)
    with pytest.raises(Conflict, match="holds the files of another database"):
        migrations.upgrade(other)
    migrations.upgrade(other, adopt_folder=True)
    migrations.prepare(other)
    migrations.prepare(first)


def test_a_folder_from_before_folders_had_identities_is_taken_on_by_the_upgrade(
    sqlite: Settings,
) -> None:
    engine = make_engine(sqlite.database)
    with engine.begin() as connection:
        made = migrations.config()
        made.attributes["connection"] = connection
        migrations.command.upgrade(made, "0007")
        connection.execute(
            text(
                "INSERT INTO users (name, role, created_at) VALUES ('olga', 'owner', '2026-01-01')"
            )
        )
    engine.dispose()
    assert not (sqlite.files / "identity").exists()
    migrations.prepare(sqlite)
    assert (sqlite.files / "identity").exists()


def test_a_folder_that_cannot_be_written_is_refused_and_a_full_one_is_not(
    sqlite: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations.upgrade(sqlite)
    # A superuser may write everywhere: ask as if this were another account.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(Conflict, match=r"cannot be written by this account .*chown"):
        migrations.prepare(sqlite)


def test_nothing_but_a_start_or_a_migration_begins_a_new_winnow(tmp_path: Path) -> None:
    for settings in (
        Settings(home=tmp_path / "absent"),
        Settings(home=tmp_path / "absent", database_url="postgresql+psycopg://u@127.0.0.1:1/x"),
    ):
        with pytest.raises(Conflict, match=r"There is no Winnow in .*absent.*WINNOW_HOME="):
            migrations.prepare(settings)
    assert not (tmp_path / "absent").exists()


def test_a_starting_process_refuses_a_database_server_that_was_not_migrated(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with pytest.raises(Conflict, match="winnow migrate"):
        migrations.require_current(settings)


def test_no_number_is_ever_given_twice(sqlite: Settings) -> None:
    """Addresses, folders and decisions waiting in a browser must keep their meaning."""
    migrations.upgrade(sqlite)
    engine = make_engine(sqlite.database)
    with engine.begin() as connection:
        made = dict(
            connection.execute(
                text("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
            ).all()
        )
        add = text(
            "INSERT INTO users (name, role, created_at) VALUES ('olga', 'owner', '2026-01-01') "
            "RETURNING id"
        )
        first = connection.execute(add).scalar_one()
        connection.execute(text("DELETE FROM users"))
        second = connection.execute(add).scalar_one()
    engine.dispose()
    assert second > first
    for table in Base.metadata.tables.values():
        if "id" in table.primary_key.columns:
            assert "AUTOINCREMENT" in made[table.name], table.name


def test_deleting_images_never_scans_a_table(sqlite: Settings) -> None:
    """A foreign key to images without an index makes each deletion read the whole other table."""
    migrations.upgrade(sqlite)
    engine = make_engine(sqlite.database)
    found = inspect(engine)
    for table in found.get_table_names():
        leading = {index["column_names"][0] for index in found.get_indexes(table)} | {
            found.get_pk_constraint(table)["constrained_columns"][:1][0]
        }
        for key in found.get_foreign_keys(table):
            if key["referred_table"] == "images":
                assert key["constrained_columns"][0] in leading, table
    engine.dispose()
