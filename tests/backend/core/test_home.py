"""The home folder belongs to its account alone."""

import stat
from pathlib import Path

import pytest

from backend import migrations
from backend.core.home import make_private
from backend.core.settings import Settings


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_home_folder_made_beforehand_becomes_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    (home / "winnow.db").touch()
    (home / "winnow.db").chmod(0o644)
    (home / "notes.txt").touch()
    (home / "notes.txt").chmod(0o644)
    migrations.prepare(Settings(home=home))
    assert mode(home) == 0o700
    assert {mode(path) for path in home.glob("winnow.db*")} == {0o600}
    assert mode(home / "notes.txt") == 0o644


def test_a_new_home_folder_is_private(tmp_path: Path) -> None:
    home = tmp_path / "a" / "b"
    migrations.prepare(Settings(home=home), new=True)
    assert (mode(home), mode(home / "winnow.db")) == (0o700, 0o600)


def test_a_folder_stricter_than_needed_stays(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o500)
    make_private(Settings(home=home))
    assert mode(home) == 0o500


def test_another_accounts_folder_is_used_and_said_to_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("not yours")

    tmp_path.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", refuse)
    make_private(Settings(home=tmp_path))
    assert f"Other accounts may read {tmp_path}: not yours" in caplog.text
