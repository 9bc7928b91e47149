"""Order and augmentation are pure functions of (seed, epoch, image id)."""

import numpy as np
import pytest
import torch

from tests.worker.engine.conftest import a_recipe, some_images
from worker.engine import EngineError, Images, default_recipe
from worker.engine import images as engine_images
from worker.engine.images import draw_batches, draw_hashes, pixel_statistics


def augment(recipe, pixels, ids, epoch):
    return engine_images.augment(recipe, torch.from_numpy(pixels), ids, epoch).numpy()


def test_every_epoch_sees_every_image_once_in_batches_of_nearly_one_size(images):
    parts = draw_batches(a_recipe(), images, 0)
    assert sorted(np.concatenate(parts).tolist()) == list(range(45))
    assert {len(part) for part in parts} == {7, 8}


def test_epochs_and_seeds_have_orders_of_their_own(images):
    orders = {
        tuple(np.concatenate(draw_batches(a_recipe(seed=seed), images, epoch)))
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_removing_images_keeps_the_order_of_the_others(images):
    rest = images.subset(np.flatnonzero(images.ids % 5 != 0))
    whole = images.ids[np.concatenate(draw_batches(a_recipe(), images, 2))]
    part = rest.ids[np.concatenate(draw_batches(a_recipe(), rest, 2))]
    assert whole[whole % 5 != 0].tolist() == part.tolist()


def test_augmentation_does_not_depend_on_the_other_images_of_a_batch():
    colours = some_images(20, channels=3)
    recipe = a_recipe(channels=3, mean=(0.4,) * 3, std=(0.2,) * 3, augmentation="shift_flip")
    together = augment(recipe, colours.pixels, colours.ids, 1)
    for position in range(20):
        alone = augment(
            recipe, colours.pixels[position : position + 1], colours.ids[position : position + 1], 1
        )
        np.testing.assert_array_equal(alone[0], together[position])
    assert (together != colours.pixels).any()


def test_augmentation_changes_from_epoch_to_epoch(images):
    recipe = a_recipe(augmentation="shift")
    assert (
        augment(recipe, images.pixels, images.ids, 0)
        != augment(recipe, images.pixels, images.ids, 1)
    ).any()


def test_draws_are_spread_evenly():
    values = draw_hashes(3, 5, np.arange(100_000), 1) / 2.0**64
    counts, _ = np.histogram(values, bins=20, range=(0, 1))
    assert abs(counts / 5000 - 1).max() < 0.06


def test_pixel_statistics_equal_numpy(images):
    mean, std = pixel_statistics(images)
    assert mean[0] == pytest.approx((images.pixels / 255).mean(), abs=1e-4)
    assert std[0] == pytest.approx((images.pixels / 255).std(), abs=1e-4)


def test_a_subset_reads_the_same_memory(images):
    part = images.subset(np.array([3, 5]))
    assert part.pixels is images.pixels
    np.testing.assert_array_equal(part.take(np.array([1])), images.pixels[5:6])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"pixels": np.zeros((45, 16, 16, 1), np.float32)}, "must be uint8"),
        ({"labels": np.zeros(44, np.int64)}, "one label, one id"),
        ({"ids": np.zeros(45, np.int64)}, "must be unique"),
    ],
)
def test_images_that_do_not_fit_together_are_refused(images, change, sentence):
    with pytest.raises(EngineError, match=sentence):
        Images(**({"pixels": images.pixels, "labels": images.labels, "ids": images.ids} | change))


def test_few_images_get_small_batches_and_what_is_asked_for_stands():
    few, many = (
        Images(
            np.zeros((1, 16, 16, 1), np.uint8),
            np.zeros(n, np.int64),
            np.arange(n),
            np.zeros(n, np.int64),
        )
        for n in (4_999, 5_000)
    )
    assert [default_recipe(images, 2).batch_size for images in (few, many)] == [32, 64]
    assert default_recipe(few, 2, batch_size=7, epochs=None).batch_size == 7


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_gets_a_pace_of_its_own_and_no_momentum(optimizer):
    colour = Images(
        np.zeros((4, 64, 64, 3), np.uint8), np.arange(4) % 2, np.arange(4), np.zeros(4, np.int64)
    )
    sgd, adam = default_recipe(colour, 2), default_recipe(colour, 2, optimizer=optimizer)
    assert (sgd.learning_rate, sgd.momentum) == (0.01, 0.9)
    assert (adam.learning_rate, adam.momentum) == (0.001, 0.0)
    assert default_recipe(colour, 2, optimizer=optimizer, learning_rate=0.5).learning_rate == 0.5


def test_a_shorter_list_takes_as_many_steps_by_passing_over_it_again(images):
    rest = images.subset(np.arange(len(images) - 1))
    whole, shorter = a_recipe(batch_size=11), a_recipe(batch_size=11, epoch_images=len(images))
    assert whole.steps_per_epoch(len(rest)) == 4
    epochs = [draw_batches(shorter, rest, epoch) for epoch in range(44)]
    wanted = [draw_batches(whole, images, epoch) for epoch in range(44)]
    assert [[len(part) for part in epoch] for epoch in epochs] == [
        [len(part) for part in epoch] for epoch in wanted
    ]
    # 44 epochs of 45 draws are 45 whole passes over 44 images, each in an order of its own.
    stream = np.concatenate([part for epoch in epochs for part in epoch]).reshape(45, 44)
    assert (np.sort(stream, axis=1) == np.arange(44)).all()
    assert len({tuple(part) for part in stream.tolist()}) == 45


@pytest.mark.parametrize("count", [1, 2, 22, 44, 45, 46, 90])
def test_a_stream_draws_every_image_equally_often_whatever_the_length(images, count):
    rest = images.subset(np.arange(min(count, 45)))
    epochs = [draw_batches(a_recipe(epoch_images=count), rest, epoch) for epoch in range(3)]
    drawn = np.bincount(np.concatenate([part for epoch in epochs for part in epoch]))
    assert drawn.sum() == 3 * count
    assert drawn.max() - drawn.min() <= 1


def test_a_recipe_without_epoch_images_keeps_the_digest_of_earlier_versions():
    assert "epoch_images" not in a_recipe().to_json()
    assert a_recipe(epoch_images=45).digest() != a_recipe().digest()
    longer = a_recipe(epoch_images=45)
    assert type(longer).from_json(longer.to_json()) == longer
