"""A decoder has bounds in time, memory, files and privileges, and knows no secret."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from tests.worker.pipeline.imports.importing import (
    Importer,
    class_folders,
    encoded,
    importer,
    noise,
    png,
    write_folder,
    write_zip,
)
from tests.worker.pipeline.imports.test_survive import ask_to_cancel
from worker.jobs import JobContext
from worker.pipeline.imports import limits, pixels, pool
from worker.pipeline.imports.memory import Memory
from worker.pipeline.imports.messages import Decoded, Work
from worker.pipeline.imports.pool import CRASHED, Pool
from worker.pipeline.imports.refused import Refused
from worker.pipeline.imports.regular_file import SPECIAL_FILE, open_regular

__all__ = ["importer"]  # a fixture
LIMIT = 50_000_000
GOOD = class_folders({"a": 3, "b": 3})
# Runs in the child at its start; marks in the bytes of a picture choose what it does.
HOOK = """
import json, os, resource, PIL.Image
real = PIL.Image.open
def watched(file, *a, **k):
    data = file.getvalue() if hasattr(file, "getvalue") else b""
    if b"ENDLESS" in data:
        while True: pass
    if b"DEADLY" in data: os.kill(os.getpid(), 9)
    if b"GREEDY" in data: bytearray(8 << 30)
    if b"TELLING" in data:
        with open(os.environ["PYTHONPATH"].split(os.pathsep)[-1] + "/told.json", "w") as told:
            json.dump({
                "environment": open("/proc/self/environ").read().split("\\0"),
                "status": open("/proc/self/status").read(),
                "limits": {name: resource.getrlimit(getattr(resource, name)) for name in
                           ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_NOFILE", "RLIMIT_CORE")},
            }, told)
    return real(file, *a, **k)
PIL.Image.open = watched
"""


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make children do what their pictures say."""
    folder = tmp_path / "hook"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOOK)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
def one_child() -> Iterator[Pool]:
    with Pool(LIMIT, 1) as one:
        yield one


def answer(one: Pool, *payloads: bytes) -> list[Decoded | str]:
    (answered,) = one.run([Work(list(payloads))])
    return answered.images


# ── privileges ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_decoder_knows_no_secret_and_has_bounded_means(
    hook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ("WINNOW_SECRET_KEY", "WINNOW_DATABASE_URL", "WINNOW_BROKER_URL", "PGPASSWORD")
    for name in secrets:
        monkeypatch.setenv(name, "hunter2")
    with Pool(LIMIT, 1) as one:
        assert isinstance(answer(one, png(1) + b"TELLING")[0], Decoded)
    told = json.loads((hook / "told.json").read_text())
    assert "hunter2" not in str(told["environment"])
    names = {line.partition("=")[0] for line in told["environment"] if line}
    assert names <= {
        *pool.KEPT_ENVIRONMENT,
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "PYTHONUTF8",
        "LC_CTYPE",
    }
    assert "NoNewPrivs:\t1" in told["status"]
    soft = {name: values[0] for name, values in told["limits"].items()}
    assert limits.ADDRESSES_A_PIXEL * LIMIT < soft["RLIMIT_AS"] < 2 << 30
    assert 0 < soft["RLIMIT_CPU"] <= pool.SECONDS_AN_IMAGE + 5
    assert soft["RLIMIT_NOFILE"] == limits.OPEN_FILES
    assert soft["RLIMIT_CORE"] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_picture_that_takes_too_much_memory_is_refused_and_the_next_is_decoded(
    hook: Path, one_child: Pool
) -> None:
    greedy, good = answer(one_child, png(1) + b"GREEDY", png(2))
    assert isinstance(greedy, str)
    assert isinstance(good, Decoded)


# ── time ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_an_endless_picture_is_refused_alone_and_tried_once(
    importer: Importer, hook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "SECONDS_AN_IMAGE", 1)
    began: list[str] = []
    start = pool._Child.__init__
    monkeypatch.setattr(
        pool._Child,
        "__init__",
        lambda child, pixels: (began.append(""), start(child, pixels))[1],
    )
    monkeypatch.setattr(Pool, "__init__", one_at_a_time(Pool.__init__))
    done = importer.zip({**GOOD, "a/zz.png": png(50) + b"ENDLESS", "b/zz.png": png(51)})
    assert done.refusals == {"a/zz.png": "decoding took longer than 1 s of processor time"}
    assert done.row.image_count == 7
    assert (done.pixels_of("b/zz.png") == np.asarray(noise(51))).all()
    assert len(began) == 2  # a child for all, and another after the endless picture


def one_at_a_time(real: object) -> object:
    def made(self: Pool, max_pixels: int, size: int = 1) -> None:
        real(self, max_pixels, size)  # type: ignore[operator]

    return made


@pytest.mark.slow
def test_pictures_before_and_after_a_deadly_one_keep_their_places(
    hook: Path, one_child: Pool, tmp_path: Path
) -> None:
    payloads = [png(1), png(2) + b"DEADLY", png(3), png(4) + b"DEADLY", png(5)]
    works = [Work([*payloads], "decode", (32, 32, 3), str(tmp_path))]
    (answered,) = one_child.run(works)
    assert [isinstance(image, Decoded) for image in answered.images] == [True, False] * 2 + [True]
    assert answered.images[1] == answered.images[3] == CRASHED
    assert (answered.pixels == [np.asarray(noise(seed)) for seed in (1, 3, 5)]).all()


@pytest.mark.slow
def test_many_deadly_pictures_end_the_import(
    importer: Importer, hook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "MOST_DEATHS", 3)
    deadly = {f"a/x{number}.png": png(60 + number) + b"DEADLY" for number in range(3)}
    path = write_zip(importer.folder / "deadly.zip", {**GOOD, **deadly})
    assert "3 images could not be decoded within the limits of a decoder" in importer.failing(
        "zip", path
    )


@pytest.mark.slow
@pytest.mark.parametrize("where", ["Looking", "Decoding"])
def test_cancelling_a_stuck_decoding_takes_less_than_five_seconds(
    importer: Importer, hook: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The parent waits for a child that never answers."""
    if where == "Decoding":
        monkeypatch.setattr(pixels.Decoding, "_survey", lambda *_: None)
    report, asked = JobContext.progress, []

    def reporting(context: JobContext, done: int, total: int, message: str = "") -> None:
        if message.startswith(where):
            asked.append(time.monotonic())
            if len(asked) == 3:
                ask_to_cancel(context)
        report(context, done, total, message)

    monkeypatch.setattr(JobContext, "progress", reporting)
    path = write_zip(importer.folder / "stuck.zip", {**GOOD, "a/x.png": png(9) + b"ENDLESS"})
    data_set_id, job_id = importer.queued("zip", path)
    assert importer.perform(job_id).state == "cancelled"
    assert time.monotonic() - asked[2] < 5
    importer.check_nothing_left(data_set_id)


# ── files that are none ───────────────────────────────────────────────────────────────────────────


def test_a_pipe_and_a_device_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (str(tmp_path / "pipe.png"), "/dev/zero", str(tmp_path)):
        with pytest.raises(Refused, match=SPECIAL_FILE):
            open_regular(path)


@pytest.mark.slow
def test_a_picture_that_became_a_pipe_after_the_listing_is_refused(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(importer.folder / "things", {**GOOD, "a/x.png": png(9)})
    run = pixels.Decoding.run

    def swapped(decoding: pixels.Decoding, children: Pool) -> object:
        (folder / "a/x.png").unlink()
        os.mkfifo(folder / "a/x.png")
        return run(decoding, children)

    monkeypatch.setattr(pixels.Decoding, "run", swapped)
    assert importer.run("folder", folder).refusals == {"a/x.png": SPECIAL_FILE}


# ── memory ────────────────────────────────────────────────────────────────────────────────────────


def test_a_decoding_that_takes_all_memory_is_alone_and_its_turn_comes() -> None:
    memory, order, first = Memory(100), [], threading.Event()

    def take(name: str, size: int) -> None:
        memory.take(name, size)
        order.append(name)
        if name == "small":
            first.wait(5)
        memory.give_back(name)

    threads = []
    for name, size in (("small", 10), ("huge", 1000), ("late", 10)):
        threads.append(threading.Thread(target=take, args=(name, size)))
        threads[-1].start()
        deadline = time.monotonic() + 5
        while len(order) + len(memory._queue) < len(threads) and time.monotonic() < deadline:
            time.sleep(0.001)
    assert order == ["small"]  # the late one does not overtake the huge one
    first.set()
    for thread in threads:
        thread.join(5)
    assert order == ["small", "huge", "late"]


@pytest.mark.slow
def test_large_pictures_ask_for_memory_and_small_ones_do_not(
    one_child: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    take = Memory.take
    monkeypatch.setattr(
        Memory, "take", lambda self, who, size: (asked.append(size), take(self, who, size))[1]
    )
    large = encoded(Picture.new("RGB", (2000, 1000)))
    assert all(isinstance(image, Decoded) for image in answer(one_child, png(1), large, png(2)))
    assert asked == [limits.memory_of(2_000_000)]


def test_closing_the_memory_lets_waiting_threads_go() -> None:
    memory = Memory(10)
    memory.take("first", 10)
    waiting = threading.Thread(target=memory.take, args=("second", 10))
    waiting.start()
    memory.close()
    waiting.join(5)
    assert not waiting.is_alive()


@pytest.mark.slow
def test_a_large_entry_of_a_zip_is_decoded_from_the_disk_and_leaves_no_copy(
    importer: Importer,
) -> None:
    large = encoded(noise(7, (1300, 1200)), "BMP")
    assert len(large) > 4 << 20
    done = importer.zip({**GOOD, "a/large.bmp": large})
    assert done.refusals == {}
    assert done.view("a/large.bmp", full=True).size == (1300, 1200)
    assert not list(importer.storage.data_set(done.row.id).rglob("spool*"))


@pytest.mark.slow
def test_a_damaged_large_entry_costs_that_image_only(importer: Importer) -> None:
    path = write_zip(
        importer.folder / "hurt.zip",
        {**GOOD, "a/large.bmp": encoded(noise(7, (1300, 1200)), "BMP")},
    )
    data = bytearray(path.read_bytes())
    middle = len(data) - (2 << 20)
    data[middle : middle + 20] = bytes(20)
    path.write_bytes(data)
    assert importer.run("zip", path).refusals == {
        "a/large.bmp": "this entry of the zip is damaged or cut off"
    }
