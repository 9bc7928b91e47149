"""Settings: from the environment, with sane defaults."""

import tempfile
from pathlib import Path

import pytest
from kombu.utils.url import parse_url
from pydantic import ValidationError
from sqlalchemy import make_url

from backend.core.settings import LONGEST_SOCKET_PATH, Settings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"WINNOW_{name.upper()}", raising=False)


def test_out_of_the_box_nothing_but_this_machine_is_listened_to() -> None:
    settings = Settings()
    assert settings.host == "127.0.0.1"
    assert settings.import_roots == []


def test_every_setting_comes_from_the_environment_and_says_what_it_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WINNOW_HOME", str(tmp_path))
    monkeypatch.setenv("WINNOW_PORT", "9000")
    monkeypatch.setenv("WINNOW_SECURE_COOKIES", "true")
    monkeypatch.setenv("WINNOW_SESSION_DAYS", "7")
    settings = Settings()
    assert (settings.home, settings.port, settings.secure_cookies, settings.session_days) == (
        tmp_path,
        9000,
        True,
        7,
    )
    assert all(
        field.description and field.description.endswith(".")
        for field in Settings.model_fields.values()
    )


NONSENSE = {
    "port": ("-1", "65536", "http"),
    "session_days": ("0",),
    "max_upload_bytes": ("0",),
    "max_attempts": ("0",),
    "max_compression_ratio": ("1",),
    "heartbeat_seconds": ("0",),
    "sweep_seconds": ("-1",),
    "secure_cookies": ("perhaps",),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in NONSENSE.items() for value in values]
)
def test_a_value_that_makes_no_sense_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"WINNOW_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        Settings()


def test_embedded_database_broker_and_files_lie_in_the_home_folder(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.database == f"sqlite:///{tmp_path}/winnow.db"
    assert settings.broker == f"redis+socket://{tmp_path}/run/broker.sock"
    assert settings.files == tmp_path / "files"


def test_servers_of_ones_own_take_their_place(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        database_url="postgresql+psycopg://db/winnow",
        broker_url="redis://redis:6379/0",
    )
    assert settings.database == "postgresql+psycopg://db/winnow"
    assert settings.broker == "redis://redis:6379/0"


HARD = "p@ss/w:rd #1%?"


def test_a_password_of_any_characters_is_put_into_an_address_that_has_none() -> None:
    settings = Settings(
        database_url="postgresql+psycopg://winnow@db:5432/winnow",
        database_password=HARD,
        broker_url="redis://redis:6379/0",
        broker_password=HARD,
    )
    database = make_url(settings.database)
    assert (database.username, database.password, database.host) == ("winnow", HARD, "db")
    broker = parse_url(settings.broker)
    assert (broker["password"], broker["hostname"], broker["virtual_host"]) == (HARD, "redis", "0")
    own = Settings(
        database_url="postgresql+psycopg://u:own@db/x",
        database_password=HARD,
        broker_url="redis://u:own@redis:6379/0;redis://other:6379/0",
        broker_password="simple",
    )
    assert own.database == "postgresql+psycopg://u:own@db/x"
    assert own.broker == "redis://u:own@redis:6379/0;redis://:simple@other:6379/0"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("broker_url", "redis://:a/b@redis:6379/0", "WINNOW_BROKER_PASSWORD"),
        ("broker_url", "redis://:1?b@redis:6379/0", "WINNOW_BROKER_PASSWORD"),
        ("broker_url", "redis://:1#b@redis:6379/0", "WINNOW_BROKER_PASSWORD"),
        ("broker_url", "redis://[", "WINNOW_BROKER_PASSWORD"),
        ("broker_url", "localhost:6379", "must begin with redis://"),
        ("broker_url", "amqp://localhost", "must begin with redis://"),
        ("database_url", "postgresql+psycopg://u:p@ss@db/x", "WINNOW_DATABASE_PASSWORD"),
        ("database_url", "postgresql+psycopg://u:p@db:port/x", "WINNOW_DATABASE_PASSWORD"),
        ("database_url", "postgresql+psycopg:///x", "WINNOW_DATABASE_PASSWORD"),
        ("database_url", "postgresql://u@db/x", "must begin with postgresql\\+psycopg://"),
        ("database_url", "mysql://u@db/x", "must begin with postgresql\\+psycopg://"),
        ("public_url", "https://example.org/winnow/", "cannot live below a path"),
        ("public_url", "https://example.org/?a=b", "cannot live below a path"),
        ("public_url", "example.org", "no address of a web site"),
        ("public_url", "ftp://example.org", "no address of a web site"),
        ("public_url", "https://", "no address of a web site"),
        ("public_url", "http://[", "no address of a web site"),
        ("public_url", "http://example.org:port", "no address of a web site"),
    ],
)
def test_an_address_that_cannot_work_is_refused_at_the_start(
    name: str, value: str, sentence: str
) -> None:
    with pytest.raises(ValidationError, match=sentence) as refused:
        Settings(**{name: value})
    assert name == "public_url" or value not in str(refused.value)  # it may hold a password


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("public_url", "https://winnow.example.org/"),
        ("public_url", "http://10.0.0.1:8000"),
        ("broker_url", "rediss://user:secret@redis:6380/1"),
        ("broker_url", "redis+socket:///run/redis.sock"),
        ("database_url", "postgresql+psycopg://u:p%40ss@[::1]:5432/x?sslmode=verify-full"),
        ("database_url", "postgresql+psycopg://u@/x?host=/run/postgresql"),
        ("database_url", "sqlite:////srv/winnow.db"),
    ],
)
def test_an_address_that_works_is_taken(name: str, value: str) -> None:
    assert getattr(Settings(**{name: value}), name) == value.removesuffix("/")


def test_a_path_too_long_for_a_socket_moves_it_and_every_process_finds_it(tmp_path: Path) -> None:
    home = tmp_path / ("x" * LONGEST_SOCKET_PATH)
    socket = Settings(home=home).broker_socket
    assert len(str(socket)) <= LONGEST_SOCKET_PATH
    assert socket == Settings(home=home).broker_socket
    assert socket != Settings(home=tmp_path / ("y" * LONGEST_SOCKET_PATH)).broker_socket


def test_a_temporary_folder_too_long_for_a_socket_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("t" * LONGEST_SOCKET_PATH)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert Settings(home=tmp_path / "h").broker_socket.is_relative_to(tmp_path / "h")
    socket = Settings(home=long / "home").broker_socket
    assert len(str(socket)) <= LONGEST_SOCKET_PATH
    assert socket.parent.parent == Path("/tmp")


def test_import_folders_are_a_list_and_links_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Settings(import_folders=f"{tmp_path / 'link'}::{tmp_path}").import_roots == [
        tmp_path / "real",
        tmp_path,
    ]
