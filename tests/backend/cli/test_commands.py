"""The command line: results, and for each mistake a sentence and a status other than 0."""

import csv
import io
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet
import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from typer.testing import CliRunner, Result

from backend.cli import app, supervisor
from backend.core.db import Database
from backend.core.models import (
    Credential,
    DataSet,
    Image,
    Job,
    JobLogLine,
    Refusal,
    Review,
    Run,
    User,
    Version,
    VersionChange,
)
from backend.core.settings import Settings
from tests.factories import a_data_set, a_job, a_review, a_run, a_user
from tests.world import a_question

Winnow = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("WINNOW_DATABASE_URL", "WINNOW_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WINNOW_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def winnow(home: Path) -> Winnow:
    """Run a command; anything but a sentence and a status is raised."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(
            app, [str(argument) for argument in arguments], catch_exceptions=False
        )

    return run


@pytest.fixture
def database(winnow: Winnow, home: Path) -> Iterator[Database]:
    winnow("migrate")
    made = Database(f"sqlite:///{home / 'winnow.db'}")
    yield made
    made.close()


@contextmanager
def a_running_winnow(
    home: Path, database: Database, end: Callable[[Session, Job], None], times: int = 1
) -> Iterator[None]:
    """Hold the folder like a running Winnow, and end the first queued jobs as `end` says."""
    stop = threading.Event()

    def work() -> None:
        ended = 0
        while ended < times and not stop.wait(0.05):
            with database.transaction() as session:
                job = session.scalar(select(Job).where(Job.state == "queued"))
                if job is not None:
                    end(session, job)
                    ended += 1

    with supervisor._only_one(Settings(home=home)):
        supervisor._note_address(Settings(home=home, port=8123))
        worker = threading.Thread(target=work)
        worker.start()
        yield
        stop.set()
        worker.join()


def done(session: Session, job: Job) -> None:
    """End an import at once: the images found, and the state."""
    found = a_data_set(session, name="scratch")
    session.execute(
        update(Image).where(Image.data_set_id == found.id).values(data_set_id=job.subject_id)
    )
    session.execute(
        update(Version).where(Version.data_set_id == found.id).values(data_set_id=job.subject_id)
    )
    data_set = session.get_one(DataSet, job.subject_id)
    data_set.state, data_set.class_names, data_set.image_count = (
        "ready",
        found.class_names,
        found.image_count,
    )
    data_set.current_version_id, data_set.refused_count = found.current_version_id, 7
    session.add_all(
        Refusal(data_set_id=data_set.id, path=f"[b]{number}.jpg", reason="It is empty.")
        for number in range(7)
    )
    job.state = "done"


def failed(session: Session, job: Job) -> None:
    job.state, job.error = "failed", "There are no images in it."


def asking(session: Session, job: Job) -> None:
    data_set = session.get_one(DataSet, job.subject_id)
    data_set.state, data_set.report = "asking", {"question": a_question()}
    session.add(Refusal(data_set_id=data_set.id, path="x.jpg", reason="It is empty."))
    job.state = "asking"


# ── import ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_an_import_is_queued_where_no_winnow_runs_and_says_so(
    winnow: Winnow, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "fruit").mkdir()
    options = ("--label-column", "Kind", "--names-encoding", "GBK")
    result = winnow("import", tmp_path / "fruit", "--seed", 7, "--side", 32, *options)
    assert result.exit_code == 0
    assert "Job 1 imports it as soon as Winnow runs (" in result.stderr
    with database.transaction() as session:
        data_set, job = session.get_one(DataSet, int(result.stdout)), session.get_one(Job, 1)
        assert (data_set.name, data_set.seed) == ("fruit", 7)
        assert data_set.source == {
            "kind": "folder",
            "path": str(tmp_path / "fruit"),
            "upload": False,
            "side": 32,
            "label_column": "Kind",
            "names_encoding": "gbk",
        }
        assert (job.kind, job.state, job.subject_id) == ("import", "queued", data_set.id)
        assert session.get_one(User, job.created_by).role == "owner"


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("folder",), "folder"),
        (("folder", "--idx"), "idx"),
        (("file.zip",), "zip"),
        (("--sample",), "sample"),
    ],
)
def test_what_is_imported_follows_from_the_path(
    winnow: Winnow,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    kind: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file.zip").touch()
    data_set_id = int(winnow("import", *arguments, "--name", "Mine", "--no-wait").stdout)
    with database.transaction() as session:
        data_set = session.get_one(DataSet, data_set_id)
        assert (data_set.name, data_set.source["kind"]) == ("Mine", kind)
        # The worker runs elsewhere: a path relative to this folder would mean nothing to it.
        assert kind == "sample" or Path(data_set.source["path"]).is_absolute()


def test_a_followed_import_says_what_was_found(
    winnow: Winnow, database: Database, home: Path, tmp_path: Path
) -> None:
    with a_running_winnow(home, database, done):
        result = winnow("import", tmp_path, "--name", "Blocks")
    assert result.exit_code == 0, result.stderr
    found = dict(line.split("\t") for line in result.stdout.splitlines())
    assert found == {
        "data set": "1",
        "name": "Blocks",
        "classes": "3",
        "images": "60",
        "train": "42",
        "validation": "9",
        "test": "9",
        "refused": "7",
        "duplicates": "0",
    }
    assert "Refused: [b]0.jpg: It is empty." in result.stderr
    assert "and 2 more" in result.stderr
    assert "http://127.0.0.1:8123/datasets/1" in result.stderr


def test_an_import_that_fails_ends_with_its_sentence_and_a_status(
    winnow: Winnow, database: Database, home: Path, tmp_path: Path
) -> None:
    with a_running_winnow(home, database, failed):
        result = winnow("import", tmp_path, "--name", "Empty")
    assert result.exit_code == 1
    assert "Import Empty: There are no images in it." in result.stderr
    assert result.stdout == ""


@pytest.mark.slow
def test_an_import_that_asks_names_the_question_and_the_way_to_answer(
    winnow: Winnow, database: Database, home: Path, tmp_path: Path
) -> None:
    with a_running_winnow(home, database, asking):
        result = winnow("import", tmp_path, "--name", "Either")
    assert result.exit_code == 1
    assert "These look like splits:" in result.stderr
    assert "splits: They are splits. " in result.stderr
    assert "exam is test; classes: " in result.stderr
    assert "and 2 more." in result.stderr
    assert "Refused: x.jpg: It is empty." in result.stderr
    assert "answer 1 splits|classes, or import again with --layout." in result.stderr
    assert winnow("answer", 1, "neither").exit_code == 1
    assert winnow("answer", 1, "splits").exit_code == 0
    assert winnow("answer", 1, "splits").exit_code == 0
    with database.transaction() as session:
        assert session.get_one(DataSet, 1).source["layout"] == "splits"
        assert session.get_one(Job, 1).state == "queued"


@pytest.mark.slow
def test_a_person_at_a_terminal_is_asked(
    winnow: Winnow,
    database: Database,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = iter((asking, done))
    monkeypatch.setattr("backend.cli.data.can_ask", lambda: True)
    monkeypatch.setattr("rich.prompt.Prompt.ask", lambda *_, **options: options["choices"][1])
    with a_running_winnow(home, database, lambda *row: next(ends)(*row), times=2):
        result = winnow("import", tmp_path, "--name", "Either")
    assert result.exit_code == 0, result.stderr
    assert "images\t60" in result.stdout
    with database.transaction() as session:
        assert session.get_one(DataSet, 1).source["layout"] == "classes"


@pytest.mark.slow
def test_answers_in_advance_are_options(winnow: Winnow, database: Database, tmp_path: Path) -> None:
    options = ("--layout", "subfolders", "--small-classes", "train-only")
    assert winnow("import", tmp_path, *options).exit_code == 0
    with database.transaction() as session:
        source = session.get_one(DataSet, 1).source
    assert (source["layout"], source["small_classes"]) == ("subfolders", "train-only")
    assert winnow("import", tmp_path, "--layout", "guess").exit_code == 2


def test_a_data_set_that_is_deleted_while_its_import_is_followed_ends_the_command(
    winnow: Winnow, database: Database, home: Path, tmp_path: Path
) -> None:
    with a_running_winnow(home, database, lambda session, job: session.delete(job)):
        result = winnow("import", tmp_path)
    assert result.exit_code == 1
    assert "was deleted" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Say what to import: a path, or --sample."),
        (("{folder}", "--sample"), "Say what to import: a path, or --sample."),
        (("{file}", "--idx"), "--idx wants the folder that holds the IDX files."),
        (("{folder}/absent",), "There is nothing at"),
        (("{folder}", "--name", "x" * 201), "--name: String should have at most 200 characters."),
        (("{folder}", "--path-column", "x" * 201), "--path-column: String should have at most"),
        (("{folder}", "--seed", "-1"), "--seed"),
        (("{folder}", "--side", "7"), "--side"),
    ],
)
def test_an_import_of_nothing_sensible_is_refused(
    winnow: Winnow, database: Database, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "x.zip").touch()
    result = winnow(
        "import", *(part.format(folder=tmp_path, file=tmp_path / "x.zip") for part in arguments)
    )
    assert result.exit_code != 0
    assert sentence in result.stderr
    with database.transaction() as session:
        assert session.scalars(select(DataSet)).all() == []


# ── export ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def run_id(database: Database) -> int:
    with database.transaction() as session:
        a_user(session)
        run = a_run(session, a_data_set(session, class_names=("=1+1", "plain")))
        a_review(session, run)
        return run.id


def table(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


@pytest.mark.slow
def test_scores_go_to_standard_output_as_csv_exact_or_for_spreadsheets(
    winnow: Winnow, run_id: int
) -> None:
    result = winnow("scores", run_id)
    header, *rows = table(result.stdout)
    assert header[:3] == ["image_id", "path", "given_class"]
    assert len(rows) == 28
    assert {row[2] for row in rows} == {"=1+1", "plain"}
    safe = winnow("scores", run_id, "--for", "spreadsheets").stdout
    assert safe.startswith("\ufeff")
    assert {row[2] for row in table(safe)[1:]} == {"'=1+1", "plain"}


@pytest.mark.slow
def test_scores_as_parquet_hold_the_same_rows_with_their_types(
    winnow: Winnow, run_id: int, tmp_path: Path
) -> None:
    winnow("scores", run_id, "--output", tmp_path / "scores.csv")
    winnow("scores", run_id, "--output", tmp_path / "scores.parquet")
    winnow("scores", run_id, "--output", tmp_path / "named", "--format", "parquet")
    found = pyarrow.parquet.read_table(tmp_path / "scores.parquet")
    assert found.equals(pyarrow.parquet.read_table(tmp_path / "named"))
    assert found.column("score").to_pylist() == [
        float(row[7]) for row in table((tmp_path / "scores.csv").read_text())[1:]
    ]
    assert found.column("given_class").to_pylist()[0] in ("=1+1", "plain")
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["scores.csv", "scores.parquet"]


@pytest.mark.slow
def test_the_manifest_of_a_version_leaves_out_what_was_removed_and_shows_new_labels(
    winnow: Winnow, database: Database
) -> None:
    with database.transaction() as session:
        data_set = a_data_set(session, class_names=("cat", "dog"), per_class=10)
        removed, relabelled, *_ = session.scalars(
            select(Image).where(Image.label == 0, Image.split == "train")
        ).all()
        removed_path, relabelled_path = removed.path, relabelled.path
        second = Version(data_set_id=data_set.id, number=2, parent_id=data_set.current_version_id)
        session.add(second)
        session.flush()
        session.add(VersionChange(version_id=second.id, image_id=removed.id, label=None))
        session.add(VersionChange(version_id=second.id, image_id=relabelled.id, label=1))
    first = table(winnow("export-version", data_set.id).stdout)
    assert first[0] == ["path", "label", "split"]
    assert len(first) == 1 + 20
    assert [removed_path, "cat", "train"] in first
    cleaned = table(winnow("export-version", data_set.id, "--version", 2).stdout)
    assert len(cleaned) == 1 + 19
    assert removed_path not in [row[0] for row in cleaned]
    assert [relabelled_path, "dog", "train"] in cleaned
    safe = winnow("export-version", data_set.id, "--for", "spreadsheets").stdout
    assert safe.startswith("\ufeff")
    assert table(safe[1:]) == first


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("scores", "99"), "There is no such training."),
        (
            ("scores", "1", "--format", "xlsx"),
            "There is no format 'xlsx'; there are csv and parquet.",
        ),
        (("scores", "one"), "as an integer"),
        (
            ("scores", "1", "--output", "{folder}/absent/scores.csv"),
            "cannot be written: No such file or directory.",
        ),
        (("scores", "1", "--output", "{folder}"), "is a directory"),
        (
            ("scores", "1", "--format", "parquet", "--for", "spreadsheets"),
            "Parquet is for programs. Spreadsheets read CSV.",
        ),
        (("export-version", "99"), "There is no such data set."),
        (("export-version", "1", "--version", "3"), "Blocks has no version 3."),
    ],
)
def test_an_export_of_what_is_not_there_is_refused(
    winnow: Winnow, run_id: int, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    result = winnow(*(part.format(folder=tmp_path) for part in arguments))
    assert result.exit_code != 0
    assert sentence in " ".join(result.stderr.replace("│", " ").split())
    assert result.stdout == ""


def test_a_run_without_scores_and_a_data_set_without_versions_say_what_is_missing(
    winnow: Winnow, database: Database
) -> None:
    with database.transaction() as session:
        run = a_run(session, a_data_set(session))
        importing = DataSet(name="Importing")
        session.add(importing)
        session.flush()
    assert (
        "This training has no scores yet. Find its harmful images first."
        in winnow("scores", run.id).stderr
    )
    result = winnow("export-version", importing.id)
    assert result.exit_code == 1
    assert "its import is not done" in result.stderr


# ── jobs ──────────────────────────────────────────────────────────────────────────────────────────


def test_jobs_are_listed_newest_first_and_by_state(winnow: Winnow, database: Database) -> None:
    with database.transaction() as session:
        a_job(session, kind="train", state="running", progress_done=1, progress_total=4)
        a_job(session, kind="score", state="done")
    lines = [line.split("\t") for line in winnow("jobs", "list").stdout.splitlines()]
    assert lines == [
        ["2", "score", "done", "", "A score job"],
        ["1", "train", "running", "25 %", "A train job"],
    ]
    assert winnow("jobs", "list", "--state", "running").stdout.startswith("1\ttrain")
    assert winnow("jobs", "list", "--limit", 1).stdout.count("\n") == 1
    result = winnow("jobs", "list", "--state", "asleep")
    assert result.exit_code == 1
    assert (
        "There is no state 'asleep'; there are queued, running, asking, done, failed, cancelled."
        in result.stderr
    )


def test_a_job_is_shown_with_its_error_and_the_end_of_its_log(
    winnow: Winnow, database: Database
) -> None:
    with database.transaction() as session:
        job = a_job(session, state="failed", error="The disk is full.")
        session.add_all(JobLogLine(job_id=job.id, message=f"line {number}") for number in range(30))
    shown = winnow("jobs", "show", job.id, "--lines", 2).stdout
    assert "error\tThe disk is full." in shown
    assert "line 29" in shown
    assert "line 27" not in shown


def test_a_job_can_be_cancelled_and_tried_again(winnow: Winnow, database: Database) -> None:
    with database.transaction() as session:
        waiting, running = a_job(session), a_job(session, state="running")
    assert "is cancelled" in winnow("jobs", "cancel", waiting.id).stderr
    assert "stops at its next step" in winnow("jobs", "cancel", running.id).stderr
    assert (
        "queued again; it starts as soon as Winnow runs"
        in winnow("jobs", "retry", waiting.id).stderr
    )
    with database.transaction() as session:
        assert session.get_one(Job, waiting.id).state == "queued"
        assert session.get_one(Job, running.id).cancel_requested


@pytest.mark.parametrize("command", ["show", "cancel", "retry"])
def test_a_job_that_is_not_there_is_one_sentence(
    winnow: Winnow, database: Database, command: str
) -> None:
    result = winnow("jobs", command, 99)
    assert result.exit_code == 1
    assert result.stderr == "There is no such job.\n"


def test_a_job_that_has_ended_can_not_be_cancelled(winnow: Winnow, database: Database) -> None:
    with database.transaction() as session:
        job = a_job(session, state="done")
    result = winnow("jobs", "cancel", job.id)
    assert result.exit_code == 1
    assert "has ended already" in result.stderr


# ── people ────────────────────────────────────────────────────────────────────────────────────────


def test_a_login_link_leads_to_where_this_folder_is_served(
    winnow: Winnow, database: Database, home: Path
) -> None:
    assert winnow("login-link").stdout.startswith("http://127.0.0.1:8000/?token=")
    with supervisor._only_one(Settings(home=home)):
        supervisor._note_address(Settings(home=home, port=8123))
        assert winnow("login-link").stdout.startswith("http://127.0.0.1:8123/?token=")


@pytest.mark.slow
def test_people_are_added_listed_and_removed(winnow: Winnow, database: Database) -> None:
    assert "/?token=" in winnow("user", "add", "olga", "--role", "owner").stdout
    winnow("user", "add", "rita")
    assert "/?token=" in winnow("user", "add", "Tom  Two").stdout  # one space is kept
    assert winnow("user", "remove", "Tom  Two").exit_code == 0
    assert winnow("user", "list").stdout == "olga\towner\nrita\treviewer\n"
    assert winnow("user", "remove", "rita").exit_code == 0
    assert winnow("user", "list").stdout == "olga\towner\n"


def test_a_token_is_the_first_owners_unless_somebody_is_named(
    winnow: Winnow, database: Database
) -> None:
    winnow("user", "add", "rita")
    winnow("token", "create")
    winnow("token", "create", "rita", "--name", "script")
    with database.transaction() as session:
        tokens = (
            select(User.name, Credential.name)
            .join(Credential, Credential.user_id == User.id)
            .where(Credential.kind == "api_token")
        )
        assert sorted(map(tuple, session.execute(tokens).all())) == [
            ("me", "command line"),
            ("rita", "script"),
        ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("user", "add", "  "), "A person needs a name of 1 to 100 characters."),
        (
            ("user", "add", "rita", "--role", "king"),
            "There is no role 'king'; there are owner and reviewer.",
        ),
        (("user", "add", "olga"), "There is already a person called olga."),
        (("user", "remove", "nobody"), "There is nobody called nobody."),
        (("user", "remove", "olga"), "This is the only owner"),
        (("token", "create", "nobody"), "There is nobody called nobody."),
        (("login-link", "nobody"), "There is nobody called nobody."),
    ],
)
def test_mistakes_about_people_are_sentences(
    winnow: Winnow, database: Database, arguments: tuple[str, ...], sentence: str
) -> None:
    winnow("user", "add", "olga", "--role", "owner")
    result = winnow(*arguments)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert result.stdout == ""


# ── settings and servers ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("WINNOW_PORT", "many", "WINNOW_PORT: Input should be a valid integer"),
        (
            "WINNOW_DATABASE_URL",
            "nonsense",
            "WINNOW_DATABASE_URL: it must begin with postgresql+psycopg:// or sqlite://",
        ),
        (
            "WINNOW_DATABASE_URL",
            "oracel://x",
            "WINNOW_DATABASE_URL: it must begin with postgresql+psycopg:// or sqlite://",
        ),
        (
            "WINNOW_DATABASE_URL",
            "postgresql+psycopg://nobody@127.0.0.1:1/x",
            "The database cannot be used",
        ),
        ("WINNOW_HOME", "/proc/nowhere", "There is no Winnow in /proc/nowhere."),
        ("WINNOW_PUBLIC_URL", "https://example.org/winnow", "WINNOW_PUBLIC_URL: Winnow cannot"),
        ("WINNOW_BROKER_URL", "redis://:a/b@redis", "WINNOW_BROKER_URL: it cannot be read."),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_sentence(
    winnow: Winnow, monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    winnow("migrate")
    monkeypatch.setenv(name, value)
    result = winnow("user", "list")
    assert result.exit_code == 1
    assert sentence in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("login-link",),
        ("user", "add", "rita"),
        ("token", "create"),
        ("jobs", "list"),
        ("import", "--sample"),
        ("scores", "1"),
        ("serve",),
        ("worker",),
        ("health",),
    ],
)
def test_a_command_in_another_folder_begins_no_new_winnow(
    winnow: Winnow, home: Path, words: tuple[str, ...]
) -> None:
    for _ in ("no folder", "an empty folder"):
        result = winnow(*words)
        assert result.exit_code == 1
        assert f"There is no Winnow in {home}." in result.stderr
        assert "WINNOW_HOME=" in result.stderr
        assert result.stdout == ""
        home.mkdir(exist_ok=True)
    assert list(home.iterdir()) == []


def test_a_migration_that_cannot_be_done_is_a_sentence(
    winnow: Winnow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_HOME", "/proc/nowhere")
    result = winnow("migrate")
    assert result.exit_code == 1
    assert "/proc/nowhere cannot be used" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("written", ["a  b", " a b ", "a\tb"])
def test_a_name_is_the_same_however_its_spaces_are_written(
    winnow: Winnow, database: Database, written: str
) -> None:
    result = winnow("user", "add", written)
    assert result.exit_code == 0, result.stderr
    assert "/?token=" in result.stdout
    assert winnow("user", "list").stdout == "a b\treviewer\n"
    assert winnow("login-link", written).exit_code == 0
    assert winnow("token", "create", written).exit_code == 0
    assert winnow("user", "remove", written).exit_code == 0


def test_health_says_when_the_broker_or_the_schema_is_missing(winnow: Winnow, home: Path) -> None:
    home.mkdir()
    (home / "winnow.db").touch()
    result = winnow("health")
    assert result.exit_code == 1
    assert "winnow migrate" in result.stderr
    winnow("migrate")
    result = winnow("health")
    assert result.exit_code == 1
    assert "The broker does not answer" in result.stderr


def test_health_is_well_with_a_database_and_a_broker(
    winnow: Winnow, database: Database, home: Path
) -> None:
    settings = Settings(home=home)
    broker = supervisor.Child(
        "broker", supervisor.broker_command(settings), home / "broker.log", {}
    )
    broker.start()
    try:
        deadline = time.monotonic() + 10
        while not settings.broker_socket.exists():
            assert time.monotonic() < deadline, "the broker did not start"
            time.sleep(0.02)
        result = winnow("health")
    finally:
        broker.kill()
    assert result.exit_code == 0, result.stderr
    assert "Database and broker answer; 0 messages wait." in result.stderr


@pytest.mark.parametrize("command", ["up", "demo", "serve"])
def test_a_port_in_use_is_one_sentence(winnow: Winnow, home: Path, command: str) -> None:
    winnow("migrate")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = winnow(command, "--port", port)
    assert result.exit_code == 1
    assert f"Port {port} on 127.0.0.1 is in use by another program." in result.stderr


@pytest.mark.slow
def test_a_web_that_is_told_to_stop_ends_well(winnow: Winnow, home: Path) -> None:
    """Status 143 looks like a crash to those who watch it."""
    winnow("migrate")
    command = [sys.executable, "-m", "backend.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as web:
        assert web.stderr is not None
        for line in web.stderr:
            if "Application startup complete" in line:
                web.terminate()
        assert web.wait(20) == 0


@pytest.mark.slow
def test_python_m_is_the_same_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "backend.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "export-version" in shown.stdout


# ── scoring ───────────────────────────────────────────────────────────────────────────────────────


def test_backbones_are_listed_with_side_size_and_licence(winnow: Winnow) -> None:
    first = winnow("backbones").stdout.splitlines()[0].split("\t")
    assert first[:5] == ["efficientnet_lite0", "224", "1280", "18.8", "Apache-2.0"]


def test_methods_are_listed_with_their_meaning_and_their_cost(
    winnow: Winnow, database: Database, run_id: int
) -> None:
    assert "outlier\tnot known" in winnow("methods", run_id).stdout
    cost = {
        "passes": 12.0,
        "seconds": 12.3,
        "memory_bytes": 3_000_000,
        "stored_bytes": 0,
        "damping_seconds": None,
    }
    with database.transaction() as session:
        run = session.get_one(Run, run_id)
        run.report = run.report | {
            "costs": {"tracin": {"last_epoch": cost, "all_epochs": cost | {"seconds": 125.0}}}
        }
    (line,) = [
        line
        for line in winnow("methods", run_id).stdout.splitlines()
        if line.startswith("tracin\t")
    ]
    assert line.split("\t")[1:4] == ["12 s", "2 min 5 s", "3.0 MB"]


def test_a_scoring_is_queued_from_the_command_line(
    winnow: Winnow, database: Database, run_id: int
) -> None:
    result = winnow("score", run_id, "--method", "outlier")
    assert "scores it as soon as Winnow runs" in result.stderr
    with database.transaction() as session:
        review = session.get_one(Review, int(result.stdout))
        assert (review.run_id, review.method) == (run_id, "outlier")
        assert session.get_one(Job, review.job_id).state == "queued"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--method", "magic"), "--method: "),
        (("--span", "first"), "--span: "),
        (("--method", "outlier", "--damping", "auto"), "no damping"),
    ],
)
def test_a_scoring_that_makes_no_sense_is_refused_in_a_sentence(
    winnow: Winnow, run_id: int, arguments: tuple[str, ...], sentence: str
) -> None:
    result = winnow("score", run_id, *arguments)
    assert (result.exit_code, sentence in result.stderr) == (1, True), result.stderr
