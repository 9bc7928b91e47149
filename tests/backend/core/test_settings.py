"""Settings: from the environment, with sane defaults."""

import tempfile
from pathlib import Path

import pytest
from pydantic import ValidationError

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
