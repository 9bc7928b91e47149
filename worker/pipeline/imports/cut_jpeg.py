"""Recognize JPEGs whose data end early: libjpeg fills them up with grey, and only warns."""

import io
from contextlib import suppress
from typing import BinaryIO

import numpy as np
from PIL import Image, JpegImagePlugin

END = b"\xff\xd9"
FILLING = (127, 129)  # of 255, from zero coefficients
# Rows that a whole JPEG without its end mark may lack: a row of the largest blocks, and its edge.
ROWS = 40


def is_cut_off(file: BinaryIO, image: Image.Image) -> bool:
    """Tell if a decoded JPEG (grey, RGB or CMYK) lacks data for its last rows."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not _ends_in_grey(image):
        return False
    file.seek(0)
    data = file.read()
    if image.info.get("progressive"):
        # The first scan needs a bit for each block of 8 × 8 pixels.
        return len(data) * 8 < image.width * image.height / 64
    end = data.rfind(END)
    if end < 0:
        return False
    return _rows_without(data[:end], image.size) > ROWS


def _ends_in_grey(image: Image.Image) -> bool:
    if image.height <= ROWS:
        return False
    # Lossless: a row at the end, then all of them.
    for top in (image.height - 1, image.height - ROWS):
        rows = np.asarray(image.crop((0, top, image.width, image.height)))
        if rows.min() < FILLING[0] or rows.max() > FILLING[1]:
            return False
    return True


def _rows_without(data: bytes, size: tuple[int, int]) -> int:
    """Count the rows that the decoder cannot fill before it reaches the end of the data."""
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    if image.size != size:
        image.draft(None, size)
    with suppress(OSError):  # it lacks its end, as intended
        image.load()
    filled = np.asarray(Image.Image._new(image, image.im)).reshape(image.height, -1).any(axis=1)
    return image.height - 1 - int(np.nonzero(filled)[0][-1]) if filled.any() else image.height
