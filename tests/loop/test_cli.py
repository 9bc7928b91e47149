"""`winnow import` next to a running Winnow: real files, a real worker."""

import csv
import io
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from backend.core import liveness
from tests.running import COMMAND, ROOT, Winnow, wait_until

pytestmark = pytest.mark.slow


def command(winnow: Winnow, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [*COMMAND, *map(str, arguments)]
    return subprocess.run(
        words, cwd=ROOT, env=winnow.environment, capture_output=True, text=True, timeout=90
    )


def write_images(folder: Path, per_class: int) -> None:
    generator = np.random.default_rng(0)
    for label in ("bolt", "=nut"):
        (folder / label).mkdir(parents=True)
        for number in range(per_class):
            pixels = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Picture.fromarray(pixels).save(folder / label / f"{number}.png")


def test_a_folder_from_anywhere_is_imported_followed_and_told(
    winnow: Winnow, tmp_path: Path
) -> None:
    write_images(tmp_path / "parts", 20)
    (tmp_path / "parts" / "bolt" / "broken.jpg").write_bytes(b"<svg>")
    done = command(winnow, "import", tmp_path / "parts", "--seed", 3, "--side", 28)
    assert done.returncode == 0, done.stderr
    found = dict(line.split("\t") for line in done.stdout.splitlines())
    assert (found["name"], found["classes"], found["images"], found["refused"]) == (
        "parts",
        "2",
        "40",
        "1",
    )
    assert int(found["train"]) + int(found["validation"]) + int(found["test"]) == 40
    assert "Refused: bolt/broken.jpg:" in done.stderr
    manifest = list(
        csv.DictReader(io.StringIO(command(winnow, "export-version", found["data set"]).stdout))
    )
    assert len(manifest) == 40
    assert {row["label"] for row in manifest} == {"bolt", "=nut"}


def test_health_lists_the_workers_that_run(winnow: Winnow) -> None:
    running = winnow.find("worker")
    assert running is not None
    wait_until(lambda: bool(liveness.signs(winnow.home)), 30, "the worker's sign of life")
    done = command(winnow, "health")
    assert done.returncode == 0, done.stderr
    assert "Workers alive: 1." in done.stderr
    host, process, work, _ = done.stdout.rstrip("\n").split("\t")
    assert (host, int(process), work) == (socket.gethostname(), running.pid, "all jobs")


def test_an_import_that_finds_nothing_ends_with_its_reason_and_a_status(
    winnow: Winnow, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    done = command(winnow, "import", tmp_path / "empty")
    assert done.returncode == 1
    assert done.stdout == ""
    shown = command(winnow, "jobs", "list", "--state", "failed").stdout
    job_id = shown.split("\t")[0]
    reason = next(
        line
        for line in command(winnow, "jobs", "show", job_id).stdout.splitlines()
        if line.startswith("error\t")
    )
    assert reason.removeprefix("error\t") in " ".join(done.stderr.split())
    assert winnow.job(int(job_id)).state == "failed"
