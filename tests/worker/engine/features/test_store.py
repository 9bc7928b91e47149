"""Features on disk: shared parts, cut files, checksums."""

import multiprocessing
import os
import signal
import tracemalloc
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest

from worker.engine import EngineError
from worker.engine.features.store import PART_ROWS, FeatureStore

ROWS, WIDTH = 2 * PART_ROWS + 17, 12
KEYS = [f"picture {n}" for n in range(ROWS)]
FEATURES = np.random.default_rng(0).normal(2, 3, (ROWS, WIDTH)).astype(np.float16)
TRAIN = np.arange(ROWS) % 3 != 0


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return again(tmp_path)


def again(folder: Path) -> FeatureStore:
    """The store as another process sees it."""
    return FeatureStore(folder, "b" * 64, WIDTH, KEYS)


def fill(store: FeatureStore) -> int:
    """Compute what is missing; returns the number of parts."""
    written = 0
    for rows in store.parts:
        with store.claim(rows) as mine:
            if mine:
                store.write(rows, FEATURES[rows.start : rows.stop])
                written += 1
    return written


def test_joined_features_are_the_parts_with_mean_and_std_of_training_rows(
    store: FeatureStore, tmp_path: Path
) -> None:
    assert store.count_missing() == ROWS
    assert fill(store) == 3
    assert store.join(TRAIN)
    opened = again(tmp_path).open()
    assert isinstance(opened.array, np.memmap)
    np.testing.assert_array_equal(opened.array, FEATURES)
    seen = FEATURES[TRAIN].astype(np.float64)
    np.testing.assert_allclose(opened.mean, seen.mean(0), rtol=1e-6)
    np.testing.assert_allclose(opened.std, seen.std(0), rtol=1e-6)
    assert (opened.mean.dtype, opened.std.dtype) == (np.float32, np.float32)
    assert not (tmp_path / "parts").exists()


def test_nothing_is_joined_before_all_parts_are_there(store: FeatureStore) -> None:
    rows = store.parts[0]
    with store.claim(rows) as mine:
        assert mine
        store.write(rows, FEATURES[rows.start : rows.stop])
    assert not store.join(TRAIN)
    with pytest.raises(EngineError, match="not computed yet"):
        store.open()


def test_a_part_that_is_cut_short_is_noticed_and_only_it_is_computed_again(
    store: FeatureStore, tmp_path: Path
) -> None:
    fill(store)
    path = tmp_path / "parts" / "000001.part"
    os.truncate(path, path.stat().st_size - 10)
    other = again(tmp_path)
    assert other.count_missing() == PART_ROWS
    assert fill(other) == 1
    assert other.join(TRAIN)
    np.testing.assert_array_equal(other.open().array, FEATURES)


def test_joined_features_that_are_cut_short_keep_their_sound_parts(
    store: FeatureStore, tmp_path: Path
) -> None:
    fill(store)
    store.join(TRAIN)
    path = tmp_path / "features.npy"
    os.truncate(path, path.stat().st_size - 10)
    other = again(tmp_path)
    with pytest.raises(EngineError, match="damaged; compute them again"):
        other.open()
    other.salvage()
    assert other.count_missing() == 17
    assert fill(other) == 1
    assert other.join(TRAIN)
    np.testing.assert_array_equal(other.open().array, FEATURES)


@pytest.mark.parametrize("name", ["features.npy", "features.json", "statistics.safetensors"])
def test_a_changed_byte_anywhere_is_noticed(store: FeatureStore, tmp_path: Path, name: str) -> None:
    fill(store)
    store.join(TRAIN)
    content = bytearray((tmp_path / name).read_bytes())
    content[-7] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EngineError):
        again(tmp_path).open()
    other = again(tmp_path)
    other.salvage()
    fill(other)
    assert other.join(TRAIN)
    np.testing.assert_array_equal(other.open().array, FEATURES)


def test_features_of_other_pictures_are_computed_again(store: FeatureStore, tmp_path: Path) -> None:
    fill(store)
    store.join(TRAIN)
    other = FeatureStore(tmp_path, "b" * 64, WIDTH, KEYS[::-1])
    with pytest.raises(EngineError, match="other pictures"):
        other.open()
    other.salvage()
    assert other.count_missing() > 0


def hold(folder: Path, held: Event) -> None:
    """Claim the first part, and never let go."""
    store = again(folder)
    with store.claim(store.parts[0]) as mine:
        assert mine
        held.set()
        signal.pause()


@pytest.mark.slow
def test_a_claimed_part_is_left_to_its_process_until_that_is_killed(
    store: FeatureStore, tmp_path: Path
) -> None:
    spawn = multiprocessing.get_context("spawn")
    held = spawn.Event()
    process = spawn.Process(target=hold, args=(tmp_path, held))
    process.start()
    assert held.wait(60)
    with store.claim(store.parts[0]) as mine:
        assert not mine
    with store.claim(store.parts[1]) as mine:
        assert mine
    process.kill()
    process.join()
    with store.claim(store.parts[0]) as mine:
        assert mine


@pytest.mark.slow
def test_joining_a_large_set_takes_the_memory_of_a_part(tmp_path: Path) -> None:
    rows, width = 20_000, 2_048
    store = FeatureStore(tmp_path, "b" * 64, width, [str(n) for n in range(rows)])
    part = np.random.default_rng(0).normal(size=(PART_ROWS, width)).astype(np.float16)
    for some in store.parts:
        with store.claim(some):
            store.write(some, part[: len(some)])
    tracemalloc.start()
    assert store.join(np.ones(rows, dtype=bool))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * 2**20 < rows * width * 2
