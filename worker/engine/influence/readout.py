"""Last-layer readouts, which preselect images for an explanation (docs/decisions/0025).

The last layer's share of ⟨δθ, ∇ℓ(z_j; θ_T)⟩, with logits f = W a + b, is

    (p_j − 1_{y_j}) · (δW a_j + δb)
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
from worker.engine.sweep import iterate_parts
from worker.engine.training import checks
from worker.engine.training.runner import TRAINING_SOURCES, Training, restore_runner

# Relative distance of f and W a + b in float32.
TOLERANCE = 1e-3
PRODUCT_ROWS = 8192
Halves = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Readout:
    """Features and residuals of V validation images.

    Args:
        features: a_j, (V, D).
        residuals: p_j − 1_{y_j}, (V, classes).
        of: names the run and the images.
    """

    features: Halves
    residuals: Halves
    of: str

    def candidates(self, weight: torch.Tensor, bias: torch.Tensor | None, count: int) -> Integers:
        """Choose images worth a full explanation.

        Args:
            weight: δW, (classes, D).
            bias: δb, (classes,), or None.
            count: at most.

        Returns:
            Sorted positions: a third each of predicted falls, rises and an even spread.
        """
        if count >= len(self.features):
            return np.arange(len(self.features))
        predicted = self._predict_changes(
            weight.float().cpu().numpy(), 0.0 if bias is None else bias.float().cpu().numpy()
        )
        order = np.argsort(predicted, kind="stable")
        third = count // 3
        spread = np.linspace(0, len(order) - 1, count - 2 * third).astype(np.int64)
        return np.unique(np.concatenate([order[:third], order[len(order) - third :], spread]))

    def check(self, training: Training, validation: Images) -> None:
        """Raise EngineError unless this is of the given run and images."""
        if len(self.features) != len(validation):
            raise EngineError(
                f"The readout is of {len(self.features):,} images, not of these "
                f"{len(validation):,}; read these out."
            )
        if self.of != _key(training, validation):
            raise EngineError(
                "The readout is of another run, or of other images; read these out with this run."
            )

    def write(self, path: Path) -> None:
        whole_files.write_whole(
            path, save({"features": self.features, "residuals": self.residuals}, {"of": self.of})
        )

    def _predict_changes(
        self, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32] | float
    ) -> npt.NDArray[np.float32]:
        result = np.empty(len(self.features), dtype=np.float32)
        for part in chunks(len(result), PRODUCT_ROWS):
            # (p − 1_y) · (δW a + δb)
            result[part] = (
                self.residuals[part] * (self.features[part].astype(np.float32) @ weight.T + bias)
            ).sum(1)
        return result


@devices.default_torch_modes()
def read_out(
    training: Training, images: Images, validation: Images, *, device: str = "auto"
) -> Readout:
    """Read the last layer of the finished model on the validation images.

    Args:
        training: finished run.
        images: its N training images.
        validation: V images.
        device: "cpu", "cuda", or "auto" for the run's device.

    Raises:
        EngineError: invalid images, or logits that do not come from a linear layer.
    """
    checks.check_type(training, Training, "run", TRAINING_SOURCES)
    check_images(validation, training.recipe, "validation")
    where = devices.choose_device(device, training.record.environment)
    run = restore_runner(training, images, where)
    with devices.deterministic(where, int(training.record.environment["threads"])):
        params = Replay(
            training, run, BUDGET
        ).final_params()  # trains again if the store is `recipe`
        with torch.no_grad():
            _check_head(
                run.network,
                params,
                unaugmented_batch(training.recipe, validation, np.arange(1), params.dtype, where)[
                    0
                ],
            )
            parts = [
                _read_batch(run.network, params, x, y)
                for _, x, y in iterate_parts(run.network, training.recipe, params, validation)
            ]
    features, residuals = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Readout(features, residuals, _key(training, validation))


def load_readout(path: Path, training: Training, validation: Images) -> Readout | None:
    """Load a readout, or None unless it is complete and matches.

    Args:
        training: finished run.
        validation: V images.
    """
    try:
        with safe_open(path, "numpy") as file:
            readout = Readout(
                file.get_tensor("features"), file.get_tensor("residuals"), file.metadata()["of"]
            )
    except (OSError, SafetensorError, TypeError, KeyError):
        return None
    return (
        readout
        if readout.of == _key(training, validation) and len(readout.features) == len(validation)
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
            "The network's logits do not come straight from its last linear layer, so that layer "
            "predicts nothing."
        )


def _read_batch(
    network: Network, params: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> tuple[Halves, Halves]:
    features = network.features(params, x)
    probabilities = functional.linear(features, *network.last_layer(params)).softmax(1)
    largest = torch.finfo(torch.float16).max
    residuals = probabilities - functional.one_hot(y, probabilities.shape[1])
    return features.clamp(-largest, largest).half().cpu().numpy(), residuals.half().cpu().numpy()
