"""Recipes: everything that determines a run (docs/method.md, section 4)."""

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from backend.core import catalogue
from backend.core.catalogue import AUGMENTATIONS, OPTIMIZERS, PRECISIONS, SCHEDULES, TRAINED
from worker.engine.errors import EngineError

SPANS = tuple(catalogue.SPANS)
COUNTS = ("classes", "epochs", "batch_size", "height", "width")
SEEDS = range(-(2**63), 2**64)


@dataclass(frozen=True)
class Recipe:
    """Settings that determine a run on given images, bit for bit.

    Args:
        mean, std: of pixels scaled to 0…1, per channel.
        learning_rate: η before the schedule.
        weights: SHA-256 of the initial weights; empty to start from the seed.
        trained: "all" or "head" (the last linear layer).
        precision: of the network's operations in training; all else is float32.
        epoch_images: images that an epoch draws, passing over the list again where it is
            shorter; 0 to draw each image once.
        backbone: digest of the backbone whose features the network sees, `channels` of them
            in place of pixels (height and width are 1, mean and std empty); empty for pixels.

    Raises:
        EngineError: unusable setting.
    """

    network: str
    classes: int
    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    epochs: int = 20
    batch_size: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.05
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: str = "constant"
    augmentation: str = "none"
    seed: int = 0
    weights: str = ""
    trained: str = "all"
    precision: str = "float32"
    epoch_images: int = 0
    backbone: str = ""

    def __post_init__(self) -> None:
        self._check_types()
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise EngineError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.epoch_images < 0:
            raise EngineError(f"epoch_images must be at least 0, not {self.epoch_images}.")
        if self.backbone:
            self._check_features()
        elif self.channels not in (1, 3):
            raise EngineError(f"Images have 1 channel (grey) or 3 (colour), not {self.channels}.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise EngineError(
                f"The learning rate must be a positive number, not {self.learning_rate}."
            )
        if not 0 <= self.momentum < 1:
            raise EngineError(f"Momentum must be at least 0 and below 1, not {self.momentum}.")
        if self.nesterov and not self.momentum:
            raise EngineError("Nesterov needs a momentum above 0.")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise EngineError(
                f"Weight decay must be a number of at least 0, not {self.weight_decay}."
            )
        for value, choices, noun in (
            (self.optimizer, OPTIMIZERS, "optimizer"),
            (self.schedule, SCHEDULES, "schedule"),
            (self.augmentation, AUGMENTATIONS, "augmentation"),
            (self.trained, TRAINED, "part of a network to train"),
            (self.precision, PRECISIONS, "precision"),
        ):
            if value not in choices:
                raise EngineError(
                    f"There is no {noun} called {value!r}; choose from {', '.join(choices)}."
                )
        if self.weights and not re.fullmatch("[0-9a-f]{64}", self.weights):
            raise EngineError(
                f"weights is the SHA-256 of a file, 64 digits from 0 to f, not {self.weights!r}."
            )
        expected = 0 if self.backbone else self.channels
        if len(self.mean) != expected or len(self.std) != expected:
            raise EngineError("mean and std need one value for each channel, none for features.")

    def _check_features(self) -> None:
        if self.channels < 1 or (self.height, self.width) != (1, 1):
            raise EngineError(
                "A recipe with a backbone needs its number of features as channels, with height "
                f"and width 1, not {self.channels}, {self.height} and {self.width}."
            )
        for name, only in (("augmentation", "none"), ("trained", "all"), ("precision", "float32")):
            if getattr(self, name) != only:
                raise EngineError(
                    f"Features of a backbone are fixed: {name} must be {only!r}, not "
                    f"{getattr(self, name)!r}."
                )

    def _check_types(self) -> None:
        for name in ("network", "weights", "backbone"):
            if not isinstance(getattr(self, name), str):
                raise EngineError(f"{name} must be a word, not {getattr(self, name)!r}.")
        for name in (*COUNTS, "channels", "seed", "epoch_images"):
            if not isinstance(getattr(self, name), Integral) or isinstance(
                getattr(self, name), bool
            ):
                raise EngineError(f"{name} must be a whole number, not {getattr(self, name)!r}.")
            object.__setattr__(self, name, int(getattr(self, name)))
        if self.seed not in SEEDS:
            raise EngineError(
                f"The seed must lie between {SEEDS.start} and {SEEDS.stop - 1}, not be {self.seed}."
            )
        if not isinstance(self.nesterov, bool):
            raise EngineError(f"nesterov must be True or False, not {self.nesterov!r}.")
        for name in ("learning_rate", "momentum", "weight_decay"):
            object.__setattr__(self, name, _number(getattr(self, name), name))
        for name in ("mean", "std"):
            try:
                values = tuple(getattr(self, name))
            except TypeError as error:
                raise EngineError(
                    f"{name} needs one number for each channel, such as (0.5,), not "
                    f"{getattr(self, name)!r}."
                ) from error
            object.__setattr__(self, name, tuple(_number(value, name) for value in values))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an input: (C, H, W), or (D + 1,) features with a constant."""
        return (self.channels + 1,) if self.backbone else (self.channels, self.height, self.width)

    def to_json(self) -> str:
        values = dataclasses.asdict(self)
        for name in ("epoch_images", "backbone"):
            # Recipes from before these settings keep their digests.
            if not values[name]:
                del values[name]
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})

    def digest(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def draws_per_epoch(self, count: int) -> int:
        """Return how many images an epoch draws from a list of `count`."""
        return self.epoch_images or count

    def steps_per_epoch(self, count: int) -> int:
        """Number of batches; sizes differ by at most one."""
        return math.ceil(self.draws_per_epoch(count) / self.batch_size)

    def rate(self, step: int, steps: int) -> float:
        """Return η_t of step t (from 0)."""
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        if self.schedule == "step":
            # η/10 from half of the run, η/100 from three quarters
            return self.learning_rate * (0.1 ** ((2 * step >= steps) + (4 * step >= 3 * steps)))
        if self.schedule == "inverse_root":
            # η/√t with t from 1, as in the first paper's logistic regression
            return self.learning_rate / math.sqrt(step + 1)
        return self.learning_rate


def _number(value: Any, name: str) -> float:
    """Convert to a plain number; integers stay, for the digest."""
    if not isinstance(value, Real):
        raise EngineError(f"{name} must be a number, not {value!r}.")
    return value if isinstance(value, int) else float(value)


def check_span(span: str) -> None:
    if span not in SPANS:
        raise EngineError(f"There is no span called {span!r}; choose from {', '.join(SPANS)}.")
