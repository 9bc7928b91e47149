"""The unattended loop (benchmarks/loop.py) on real data.

    python -m benchmarks.whole_loop mnist|mnist-flips|clothing [options of benchmarks.loop]

mnist: 10,000 training, 1,765 validation and 10,000 test images; 100 suggestions removed unseen.
mnist-flips: 8 % of training labels flipped, 20 % of the queue reviewed. clothing: photographs at
48 × 48, 50 removed unseen.

Reads WINNOW_REAL_DATA (default ../shared/data). WINNOW_HOME keeps everything, for `make up`. The
last line is a JSON object: the verdict's figures, and bytes left on disk.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

# 15 % of these are drawn for validation.
MNIST_IMAGES = 11_765
LOOPS = {
    "mnist": ["--idx", "--epochs", "10", "--remove-top", "100"],
    "mnist-flips": ["--idx", "--epochs", "10", "--flip", "0.08"],
    "clothing": ["--side", "48", "--epochs", "12", "--remove-top", "50"],
}


def main() -> None:
    which, options = sys.argv[1], sys.argv[2:]
    source = Path(os.environ.get("WINNOW_REAL_DATA", "../shared/data"))
    if not source.is_dir():
        sys.exit(
            f"There is no folder {source}. Set WINNOW_REAL_DATA to the one with mnist/ and "
            "clothing.zip."
        )
    with tempfile.TemporaryDirectory() as scratch:
        data = (
            mnist(source / "mnist", Path(scratch))
            if which.startswith("mnist")
            else source / "clothing.zip"
        )
        command = [
            sys.executable,
            "-m",
            "benchmarks.loop",
            "--data",
            str(data),
            "--name",
            which,
            *LOOPS[which],
            *options,
        ]
        home = Path(os.environ.get("WINNOW_HOME") or Path(scratch) / "home")
        done = subprocess.run(
            command,
            check=False,
            env=os.environ | {"WINNOW_HOME": str(home)},
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            sys.exit(done.returncode)
        print(json.dumps(json.loads(done.stdout.splitlines()[-1]) | {"bytes": kept(home)}))


def kept(home: Path) -> dict[str, int]:
    sizes = {
        name: sum(
            file.stat().st_size for file in (home / "files" / name).rglob("*") if file.is_file()
        )
        for name in ("datasets", "runs")
    }
    return sizes | {"database": (home / "winnow.db").stat().st_size}


def mnist(source: Path, scratch: Path) -> Path:
    """Make a folder of MNIST's first training images and all test images."""
    folder = scratch / "mnist"
    folder.mkdir()
    for kind, size in (("images-idx3", 28 * 28), ("labels-idx1", 1)):
        with gzip.open(source / f"train-{kind}-ubyte.gz") as file:
            header = bytearray(file.read(16 if size > 1 else 8))
            header[4:8] = np.array(MNIST_IMAGES, dtype=">u4").tobytes()
            (folder / f"train-{kind}-ubyte").write_bytes(
                bytes(header) + file.read(MNIST_IMAGES * size)
            )
        (folder / f"t10k-{kind}-ubyte.gz").write_bytes(
            (source / f"t10k-{kind}-ubyte.gz").read_bytes()
        )
    return folder


if __name__ == "__main__":
    main()
