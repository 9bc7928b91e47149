"""The commands in the docs, run as they are written, against a fresh Winnow."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from tests.running import ROOT, Winnow

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def winnow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Winnow]:
    running = Winnow(tmp_path_factory.mktemp("home"))
    yield running
    running.close()


def commands(document: str, heading: str = "") -> str:
    """Return the `sh` blocks of a document, or of the section below a heading."""
    text = (ROOT / document).read_text()
    if heading:
        text = text.split(f"\n{heading}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))


def run(script: str, winnow: Winnow, folder: Path) -> list[Any]:
    """Run the script up to the first failure. Returns its JSON output, line by line."""
    environment = winnow.environment | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "no_proxy": "*",
    }
    command = ["bash", "-eu", "-o", "pipefail", "-c", script]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line]


def test_the_tour_of_the_api_and_then_the_readme_run_as_they_are_written(
    winnow: Winnow, tmp_path: Path
) -> None:
    run_the_tour(winnow, tmp_path)
    run_the_five_lines(winnow, tmp_path)  # for the sample, which the tour has imported


def run_the_tour(winnow: Winnow, tmp_path: Path) -> None:
    script = commands("docs/api.md").replace("http://127.0.0.1:8000", winnow.address)
    answers = run(script, winnow, tmp_path)
    assert [answer for answer in answers if "status" in answer] == []  # no problem details
    assert answers[0]["role"] == "owner"
    measured, accepted = answers[-2:]
    assert (measured["state"], accepted["state"]) == ("measured", "accepted")
    assert measured["verdict"]["removed"] == 60
    rows = (tmp_path / "scores.csv").read_text().splitlines()[1:]
    assert pyarrow.parquet.read_table(tmp_path / "scores.parquet").num_rows == len(rows) > 1000


def run_the_five_lines(winnow: Winnow, tmp_path: Path) -> None:
    lines = commands("README.md", "## The API in five lines").replace(".venv/bin/winnow", "winnow")
    assert len(lines.splitlines()) == 5
    listed, run_made, jobs = run(
        lines.replace("localhost:8000", winnow.address).replace("\ncall ", "\necho; call "),
        winnow,
        tmp_path,
    )
    assert listed["items"][0]["id"] == 1
    assert run_made["job"]["state"] == "queued"
    assert jobs["items"][0]["id"] == run_made["job"]["id"]
