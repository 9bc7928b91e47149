"""Pictures as a backbone sees them."""

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def fit_picture(picture: Image.Image, side: int) -> Pixels:
    """Squash a picture to (side, side, 3) uint8, bicubic.

    All of the picture is seen; docs/results.md compares with cropping and padding.
    """
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    if picture.size != (side, side):
        # A gap of 3 cannot be told from an exact resize, and large pictures shrink faster.
        picture = picture.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(picture)
