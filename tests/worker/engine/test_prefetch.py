"""Prefetching changes when a batch is made, never its content."""

import threading
import time

import numpy as np
import pytest
import torch

from tests.worker.engine.conftest import a_recipe, some_images
from worker.engine import Images, score, train
from worker.engine.prefetch import Prefetcher


@pytest.mark.parametrize("asked", [[0, 1, 2, 3], [3, 2, 1, 0], [0, 3, 1, 1, 2], [2]])
@pytest.mark.parametrize("stride", [1, -1])
def test_any_order_gets_what_it_asks_for(asked, stride):
    with Prefetcher(lambda t: t * t, 4, stride) as squares:
        assert [squares(t) for t in asked] == [t * t for t in asked]


def test_the_next_one_is_made_while_this_one_is_used():
    made = [threading.Event() for _ in range(3)]

    def make(t):
        made[t].set()
        return t

    with Prefetcher(make, 3) as numbers:
        numbers(0)
        assert made[1].wait(5)
        assert not made[2].is_set()


def test_an_error_comes_out_where_the_batch_is_asked_for_and_the_thread_ends():
    def make(t):
        if t == 1:
            raise ValueError("unreadable")
        return t

    before = threading.active_count()
    with Prefetcher(make, 3) as numbers:
        assert numbers(0) == 0
        with pytest.raises(ValueError, match="unreadable"):
            numbers(1)
    assert threading.active_count() == before


@pytest.mark.slow
def test_a_slow_disk_changes_no_bit(images, validation, tmp_path, monkeypatch):
    recipe = a_recipe(augmentation="shift", momentum=0.9)
    plain = train(recipe, images, validation, tmp_path / "plain")
    values = score(plain, images, validation, span="all_epochs").values
    take = Images.take

    def slow(self, positions):
        time.sleep(0.002 * (positions[0] % 3))
        return take(self, positions)

    monkeypatch.setattr(Images, "take", slow)
    slowly = train(recipe, images, validation, tmp_path / "slow")
    assert slowly.params_hash == plain.params_hash
    np.testing.assert_array_equal(
        score(slowly, images, validation, span="all_epochs").values, values
    )


def test_the_thread_computes_with_the_same_number_of_threads():
    torch.set_num_threads(1)
    with Prefetcher(lambda _t: torch.get_num_threads(), 2) as counts:
        assert [counts(0), counts(1)] == [1, 1]


def test_images_from_a_file_are_those_of_memory(tmp_path):
    images = some_images(45, channels=3)
    np.save(tmp_path / "pixels.npy", images.pixels)
    mapped = Images(np.load(tmp_path / "pixels.npy", mmap_mode="r"), images.labels, images.ids)
    positions = np.array([7, 3, 44, 3, 0])
    np.testing.assert_array_equal(mapped.take(positions), images.pixels[positions])
    np.testing.assert_array_equal(
        mapped.subset(positions[:3]).take(np.array([2, 0, 1])), images.pixels[[44, 7, 3]]
    )
    assert not isinstance(mapped.take(positions), np.memmap)
