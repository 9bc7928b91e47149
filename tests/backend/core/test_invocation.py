"""Sentences name `winnow` by a command that the reader's terminal finds."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from backend.core.invocation import winnow


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the environment of `make`, in which Winnow was started."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "winnow").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    return tmp_path


def test_in_a_checkout_the_commands_path_is_named(
    checkout: Path, anonymous_client: TestClient
) -> None:
    assert winnow() == ".venv/bin/winnow"
    assert ".venv/bin/winnow login-link" in anonymous_client.get("/login").text


def test_where_the_terminal_finds_the_command_its_name_is_enough(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert winnow() == "winnow"


def test_no_path_of_another_folder_is_shown(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "executable", "/nowhere/bin/python")
    assert winnow() == "winnow"


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Forget the result, which a process remembers for its lifetime."""
    winnow.cache_clear()
    yield
    winnow.cache_clear()
