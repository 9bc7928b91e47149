"""Lower precision: repeatable, replayed exactly, never in a derivative."""

import numpy as np
import pytest
import torch

from tests.worker.engine.conftest import a_recipe
from worker.engine import EngineError, score, train
from worker.engine.networks.flat_network import Network
from worker.engine.training.runner import make_runner


@pytest.mark.slow
def test_training_in_bfloat16_repeats_and_is_replayed_bit_for_bit(images, validation, tmp_path):
    recipe = a_recipe(precision="bfloat16", momentum=0.9)
    first, again = (train(recipe, images, validation, tmp_path / name) for name in "ab")
    assert first.params_hash == again.params_hash
    assert first.params.dtype == torch.float32
    assert (
        first.params_hash
        != train(a_recipe(momentum=0.9), images, None, tmp_path / "wide").params_hash
    )
    stepwise = train(recipe, images, validation, tmp_path / "steps", store="every_step")
    values = [
        score(training, images, validation, span="all_epochs") for training in (first, stepwise)
    ]
    np.testing.assert_array_equal(values[0].values, values[1].values)


@pytest.mark.slow
def test_scores_of_a_rounded_training_do_not_call_themselves_exact_and_agree_with_the_others(
    images, validation, tmp_path
):
    rounded = train(a_recipe(precision="bfloat16"), images, None, tmp_path / "rounded")
    plain = train(a_recipe(), images, None, tmp_path / "plain")
    scores = [score(training, images, validation) for training in (rounded, plain)]
    assert [one.exact for one in scores] == [False, True]
    assert np.corrcoef(scores[0].values, scores[1].values)[0, 1] > 0.95


def test_only_the_step_of_a_training_is_rounded(images, monkeypatch):
    run, params = make_runner(a_recipe(precision="bfloat16"), images)
    seen = []
    logits = Network.logits
    monkeypatch.setattr(
        Network, "logits", lambda self, theta, x: seen.append(logits(self, theta, x)) or seen[-1]
    )
    x, y = run.batch(0, np.arange(8))
    run.advance((params, {}), x, y, np.arange(8), 0.1)
    run.network.losses(params, x, y)
    assert [out.dtype for out in seen] == [torch.bfloat16, torch.float32]


def test_a_precision_that_does_not_exist_is_a_sentence():
    with pytest.raises(
        EngineError, match="no precision called 'half'; choose from float32, bfloat16"
    ):
        a_recipe(precision="half")
