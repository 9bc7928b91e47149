"""Images per second of a backbone's features, by threads and side, and memory.

    python -m benchmarks.features [--backbone efficientnet_lite0] [--images 128] [--repeats 3]
        [--threads 1 2] [--sides 128 224]

Generated pictures of 533 × 400 pixels, stored like an import's, are decoded and go through the
network. Compared with the network alone, with decoding alone, and with plain timm (batches of
32, channels last). Each figure is the best of the repeats.
Goals on two idle cores: 60 images/s at 224 pixels, 1.5 GB.
"""

import argparse
import dataclasses
import io
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from backend.core import catalogue
from benchmarks import _data
from worker.engine import Backbone, compute_features, fit_picture, load_backbone

SIZE = (533, 400)
KINDS = 16  # different pictures
PLAIN_BATCH = 32


def stored_pictures() -> list[bytes]:
    """Encode pictures with detail at every scale, as an import stores them."""
    generator = np.random.default_rng(0)
    files = []
    for _ in range(KINDS):
        pixels = np.zeros((SIZE[1], SIZE[0], 3))
        for side in (4, 16, 64, 256):
            coarse = Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8))
            pixels += np.asarray(coarse.resize(SIZE, Image.Resampling.BICUBIC)) / 4
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "WEBP", quality=88, method=1)
        files.append(buffer.getvalue())
    return files


def rate(work: Callable[[], object], images: int, repeats: int) -> float:
    """Images per second, the best of the repeats."""
    return round(images / min(seconds(work, time.perf_counter) for _ in range(repeats)), 1)


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    began = clock()
    work()
    return clock() - began


def measure(
    backbone: Backbone, files: list[bytes], images: int, threads: int, repeats: int
) -> dict[str, float]:
    decoded = [Image.open(io.BytesIO(file)).convert("RGB") for file in files]
    ready = [Image.fromarray(fit_picture(picture, backbone.side)) for picture in decoded]

    def read(row: int) -> Image.Image:
        return Image.open(io.BytesIO(files[row % KINDS]))

    def decode() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda row: fit_picture(read(row), backbone.side), range(images)))

    def compute() -> None:
        compute_features(backbone, read, images, threads=threads)

    return {
        "all": rate(compute, images, repeats),
        # On a machine that does other things too, this says more than the rate.
        "cpu_ms": round(1000 * seconds(compute, time.process_time) / images, 1),
        "network": rate(
            lambda: compute_features(
                backbone, lambda row: ready[row % KINDS], images, threads=threads
            ),
            images,
            repeats,
        ),
        "decoding": rate(decode, images, repeats),
    }


def plain_rate(name: str, side: int, images: int, threads: int, repeats: int) -> float:
    """Images per second of timm's own network without decoding."""
    # Torch's types lack this argument.
    network = load_backbone(name, fold=False).network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.zeros(PLAIN_BATCH, 3, side, side).to(memory_format=torch.channels_last)
    batches = max(1, images // PLAIN_BATCH)

    def work() -> None:
        with torch.inference_mode():
            for _ in range(batches):
                network(x)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return rate(work, batches * PLAIN_BATCH, repeats)
    finally:
        torch.set_num_threads(before)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default=catalogue.DEFAULT_BACKBONE)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 224])
    asked = parser.parse_args()
    files = stored_pictures()
    backbone = load_backbone(asked.backbone)
    rows = []
    for side in asked.sides:
        for threads in asked.threads:
            at_side = dataclasses.replace(backbone, side=side)
            row = {"side": side, "threads": threads}
            row |= measure(at_side, files, asked.images, threads, asked.repeats)
            rows.append(row)
            print(row, flush=True)
    # The memory of plain timm is not ours.
    megabytes = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    for row in rows:
        row["plain"] = plain_rate(
            asked.backbone, row["side"], asked.images, row["threads"], asked.repeats
        )
    print(
        f"\n{'side':>5} {'threads':>8} {'images/s':>9} {'network':>8} {'decoding':>9} {'plain':>6}"
    )
    for row in rows:
        print(
            f"{row['side']:>5} {row['threads']:>8} {row['all']:>9} {row['network']:>8} "
            f"{row['decoding']:>9} {row['plain']:>6}"
        )
    print(f"peak memory {megabytes} MB")
    _data.end({**vars(asked), "rates": rows, "megabytes": megabytes})


if __name__ == "__main__":
    main()
