"""Features of pictures, on all cores (measured in docs/results.md)."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from worker.engine.devices import deterministic
from worker.engine.features.backbones import Backbone
from worker.engine.features.pictures import Pixels, fit_picture

Features = npt.NDArray[np.float16]

# Small batches stay in a core's cache; a GPU wants large ones.
CPU_BATCH, GPU_BATCH = 8, 64
TICK_SECONDS = 0.5


def compute_features(
    backbone: Backbone,
    read: Callable[[int], Image.Image],
    count: int,
    *,
    device: torch.device | str = "cpu",
    threads: int | None = None,
    tick: Callable[[int], None] = lambda _done: None,
) -> Features:
    """Compute the features of pictures 0 to count − 1.

    Each thread decodes a batch and sends it through the network, with a single core: pictures
    of one batch are decoded while the network sees another, and at most a batch per thread is in
    memory. Another order, number of threads or device changes no feature beyond float16's
    rounding.

    Args:
        read: decodes a picture, in any thread.
        threads: None for as many as torch uses.
        tick: called with the number of pictures done, at least twice a second; may raise to stop.

    Returns:
        (count, D) float16.
    """
    device = torch.device(device)
    threads = threads or torch.get_num_threads()
    size = CPU_BATCH if device.type == "cpu" else GPU_BATCH
    result = np.empty((count, backbone.features), dtype=np.float16)
    network = backbone.network.to(device)

    def compute(start: int) -> int:
        stop = min(start + size, count)
        pixels = np.stack([fit_picture(read(row), backbone.side) for row in range(start, stop)])
        result[start:stop] = _apply(backbone, network, pixels, device)
        return stop - start

    with deterministic(torch.device("cpu"), 1), ThreadPoolExecutor(threads, "features") as pool:
        pending = {pool.submit(compute, start) for start in range(0, count, size)}
        done = 0
        try:
            while pending:
                ended, pending = wait(pending, TICK_SECONDS, FIRST_COMPLETED)
                done += sum(future.result() for future in ended)
                tick(done)
        finally:
            for future in pending:
                future.cancel()
    return result


def _apply(
    backbone: Backbone, network: torch.nn.Module, pixels: Pixels, device: torch.device
) -> Features:
    """Compute features (B, D) of pixels (B, side, side, 3)."""
    mean, std = torch.tensor([backbone.mean, backbone.std]).view(2, 1, 3, 1, 1).to(device)
    with torch.inference_mode():
        # A permuted view of rows of pixels is channels last already.
        x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
        x = x.to(torch.float32, memory_format=torch.channels_last).sub_(mean).div_(std)
        features = network(x)  # (B, D)
        return features.clamp_(-65504, 65504).to(torch.float16).cpu().numpy()
