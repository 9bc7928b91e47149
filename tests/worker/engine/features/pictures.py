"""Generated pictures, and features in the plainest way."""

import numpy as np
import torch
from PIL import Image

from worker.engine.features.backbones import Backbone
from worker.engine.features.pictures import fit_picture


def some_pictures(count: int, seed: int = 0) -> list[Image.Image]:
    """Smooth colourful pictures of different shapes."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)
    return [
        Image.fromarray(pixels).resize((80 + 7 * (n % 5), 60 + n % 3), Image.Resampling.BICUBIC)
        for n, pixels in enumerate(coarse)
    ]


def plainly(backbone: Backbone, pictures: list[Image.Image]) -> np.ndarray:
    """Features (N, D) float32, picture by picture, without any of the tricks."""
    rows = []
    for picture in pictures:
        pixels = np.array(fit_picture(picture, backbone.side), dtype=np.float32)
        x = torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None].contiguous()
        with torch.no_grad():
            rows.append(backbone.network(x)[0].numpy())
    return np.stack(rows)
