"""A zip to upload: two easy classes, and files that an import must refuse."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES = 40  # of each class
CLASSES = ("ripe", "unripe <b>")
REFUSED = ("ripe/broken.png", "ripe/page.jpg", "unripe <b>/empty.png")


def an_archive(path: Path) -> Path:
    """Write red and green squares in noise, and three broken files among them."""
    noise = np.random.default_rng(3)
    with zipfile.ZipFile(path, "w") as archive:
        for channel, name in enumerate(CLASSES):
            for number in range(IMAGES):
                archive.writestr(f"fruit/{name}/{number:02}.png", a_square(noise, channel))
        whole = a_square(noise, 0)
        contents = (whole[: len(whole) // 2], b"<html><script>alert(1)</script></html>", b"")
        for name, content in zip(REFUSED, contents, strict=True):
            archive.writestr(f"fruit/{name}", content)
    return path


def a_square(noise: np.random.Generator, channel: int) -> bytes:
    """Encode a PNG of 16 × 16 pixels, brighter in one channel."""
    pixels = noise.integers(0, 120, (16, 16, 3), dtype=np.uint8)
    pixels[:, :, channel] += 100
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
