"""Images, and their order and augmentation as pure functions of (seed, epoch, image id) (influence.md, section 4).

Nothing here draws from a global generator and nothing loops over images: every draw is a hash of (seed, epoch, id, purpose), computed for
a whole list at once. So an image's draws do not change when other images leave the list, and a replay needs no stored state.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from worker.engine.errors import EngineError
from worker.engine.recipe import Recipe

Integers = npt.NDArray[np.int64]

# Rows read at once where pixels are only summed up.
CHUNK = 4096
# Purposes of the draws: each has a stream of its own.
_ORDER, _ROW_SHIFT, _COLUMN_SHIFT, _FLIP = 1, 2, 3, 4


@dataclass(frozen=True)
class Images:
    """A list of N labelled images over an array or memory map of pixels, which is never copied.

    pixels: (M, H, W, C) uint8, C 1 or 3. labels: (N,) int64 from 0. ids: (N,) int64, unique and stable: seeds hang on them.
    rows: (N,) int64, the row of each image in `pixels`; None where image n is row n.
    """

    pixels: npt.NDArray[np.uint8]
    labels: Integers
    ids: Integers
    rows: Integers | None = field(default=None)

    def __post_init__(self) -> None:
        """Raises EngineError where shapes do not fit together."""
        if self.pixels.ndim != 4 or self.pixels.dtype != np.uint8 or self.pixels.shape[3] not in (1, 3):
            raise EngineError(f"Pixels must be uint8 of shape (N, H, W, 1 or 3), not {self.pixels.dtype} {self.pixels.shape}.")
        count = len(self.labels)
        if len(self.ids) != count or len(self.pixels if self.rows is None else self.rows) != count:
            raise EngineError("Every image needs one label, one id and one row of pixels.")
        if len(np.unique(self.ids)) != count:
            raise EngineError("Image ids must be unique: the order and the augmentation of an image hang on its id.")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: Integers) -> npt.NDArray[np.uint8]:
        """Pixels (B, H, W, C) of the images at `positions` (B,)."""
        return self.pixels[positions if self.rows is None else self.rows[positions]]

    def subset(self, positions: Integers) -> "Images":
        """The images at `positions`, over the same pixels."""
        rows = positions if self.rows is None else self.rows[positions]
        return Images(self.pixels, self.labels[positions], self.ids[positions], rows)

    def digest(self) -> str:
        """SHA-256 of the list: ids and labels, not pixels."""
        return hashlib.sha256(self.ids.astype("<i8").tobytes() + self.labels.astype("<i8").tobytes()).hexdigest()


def check(images: Images, recipe: Recipe, what: str) -> None:
    """Raise EngineError unless the images fit the recipe."""
    if len(images) == 0:
        raise EngineError(f"The {what} split has no images.")
    if images.pixels.shape[1:] != (recipe.height, recipe.width, recipe.channels):
        raise EngineError(
            f"The {what} images are {images.pixels.shape[1:]} (height, width, channels), "
            f"the recipe says {(recipe.height, recipe.width, recipe.channels)}."
        )
    low, high = int(images.labels.min()), int(images.labels.max())
    if low < 0 or high >= recipe.classes:
        raise EngineError(f"Labels of the {what} split must lie between 0 and {recipe.classes - 1}; there are {low} to {high}.")


def pixel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation a channel of pixels scaled to 0…1, over at most 10,000 evenly spaced images."""
    positions = np.linspace(0, len(images) - 1, min(len(images), 10_000)).astype(np.int64)
    total = np.zeros(images.pixels.shape[3])
    squares = np.zeros_like(total)
    count = 0
    for start in range(0, len(positions), CHUNK):
        chunk = images.take(positions[start : start + CHUNK]).reshape(-1, images.pixels.shape[3]) / 255.0
        total += chunk.sum(axis=0)
        squares += np.square(chunk).sum(axis=0)
        count += len(chunk)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    # Rounded, so that the recipe reads well; a constant channel must not divide by zero.
    return tuple(round(float(m), 4) for m in mean), tuple(max(round(float(s), 4), 0.01) for s in std)


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): a bijection that scatters neighbouring integers."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def draws(seed: int, epoch: int, ids: Integers, purpose: int) -> npt.NDArray[np.uint64]:
    """One 64-bit draw for each id, (N,) uint64."""
    key = hashlib.sha256(f"{seed}/{epoch}/{purpose}".encode()).digest()
    offset = np.frombuffer(key[:8], dtype="<u8")[0]
    golden = np.uint64(0x9E3779B97F4A7C15)
    return _mix(_mix(ids.astype(np.uint64) * golden + offset) + golden)


def batches(recipe: Recipe, images: Images, epoch: int) -> list[Integers]:
    """S_t for each step of an epoch: positions in `images`, in order of each image's own draw (ties by id)."""
    order = np.lexsort((images.ids, draws(recipe.seed, epoch, images.ids, _ORDER)))
    return np.array_split(order, recipe.steps_per_epoch(len(images)))


def normalise(recipe: Recipe, pixels: npt.NDArray[np.uint8], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Pixels (B, H, W, C) uint8 → (B, C, H, W), scaled to 0…1 and normalised."""
    x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).to(dtype).contiguous()
    mean = torch.tensor(recipe.mean, dtype=dtype).view(1, -1, 1, 1)
    std = torch.tensor(recipe.std, dtype=dtype).view(1, -1, 1, 1)
    return (x / 255.0 - mean) / std


def augment(recipe: Recipe, pixels: npt.NDArray[np.uint8], ids: Integers, epoch: int) -> npt.NDArray[np.uint8]:
    """Shift each image by up to an eighth of its side (edges fill with black), and flip half of them where asked. (B, H, W, C)."""
    if recipe.augmentation == "none":
        return pixels
    count, height, width, _ = pixels.shape
    reach = max(1, height // 16 if recipe.channels == 1 else height // 8)
    span = np.uint64(2 * reach + 1)
    rows = (draws(recipe.seed, epoch, ids, _ROW_SHIFT) % span).astype(np.int64)
    columns = (draws(recipe.seed, epoch, ids, _COLUMN_SHIFT) % span).astype(np.int64)
    padded = np.pad(pixels, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    y = rows[:, None] + np.arange(height)  # (B, H)
    x = columns[:, None] + np.arange(width)  # (B, W)
    if recipe.augmentation == "shift_flip":
        flipped = draws(recipe.seed, epoch, ids, _FLIP) % np.uint64(2) == 1
        x = np.where(flipped[:, None], x[:, ::-1], x)
    return padded[np.arange(count)[:, None, None], y[:, :, None], x[:, None, :]]


def batch(recipe: Recipe, images: Images, positions: Integers, epoch: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """What step t sees: (x (B, C, H, W), y (B,)), augmented for this epoch."""
    pixels = augment(recipe, images.take(positions), images.ids[positions], epoch)
    return normalise(recipe, pixels, dtype), torch.from_numpy(images.labels[positions])


def plain(recipe: Recipe, images: Images, positions: Integers, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Images without augmentation, for evaluation: (x (B, C, H, W), y (B,))."""
    return normalise(recipe, images.take(positions), dtype), torch.from_numpy(images.labels[positions])
