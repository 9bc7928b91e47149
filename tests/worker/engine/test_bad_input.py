"""Bad input gets a helpful sentence before any long work."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.worker.engine.conftest import a_recipe, some_images
from worker.engine import (
    METHODS,
    NETWORKS,
    EngineError,
    Images,
    default_recipe,
    ensemble,
    evaluate,
    explain,
    explain_most,
    export_weights,
    features,
    leave_out,
    predict,
    read_out,
    score,
    train,
    with_params,
)
from worker.engine.networks.registry import Network
from worker.engine.training.runner import Runner


@pytest.fixture(autouse=True)
def no_long_work(request, monkeypatch):
    """Fail tests named test_before_training… when a step is trained."""
    if not request.node.name.startswith("test_before_training"):
        return
    monkeypatch.setattr(
        Runner,
        "advance",
        lambda *_arguments: pytest.fail("a step was made before the input was refused"),
    )


def use(monkeypatch, module):
    """Let the network called mnist be `module`."""
    choice = NETWORKS["mnist"]
    monkeypatch.setitem(
        NETWORKS, "mnist", type(choice)(**{**vars(choice), "build": lambda _recipe: module})
    )


class Shaped(nn.Module):
    """A linear layer whose outputs get another shape."""

    def __init__(self, shape, factor: float = 1.0) -> None:
        super().__init__()
        self.head = nn.Linear(256, 3)
        self.shape, self.factor = shape, factor

    def forward(self, x):
        return self.shape(self.head(x.flatten(1))) * self.factor


def test_before_training_a_model_without_parameters_is_refused(images, tmp_path, monkeypatch):
    use(monkeypatch, nn.Flatten())
    with pytest.raises(EngineError, match="no parameters to train; use one that has some"):
        train(a_recipe(), images, None, tmp_path)


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        (lambda z: z.mean(), r"\(\)"),
        (lambda z: z[:, :2], r"\(2, 2\)"),
        (lambda z: z.mean(0, keepdim=True), r"\(1, 3\)"),
    ],
)
def test_before_training_answers_that_are_not_one_row_for_each_image_are_refused(
    images, tmp_path, monkeypatch, shape, found
):
    use(monkeypatch, Shaped(shape))
    with pytest.raises(
        EngineError,
        match=(
            rf"shape {found}, so there is no loss for each image; it must return one row of 3 "
            r"logits"
        ),
    ):
        train(a_recipe(), images, None, tmp_path)


def test_before_training_a_loss_that_is_averaged_is_refused(images, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Network,
        "losses",
        lambda self, params, x, y: nn.functional.cross_entropy(self.logits(params, x), y),
    )
    with pytest.raises(
        EngineError,
        match=r"the shape \(\), so it is not one for each image; return one number for each",
    ):
        train(a_recipe(), images, None, tmp_path)


@pytest.mark.parametrize("settings", [{"std": (0.0,)}, {"mean": (float("nan"),)}, {}])
def test_before_training_a_loss_that_is_no_number_is_refused(
    images, tmp_path, monkeypatch, settings
):
    if not settings:
        use(monkeypatch, Shaped(lambda z: z, float("nan")))
    with pytest.raises(
        EngineError, match=r"not a number before any step: check the recipe's mean and std"
    ):
        train(a_recipe(**settings), images, None, tmp_path)


def test_before_training_a_single_image_is_refused(images, tmp_path):
    with pytest.raises(EngineError, match=r"only one training image.*Give at least two"):
        train(a_recipe(), images.subset(np.array([0])), None, tmp_path)


@pytest.mark.parametrize("labels", [[0] * 44 + [3], [-1] + [0] * 44])
def test_before_training_labels_out_of_range_are_refused(images, validation, tmp_path, labels):
    with pytest.raises(
        EngineError,
        match=(
            r"training split must lie between 0 and 2; they range from .* Correct the labels, or "
            r"make the recipe for more classes"
        ),
    ):
        train(a_recipe(), Images(images.pixels, np.array(labels), images.ids), validation, tmp_path)


def test_before_training_an_empty_validation_split_is_refused(images, tmp_path):
    with pytest.raises(EngineError, match="validation split has no images; give it at least one"):
        train(a_recipe(), images, images.subset(np.array([], dtype=np.int64)), tmp_path)


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((45, 16, 16, 1), np.nan),
        np.zeros((45, 16, 16), np.uint8),
        np.zeros((45, 16, 16, 4), np.uint8),
    ],
)
def test_pixels_that_are_no_bytes_of_grey_or_colour_are_refused(images, pixels):
    with pytest.raises(
        EngineError,
        match=(
            r"Pixels must be uint8 of shape .* convert them to whole numbers from 0 to 255, and "
            r"replace any NaN"
        ),
    ):
        Images(pixels, images.labels, images.ids)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 7, 44, 45, 46, 1000])
def test_a_number_of_images_that_does_not_divide_into_batches_is_no_matter(
    images, validation, tmp_path, batch_size
):
    training = train(a_recipe(batch_size=batch_size, epochs=1), images, None, tmp_path)
    values = score(training, images, validation).values
    assert (values != 0).all()


@pytest.fixture
def no_look(monkeypatch):
    """Fail if the network reads anything."""

    def allow_from_now() -> None:
        monkeypatch.setattr(
            Network,
            "logits",
            lambda *_arguments: pytest.fail("the network was used before the input was refused"),
        )

    return allow_from_now


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"method": ["margin"]}, r"no method called \['margin'\]; choose from"),
        ({"damping": np.array([0.5])}, r"Damping must be above 0 and at most 1"),
        ({"method": "magic"}, "no method called 'magic'; choose from sgd_influence"),
        (
            {"span": "first_epoch"},
            "no span called 'first_epoch'; choose from last_epoch, all_epochs",
        ),
        (
            {"memory_budget": 1000},
            r"memory budget of 1,000 bytes is below two sets of parameters \(\d\d,\d\d\d bytes\); "
            r"allow more",
        ),
        (
            {"memory_budget": 100_000},
            r"holds 2 sets of parameters, and replaying an epoch of 6 steps needs 3 \([\d,]+ "
            r"bytes\); allow more",
        ),
        ({"memory_budget": 1000, "method": "final_params"}, "below two sets of parameters"),
        (
            {"memory_budget": "1GB"},
            r"memory budget must be a whole number of bytes above 0, such as 2\*\*30, not '1GB'",
        ),
        ({"memory_budget": None}, "memory budget must be a whole number of bytes .*, not None"),
        ({"memory_budget": True}, "memory budget must be a whole number of bytes .*, not True"),
        (
            {"memory_budget": 1e9},
            r"memory budget must be a whole number of bytes .*, not 1000000000\.0",
        ),
        (
            {"memory_budget": -1},
            "memory budget must be a whole number of bytes above 0, .*, not -1",
        ),
        ({"damping": 0.0}, "Damping must be above 0 and at most 1"),
        ({"damping": 1.5}, "Damping must be above 0 and at most 1"),
        ({"damping": "best"}, "Damping must be above 0 and at most 1"),
        ({"damping": 0.5, "method": "margin"}, "method margin has no damping"),
        ({"folds": 3}, "method has no option called 'folds'; its options: none"),
        (
            {"method": "marginal_influence", "sampled_steps": 0},
            "sampled_steps must be a number above 0, not 0",
        ),
        ({"method": "influence_function", "ridge": float("nan")}, "ridge must be a number above 0"),
        (
            {"method": "influence_function", "ridge": float("inf")},
            "ridge must be a number above 0, not inf",
        ),
        (
            {"method": "influence_function", "ridge": "0.1"},
            "ridge must be a number above 0, not '0.1'",
        ),
        ({"method": "influence_function", "tolerance": 5}, "tolerance must be below 1, not 5"),
        (
            {"method": "influence_function", "iterations": 0.5},
            r"iterations counts something.*whole number of at least 1, not 0\.5",
        ),
        (
            {"method": "marginal_influence", "sampled_steps": 0.5},
            r"sampled_steps counts something.*not 0\.5",
        ),
        ({"method": "outlier", "trees": 1.5}, r"trees counts something.*not 1\.5"),
        ({"method": "confident_learning", "folds": 2.5}, r"folds counts something.*not 2\.5"),
        ({"method": "influence_function", "steps": 3}, "its options: ridge, iterations, tolerance"),
    ],
)
def test_scoring_refuses_what_makes_no_sense_before_it_looks_at_an_image(
    images, validation, tmp_path, no_look, arguments, sentence
):
    training = train(a_recipe(epochs=1), images, None, tmp_path)
    no_look()
    with pytest.raises(EngineError, match=sentence):
        score(training, images, validation, **arguments)


def test_a_cost_refuses_the_options_that_scoring_refuses():
    with pytest.raises(EngineError, match="iterations counts something"):
        METHODS["influence_function"].cost(a_recipe(), 100, options={"iterations": 0.5})


@pytest.mark.parametrize("method", METHODS)
def test_a_cost_refuses_a_span_that_there_is_not(method):
    with pytest.raises(
        EngineError, match="no span called 'nospan'; choose from last_epoch, all_epochs"
    ):
        METHODS[method].cost(a_recipe(), 100, span="nospan")


@pytest.mark.parametrize("seed", [-1, 2**32, 2**40 + 3])
def test_outliers_are_found_with_every_seed_that_trains(images, validation, tmp_path, seed):
    training = train(a_recipe(seed=seed, epochs=1), images, None, tmp_path)
    assert np.ptp(score(training, images, validation, "outlier", trees=5.0).values) > 0


def test_scoring_refuses_images_that_do_not_fit_before_it_looks_at_one(
    images, validation, tmp_path, no_look
):
    training = train(a_recipe(epochs=1), images, None, tmp_path / "a")
    final = train(a_recipe(epochs=1), images, None, tmp_path / "b", store="final_params")
    without = train(a_recipe(epochs=1), images, None, tmp_path / "c", leave_out=np.arange(45) == 3)
    no_look()
    with pytest.raises(EngineError, match="not the images that the run was trained on"):
        score(training, some_images(44), validation)
    with pytest.raises(EngineError, match="validation split has no images; give it at least one"):
        score(training, images, validation.subset(np.array([], dtype=np.int64)))
    with pytest.raises(EngineError, match="validation images are"):
        score(training, images, some_images(5, side=20))
    with pytest.raises(
        EngineError, match="Labels of the validation split must lie between 0 and 2"
    ):
        score(training, images, Images(validation.pixels, validation.labels + 1, validation.ids))
    with pytest.raises(EngineError, match="left images out"):
        score(without, images, validation)
    for method, span in (
        ("sgd_influence", "last_epoch"),
        ("tracin", "all_epochs"),
        ("published_code", "last_epoch"),
    ):
        with pytest.raises(
            EngineError,
            match="use the method final_params, or train again with the store epoch_starts",
        ):
            score(final, images, validation, method, span=span)


def test_scores_that_overflow_are_a_sentence(images, validation, tmp_path, monkeypatch):
    training = train(a_recipe(epochs=1), images, None, tmp_path)
    monkeypatch.setattr(
        "worker.engine.scores.trust.validation_gradient",
        lambda *_arguments: torch.full_like(training.params, 3e38),
    )
    with pytest.raises(
        EngineError,
        match=r"not numbers: the retracing overflowed. Train with a lower learning rate",
    ):
        score(training, images, validation)


@pytest.mark.parametrize("position", [-1, 45, 1.5, 3.0, True, None, "3"])
def test_explaining_an_image_that_is_not_there_is_a_sentence(
    images, validation, tmp_path, position
):
    training = train(a_recipe(epochs=1), images, None, tmp_path)
    readout = read_out(training, images, validation)
    for ask in (
        lambda: explain(training, images, validation, position),
        lambda: explain_most(training, images, validation, position, readout),
    ):
        with pytest.raises(
            EngineError,
            match=f"Choose an image by a whole number between 0 and 44, not {position!r}",
        ):
            ask()


def test_explaining_quickly_needs_what_the_last_layer_says(images, validation, tmp_path):
    training = train(a_recipe(epochs=1), images, None, tmp_path)
    with pytest.raises(
        EngineError,
        match=(
            r"readout must be given as worker\.engine\.Readout, not as NoneType; read_out makes "
            r"one"
        ),
    ):
        explain_most(training, images, validation, 3, None)


def test_numpys_fractions_are_dampings(images, validation, tmp_path):
    training = train(a_recipe(epochs=1), images, None, tmp_path)
    damped = score(training, images, validation, damping=np.float32(0.5))
    np.testing.assert_array_equal(
        damped.values, score(training, images, validation, damping=0.5).values
    )


def test_numpys_whole_numbers_are_whole_numbers(images, validation, tmp_path):
    training = train(a_recipe(epochs=1), images, None, tmp_path)
    np.testing.assert_array_equal(
        explain(training, images, validation, np.int64(3)), explain(training, images, validation, 3)
    )
    assert score(training, images, validation, memory_budget=np.int64(2**30)).exact


def test_what_is_no_run_recipe_or_score_is_a_sentence_that_says_where_to_get_one(
    images, validation, tmp_path
):
    for ask, sentence in (
        (
            lambda: train(None, images, validation, tmp_path),
            r"recipe must be given as worker\.engine\.Recipe, not as NoneType; default_recipe "
            r"makes",
        ),
        (
            lambda: score(None, images, validation),
            r"run must be given as worker\.engine\.Training, not as NoneType; train and "
            r"load_training",
        ),
        (
            lambda: score(tmp_path, images, validation),
            r"run must be given as worker\.engine\.Training, not as PosixPath",
        ),
        (
            lambda: explain(None, images, validation, 3),
            r"run must be given as worker\.engine\.Training, not as NoneType",
        ),
        (
            lambda: leave_out(None, images, validation, np.array([3]), tmp_path),
            r"run must be given as worker\.engine\.Training",
        ),
        (
            lambda: read_out(None, images, validation),
            r"run must be given as worker\.engine\.Training",
        ),
        (
            lambda: predict(None, images),
            r"run must be given as worker\.engine\.Training, not as NoneType",
        ),
        (
            lambda: evaluate(tmp_path, images),
            r"run must be given as worker\.engine\.Training, not as PosixPath",
        ),
        (lambda: features(None, images), r"run must be given as worker\.engine\.Training"),
        (lambda: export_weights(None, tmp_path), r"run must be given as worker\.engine\.Training"),
        (
            lambda: default_recipe(images.pixels, 3),
            r"list of images must be given as worker\.engine\.Images, not as ndarray",
        ),
        (lambda: with_params(None, images), r"run must be given as worker\.engine\.Training"),
        (
            lambda: ensemble([None]),
            r"scores of each run must be given as worker\.engine\.Scores, not as NoneType; score "
            r"returns them",
        ),
    ):
        with pytest.raises(EngineError, match=sentence):
            ask()
