"""Images or their features, their order and augmentation (docs/method.md, sections 4 and 10).

Every draw is a hash of (seed, epoch, id, purpose), so images can be left out without changing
the others' draws.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from worker.engine.errors import EngineError
from worker.engine.recipe import Recipe

Integers = npt.NDArray[np.int64]

Device = torch.device | str

SUMMED_BYTES = 2**24
# Pixels in the digest; reading all may take minutes.
SAMPLED_IMAGES = 64
_ORDER, _ROW_SHIFT, _COLUMN_SHIFT, _FLIP = 1, 2, 3, 4


@dataclass(frozen=True)
class Images:
    """N labelled images; pixels are never copied.

    Args:
        pixels: (M, H, W, C) uint8 array or memory map, C 1 or 3.
        labels: (N,) integers from 0.
        ids: (N,) integers, unique and stable, for each image's draws.
        rows: (N,) rows in `pixels`; None if image n is row n.

    Raises:
        EngineError: types, shapes or rows do not fit.
    """

    pixels: npt.NDArray[Any]
    labels: Integers
    ids: Integers
    rows: Integers | None = field(default=None)

    def __post_init__(self) -> None:
        self._check_pixels()
        for name in ("labels", "ids") if self.rows is None else ("labels", "ids", "rows"):
            object.__setattr__(self, name, _as_int64(getattr(self, name), name))
        count = len(self.labels)
        if len(self.ids) != count or len(self.pixels if self.rows is None else self.rows) != count:
            raise EngineError("Every image needs one label, one id and one row of pixels.")
        if len(np.unique(self.ids)) != count:
            raise EngineError(
                "Image ids must be unique: an image's order and augmentation depend on its id."
            )
        if (
            self.rows is not None
            and count
            and not 0 <= self.rows.min() <= self.rows.max() < len(self.pixels)
        ):
            raise EngineError(
                f"The images' rows must lie between 0 and {len(self.pixels) - 1}, where the pixels "
                f"are; they range from {self.rows.min()} to {self.rows.max()}."
            )

    def _check_pixels(self) -> None:
        if not isinstance(self.pixels, np.ndarray):
            raise EngineError(
                "Pixels must be a NumPy array or memory map of uint8, not a "
                f"{type(self.pixels).__name__}."
            )
        if (
            self.pixels.ndim != 4
            or self.pixels.dtype != np.uint8
            or self.pixels.shape[3] not in (1, 3)
        ):
            raise EngineError(
                f"Pixels must be uint8 of shape (N, H, W, 1 or 3), not {self.pixels.dtype} "
                f"{self.pixels.shape}; convert them to whole numbers from 0 to 255, and replace "
                "any NaN."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: Integers) -> npt.NDArray[Any]:
        """Read pixels (B, H, W, C) at positions (B,)."""
        rows = positions if self.rows is None else self.rows[positions]
        if not isinstance(self.pixels, np.memmap):
            return self.pixels[rows]
        # Disks read fastest in file order.
        order = np.argsort(rows)
        taken = np.empty((len(rows), *self.pixels.shape[1:]), dtype=self.pixels.dtype)
        taken[order] = self.pixels[rows[order]]
        return taken

    def subset(self, positions: Integers) -> "Images":
        rows = positions if self.rows is None else self.rows[positions]
        return replace(self, labels=self.labels[positions], ids=self.ids[positions], rows=rows)

    def digest(self) -> str:
        """SHA-256 of ids, labels and some pixels."""
        result = hashlib.sha256(
            self.ids.astype("<i8").tobytes() + self.labels.astype("<i8").tobytes()
        )
        result.update(self.take(evenly_spaced(len(self), SAMPLED_IMAGES)).tobytes())
        return result.hexdigest()


@dataclass(frozen=True)
class Features(Images):
    """N labelled images as a backbone's features, standardised when they are read.

    Args:
        pixels: (M, D) float16 array or memory map.
        mean, std: (D,) float32 of the features, over images chosen once for all versions.
        backbone: digest of the backbone and its preprocessing.

    Raises:
        EngineError: types, shapes or rows do not fit.
    """

    mean: npt.NDArray[np.float32] = field(kw_only=True)
    std: npt.NDArray[np.float32] = field(kw_only=True)
    backbone: str = field(kw_only=True)

    def _check_pixels(self) -> None:
        pixels = self.pixels
        if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.dtype != np.float16:
            raise EngineError(
                "Features must be a NumPy array or memory map of float16, (M, D); work them out "
                "with worker.engine.features."
            )
        for values in (self.mean, self.std):
            if values.shape != (self.count,) or values.dtype != np.float32:
                raise EngineError(
                    f"The mean and the deviation of {self.count} features must be float32, "
                    f"({self.count},), not {values.dtype} {values.shape}."
                )

    @property
    def count(self) -> int:
        """D, features of an image."""
        return int(self.pixels.shape[1])

    def standardise(
        self, positions: Integers, dtype: torch.dtype, device: Device = "cpu"
    ) -> torch.Tensor:
        """Return the standardised features and a constant 1, (B, D + 1)."""
        x = torch.empty(len(positions), self.count + 1, dtype=dtype)
        x[:, -1] = 1.0
        x[:, :-1] = torch.from_numpy(self.take(positions))
        x[:, :-1].sub_(torch.from_numpy(self.mean)).div_(torch.from_numpy(self.std))
        return x.to(device)

    def digest(self) -> str:
        """SHA-256 of ids, labels, some features, and their scale."""
        parts = (super().digest().encode(), self.mean.tobytes(), self.std.tobytes())
        return hashlib.sha256(b"".join((*parts, self.backbone.encode()))).hexdigest()


def _as_int64(values: object, name: str) -> Integers:
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise EngineError(
            f"The images' {name} are not a list of whole numbers ({error}); give an int64 array of "
            "shape (N,)."
        ) from error
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise EngineError(
            f"The images' {name} must be whole numbers, int64 of shape (N,), not {array.dtype} "
            f"{array.shape}; convert them first."
        )
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise EngineError(
            f"The images' {name} go up to {array.max()}, more than int64 holds; give smaller ones."
        )
    return array.astype(np.int64, copy=False)


def check_images(images: Images, recipe: Recipe, split: str) -> None:
    """Raise EngineError unless the images fit the recipe."""
    if not isinstance(images, Images):
        raise EngineError(
            f"The {split} images must be given as worker.engine.Images, not as "
            f"{type(images).__name__}."
        )
    if len(images) == 0:
        raise EngineError(f"The {split} split has no images; give it at least one.")
    if recipe.backbone:
        _check_features(images, recipe, split)
    elif images.pixels.shape[1:] != (recipe.height, recipe.width, recipe.channels):
        raise EngineError(
            f"The {split} images are {images.pixels.shape[1:]} (height, width, channels), but the "
            f"recipe says {(recipe.height, recipe.width, recipe.channels)}."
        )
    low, high = int(images.labels.min()), int(images.labels.max())
    if low < 0 or high >= recipe.classes:
        raise EngineError(
            f"Labels of the {split} split must lie between 0 and {recipe.classes - 1}; they range "
            f"from {low} to {high}. Correct the labels, or make the recipe for more classes."
        )


def _check_features(images: Images, recipe: Recipe, split: str) -> None:
    if not isinstance(images, Features):
        raise EngineError(
            f"The recipe trains a head on features, and the {split} images are pixels; give "
            "worker.engine.Features."
        )
    if (images.backbone, images.count) != (recipe.backbone, recipe.channels):
        raise EngineError(
            f"The {split} images' features are {images.count} of the backbone "
            f"{images.backbone[:12]}, and the recipe needs {recipe.channels} of "
            f"{recipe.backbone[:12]}; work out the features with the recipe's backbone."
        )


def pixel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return each channel's mean and standard deviation over ≤ 10,000 images."""
    positions = evenly_spaced(len(images), 10_000)
    channels = images.pixels.shape[3]
    total, squares = np.zeros(channels, dtype=np.uint64), np.zeros(channels, dtype=np.uint64)
    image_bytes = int(np.prod(images.pixels.shape[1:]))
    for chunk in chunks(len(positions), max(1, SUMMED_BYTES // image_bytes)):
        pixels = images.take(positions[chunk]).reshape(-1, channels)
        total += pixels.sum(axis=0, dtype=np.uint64)
        squares += np.square(pixels, dtype=np.uint32).sum(axis=0, dtype=np.uint64)
    count = len(positions) * image_bytes // channels
    mean = total / (255.0 * count)
    std = np.sqrt(np.maximum(squares / (255.0**2 * count) - mean**2, 0.0))
    return tuple(round(float(m), 4) for m in mean), tuple(
        max(round(float(s), 4), 0.01) for s in std
    )


def evenly_spaced(count: int, limit: int) -> Integers:
    """Return at most `limit` positions in 0…count−1."""
    return np.linspace(0, count - 1, min(count, limit)).astype(np.int64)


def chunks(count: int, size: int) -> Iterator[Integers]:
    """Yield 0…count−1 in parts of at most `size`."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def draw_hashes(seed: int, epoch: int, ids: Integers, purpose: int) -> npt.NDArray[np.uint64]:
    """Draw 64 random bits, (N,) uint64, for each id (N,)."""
    key = hashlib.sha256(f"{seed}/{epoch}/{purpose}".encode()).digest()
    offset = np.frombuffer(key[:8], dtype="<u8")[0]
    golden_ratio = np.uint64(0x9E3779B97F4A7C15)
    return _mix(_mix(ids.astype(np.uint64) * golden_ratio + offset) + golden_ratio)


def draw_batches(recipe: Recipe, images: Images, epoch: int) -> list[Integers]:
    """Draw S_t, positions (B,), for each step of an epoch (from 0).

    The epochs cut a stream of passes over the list, each in its own order, into equal parts:
    one pass each, unless the recipe's `epoch_images` asks for more or fewer.
    """
    draws = recipe.draws_per_epoch(len(images))
    first = epoch * draws
    skipped_passes = first // len(images)
    passes = range(skipped_passes, -(-(first + draws) // len(images)))
    order = np.concatenate([_pass_order(recipe, images, number) for number in passes])
    start = first - skipped_passes * len(images)
    return np.array_split(order[start : start + draws], recipe.steps_per_epoch(len(images)))


def _pass_order(recipe: Recipe, images: Images, number: int) -> Integers:
    return np.lexsort((images.ids, draw_hashes(recipe.seed, number, images.ids, _ORDER)))


@lru_cache(maxsize=16)
def _statistics(
    recipe: Recipe, dtype: torch.dtype, device: Device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and std, (C, 1, 1) each."""
    mean, std = torch.tensor([recipe.mean, recipe.std], dtype=dtype).view(2, -1, 1, 1).to(device)
    return mean, std


def normalise(
    recipe: Recipe, pixels: torch.Tensor, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Normalise pixels from (B, H, W, C) uint8 to (B, C, H, W)."""
    mean, std = _statistics(recipe, dtype, pixels.device)
    # Declared channels last, grey convolves nearly twice as fast on a CPU.
    grey = pixels.shape[3] == 1
    x = pixels.permute(0, 3, 1, 2).to(
        dtype, memory_format=torch.preserve_format if grey else torch.contiguous_format
    )
    return x.div_(255.0).sub_(mean).div_(std)


def augment(recipe: Recipe, pixels: torch.Tensor, ids: Integers, epoch: int) -> torch.Tensor:
    """Shift images by up to H/8 (grey: H/16); flip half if the recipe says so.

    Args:
        pixels: (B, H, W, C) uint8.
        ids: (B,) int64.
        epoch: from 0.

    Returns:
        (B, H, W, C) uint8, with black edges.
    """
    if recipe.augmentation == "none":
        return pixels
    count, height, width, channels = pixels.shape
    reach = max(1, height // 16 if recipe.channels == 1 else height // 8)
    choices = np.uint64(2 * reach + 1)
    rows, columns = (
        (draw_hashes(recipe.seed, epoch, ids, purpose) % choices).astype(np.int64)
        for purpose in (_ROW_SHIFT, _COLUMN_SHIFT)
    )
    y = rows[:, None] + np.arange(height)  # (B, H)
    x = columns[:, None] + np.arange(width)  # (B, W)
    if recipe.augmentation == "shift_flip":
        flipped = draw_hashes(recipe.seed, epoch, ids, _FLIP) % np.uint64(2) == 1
        x = np.where(flipped[:, None], x[:, ::-1], x)
    padded = functional.pad(pixels, (0, 0, reach, reach, reach, reach))
    # One flat gather is several times faster than indexing three axes.
    row_starts = _to_device(
        (np.arange(count)[:, None] * (height + 2 * reach) + y) * (width + 2 * reach), pixels.device
    )
    indices = row_starts[:, :, None] + _to_device(x, pixels.device)[:, None, :]  # (B, H, W)
    return padded.view(-1, channels).index_select(0, indices.view(-1)).view(pixels.shape)


def _to_device(values: npt.NDArray[np.generic], device: Device) -> torch.Tensor:
    tensor = torch.from_numpy(values)
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    # Pinned, so that the copy overlaps with computation.
    return tensor.pin_memory().to(device, non_blocking=True)


def augmented_batch(
    recipe: Recipe,
    images: Images,
    positions: Integers,
    epoch: int,
    dtype: torch.dtype,
    device: Device = "cpu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make the batch of a training step, x (B, C, H, W), or features (B, D + 1), and y (B,).

    Args:
        positions: S_t, (B,).
        epoch: from 0.
    """
    if isinstance(images, Features):
        return unaugmented_batch(recipe, images, positions, dtype, device)
    pixels = augment(
        recipe, _to_device(images.take(positions), device), images.ids[positions], epoch
    )
    return normalise(recipe, pixels, dtype), _to_device(images.labels[positions], device)


def unaugmented_batch(
    recipe: Recipe, images: Images, positions: Integers, dtype: torch.dtype, device: Device = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make a batch for evaluation, x (B, C, H, W), or features (B, D + 1), and y (B,)."""
    if isinstance(images, Features):
        x = images.standardise(positions, dtype, device)
        return x, _to_device(images.labels[positions], device)
    return normalise(recipe, _to_device(images.take(positions), device), dtype), _to_device(
        images.labels[positions], device
    )
