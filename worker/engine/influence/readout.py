"""What the last layer sees and gets wrong of many images: enough to tell which of them a change of the parameters touches most.

An image's loss depends on the last layer's (W, b) through f = W a + b alone, so its gradient there is (p − 1_y) aᵀ and p − 1_y, and the share of
⟨δθ, ∇ℓ(z_j; θ_T)⟩ that lies in that layer is

    (p_j − 1_{y_j}) · (δW a_j + δb)

Two matrix products give it for every image, where the whole sum costs a pass of weight three over them. It only chooses: who is chosen is then
looked at in full. docs/decisions/0025 has how well it chooses.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch.nn import functional

from worker.engine import devices, whole_files
from worker.engine.errors import EngineError
from worker.engine.images import Images, Integers, check_images, chunks, unaugmented_batch
from worker.engine.influence.replay import BUDGET, Replay
from worker.engine.networks.flat_network import Network
from worker.engine.sweep import walk
from worker.engine.training import checks
from worker.engine.training.runner import MAKERS, Training, runner_of

# How far f may be from W a + b, as a share of the largest: float32 in another order of sums. A layer further off does not make the logits.
TOLERANCE = 1e-3
# Images of which the products hold numbers at a time.
PART = 8192
Halves = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Readout:
    """features: a_j, (V, D). residuals: p_j − 1_{y_j}, (V, classes). In half precision: they choose, they do not measure.

    of: the run and the images that it was read of.
    """

    features: Halves
    residuals: Halves
    of: str

    def candidates(self, weight: torch.Tensor, bias: torch.Tensor | None, count: int) -> Integers:
        """Positions of images that are worth a look along δW (classes, D) and δb (classes,), at most `count`, sorted.

        A third each: the loss probably falls most, rises most, and spread evenly over all, for where other layers decide.
        """
        if count >= len(self.features):
            return np.arange(len(self.features))
        foretold = self._foretell(
            weight.float().cpu().numpy(), 0.0 if bias is None else bias.float().cpu().numpy()
        )
        order = np.argsort(foretold, kind="stable")
        third = count // 3
        spread = np.linspace(0, len(order) - 1, count - 2 * third).astype(np.int64)
        return np.unique(np.concatenate([order[:third], order[len(order) - third :], spread]))

    def check(self, training: Training, validation: Images) -> None:
        """Raises EngineError unless it was read of this run and these images."""
        if len(self.features) != len(validation):
            raise EngineError(
                f"The readout is of {len(self.features):,} images, not of these {len(validation):,}; read these out."
            )
        if self.of != _key(training, validation):
            raise EngineError(
                "The readout is of another run, or of other images; read these out with this run."
            )

    def write(self, path: Path) -> None:
        """Save it, whole or not at all."""
        whole_files.write_whole(
            path, save({"features": self.features, "residuals": self.residuals}, {"of": self.of})
        )

    def _foretell(
        self, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32] | float
    ) -> npt.NDArray[np.float32]:
        """The last layer's share of each image's change, (V,)."""
        result = np.empty(len(self.features), dtype=np.float32)
        for part in chunks(len(result), PART):
            # (p − 1_y) · (δW a + δb)
            result[part] = (
                self.residuals[part] * (self.features[part].astype(np.float32) @ weight.T + bias)
            ).sum(1)
        return result


@devices.ordinary_modes()
def read_out(
    training: Training, images: Images, validation: Images, *, device: str = "auto"
) -> Readout:
    """One forward pass over the validation images with the finished model. images: those of the run.

    Raises EngineError where the network's logits do not come from a linear layer.
    """
    checks.given(training, Training, "run", MAKERS)
    check_images(validation, training.recipe, "validation")
    where = devices.choose(device, training.record.environment)
    run = runner_of(training, images, where)
    with devices.exact(where, int(training.record.environment["threads"])):
        params = Replay(
            training, run, BUDGET
        ).final_params()  # from a recipe alone, by training again
        with torch.no_grad():
            _check_head(
                run.network,
                params,
                unaugmented_batch(training.recipe, validation, np.arange(1), params.dtype, where)[
                    0
                ],
            )
            parts = [
                _part(run.network, params, x, y)
                for _, x, y in walk(run.network, training.recipe, params, validation)
            ]
    features, residuals = (np.concatenate(one) for one in zip(*parts, strict=True))
    return Readout(features, residuals, _key(training, validation))


def load_readout(path: Path, training: Training, validation: Images) -> Readout | None:
    """What was written, if it is whole and of this run and these images; else None."""
    try:
        with safe_open(path, "numpy") as file:
            found = Readout(
                file.get_tensor("features"), file.get_tensor("residuals"), file.metadata()["of"]
            )
    except (OSError, SafetensorError, TypeError, KeyError):
        return None
    return (
        found
        if found.of == _key(training, validation) and len(found.features) == len(validation)
        else None
    )


def _key(training: Training, validation: Images) -> str:
    return f"{training.params_hash} {validation.digest()}"


def _check_head(network: Network, params: torch.Tensor, x: torch.Tensor) -> None:
    features, logits = network.features(params, x), network.logits(params, x)
    near = TOLERANCE * float(logits.abs().max())
    if features.ndim != 2 or not torch.allclose(
        functional.linear(features, *network.last_layer(params)), logits, rtol=0, atol=near
    ):
        raise EngineError(
            "The network's logits do not come straight from its last linear layer, so that layer foretells nothing."
        )


def _part(
    network: Network, params: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> tuple[Halves, Halves]:
    features = network.features(params, x)
    probabilities = functional.linear(features, *network.last_layer(params)).softmax(1)
    largest = torch.finfo(torch.float16).max
    residuals = probabilities - functional.one_hot(y, probabilities.shape[1])
    return features.clamp(-largest, largest).half().cpu().numpy(), residuals.half().cpu().numpy()
