"""Runs repeat bit for bit, resume, and leave images out like the papers."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

from tests.worker.engine.conftest import a_recipe, some_images
from worker.engine import (
    CannotGoOn,
    Diverged,
    EngineError,
    evaluate,
    features,
    load_training,
    predict,
    register_network,
    score,
    train,
)
from worker.engine.recipe import SCHEDULES
from worker.engine.trajectory.training_dynamics import NEVER, EpochSignals, Signals, margin


class Stop(Exception):
    pass


def stop_at(step):
    def progress(done, _total):
        if done == step:
            raise Stop

    return progress


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_bits(images, validation, tmp_path):
    first = train(a_recipe(augmentation="shift"), images, validation, tmp_path / "a")
    second = train(a_recipe(augmentation="shift"), images, None, tmp_path / "b")
    assert first.params_hash == second.params_hash
    assert train(a_recipe(seed=8), images, None, tmp_path / "c").params_hash != first.params_hash


@pytest.mark.parametrize("step", [1, 6, 7, 13, 18])
def test_a_run_stopped_at_any_step_resumes_to_the_same_bits(images, tmp_path, step):
    recipe = a_recipe(momentum=0.9, schedule="cosine", augmentation="shift")
    whole = train(recipe, images, None, tmp_path / "whole")
    with pytest.raises(Stop):
        train(recipe, images, None, tmp_path / "stopped", progress=stop_at(step))
    seen = []
    resumed = train(recipe, images, None, tmp_path / "stopped", on_epoch=seen.append)
    assert resumed.params_hash == whole.params_hash
    for name in ("margins", "forgotten", "right"):
        np.testing.assert_array_equal(getattr(resumed.signals, name), getattr(whole.signals, name))
    assert [report.epoch for report in seen] == [1, 2, 3]


@pytest.mark.parametrize("store", ["every_step", "recipe", "final_params"])
def test_every_store_resumes_to_what_it_would_have_kept(images, tmp_path, store):
    recipe = a_recipe(momentum=0.9, augmentation="shift")
    train(recipe, images, None, tmp_path / "whole", store=store)
    with pytest.raises(Stop):
        train(recipe, images, None, tmp_path / "stopped", store=store, progress=stop_at(9))
    train(recipe, images, None, tmp_path / "stopped", store=store)
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == names
    for name in names:
        if name != "run.json":  # its seconds differ
            assert (tmp_path / "stopped" / name).read_bytes() == (
                tmp_path / "whole" / name
            ).read_bytes()


def test_a_run_whose_network_became_another_does_not_go_on(images, tmp_path, forget_own_networks):
    def network(activation: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(256, 8), activation, nn.Linear(8, 3))

    register_network("mine", lambda _recipe: network(nn.Tanh()))
    recipe = a_recipe(network="mine")
    with pytest.raises(Stop):
        train(recipe, images, None, tmp_path, progress=stop_at(9))
    # As many parameters, from the same seed.
    register_network("mine", lambda _recipe: network(nn.Softplus()))
    with pytest.raises(
        CannotGoOn,
        match=r"cannot continue here.*its network is not the one.*train again in another folder",
    ):
        train(recipe, images, None, tmp_path)
    register_network("mine", lambda _recipe: network(nn.Tanh()))
    assert len(train(recipe, images, None, tmp_path).history) == 3


@pytest.mark.parametrize("step", [1, 7, 12])
def test_a_run_that_passes_over_a_short_list_again_resumes_to_the_same_bits(images, tmp_path, step):
    rest = images.subset(np.arange(len(images) - 5))
    recipe = a_recipe(momentum=0.9, schedule="cosine", epoch_images=len(images))
    whole = train(recipe, rest, None, tmp_path / "whole")
    with pytest.raises(Stop):
        train(recipe, rest, None, tmp_path / "stopped", progress=stop_at(step))
    assert train(recipe, rest, None, tmp_path / "stopped").params_hash == whole.params_hash
    # Its images are drawn unevenly from epoch to epoch, so no score of them would mean anything.
    with pytest.raises(EngineError, match="do not draw each image once"):
        score(whole, rest, images, "sgd_influence")


def test_a_run_of_one_step_an_epoch_resumes(images, tmp_path):
    recipe = a_recipe(batch_size=45)
    with pytest.raises(Stop):
        train(recipe, images, None, tmp_path / "stopped", progress=stop_at(2))
    resumed = train(recipe, images, None, tmp_path / "stopped")
    assert resumed.params_hash == train(recipe, images, None, tmp_path / "whole").params_hash


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_bits(images, tmp_path):
    program = (
        "import pathlib, torch; torch.set_num_threads(1)\n"
        "from tests.worker.engine.conftest import a_recipe, some_images\n"
        "from worker.engine import train\n"
        "train(a_recipe(epochs=30, learning_rate=0.01), some_images(45), None, "
        f"pathlib.Path({str(tmp_path / 'killed')!r}))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONWARNINGS": "ignore"}
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "killed" / "epoch-0005.safetensors").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    recipe = a_recipe(epochs=30, learning_rate=0.01)
    assert not (tmp_path / "killed" / "epoch-0030.safetensors").exists()
    killed = train(recipe, some_images(45), None, tmp_path / "killed")
    assert (
        killed.params_hash == train(recipe, some_images(45), None, tmp_path / "whole").params_hash
    )


def test_a_finished_run_is_not_trained_again(images, tmp_path):
    train(a_recipe(), images, None, tmp_path)
    again = train(a_recipe(), images, None, tmp_path, progress=stop_at(1))
    assert len(again.history) == 3


def test_leaving_images_out_keeps_order_and_divisor(images, tmp_path):
    mask = np.zeros(45, bool)
    mask[[4, 9]] = True
    without = train(a_recipe(epochs=1), images, None, tmp_path / "without", leave_out=mask)
    # Independent truth: the images stay, but pixels and labels cannot matter.
    other = some_images(45)
    other.pixels[4], other.labels[9] = 255, (other.labels[9] + 1) % 3
    same = train(a_recipe(epochs=1), other, None, tmp_path / "same", leave_out=mask)
    assert without.params_hash == same.params_hash
    assert (
        without.params_hash != train(a_recipe(epochs=1), images, None, tmp_path / "all").params_hash
    )


def test_the_margin_is_the_given_logit_minus_the_best_other():
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 4.0]])
    assert margin(logits, torch.tensor([0, 0])).tolist() == [-2.0, 1.0]


def test_forgetting_counts_the_times_an_image_went_from_right_to_wrong():
    signals = Signals.empty(3)
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    # Image 0 is learned and forgotten twice; 1 is learned late and kept; 2 is never right.
    for logits in (
        [right, wrong, wrong],
        [wrong, wrong, wrong],
        [right, right, wrong],
        [wrong, right, wrong],
    ):
        # Two steps an epoch, in another order than the list's.
        seen, y = EpochSignals(3, torch.device("cpu")), torch.tensor([0, 0, 0])
        for step in ([2, 0], [1]):
            seen.add_step(torch.tensor(logits)[step], torch.zeros(len(step)), y[step])
        seen.finish(signals, np.array([2, 0, 1]))
    assert signals.forgotten.tolist() == [2, 0, NEVER]
    assert signals.right.tolist() == [False, True, False]


@pytest.mark.slow
def test_training_learns_and_reports_what_evaluation_measures(images, validation, tmp_path):
    training = train(a_recipe(epochs=15), images, validation, tmp_path)
    accuracy, loss = evaluate(training, validation)
    assert accuracy > 0.9
    assert (training.history[-1].validation_accuracy, training.history[-1].validation_loss) == (
        accuracy,
        loss,
    )
    probabilities = predict(training, validation)
    assert (probabilities.argmax(1) == validation.labels).mean() == accuracy
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert features(training, validation).shape == (30, 20)


def test_a_rate_that_diverges_names_the_epoch_and_the_advice(images, tmp_path):
    with pytest.raises(Diverged, match=r"diverged in epoch 1.*lower learning rate") as caught:
        train(a_recipe(learning_rate=1e9), images, None, tmp_path)
    assert caught.value.epoch == 1


def test_a_folder_of_another_run_is_refused(images, tmp_path):
    train(a_recipe(), images, None, tmp_path)
    with pytest.raises(EngineError, match="another recipe or image list"):
        train(a_recipe(seed=99), images, None, tmp_path)
    with pytest.raises(EngineError, match="another recipe or image list"):
        train(a_recipe(), images.subset(np.arange(40)), None, tmp_path)


@pytest.mark.parametrize("name", ["epoch-0003.safetensors", "run.json", "signals-0003.safetensors"])
def test_a_damaged_file_is_a_sentence(images, tmp_path, name):
    train(a_recipe(), images, None, tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(EngineError, match=r"damaged.*train"):
        load_training(tmp_path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"network": "none"}, "no network called"),
        ({"learning_rate": float("nan")}, "positive number"),
        ({"momentum": 1.0}, "below 1"),
        ({"nesterov": True}, "needs a momentum"),
        ({"weight_decay": -1.0}, "at least 0"),
        ({"optimizer": "lbfgs"}, "no optimizer called"),
        ({"schedule": "warm"}, "no schedule called"),
        ({"augmentation": "mixup"}, "no augmentation called"),
        ({"epochs": 0}, "at least 1"),
        ({"channels": 2}, "1 channel"),
        ({"mean": ()}, "each channel"),
        ({"height": 17}, "the recipe says"),
        ({"classes": 2}, "between 0 and 1"),
    ],
)
def test_a_setting_that_makes_no_sense_is_a_sentence(images, tmp_path, settings, sentence):
    with pytest.raises(EngineError, match=sentence):
        train(a_recipe(**settings), images, None, tmp_path)


def test_too_small_images_and_empty_splits_are_sentences(images, tmp_path):
    small = some_images(9, side=8)
    with pytest.raises(EngineError, match="at least 16 pixels"):
        train(a_recipe(height=8, width=8), small, None, tmp_path)
    empty = images.subset(np.array([], dtype=np.int64))
    with pytest.raises(EngineError, match="validation split has no images"):
        train(a_recipe(), images, empty, tmp_path)


def test_the_learning_rate_falls_as_its_schedule_says() -> None:
    falling = {
        "constant": [0.4, 0.4, 0.4, 0.4],
        "step": [0.4, 0.4, 0.04, 0.004],
        "cosine": [0.4, 0.2 + 0.2 / 2**0.5, 0.2, 0.2 - 0.2 / 2**0.5],
        "inverse_root": [0.4, 0.4 / 2**0.5, 0.4 / 3**0.5, 0.2],
    }
    for schedule, rates in falling.items():
        recipe = a_recipe(schedule=schedule, learning_rate=0.4)
        assert [recipe.rate(step, 4) for step in range(4)] == pytest.approx(rates)
    assert set(falling) == set(SCHEDULES)
