"""Unusable user-supplied networks are refused before any training."""

import pytest
import torch
from torch import nn

from tests.worker.engine.conftest import a_recipe
from worker.engine import EngineError, register_network, score, train

pytestmark = pytest.mark.usefixtures("forget_own_networks")


class Answering(nn.Module):
    """A linear layer whose logits are transformed."""

    def __init__(self, answer, look=lambda x: x.flatten(1)):
        super().__init__()
        self.head = nn.Linear(256, 3)
        self.answer, self.look = answer, look

    def forward(self, x):
        return self.answer(self.head(self.look(x)))


def missing(z):
    raise KeyError("logits")


class Constant(nn.Module):
    """A float32 constant that is no buffer, so it stays float32."""

    def __init__(self, buffer):
        super().__init__()
        self.head = nn.Linear(256, 3)
        if buffer:
            self.register_buffer("turn", torch.eye(256), persistent=False)
        else:
            self.turn = torch.eye(256)

    def forward(self, x):
        return self.head(x.flatten(1) @ self.turn)


def refused(images, tmp_path, source, sentence):
    with pytest.raises(EngineError, match=sentence):  # noqa: PT012 - refused at either step
        register_network("mine", source)
        train(a_recipe(network="mine"), images, None, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            lambda z: (z, z),
            r"returns a tuple; it must return the tensor of logits, \(B, 3\), and nothing else",
        ),
        (lambda z: {"logits": z}, "returns a dict; it must return the tensor of logits"),
        (lambda _z: None, "returns a NoneType; it must return the tensor of logits"),
        (
            lambda z: z.argmax(1, keepdim=True).expand(-1, 3),
            r"logits are torch\.int64, which has no derivative",
        ),
        (missing, r"cannot take images of shape \(1, 16, 16\): KeyError: 'logits'"),
        (
            lambda z: z.logits,
            "cannot take images of shape .*: AttributeError: .*no attribute 'logits'",
        ),
        (
            lambda z: z.detach(),
            r"are cut off from its parameters, so it cannot learn; look for detach\(\)",
        ),
        (
            lambda z: torch.tensor(z.tolist(), requires_grad=False),
            r"are cut off from its parameters",
        ),
        (
            lambda z: z.squeeze(),
            r"answers a single image with numbers of shape \(3,\), not \(1, 3\); let it keep the "
            r"first axis",
        ),
        (
            lambda z: z.view(2, 3),
            r"cannot take 4 images, or one \(RuntimeError: .*\); let it take any number of them",
        ),
    ],
)
def test_a_forward_pass_that_does_not_return_logits_is_a_sentence(
    images, tmp_path, answer, sentence
):
    refused(images, tmp_path, Answering(answer), sentence)


@pytest.mark.parametrize(
    "module",
    [Answering(lambda z: z, lambda x: x.flatten(1).float()), Constant(buffer=False)],
    ids=["float()", "a constant"],
)
def test_a_network_that_does_not_run_in_float64_is_told_how_to(images, tmp_path, module):
    refused(
        images,
        tmp_path,
        module,
        r"does not run in float64, in which its derivatives are checked \(RuntimeError: "
        r".*constants as buffers",
    )


def test_a_constant_that_is_a_buffer_runs_in_float64(images, validation, tmp_path):
    register_network("mine", Constant(buffer=True))
    assert score(
        train(a_recipe(network="mine", epochs=1), images, None, tmp_path), images, validation
    ).exact


def nothing(recipe):
    nn.Linear(256, recipe.classes)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            5,
            "The network 'mine' is a int; give a torch module, or a function from the recipe to "
            "one",
        ),
        (nothing, r"returned a NoneType; it must return a torch module \(is a return missing\?\)"),
        (
            lambda recipe: recipe.no_such_setting,
            "could not be built: AttributeError: .*no_such_setting",
        ),
        (
            lambda recipe: nn.Sequential(nn.Flatten(), nn.LazyLinear(recipe.classes)),
            "has lazy layers, whose sizes are unknown",
        ),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "has lazy layers, whose sizes are unknown"),
    ],
)
def test_what_makes_no_network_is_a_sentence(images, tmp_path, source, sentence):
    refused(images, tmp_path, source, sentence)
