"""Child process that lays out a map: UMAP cannot be interrupted, a process can.

It reads points from standard input and writes their places to standard output, as .npy.
"""

import io
import os
import sys
import time
import warnings
from threading import Thread

import numpy as np

NEIGHBOURS = 15


def layout(points: np.ndarray) -> np.ndarray:
    """Lay out points (N, D) in the plane, (N, 2) float64, deterministically."""
    if len(points) < 3 * NEIGHBOURS or points.shape[1] < 2:
        return np.column_stack(
            [points[:, 0], points[:, 1] if points.shape[1] > 1 else np.zeros(len(points))]
        ).astype(np.float64)
    with warnings.catch_warnings():
        # UMAP warns that TensorFlow is missing, which is not needed here.
        warnings.simplefilter("ignore", ImportWarning)
        # Takes seconds.
        from umap import UMAP

    _keep_compiled()
    # Starts from the overview, so that the maps resemble each other; one thread is repeatable.
    found = UMAP(n_neighbors=NEIGHBOURS, init="pca", random_state=0, n_jobs=1).fit_transform(points)
    return np.asarray(found, dtype=np.float64)


def _keep_compiled() -> None:
    """Let numba keep what takes long to compile: up to a minute, against seconds of work."""
    from pynndescent import pynndescent_
    from umap import umap_, utils

    for function in (
        utils.fast_knn_indices,
        umap_.smooth_knn_dist,
        umap_.compute_membership_strengths,
        pynndescent_.nn_descent,
    ):
        function.enable_caching()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    points = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    # Libraries may print.
    answer, sys.stdout = sys.stdout.buffer, sys.stderr
    np.save(answer, layout(points), allow_pickle=False)
    answer.flush()


if __name__ == "__main__":
    main()
