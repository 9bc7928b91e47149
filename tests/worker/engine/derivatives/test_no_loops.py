"""No frequent Python loop over images: larger batches make as many calls."""

import cProfile
import pstats
from concurrent.futures import Future
from functools import partial

import pytest

from tests.worker.engine.conftest import a_recipe, some_images
from worker.engine import METHODS, explain, features, predict, score, train


class AtOnce:
    """An executor without threads, so that a profile sees all calls."""

    def __init__(self, *_):
        pass

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future

    def shutdown(self, **_):
        pass


@pytest.fixture(autouse=True)
def no_threads(monkeypatch):
    monkeypatch.setattr("worker.engine.prefetch.ThreadPoolExecutor", AtOnce)


def calls(work) -> int:
    profile = cProfile.Profile()
    profile.runcall(work)
    return pstats.Stats(profile).total_calls


def sizes(tmp_path, count, batch_size):
    """Make images, validation and a training with `count` / `batch_size` steps an epoch."""
    images, validation = some_images(count), some_images(count, seed=1, first_id=1000)
    recipe = a_recipe(epochs=2, batch_size=batch_size, augmentation="shift_flip", momentum=0.9)
    return recipe, images, validation, train(recipe, images, validation, tmp_path / f"{count}")


# As many iterations in both sizes.
OPTIONS = {"influence_function": {"iterations": 3, "tolerance": 1e-12}}


# Folds and trees loop over images in other libraries.
@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [name for name in METHODS if name not in ("confident_learning", "outlier")]
)
def test_scoring_makes_as_many_calls_for_four_times_the_images_in_as_many_steps(method, tmp_path):
    counted = []
    for count, batch_size in ((16, 4), (64, 16)):
        _, images, validation, training = sizes(tmp_path, count, batch_size)
        work = partial(score, training, images, validation, method, **OPTIONS.get(method, {}))
        work()  # caches fill
        counted.append(calls(work))
    assert counted[1] <= 1.02 * counted[0]


@pytest.mark.slow
def test_training_and_looking_make_as_many_calls_for_four_times_the_images_in_as_many_steps(
    tmp_path,
):
    counted = []
    for count, batch_size in ((16, 4), (64, 16)):
        recipe, images, validation, training = sizes(tmp_path, count, batch_size)
        works = [
            lambda r=recipe, i=images, v=validation, c=count: train(
                r, i, v, tmp_path / f"again-{c}"
            ),
            lambda t=training, i=images: predict(t, i),
            lambda t=training, i=images: features(t, i),
            lambda t=training, i=images, v=validation: explain(t, i, v, 0),
        ]
        counted.append([calls(work) for work in works])
    assert all(large <= 1.02 * small for small, large in zip(*counted, strict=True))


def test_the_count_would_show_a_loop(tmp_path):
    def loop(count):
        return [abs(i) for i in range(count)]

    assert calls(lambda: loop(96)) > 3 * calls(lambda: loop(24))
