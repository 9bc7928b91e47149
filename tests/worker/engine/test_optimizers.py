"""Update functions against torch's optimizers, in float64."""

import pytest
import torch

from tests.worker.engine.conftest import SGD, a_recipe
from worker.engine.optimizers import initial_state, optimizer

# A rate per step, as from a schedule.
RATES = (0.1, 0.1, 0.03, 0.05, 0.01, 0.02)
SIZE = 50

ADAM = {
    "adam": {"optimizer": "adam"},
    "adam with weight decay": {"optimizer": "adam", "weight_decay": 0.05},
    "adamw": {"optimizer": "adamw"},
    "adamw with weight decay": {"optimizer": "adamw", "weight_decay": 0.05},
}
TORCHS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@pytest.fixture(scope="module")
def start() -> torch.Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(scope="module")
def gradients() -> torch.Tensor:
    return torch.randn(
        len(RATES), SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


def ours(settings, start, gradients) -> list[torch.Tensor]:
    """Return the parameters after each step."""
    recipe = a_recipe(**settings)
    update, params, state = optimizer(recipe), start, initial_state(recipe, start)
    after = []
    for gradient, rate in zip(gradients, RATES, strict=True):
        params, state = update(params, state, gradient, rate)
        after.append(params)
    return after


def torchs(settings, start, gradients) -> list[torch.Tensor]:
    """Return the same by torch."""
    params = start.clone().requires_grad_()
    # AdamW decays by default; a recipe does not.
    own = {"weight_decay": 0.0} | {
        name: value for name, value in settings.items() if name != "optimizer"
    }
    stepper = TORCHS[settings.get("optimizer", "sgd")]([params], lr=RATES[0], **own)
    after = []
    for gradient, rate in zip(gradients, RATES, strict=True):
        stepper.param_groups[0]["lr"] = rate
        params.grad = gradient.clone()
        stepper.step()
        after.append(params.detach().clone())
    return after


@pytest.mark.parametrize("settings", SGD.values(), ids=SGD)
def test_sgd_in_all_its_forms_moves_as_torchs_does(start, gradients, settings):
    for own, expected in zip(
        ours(settings, start, gradients), torchs(settings, start, gradients), strict=True
    ):
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("settings", ADAM.values(), ids=ADAM)
def test_adam_in_all_its_forms_moves_as_torchs_does_but_for_the_place_of_epsilon(
    start, gradients, settings
):
    for own, expected in zip(
        ours(settings, start, gradients), torchs(settings, start, gradients), strict=True
    ):
        torch.testing.assert_close(own, expected, rtol=1e-7, atol=1e-8)


def test_a_step_changes_neither_what_it_is_given_nor_an_earlier_state(start, gradients):
    recipe = a_recipe(optimizer="adamw", weight_decay=0.05)
    params, state = start.clone(), initial_state(recipe, start)
    optimizer(recipe)(params, state, gradients[0], 0.1)
    assert torch.equal(params, start)
    assert all(not value.any() for value in state.values())
