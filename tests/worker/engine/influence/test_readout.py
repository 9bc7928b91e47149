"""Preselection by the last layer, against gradients and full explanations."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from tests.worker.engine.conftest import a_recipe, some_images
from worker.engine import (
    EngineError,
    explain,
    explain_most,
    load_readout,
    read_out,
    register_network,
    train,
)
from worker.engine.influence.explain import compute_quick_effect
from worker.engine.influence.replay import Replay
from worker.engine.networks.registry import NETWORKS
from worker.engine.training.runner import make_runner


@pytest.fixture
def many():
    return some_images(120, seed=1, first_id=1000)


@pytest.fixture
def own_network():
    """Register a network for a test."""
    before = dict(NETWORKS)
    yield register_network
    NETWORKS.clear()
    NETWORKS.update(before)


def test_what_is_foretold_is_the_last_layers_share_of_each_images_change(images, many, tmp_path):
    training = train(a_recipe(), images, None, tmp_path)
    run, _ = make_runner(training.recipe, images)
    effect = compute_quick_effect(Replay(training, run, 2**30), 4, range(2, 3))
    weight, bias = run.network.last_layer(effect)
    foretold = read_out(training, images, many)._predict_changes(weight.numpy(), bias.numpy())
    # Against each image's own gradient, with δθ zero outside the last layer.
    params = training.params.clone().requires_grad_()
    only_head = torch.zeros_like(effect)
    for whole, part in zip(run.network.last_layer(only_head), (weight, bias), strict=True):
        whole.copy_(part)
    x = torch.from_numpy(many.pixels).permute(0, 3, 1, 2).float() / 255
    x = (x - 0.4) / 0.2
    for j in range(0, 120, 13):
        loss = run.network.losses(params, x[j : j + 1], torch.tensor([many.labels[j]]))[0]
        (gradient,) = torch.autograd.grad(loss, params)
        assert foretold[j] == pytest.approx(
            float(gradient @ only_head), rel=2e-2, abs=2e-2 * float(np.abs(foretold).max())
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"momentum": 0.9}, {"optimizer": "adam", "learning_rate": 0.002}]
)
def test_the_most_affected_images_are_among_the_few_that_are_looked_at(
    images, many, tmp_path, settings
):
    training = train(a_recipe(**settings), images, None, tmp_path)
    readout = read_out(training, images, many)
    hits = []
    for position in range(0, 45, 5):
        places, changes = explain_most(training, images, many, position, readout, count=30)
        everything = explain(training, images, many, position)
        assert 20 < len(places) <= 30
        assert (np.diff(changes) >= 0).all()
        np.testing.assert_allclose(
            changes, everything[places], rtol=1e-4, atol=1e-5 * np.abs(everything).max()
        )
        order = np.argsort(everything)
        hits += [len({*places} & {*order[:3]}), len({*places} & {*order[-3:]})]
    # A random quarter of the images would hold 0.75 of three.
    assert np.mean(hits) > 2.4


def test_looking_at_as_many_as_there_are_is_explaining(images, validation, tmp_path):
    training = train(a_recipe(), images, None, tmp_path)
    places, changes = explain_most(
        training, images, validation, 3, read_out(training, images, validation), count=1000
    )
    everything = explain(training, images, validation, 3)
    assert places.tolist() == np.argsort(everything, kind="stable").tolist()
    np.testing.assert_array_equal(changes, everything[places])


@pytest.mark.parametrize("store", ["every_step", "recipe", "final_params"])
def test_any_store_reads_out_the_same(images, many, tmp_path, store):
    expected = read_out(train(a_recipe(), images, None, tmp_path / "a"), images, many)
    found = read_out(train(a_recipe(), images, None, tmp_path / "b", store=store), images, many)
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_array_equal(found.residuals, expected.residuals)


def test_what_was_written_is_read_again_for_the_same_run_and_images_only(
    images, many, validation, tmp_path
):
    training = train(a_recipe(), images, None, tmp_path / "a")
    other = train(a_recipe(seed=8), images, None, tmp_path / "b")
    path, readout = tmp_path / "readout.safetensors", read_out(training, images, many)
    assert load_readout(path, training, many) is None  # not there yet
    readout.write(path)
    found = load_readout(path, training, many)
    assert found is not None
    np.testing.assert_array_equal(found.features, readout.features)
    assert load_readout(path, other, many) is None
    assert load_readout(path, training, validation) is None
    path.write_bytes(path.read_bytes()[:-100])
    assert load_readout(path, training, many) is None


def test_a_readout_of_other_images_is_a_sentence(images, many, validation, tmp_path):
    training = train(a_recipe(), images, None, tmp_path)
    with pytest.raises(EngineError, match="The readout is of 120 images, not of these 30"):
        explain_most(training, images, validation, 0, read_out(training, images, many))


def test_a_readout_of_another_run_or_of_as_many_other_images_is_a_sentence(images, many, tmp_path):
    training, other = (
        train(a_recipe(seed=seed, epochs=1), images, None, tmp_path / str(seed)) for seed in (7, 8)
    )
    readout = read_out(training, images, many)
    readout.check(training, many)
    for run, validation in ((other, many), (training, many.subset(np.arange(len(many))[::-1]))):
        with pytest.raises(EngineError, match="The readout is of another run, or of other images"):
            readout.check(run, validation)


class Scaled(nn.Module):
    """A network whose logits are not its last linear layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(256, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * self.head(x.flatten(1))


def test_a_last_layer_that_does_not_make_the_logits_is_a_sentence(
    images, many, tmp_path, own_network
):
    own_network("scaled", Scaled())
    training = train(dataclasses.replace(a_recipe(), network="scaled"), images, None, tmp_path)
    with pytest.raises(EngineError, match="do not come straight from its last linear layer"):
        read_out(training, images, many)


def test_a_network_without_a_linear_layer_is_a_sentence(images, many, tmp_path, own_network):
    own_network("pooled", nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    training = train(dataclasses.replace(a_recipe(), network="pooled"), images, None, tmp_path)
    with pytest.raises(EngineError, match="has no linear layer"):
        read_out(training, images, many)
