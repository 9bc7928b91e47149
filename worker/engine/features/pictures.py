"""Pictures as a backbone sees them."""

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def fit_picture(picture: Image.Image, side: int) -> Pixels:
    """Fit a picture into (side, side, 3) uint8: bicubic, centred on black, aspect ratio kept.

    docs/results.md compares with cropping and squashing.
    """
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    scale = side / max(picture.size)
    width, height = (max(1, round(scale * length)) for length in picture.size)
    if picture.size != (width, height):
        # A gap of 3 can hardly be told from an exact resize, and shrinks large pictures faster.
        picture = picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    pixels = np.zeros((side, side, 3), dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    pixels[top : top + height, left : left + width] = np.asarray(picture)
    return pixels
