"""Convert any picture to 8-bit grey or RGB, large pictures strip by strip."""

import hashlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from worker.pipeline.imports.reading import (
    BLACK,
    GREY,
    WHITE,
    Mark,
    Range,
    Reading,
    Sample,
)
from worker.pipeline.imports.refused import Refused

STRIP_PIXELS = 1 << 20
SAMPLED_VALUES = 2048
FEW_LEVELS = 16
VISIBLE = 16  # of 255: an opacity that shows
CONTRAST = 24  # grey levels that tell a drawing from its ground
SWALLOWED = 0.02  # of the visible pixels have that contrast
WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
NATIVE = "L" if sys.byteorder == "little" else "B"
NO_VALUE = "it holds no number: all of its values are infinite or not a number"

Box = tuple[int, int, int, int]
Values = NDArray[Any]


@dataclass(frozen=True)
class Converted:
    """An L or RGB image, what happened to it, and a digest of its values before."""

    image: Image.Image
    marks: int = 0
    source: str = ""
    sample: Sample | None = None


def to_eight_bits(
    image: Image.Image,
    reading: Reading,
    low: Image.Image | None = None,
    *,
    survey: bool = False,
) -> Converted:
    """Convert any mode to L or RGB; colourless RGB turns L. Raises Refused.

    low: for 16 bits a colour, the lower bytes of the values.
    """
    if low is not None or kind_of(image):
        return _from_deep(image, low, reading, survey)
    if image.mode == "L" and "transparency" not in image.info:
        return Converted(image)
    if image.mode == "1":
        return Converted(image.convert("L"))
    if image.mode == "CMYK":
        return Converted(_grey_if_colourless(_cmyk_to_rgb(image)))
    if has_alpha(image):
        return _from_transparent(image, reading, survey)
    return Converted(_grey_if_colourless(_in_strips(image, "RGB", _to_rgb)))


def kind_of(image: Image.Image) -> int:
    """Mark the kind of values of a grey picture with more than 8 bits."""
    if image.mode == "F":
        return int(Mark.FLOAT)
    if image.mode == "I":
        return int(Mark.THIRTY_TWO_BIT)
    return int(Mark.SIXTEEN_BIT) if image.mode.startswith("I") else 0


def has_alpha(image: Image.Image) -> bool:
    return image.mode in WITH_ALPHA or "transparency" in image.info


def strips(image: Image.Image) -> Iterator[tuple[Box, Image.Image]]:
    """Cut a large image into strips of rows."""
    width, height = image.size
    rows = max(1, STRIP_PIXELS // width)
    if rows >= height:
        yield (0, 0, width, height), image
        return
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        yield box, image.crop(box)


def other_bytes(rawmode: str) -> str | None:
    """Return the raw mode of the lower bytes of 16-bit colour values, or None."""
    if rawmode[:-1] not in ("RGB;16", "RGBA;16"):
        return None
    order = NATIVE if rawmode[-1] == "N" else rawmode[-1]
    return rawmode[:-1] + ("B" if order == "L" else "L")


# ── more than 8 bits ──────────────────────────────────────────────────────────────────────────────


def _from_deep(
    image: Image.Image, low: Image.Image | None, reading: Reading, survey: bool
) -> Converted:
    """Scale values by their kind's range: that of the data set, else the picture's own."""
    kind = kind_of(image) if low is None else int(Mark.SIXTEEN_BIT)
    whole, marks = _finite_range(image, low)
    values = _sampled(image, low)
    black, white = reading.ranges.get(kind, whole)
    digest = hashlib.sha256()
    result = Image.new("L" if low is None else "RGB", image.size)
    for box, part in _values(image, low):
        digest.update(np.ascontiguousarray(part).tobytes())
        result.paste(Image.fromarray(scale(part, black, white)), box[:2])
    if image.mode == "RGBA":
        opacity = image.getchannel("A")
        marks |= Mark.TRANSPARENT if np.asarray(opacity).min() < 255 else 0
        result.putalpha(opacity)
        result = _over(result, reading.ground)
    result = _grey_if_colourless(result)
    marks |= _losses(result, varied=whole[0] < whole[1], levels=len(np.unique(values)))
    sample = Sample([float(value) for value in values], []) if survey else None
    return Converted(result, kind | marks, digest.hexdigest()[:16], sample)


def scale(values: Values, black: float, white: float) -> NDArray[np.uint8]:
    """Scale values from black to white to 0…255; what is not a number becomes black."""
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = (values.astype(np.float64) - black) * (255.0 / max(white - black, 1e-300))
        return np.nan_to_num(scaled, nan=0.0).round().clip(0, 255).astype(np.uint8)


def _values(image: Image.Image, low: Image.Image | None) -> Iterator[tuple[Box, Values]]:
    for box, part in strips(image):
        values = np.asarray(part)
        if low is not None:
            lower = np.asarray(low.crop(box))
            values = values[..., :3].astype(np.uint16) << 8 | lower[..., :3]
        yield box, values


def _sampled(image: Image.Image, low: Image.Image | None) -> Values:
    """Draw finite values at random places, the same for each picture of this size."""
    generator = np.random.default_rng(0)
    parts = []
    for box, values in _values(image, low):
        flat = values.ravel()
        if image.width * image.height > SAMPLED_VALUES:
            share = max(1, SAMPLED_VALUES * (box[3] - box[1]) // image.height)
            flat = flat[generator.integers(0, flat.size, share)]
        parts.append(flat[np.isfinite(flat)])
    return np.concatenate(parts)


def _finite_range(image: Image.Image, low: Image.Image | None) -> tuple[Range, int]:
    """Find the least and greatest finite value, and mark others. Raises Refused."""
    marks, ranges = 0, []
    for _, values in _values(image, low):
        finite = values
        if values.dtype.kind == "f" and not (are := np.isfinite(values)).all():
            finite, marks = values[are], int(Mark.NOT_FINITE)
        if finite.size:
            ranges.append((float(finite.min()), float(finite.max())))
    if not ranges:
        raise Refused(NO_VALUE)
    return (min(least for least, _ in ranges), max(most for _, most in ranges)), marks


def _losses(result: Image.Image, *, varied: bool, levels: int) -> int:
    """Mark a result that shows less than its file holds."""
    extrema = result.getextrema()
    pairs: Any = [extrema] if result.mode == "L" else extrema
    if all(low == high for low, high in pairs):
        return Mark.PLAIN if varied else 0
    if result.mode != "L":
        return 0
    left = sum(count > 0 for count in result.histogram())
    return Mark.FEW_LEVELS if left <= FEW_LEVELS and left < levels else 0


# ── transparency ──────────────────────────────────────────────────────────────────────────────────


def _from_transparent(image: Image.Image, reading: Reading, survey: bool) -> Converted:
    """Lay the picture over the data set's ground."""
    result = _grey_if_colourless(_over(image, reading.ground))
    small = image
    if image.width * image.height > STRIP_PIXELS:
        scale_down = (STRIP_PIXELS / (image.width * image.height)) ** 0.5
        size = (max(1, int(image.width * scale_down)), max(1, int(image.height * scale_down)))
        small = image.resize(size, Image.Resampling.NEAREST)
    rgba = np.asarray(small.convert("RGBA"))
    if rgba[..., 3].min() == 255:
        return Converted(result)
    varied = bool(np.ptp(rgba[..., 3]) or np.ptp(rgba[..., :3], axis=(0, 1)).any())
    marks = Mark.TRANSPARENT | _losses(result, varied=varied, levels=0)
    digest = hashlib.sha256(rgba.tobytes()).hexdigest()[:16]
    sample = Sample([], swallowed_by(rgba)) if survey else None
    return Converted(result, int(marks), digest, sample)


def swallowed_by(rgba: Values) -> list[int]:
    """List the grounds on which a picture (H, W, 4) cannot be seen."""
    opacity = rgba[..., 3].astype(np.float32)
    visible = opacity >= VISIBLE
    if not visible.any():
        return []
    light = rgba[..., :3][visible] @ np.array([0.299, 0.587, 0.114], np.float32)
    shown = opacity[visible] / np.float32(255)
    return [
        ground
        for ground in (WHITE, GREY, BLACK)
        if (abs(light - ground) * shown >= CONTRAST).mean() < SWALLOWED
    ]


def _over(image: Image.Image, ground: int) -> Image.Image:
    def over(part: Image.Image) -> Image.Image:
        rgba = part.convert("RGBA")
        under = Image.new("RGBA", rgba.size, (ground, ground, ground, 255))
        return Image.alpha_composite(under, rgba).convert("RGB")

    return _in_strips(image, "RGB", over)


# ── colour ────────────────────────────────────────────────────────────────────────────────────────


def _to_rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _in_strips(image: Image.Image, mode: str, convert: Any) -> Image.Image:
    if image.mode == mode and convert is _to_rgb:
        return image
    result: Image.Image | None = None
    for box, part in strips(image):
        converted: Image.Image = convert(part)
        if converted.size == image.size:
            return converted
        result = result or Image.new(mode, image.size)
        result.paste(converted, box[:2])
    assert result is not None
    return result


def _cmyk_to_rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            to_srgb = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "CMYK", "RGB")
            return _in_strips(image, "RGB", lambda part: _applied(part, to_srgb))
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
    return _in_strips(image, "RGB", _to_rgb)


def _applied(part: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    converted = ImageCms.applyTransform(part, transform)
    assert converted is not None
    return converted


def _grey_if_colourless(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and all(_is_colourless(np.asarray(part)) for _, part in strips(image)):
        return image.getchannel(0)
    return image


def _is_colourless(pixels: Values) -> bool:
    # The corner settles nearly every colour photograph.
    return all(bool((part == part[..., :1]).all()) for part in (pixels[:8, :8], pixels))
