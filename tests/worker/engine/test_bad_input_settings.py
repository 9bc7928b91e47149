"""Bad settings are refused with a sentence; NumPy's become plain Python."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.worker.engine.conftest import a_recipe, some_images
from worker.engine import (
    EngineError,
    Recipe,
    default_recipe,
    leave_out,
    load_training,
    paired_difference,
    register_weights,
    train,
)
from worker.engine.networks.weights import keep_weights


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"epochs": 1.5}, r"epochs must be a whole number, not 1\.5"),
        ({"epochs": "3"}, "epochs must be a whole number, not '3'"),
        ({"epochs": True}, "epochs must be a whole number, not True"),
        ({"nesterov": "yes"}, "nesterov must be True or False, not 'yes'"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"seed": None}, "seed must be a whole number, not None"),
        ({"seed": 2**70}, "seed must lie between -9223372036854775808 and 18446744073709551615"),
        ({"learning_rate": "fast"}, "learning_rate must be a number, not 'fast'"),
        ({"mean": 0.5}, r"mean needs one number for each channel, such as \(0\.5,\), not 0\.5"),
        ({"std": ("wide",)}, "std must be a number, not 'wide'"),
        ({"mean": (0.1, 0.2)}, "mean and std need one value for each channel"),
        ({"network": 3}, "network must be a word, not 3"),
        ({"weights": b"0"}, "weights must be a word"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused(settings, sentence):
    with pytest.raises(EngineError, match=sentence):
        a_recipe(**settings)


def test_numpys_numbers_and_lists_make_the_same_recipe():
    other = a_recipe(
        epochs=np.int64(3),
        seed=np.uint8(7),
        learning_rate=np.float64(0.05),
        mean=[0.4],
        std=np.array([0.2]),
    )
    assert other == a_recipe()
    assert hash(other) == hash(a_recipe())
    assert Recipe.from_json(other.to_json()) == other
    assert (
        a_recipe(mean=(0,)).to_json() != a_recipe(mean=(0.0,)).to_json()
    )  # runs know their files by it: it must not change


def test_momentum_for_adam_is_refused_and_not_left_out_in_silence(images):
    with pytest.raises(
        EngineError,
        match=(
            "adamw keeps averages of its own and takes no momentum; leave it out, or choose the "
            "optimizer sgd"
        ),
    ):
        default_recipe(images, 3, optimizer="adamw", momentum=0.9)
    assert default_recipe(images, 3, optimizer="adamw", momentum=0).momentum == 0


def test_a_setting_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(
        EngineError, match="no setting called 'bogus'; choose from network, classes"
    ):
        default_recipe(some_images(5), 3, bogus=1)


def test_no_images_make_no_recipe():
    with pytest.raises(EngineError, match="no images to make a recipe for"):
        default_recipe(some_images(5).subset(np.array([], dtype=np.int64)), 3)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ([0.1, 0.2], [0.1], "as many numbers before as after; there are 2 and 1"),
        ([[0.1]], [[0.2]], r"list of numbers, \(pairs,\), not of shape \(1, 1\)"),
        ([float("nan")], [0.2], "values measured before are not all finite numbers"),
        (["good"], [0.2], "before must be a list of numbers"),
        ([0.2], None, "after must be a list of numbers"),
    ],
)
def test_what_makes_no_pairs_is_refused(before, after, sentence):
    with pytest.raises(EngineError, match=sentence):
        paired_difference(before, after)


def test_a_folder_of_weights_may_be_a_word_and_no_file(tmp_path):
    digest = keep_weights({"one": torch.ones(1)}, str(tmp_path / "weights"))
    kept = tmp_path / "weights" / f"{digest}.safetensors"
    assert register_weights(str(kept)) == digest
    with pytest.raises(EngineError, match="is a file; name a folder to keep weights in"):
        keep_weights({"one": torch.ones(1)}, kept)


@pytest.mark.parametrize(
    "leave_out",
    [
        np.zeros(45, dtype=int),
        np.array([3, 4]),
        np.ones((45, 1), dtype=bool),
        np.ones(44, dtype=bool),
    ],
)
def test_leaving_out_takes_a_yes_or_no_for_each_image(leave_out, images, tmp_path):
    with pytest.raises(EngineError, match="one True or False for each of the 45 training images"):
        train(a_recipe(), images, None, tmp_path, leave_out=leave_out)


def test_a_run_needs_a_folder_not_a_file(images, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(EngineError, match="run is a file; give a folder"):
        train(a_recipe(), images, None, tmp_path / "run")


def test_a_folder_of_a_run_may_be_a_word(images, validation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = train(a_recipe(epochs=1), images, None, "run")
    assert (
        load_training("run").params_hash
        == load_training(tmp_path / "run").params_hash
        == training.params_hash
    )
    assert leave_out(
        training, images, validation, np.array([3]), "without"
    ).training.folder == Path("without")


@pytest.mark.parametrize("kind", [list, torch.tensor])
def test_what_to_leave_out_may_be_a_list_or_a_tensor(kind, images, tmp_path):
    mask = images.ids < 5
    training = train(a_recipe(epochs=1), images, None, tmp_path / "array", leave_out=mask)
    assert (
        train(
            a_recipe(epochs=1), images, None, tmp_path / "other", leave_out=kind(mask.tolist())
        ).params_hash
        == training.params_hash
    )


def test_leaving_out_all_is_refused(images, tmp_path):
    with pytest.raises(EngineError, match="leaves out all 45 training images"):
        train(a_recipe(), images, None, tmp_path, leave_out=np.ones(45, dtype=bool))


def test_a_folder_that_cannot_hold_a_run_is_a_sentence(images, tmp_path):
    (tmp_path / "file").write_text("")
    for folder, sentence in (
        (None, "Give a folder for the run, as a path, not None"),
        (tmp_path / "file", "file is a file; give a folder for the run"),
        (tmp_path / "file" / "run", "The folder run cannot be created"),
        ("/proc/run", "The folder run cannot be created"),
    ):
        with pytest.raises(EngineError, match=sentence):
            train(a_recipe(), images, None, folder)
    with pytest.raises(EngineError, match="There is no run in the folder nowhere; train it first"):
        load_training(tmp_path / "nowhere")
