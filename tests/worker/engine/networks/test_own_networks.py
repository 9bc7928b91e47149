"""User-supplied networks: shared and frozen parameters, names, torch's modes."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from tests.worker.engine.conftest import a_recipe
from worker.engine import (
    EngineError,
    evaluate,
    explain,
    explain_most,
    export_weights,
    leave_out,
    predict,
    read_out,
    register_network,
    score,
    train,
)
from worker.engine.images import unaugmented_batch

pytestmark = pytest.mark.usefixtures("forget_own_networks")


class Tied(nn.Module):
    """Two layers of a single weight; head: the second is the last layer, else another follows."""

    def __init__(self, head=False):
        super().__init__()
        self.first = nn.Linear(256, 3)
        self.a = nn.Linear(3, 3, bias=False)
        self.b = nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.last = nn.Identity() if head else nn.Linear(3, 3)

    def forward(self, x):
        return self.last(self.b(self.a(self.first(x.flatten(1)).tanh()).tanh()))


def perceptron(activation=nn.Tanh, width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(256, width), activation(), nn.Linear(width, 3))


def seeded(activation=nn.Tanh, width=8):
    torch.manual_seed(0)
    return perceptron(activation, width)


RECIPE = a_recipe(network="mine")


# ── shared and frozen parameters ──────────────────────────────────────────────────────────────────


def test_an_exported_network_with_shared_parameters_is_the_one_that_was_trained(
    images, validation, tmp_path
):
    register_network("mine", Tied())
    training = train(RECIPE, images, None, tmp_path / "run")
    other = Tied()
    other.load_state_dict(load_file(tmp_path / f"{export_weights(training, tmp_path)}.safetensors"))
    x, _ = unaugmented_batch(
        RECIPE, validation, np.arange(len(validation)), torch.float32, torch.device("cpu")
    )
    np.testing.assert_allclose(
        other(x).softmax(1).detach().numpy(), predict(training, validation), atol=1e-6
    )


def test_a_last_layer_that_shares_its_weight_is_trained_with_it_and_foretells(
    images, validation, tmp_path
):
    register_network("mine", Tied(head=True))
    head = train(dataclasses.replace(RECIPE, trained="head"), images, None, tmp_path / "head")
    assert head.params.shape == (3 * 3 + 3,)
    assert score(head, images, validation).exact
    training = train(RECIPE, images, None, tmp_path / "all")
    assert len(
        explain_most(training, images, validation, 0, read_out(training, images, validation))[0]
    )


def test_a_network_that_is_its_last_layer_can_be_trained_as_one(images, tmp_path):
    class Flat(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1))

    register_network("mine", Flat(256, 3))
    assert train(
        dataclasses.replace(RECIPE, trained="head"), images, None, tmp_path
    ).params.shape == (256 * 3 + 3,)


def test_frozen_parameters_stay_as_they_are(images, validation, tmp_path):
    module = seeded()
    module[1].requires_grad_(False)
    register_network("mine", module)
    training = train(RECIPE, images, validation, tmp_path / "run")
    assert training.params.shape == (8 * 3 + 3,)
    kept = load_file(tmp_path / f"{export_weights(training, tmp_path)}.safetensors")
    assert torch.equal(kept["1.weight"], module[1].weight)
    assert not torch.equal(kept["3.weight"], module[3].weight)
    scores = score(training, images, validation, span="all_epochs")
    assert scores.exact
    assert scores.report["finite_difference_error"] < 0.01
    worst = np.argsort(scores.values)[:1]
    measured = leave_out(training, images, validation, worst, tmp_path / "without").measured_change
    assert measured == pytest.approx(scores.values[worst].sum(), rel=0.2)
    assert not module[1].weight.requires_grad
    assert module[3].weight.requires_grad


def test_what_is_frozen_whole_has_nothing_to_train(images, tmp_path):
    register_network("mine", seeded().requires_grad_(False))
    with pytest.raises(
        EngineError, match="no parameters to train: all of them have requires_grad=False"
    ):
        train(RECIPE, images, None, tmp_path)


def test_a_frozen_last_layer_foretells_nothing(images, validation, tmp_path):
    module = seeded()
    module[3].requires_grad_(False)
    register_network("mine", module)
    training = train(RECIPE, images, None, tmp_path)
    with pytest.raises(EngineError, match="last linear layer is not trained"):
        read_out(training, images, validation)


def test_complex_parameters_are_a_sentence(images, tmp_path):
    module = seeded()
    module.phase = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    register_network("mine", module)
    with pytest.raises(EngineError, match="complex numbers; keep their real and imaginary parts"):
        train(RECIPE, images, None, tmp_path)


# ── what a name stands for ────────────────────────────────────────────────────────────────────────


def test_a_module_counts_as_it_was_when_it_was_registered(images, validation, tmp_path):
    module = seeded()
    register_network("mine", module)
    training = train(RECIPE, images, None, tmp_path / "before")
    with torch.no_grad():
        module[1].weight.add_(0.1)
    assert train(RECIPE, images, None, tmp_path / "after").params_hash == training.params_hash


def test_the_module_that_a_function_returns_is_left_as_it_is(images, tmp_path):
    module = seeded().train()
    before = copy.deepcopy(module.state_dict())
    register_network("mine", lambda _recipe: module)
    train(RECIPE, images, None, tmp_path)
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_module_that_starts_otherwise_does_not_get_the_folders_old_run(images, tmp_path):
    register_network("mine", perceptron())
    train(RECIPE, images, None, tmp_path)
    register_network("mine", perceptron())
    with pytest.raises(
        EngineError,
        match=r"does not start from the parameters.*Seed torch before you make the module",
    ):
        train(RECIPE, images, None, tmp_path)
    register_network("mine", lambda _recipe: perceptron())
    again = train(RECIPE, images, None, tmp_path / "function")
    assert train(RECIPE, images, None, tmp_path / "function").params_hash == again.params_hash


LOOKS = {
    "predict": lambda run, _images, validation: predict(run, validation),
    "evaluate": lambda run, _images, validation: evaluate(run, validation),
    "read_out": read_out,
    "explain": lambda run, images, validation: explain(run, images, validation, 0),
    "sgd_influence": score,
    "tracin": lambda run, images, validation: score(run, images, validation, "tracin"),
    "highest_loss": lambda run, images, validation: score(run, images, validation, "highest_loss"),
}


@pytest.mark.parametrize("store", ["epoch_starts", "every_step"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"activation": nn.ReLU}, "is not the one that this run was trained with"),
        ({"width": 9}, "has 2,343 parameters to train, and.* 2,083"),
    ],
)
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_another_network_under_the_name_is_noticed_before_it_answers(
    images, validation, tmp_path, look, change, sentence, store
):
    register_network("mine", seeded())
    training = train(RECIPE, images, None, tmp_path, store=store)
    register_network("mine", seeded(**change))
    with pytest.raises(EngineError, match=sentence):
        look(training, images, validation)


def test_another_backbone_under_the_name_is_noticed_where_the_last_layer_alone_was_trained(
    images, tmp_path
):
    head = dataclasses.replace(RECIPE, trained="head")
    first, second = seeded(), seeded()
    nn.init.constant_(second[1].weight, 0.01)
    register_network("mine", first)
    train(head, images, None, tmp_path)
    register_network("mine", second)
    with pytest.raises(EngineError, match="is not the one that this run was trained with"):
        train(head, images, None, tmp_path)


@pytest.mark.parametrize("name", [3, ""])
def test_a_name_is_a_word(name):
    with pytest.raises(EngineError, match="registered under a word"):
        register_network(name, perceptron())


def test_a_compiled_module_is_a_sentence():
    with pytest.raises(EngineError, match=r"TorchScript.*give the module it was made from"):
        register_network("mine", torch.jit.script(perceptron()))


def test_parts_without_gradients_are_told_how_to_be_frozen(images, tmp_path):
    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(256, 8), nn.Linear(8, 3)

        def forward(self, x):
            with torch.no_grad():
                seen = self.first(x.flatten(1)).tanh()
            return self.last(seen)

    register_network("mine", Backbone())
    with pytest.raises(EngineError, match=r"requires_grad_\(False\)"):
        train(RECIPE, images, None, tmp_path)


def test_a_network_that_changes_its_images_in_place_is_a_sentence(images, tmp_path):
    class Halving(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(256, 3)

        def forward(self, x):
            return functional.relu(self.last(x.mul_(0.5).flatten(1)))

    register_network("mine", Halving())
    with pytest.raises(EngineError, match="changes the images in place"):
        train(RECIPE, images, None, tmp_path)


# ── torch's modes around a call ───────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode",
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", dtype=torch.bfloat16)],
    ids=["no_grad", "inference", "autocast"],
)
def test_the_mode_that_the_caller_is_in_changes_nothing(images, validation, tmp_path, mode):
    register_network("mine", seeded())
    usual = train(RECIPE, images, validation, tmp_path / "usual")
    expected = score(usual, images, validation).values
    with mode():
        within = train(RECIPE, images, validation, tmp_path / "within")
        assert within.params_hash == usual.params_hash
        assert (score(within, images, validation, verify=True).values == expected).all()
        assert (
            explain(within, images, validation, 0, exact=True)
            == explain(usual, images, validation, 0, exact=True)
        ).all()
        leave_out(within, images, validation, np.array([0]), tmp_path / "without")
        assert (predict(within, validation) == predict(usual, validation)).all()
    assert (score(within, images, validation).values == expected).all()
