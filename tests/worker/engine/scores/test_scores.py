"""Scorings of real runs: equal bits, refused drift, meaningful scores."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import worker.engine
from tests.worker.engine.conftest import a_recipe, some_images
from worker.engine import METHODS, EngineError, Images, explain, score, train
from worker.engine.derivatives.passes import mean_gradient_of
from worker.engine.images import draw_batches
from worker.engine.scores.trust import validation_gradient
from worker.engine.training.runner import make_runner
from worker.engine.trajectory.step_store import StepsReader

ADAM = {"optimizer": "adam", "learning_rate": 0.002}


@pytest.fixture
def noisy(images) -> tuple[Images, np.ndarray]:
    """Return images with every eighth label wrong, and where."""
    wrong = np.arange(45) % 8 == 0
    return Images(
        images.pixels, np.where(wrong, (images.labels + 1) % 3, images.labels), images.ids
    ), wrong


@pytest.mark.slow
@pytest.mark.parametrize("span", ["last_epoch", "all_epochs"])
@pytest.mark.parametrize(
    "optimizer",
    [
        {"momentum": 0.0},
        {"momentum": 0.9, "nesterov": True},
        ADAM,
        ADAM | {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "cosine"},
    ],
    ids=["sgd", "nesterov", "adam", "adamw"],
)
def test_the_three_exact_stores_give_the_same_bits(images, validation, tmp_path, span, optimizer):
    recipe = a_recipe(**optimizer, augmentation="shift")
    values = []
    for store in ("every_step", "epoch_starts", "recipe"):
        training = train(recipe, images, None, tmp_path / store, store=store)
        scores = score(training, images, validation, span=span)
        assert scores.exact
        values.append(scores.values)
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])


@pytest.mark.slow
def test_a_small_memory_budget_changes_no_bit(images, validation, tmp_path):
    training = train(a_recipe(batch_size=4), images, None, tmp_path)
    roomy = score(training, images, validation).values
    point = 4 * training.params.numel()
    for sets in (7, 3):
        np.testing.assert_array_equal(
            score(training, images, validation, memory_budget=sets * point).values, roomy
        )
    with pytest.raises(EngineError, match="allow more"):
        score(training, images, validation, memory_budget=2 * point)
    with pytest.raises(EngineError, match="below two sets of parameters"):
        score(training, images, validation, memory_budget=point)


@pytest.mark.slow
def test_the_last_epoch_alone_equals_the_end_of_a_longer_span_by_hand(images, validation, tmp_path):
    """Against a slow recursion with explicit gradients and finite differences."""
    recipe = a_recipe(epochs=1, batch_size=15)
    training = train(recipe, images, None, tmp_path, store="every_step")
    run, _ = make_runner(recipe, images)
    stored = StepsReader(tmp_path / "steps-0000.safetensors", training.record.run)
    points = [stored.point(t)[0] for t in range(recipe.steps_per_epoch(45))]
    u = validation_gradient(run.network, recipe, training.params, validation)
    expected = np.zeros(45)
    for t, positions in reversed(list(enumerate(draw_batches(recipe, images, 0)))):
        x, y = run.batch(0, positions)
        for i, position in enumerate(positions):
            gradient = mean_gradient_of(run.network, points[t], x[i : i + 1], y[i : i + 1])
            expected[position] += recipe.learning_rate / len(positions) * float(gradient @ u)
        if t:
            _, product = torch.func.vjp(
                lambda p, x=x, y=y: mean_gradient_of(run.network, p, x, y), points[t]
            )
            u = u - recipe.learning_rate * product(u)[0]
    np.testing.assert_allclose(
        score(training, images, validation).values, expected, rtol=1e-4, atol=1e-7
    )


def test_influence_agrees_with_really_leaving_groups_out(noisy, validation, tmp_path):
    images, wrong = noisy
    training = train(a_recipe(epochs=6, learning_rate=0.02), images, None, tmp_path)
    scores = score(training, images, validation, verify=True)
    assert scores.report["predicted_change"] < 0
    assert scores.report["measured_change"] == pytest.approx(
        scores.report["predicted_change"], rel=0.3
    )
    assert scores.values[wrong].mean() < scores.values[~wrong].mean()


@pytest.mark.slow
def test_marginal_influence_with_every_step_sampled_equals_the_average_image_by_image(
    images, validation, tmp_path, monkeypatch
):
    recipe = a_recipe(epochs=1, batch_size=20, augmentation="shift")  # of 20, 20 and 5 images
    training = train(recipe, images, None, tmp_path)
    run, _ = make_runner(recipe, images)
    directions = []
    import worker.engine.scores.retracing as module

    real = module.retrace

    def recording(*arguments, after_step, **keywords):
        def both(step, direction):
            directions.append((step, direction))
            after_step(step, direction)

        return real(*arguments, after_step=both, **keywords)

    monkeypatch.setattr(module, "retrace", recording)
    values = score(training, images, validation, "marginal_influence").values
    x, y = run.batch(0, np.arange(45))
    expected = np.zeros(45)
    for step, v in directions:
        for i in range(45):
            # In this step with probability |S_t|/N, then for 1/|S_t| of it.
            expected[i] -= (
                float(mean_gradient_of(run.network, step.params, x[i : i + 1], y[i : i + 1]) @ v)
                / 45
            )
    assert len(directions) == 3
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-7)


@pytest.mark.slow
def test_for_adam_weights_that_nothing_moved_do_not_count_in_other_steps(validation, tmp_path):
    """Derivatives there are of the size 1/ε."""
    images = some_images(200)
    training = train(a_recipe(optimizer="adam", learning_rate=0.001), images, None, tmp_path)
    largest = np.abs(score(training, images, validation, span="all_epochs").values).max()
    for_all = score(training, images, validation, "marginal_influence", span="all_epochs").values
    assert np.abs(for_all).max() < 20 * largest
    quick = [np.abs(explain(training, images, validation, position)).max() for position in range(4)]
    exact = [
        np.abs(explain(training, images, validation, position, exact=True)).max()
        for position in range(4)
    ]
    assert max(quick) < 20 * max(exact)


@pytest.mark.slow
def test_every_method_scores_every_image_and_says_what_it_means(noisy, validation, tmp_path):
    images, _ = noisy
    training = train(a_recipe(), images, None, tmp_path)
    for name, method in METHODS.items():
        scores = score(training, images, validation, name)
        assert scores.values.shape == (45,)
        assert scores.values.dtype == np.float64
        assert method.meaning.endswith(".")
        json.dumps(scores.report)


@pytest.mark.slow
def test_the_readme_says_what_works(images, validation, tmp_path, monkeypatch):
    """Run its first example on this test's images."""
    monkeypatch.chdir(tmp_path)
    text = (Path(worker.engine.__file__).parent / "README.md").read_text()
    example = (
        text.split("```python\n")[1]
        .split("```")[0]
        .replace("classes=10", "classes=3")
        .replace("[:30]", "[:5]")
    )
    names = {
        "pixels": images.pixels,
        "labels": images.labels,
        "ids": images.ids,
        "validation": validation,
    }
    names["module"] = nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    assert len([line for line in example.splitlines() if line]) == 10
    exec(example, names)
    assert len(names["worst"]) == 5
    assert np.isfinite(names["truth"].measured_change)
    assert set(
        re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \|", text.split("## Methods")[1], re.MULTILINE)
    ) == {(name, "") for name in METHODS if name not in ("highest_loss", "random")} | {
        ("highest_loss", "random")
    }


ALONE = """
import sys

REFUSED = {"backend", "frontend", "sqlalchemy", "celery", "fastapi", "redis", "jinja2", "pydantic"}
REFUSED |= {"typer"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in {"backend", "backend.core", "backend.core.catalogue"}:
            return None
        if name.partition(".")[0] in REFUSED:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Refuse())
import pathlib, tempfile
import numpy as np
import torch
from worker.engine import Images, Recipe, explain, leave_out, score, train

# Slow to import, and needed by single methods.
assert not {"cleanlab", "sklearn", "pandas"} & set(sys.modules)
torch.set_num_threads(1)
pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 1), dtype=np.uint8)
images = Images(pixels, np.arange(12) % 2, np.arange(12))
shape = {"channels": 1, "height": 16, "width": 16, "mean": (0.5,), "std": (0.3,)}
recipe = Recipe("mnist", classes=2, **shape, epochs=1, batch_size=6)
folder = pathlib.Path(tempfile.mkdtemp())
training = train(recipe, images, images, folder / "run")
assert score(training, images, images).exact
assert len(explain(training, images, images, 0)) == 12
assert leave_out(training, images, images, np.array([0]), folder / "without").measured_change
"""


@pytest.mark.slow
def test_the_engine_stands_by_itself():
    """Use it with the catalogue alone: no web, no database, no queue."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
