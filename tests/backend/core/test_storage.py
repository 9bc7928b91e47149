"""Files: every path is made from numbers and hashes and stays below the root."""

import os
import re
from datetime import timedelta
from pathlib import Path

import pytest

from backend.core.models import now
from backend.core.storage import Storage

HASH = "ab" * 32


def test_every_path_lies_below_the_root(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for path in (
        storage.data_set(1),
        storage.pixels(1),
        storage.thumbnail(1, HASH),
        storage.full_image(1, HASH),
        storage.run(1),
        storage.new_upload(".zip"),
    ):
        assert path.resolve().is_relative_to(tmp_path)


def test_two_data_sets_share_no_file_and_a_data_set_and_a_run_none_either(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    assert storage.thumbnail(1, HASH) != storage.thumbnail(2, HASH)
    assert storage.thumbnail(1, HASH) != storage.full_image(1, HASH)
    assert storage.run(1) != storage.data_set(1)


def test_thumbnails_are_spread_over_folders(tmp_path: Path) -> None:
    assert Storage(tmp_path).thumbnail(1, HASH).parent.name == "ab"


def test_each_upload_has_a_file_of_its_own_that_nobody_else_may_read(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    first, second = storage.new_upload(".zip"), storage.new_upload(".zip")
    assert first != second
    assert first.stat().st_mode & 0o077 == 0
    assert first.suffix == ".zip"


def test_only_old_uploads_are_found_and_none_before_there_is_a_folder(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    assert storage.uploads_before(now()) == []
    old, _ = storage.new_upload(".zip"), storage.new_upload(".zip")
    os.utime(old, (0, 0))
    assert storage.uploads_before(now() - timedelta(hours=1)) == [old]


def test_discarding_takes_folders_and_files_and_does_not_mind_what_is_gone(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    folder = storage.data_set(1) / "thumbnails" / "ab"
    folder.mkdir(parents=True)
    (folder / "x.webp").write_bytes(b"x")
    upload = storage.new_upload(".zip")
    storage.discard(storage.data_set(1), upload, storage.run(99), tmp_path / "never.zip")
    assert not storage.data_set(1).exists()
    assert not upload.exists()


def test_what_cannot_be_deleted_is_in_the_log_and_the_rest_is_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = Storage(tmp_path)
    upload = storage.new_upload(".zip")
    # /proc refuses everybody, the administrator too.
    storage.discard(Path("/proc/version"), Path("/proc/self/task"), upload)
    assert not upload.exists()
    assert "/proc/version was not deleted" in caplog.text
    assert "/proc/self/task" in caplog.text


# ── who else would change if the files lay in a bucket ──────────────────────────────────────────

ROOT = Path(__file__).parents[3]
# Only these know where files lie; the others name a data set, a run or an upload, or work in a
# local folder that they are given.
TOUCHING = {
    "backend/core/storage.py": "turns names into paths",
    "backend/datasets/uploads.py": "checks that an upload is a zip archive",
    "worker/pipeline/imports/job.py": "reads the upload, and makes files in the attempt's folder",
    "worker/pipeline/load_images.py": "maps the pixels into memory",
    "worker/pipeline/engine_setup.py": "gives the engine the folders of runs, weights and features",
    "worker/pipeline/scoring/explanations.py": "keeps a read-out in the training's folder",
}
PATHS = ("root", "data_set", "pixels", "thumbnail", "full_image", "attempt_folder", "run")
PATHS += ("weights", "uploads", "features")
TAKES_A_PATH = re.compile(rf"storage\.(?:{'|'.join(PATHS)})\b|training\.folder|upload\.open\(")


def test_at_most_six_files_know_where_files_lie() -> None:
    touching = {
        path.relative_to(ROOT).as_posix()
        for part in ("backend", "worker")
        for path in (ROOT / part).rglob("*.py")
        # The engine works in the folder that it is given.
        if ROOT / "worker" / "engine" not in path.parents and TAKES_A_PATH.search(path.read_text())
    }
    assert touching == set(TOUCHING)
    assert len(TOUCHING) <= 6


def test_a_full_image_is_read_from_its_file_else_from_the_thumbnail(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    assert storage.read_image(1, HASH, full=True) is None
    for path in (storage.thumbnail(1, HASH), storage.full_image(1, HASH)):
        path.parent.mkdir(parents=True)
    storage.thumbnail(1, HASH).write_bytes(b"small")
    assert storage.read_image(1, HASH, full=True) == b"small"
    storage.full_image(1, HASH).write_bytes(b"large")
    assert storage.read_image(1, HASH, full=True) == b"large"
    assert storage.read_image(1, HASH, full=False) == b"small"


def test_a_runs_file_is_whole_or_absent_and_the_others_can_be_dropped(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    assert storage.read_run_file(1, "outcome") is None
    storage.write_run_file(1, "outcome", b"right")
    storage.write_run_file(1, "epoch", b"large")
    (storage.run(1) / "why").mkdir()
    storage.keep_run_files(1, ["outcome"])
    assert storage.read_run_file(1, "outcome") == b"right"
    assert sorted(path.name for path in storage.run(1).iterdir()) == ["outcome", "why"]
