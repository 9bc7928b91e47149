"""A pretended GPU, in a process of its own, for test_devices.py.

A backend must exist before torch first differentiates. Its tensors have no numbers, but torch
refuses to mix them with the CPU's exactly as for a real GPU.
"""

from concurrent.futures import Future

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from tests.worker.engine.conftest import a_recipe, some_images
from worker.engine import images
from worker.engine.derivatives.passes import TrainingStep
from worker.engine.derivatives.retrace import retrace
from worker.engine.images import draw_batches
from worker.engine.networks.flat_network import Network
from worker.engine.networks.registry import build
from worker.engine.optimizers import initial_state, optimizer
from worker.engine.scores.trust import validation_gradient
from worker.engine.training.runner import Runner
from worker.engine.trajectory.training_dynamics import EpochSignals

PRETENDED = "pretended"


@pytest.fixture(scope="module", autouse=True)
def backend():
    _setup_privateuseone_for_python_backend(PRETENDED)


class AtOnce:
    """An executor without threads: the device exists in one thread."""

    def __init__(self, *_):
        pass

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future

    def shutdown(self, **_):
        pass


@pytest.fixture
def pretending(monkeypatch):
    monkeypatch.setattr("worker.engine.prefetch.ThreadPoolExecutor", AtOnce)
    images._statistics.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode
    images._statistics.cache_clear()


def on_device(mode, network) -> Network:
    """Put a network on the pretended device; `Module.to` cannot swap its tensors."""
    for part in network.module.modules():
        for tensors, wrap in ((part._parameters, nn.Parameter), (part._buffers, lambda t: t)):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = wrap(mode.from_tensor(tensor.detach()).to(PRETENDED))
    return Network(network.module, network.trained)


def a_run(mode, monkeypatch, **settings):
    recipe = a_recipe(**({"augmentation": "shift_flip", "momentum": 0.9} | settings))
    images = some_images(24, channels=recipe.channels)
    with unset_fake_temporarily():
        network, _ = build(recipe)
    network = on_device(mode, network)
    # Measuring a pass needs numbers; these tensors have none.
    monkeypatch.setattr(Network, "images_per_pass", lambda *_: 10)
    keep = torch.ones(len(images))
    return Runner(recipe, images, network, optimizer(recipe), keep)


def devices_of(*values):
    return {
        tensor.device.type
        for tensor in torch.utils._pytree.tree_leaves(values)
        if isinstance(tensor, torch.Tensor)
    }


SETTINGS = {
    "mnist": {},
    "colour": {"network": "cifar", "channels": 3, "mean": (0.4,) * 3, "std": (0.2,) * 3},
    "adam": {"optimizer": "adam", "momentum": 0.0},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_step_and_its_retracing_stay_on_the_device(pretending, monkeypatch, settings):
    run = a_run(pretending, monkeypatch, **settings)
    params = run.network.initial
    point = (params, initial_state(run.recipe, params))
    order = draw_batches(run.recipe, run.images, 0)
    seen, steps = EpochSignals(len(run.images), run.device), []
    with run.prefetch(0, order) as batch:
        for t, positions in enumerate(order):
            x, y = batch(t)
            places = torch.from_numpy(positions).to(run.device)
            steps.append(TrainingStep(*point, x, y, places, 0.1, run.weights(positions)))
            point, logits, losses = run.advance(point, x, y, positions, 0.1)
            seen.add_step(logits, losses, y)
    adjoint = validation_gradient(run.network, run.recipe, point[0], run.images)
    influence = torch.zeros(len(run.images), dtype=torch.float64)
    state = {key: torch.zeros_like(value) for key, value in point[1].items()}
    ends = retrace(run.network, run.update, reversed(steps), adjoint, state, influence)
    assert devices_of(point, steps[0], logits, losses, vars(seen), adjoint, ends) == {PRETENDED}
    assert influence.device.type == "cpu"


def test_images_reach_the_device_as_bytes_and_are_augmented_there(pretending, monkeypatch):
    run = a_run(pretending, monkeypatch)
    seen = []
    monkeypatch.setattr(
        images, "normalise", lambda _recipe, pixels, _dtype: seen.append(pixels) or pixels
    )
    run.batch(0, np.arange(8))
    assert [(pixels.device.type, pixels.dtype) for pixels in seen] == [(PRETENDED, torch.uint8)]


def test_the_pretended_device_does_refuse_to_mix(pretending, monkeypatch):
    run = a_run(pretending, monkeypatch)
    x, y = run.batch(0, np.arange(8))
    with pytest.raises(RuntimeError, match="same device"):
        run.network.losses(run.network.initial, x.cpu(), y)
