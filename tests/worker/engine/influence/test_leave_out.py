"""True leave-one-out against the predicted influence."""

import json

import numpy as np
import pytest
import torch

from tests.worker.engine.conftest import a_recipe, some_images
from tests.worker.engine.pretended_machine import other_arithmetic, other_rate
from worker.engine import (
    EngineError,
    Images,
    ReplayDrift,
    evaluate,
    export_weights,
    leave_out,
    load_training,
    predict,
    score,
    train,
    with_params,
)


@pytest.mark.slow
def test_leaving_each_image_out_changes_the_loss_as_their_influence_says(
    images, validation, tmp_path
):
    labels = images.labels.copy()
    labels[0] = 1  # wrong: without a wrong label every image helps, this early
    images = Images(images.pixels, labels, images.ids)
    # A low rate: a removal's effect is linear only while the run stays close.
    training = train(a_recipe(learning_rate=0.0002), images, None, tmp_path / "with")
    values = score(training, images, validation, span="all_epochs").values
    everyone = range(len(images))
    truth = np.array(
        [
            leave_out(
                training, images, validation, np.array([one]), tmp_path / str(one)
            ).measured_change
            for one in everyone
        ]
    )
    assert int(values.argmin()) == int(truth.argmin()) == 0
    assert values[0] < 0
    assert (np.sign(truth) == np.sign(values)).mean() > 0.9
    assert np.corrcoef(truth, values)[0, 1] > 0.99
    # The slope of the truth over the prediction: magnitude, not only rank.
    assert truth @ values / (values @ values) == pytest.approx(1, abs=0.05)


def test_the_measured_change_is_the_difference_of_two_evaluations(images, validation, tmp_path):
    training = train(a_recipe(), images, None, tmp_path / "with")
    removal = leave_out(training, images, validation, np.array([3, 4, 3]), tmp_path / "without")
    assert removal.training.params_hash != training.params_hash
    assert (
        removal.measured_change
        == evaluate(removal.training, validation)[1] - evaluate(training, validation)[1]
    )


@pytest.mark.parametrize(
    "positions", [[], [-1], [45], list(range(45))], ids=["none", "below", "above", "all"]
)
def test_positions_that_make_no_sense_are_a_sentence(images, validation, tmp_path, positions):
    training = train(a_recipe(epochs=1), images, None, tmp_path / "with")
    with pytest.raises(EngineError, match="Choose between 1 and 44"):
        leave_out(
            training, images, validation, np.array(positions, dtype=np.int64), tmp_path / "without"
        )


@pytest.mark.slow
def test_a_run_that_keeps_no_parameters_has_them_back_to_the_last_bit(images, validation, tmp_path):
    kept = train(a_recipe(), images, validation, tmp_path / "kept")
    bare = train(a_recipe(), images, validation, tmp_path / "bare", store="recipe")
    with pytest.raises(EngineError, match=r"keeps no parameters.*with_params"):
        predict(bare, validation)
    again = with_params(bare, images)
    assert torch.equal(again.params, kept.params)
    assert np.array_equal(predict(again, validation), predict(kept, validation))
    assert export_weights(again, tmp_path) == export_weights(kept, tmp_path)
    assert with_params(kept, images) is kept
    changes = [
        leave_out(
            run, images, validation, np.array([3]), tmp_path / run.record.store
        ).measured_change
        for run in (kept, bare)
    ]
    assert changes[0] == changes[1] != 0


def test_parameters_are_had_back_from_the_runs_own_images_alone(images, validation, tmp_path):
    bare = train(a_recipe(), images, validation, tmp_path / "bare", store="recipe")
    with pytest.raises(EngineError, match="not the images"):
        with_params(bare, some_images(45, seed=9))


def test_images_of_another_run_are_refused(images, validation, tmp_path):
    training = train(a_recipe(epochs=1), images, None, tmp_path / "with")
    other: Images = some_images(44)
    with pytest.raises(EngineError, match="not the images that the run was trained on"):
        leave_out(training, other, validation, np.array([0]), tmp_path / "without")


@pytest.mark.parametrize("other", [other_arithmetic, other_rate])
@pytest.mark.parametrize("store", ["epoch_starts", "every_step", "final_params", "recipe"])
@pytest.mark.parametrize("batch_size", [8, 45], ids=["many steps", "one step"])
def test_a_run_that_does_not_repeat_here_is_not_compared_with(
    images, validation, tmp_path, monkeypatch, other, store, batch_size
):
    training = train(
        a_recipe(epochs=2, batch_size=batch_size), images, None, tmp_path / "with", store=store
    )
    other(monkeypatch)
    with pytest.raises(ReplayDrift, match="epoch 1 did not reach"):
        leave_out(training, images, validation, np.array([0]), tmp_path / "without")
    assert not (tmp_path / "without").exists()


def test_a_record_of_other_steps_is_not_compared_with(images, validation, tmp_path):
    train(a_recipe(epochs=2), images, None, tmp_path / "with")
    record = json.loads((tmp_path / "with" / "run.json").read_text())
    record["first_steps"][0] = "0" * 64
    (tmp_path / "with" / "run.json").write_text(json.dumps(record))
    with pytest.raises(ReplayDrift, match="epoch 1 did not reach"):
        leave_out(
            load_training(tmp_path / "with"),
            images,
            validation,
            np.array([0]),
            tmp_path / "without",
        )
