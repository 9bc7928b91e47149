"""Images, and their order and augmentation as pure functions of (seed, epoch, image id) (influence.md, section 4).

Nothing here draws from a global generator and nothing loops over images: every draw is a hash of (seed, epoch, id, purpose), computed for
a whole list at once. So an image's draws do not change when other images leave the list, and a replay needs no stored state. Augmentation
moves whole pixels, which is integer arithmetic: it gives the same pixels on every device.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from worker.engine.errors import EngineError
from worker.engine.recipe import Recipe

Integers = npt.NDArray[np.int64]

Device = torch.device | str

# Bytes of pixels read at once where they are only summed up.
SUMMED_BYTES = 2**24
# Images whose pixels stand for those of their list in its digest.
SAMPLED_IMAGES = 64
# Purposes of the draws: each has a stream of its own.
_ORDER, _ROW_SHIFT, _COLUMN_SHIFT, _FLIP = 1, 2, 3, 4


@dataclass(frozen=True)
class Images:
    """A list of N labelled images over an array or memory map of pixels, which is never copied.

    pixels: (M, H, W, C) uint8, C 1 or 3. labels: (N,) int64 from 0. ids: (N,) int64, unique and stable: seeds hang on them.
    rows: (N,) int64, the row of each image in `pixels`; None where image n is row n. Whole numbers of another kind become int64.
    """

    pixels: npt.NDArray[np.uint8]
    labels: Integers
    ids: Integers
    rows: Integers | None = field(default=None)

    def __post_init__(self) -> None:
        """Raises EngineError where kinds, shapes or rows do not fit together."""
        if not isinstance(self.pixels, np.ndarray):
            raise EngineError(
                f"Pixels must be a NumPy array or memory map of uint8, not a {type(self.pixels).__name__}."
            )
        if (
            self.pixels.ndim != 4
            or self.pixels.dtype != np.uint8
            or self.pixels.shape[3] not in (1, 3)
        ):
            raise EngineError(
                f"Pixels must be uint8 of shape (N, H, W, 1 or 3), not {self.pixels.dtype} {self.pixels.shape}; "
                "convert them to whole numbers from 0 to 255, and give those that are NaN a value."
            )
        for name in ("labels", "ids") if self.rows is None else ("labels", "ids", "rows"):
            object.__setattr__(self, name, _whole_numbers(getattr(self, name), name))
        count = len(self.labels)
        if len(self.ids) != count or len(self.pixels if self.rows is None else self.rows) != count:
            raise EngineError("Every image needs one label, one id and one row of pixels.")
        if len(np.unique(self.ids)) != count:
            raise EngineError(
                "Image ids must be unique: the order and the augmentation of an image hang on its id."
            )
        if (
            self.rows is not None
            and count
            and not 0 <= self.rows.min() <= self.rows.max() < len(self.pixels)
        ):
            raise EngineError(
                f"The images' rows must lie between 0 and {len(self.pixels) - 1}, where the pixels are; "
                f"there are {self.rows.min()} to {self.rows.max()}."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: Integers) -> npt.NDArray[np.uint8]:
        """Pixels (B, H, W, C) of the images at `positions` (B,)."""
        rows = positions if self.rows is None else self.rows[positions]
        if not isinstance(self.pixels, np.memmap):
            return self.pixels[rows]
        # A file is read in its own order, which a disk does many times faster than in a random one.
        order = np.argsort(rows)
        taken = np.empty((len(rows), *self.pixels.shape[1:]), dtype=np.uint8)
        taken[order] = self.pixels[rows[order]]
        return taken

    def subset(self, positions: Integers) -> "Images":
        """The images at `positions`, over the same pixels."""
        rows = positions if self.rows is None else self.rows[positions]
        return Images(self.pixels, self.labels[positions], self.ids[positions], rows)

    def digest(self) -> str:
        """SHA-256 of the list: ids, labels, and the pixels of a sample of the images, as reading all may take minutes."""
        result = hashlib.sha256(
            self.ids.astype("<i8").tobytes() + self.labels.astype("<i8").tobytes()
        )
        result.update(self.take(evenly_spaced(len(self), SAMPLED_IMAGES)).tobytes())
        return result.hexdigest()


def _whole_numbers(values: object, name: str) -> Integers:
    """Whole numbers of any kind as (N,) int64. Raises EngineError for what is none: rounding would be a guess."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise EngineError(
            f"The images' {name} are no list of whole numbers ({error}); give an int64 array of shape (N,)."
        ) from error
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise EngineError(
            f"The images' {name} must be whole numbers, int64 of shape (N,), not {array.dtype} {array.shape}; convert them first."
        )
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise EngineError(
            f"The images' {name} go up to {array.max()}, which int64 does not hold; give smaller ones."
        )
    return array.astype(np.int64, copy=False)


def check_images(images: Images, recipe: Recipe, what: str) -> None:
    """Raise EngineError unless the images fit the recipe."""
    if not isinstance(images, Images):
        raise EngineError(
            f"The {what} images must be given as worker.engine.Images, not as {type(images).__name__}."
        )
    if len(images) == 0:
        raise EngineError(f"The {what} split has no images; give it one at least.")
    if images.pixels.shape[1:] != (recipe.height, recipe.width, recipe.channels):
        raise EngineError(
            f"The {what} images are {images.pixels.shape[1:]} (height, width, channels), "
            f"the recipe says {(recipe.height, recipe.width, recipe.channels)}."
        )
    low, high = int(images.labels.min()), int(images.labels.max())
    if low < 0 or high >= recipe.classes:
        raise EngineError(
            f"Labels of the {what} split must lie between 0 and {recipe.classes - 1}; there are {low} to {high}. "
            "Correct the labels, or make the recipe for more classes."
        )


def pixel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation a channel of pixels scaled to 0…1, over at most 10,000 evenly spaced images."""
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
    # Rounded, so that the recipe reads well; a constant channel must not divide by zero.
    return tuple(round(float(m), 4) for m in mean), tuple(
        max(round(float(s), 4), 0.01) for s in std
    )


def evenly_spaced(count: int, most: int) -> Integers:
    """At most `most` positions from 0 to count−1, (K,)."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def chunks(count: int, size: int) -> Iterator[Integers]:
    """Positions 0…count−1 in consecutive parts of at most `size`."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


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


@lru_cache(maxsize=16)
def _statistics(
    recipe: Recipe, dtype: torch.dtype, device: Device
) -> tuple[torch.Tensor, torch.Tensor]:
    """mean and std, (C, 1, 1) each: kept, as copying them to a device takes as long as copying a batch."""
    mean, std = torch.tensor([recipe.mean, recipe.std], dtype=dtype).view(2, -1, 1, 1).to(device)
    return mean, std


def normalise(
    recipe: Recipe, pixels: torch.Tensor, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Pixels (B, H, W, C) uint8 → (B, C, H, W), scaled to 0…1 and normalised."""
    mean, std = _statistics(recipe, dtype, pixels.device)
    # With one channel, channels last and channels first are the same memory, and a processor convolves nearly twice as fast when told the former.
    last = pixels.shape[3] == 1
    x = pixels.permute(0, 3, 1, 2).to(
        dtype, memory_format=torch.preserve_format if last else torch.contiguous_format
    )
    return x.div_(255.0).sub_(mean).div_(std)


def augment(recipe: Recipe, pixels: torch.Tensor, ids: Integers, epoch: int) -> torch.Tensor:
    """Shift each image by up to an eighth of its height, a sixteenth if grey (edges fill with black); flip half where asked. (B, H, W, C) uint8."""
    if recipe.augmentation == "none":
        return pixels
    count, height, width, channels = pixels.shape
    reach = max(1, height // 16 if recipe.channels == 1 else height // 8)
    span = np.uint64(2 * reach + 1)
    rows, columns = (
        (draws(recipe.seed, epoch, ids, purpose) % span).astype(np.int64)
        for purpose in (_ROW_SHIFT, _COLUMN_SHIFT)
    )
    y = rows[:, None] + np.arange(height)  # (B, H)
    x = columns[:, None] + np.arange(width)  # (B, W)
    if recipe.augmentation == "shift_flip":
        flipped = draws(recipe.seed, epoch, ids, _FLIP) % np.uint64(2) == 1
        x = np.where(flipped[:, None], x[:, ::-1], x)
    padded = functional.pad(pixels, (0, 0, reach, reach, reach, reach))
    # Places in the list of all pixels of the padded batch: one gather is several times faster than indexing by three axes.
    lines = _placed(
        (np.arange(count)[:, None] * (height + 2 * reach) + y) * (width + 2 * reach), pixels.device
    )
    places = lines[:, :, None] + _placed(x, pixels.device)[:, None, :]  # (B, H, W)
    return padded.view(-1, channels).index_select(0, places.view(-1)).view(pixels.shape)


def _placed(values: npt.NDArray[np.generic], device: Device) -> torch.Tensor:
    """An array as a tensor on a device."""
    tensor = torch.from_numpy(values)
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    # From pinned memory the copy runs beside the computation.
    return tensor.pin_memory().to(device, non_blocking=True)


def augmented_batch(
    recipe: Recipe,
    images: Images,
    positions: Integers,
    epoch: int,
    dtype: torch.dtype,
    device: Device = "cpu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """What step t sees: (x (B, C, H, W), y (B,)), augmented for this epoch."""
    pixels = augment(recipe, _placed(images.take(positions), device), images.ids[positions], epoch)
    return normalise(recipe, pixels, dtype), _placed(images.labels[positions], device)


def unaugmented_batch(
    recipe: Recipe, images: Images, positions: Integers, dtype: torch.dtype, device: Device = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images without augmentation, for evaluation: (x (B, C, H, W), y (B,))."""
    return normalise(recipe, _placed(images.take(positions), device), dtype), _placed(
        images.labels[positions], device
    )
