"""Computing features stops when told, and passes a picture's error on."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from tests.worker.engine.features.pictures import some_pictures
from worker.engine.features.backbones import Backbone
from worker.engine.features.compute import CPU_BATCH, compute_features
from worker.engine.features.pictures import fit_picture


class Mean(torch.nn.Module):
    """Three features: the mean of each channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


TINY = Backbone("tiny", Mean(), 8, 3, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "0")


def test_rows_stand_in_order_whatever_the_threads() -> None:
    pictures = some_pictures(50)
    truth = [fit_picture(picture, 8).mean((0, 1)) for picture in pictures]
    for threads in (1, 3):
        features = compute_features(TINY, pictures.__getitem__, 50, threads=threads)
        np.testing.assert_allclose(features, np.array(truth), rtol=5e-3)


@pytest.mark.parametrize(
    ("size", "seen"),
    [((40, 20), (8, 16)), ((20, 40), (16, 8)), ((300, 1), (1, 16)), ((16, 16), (16, 16))],
)
def test_a_picture_is_seen_whole_in_the_middle_of_black(
    size: tuple[int, int], seen: tuple[int, int]
) -> None:
    pixels = fit_picture(Image.new("RGB", size, (9, 200, 77)), 16)
    assert pixels.shape == (16, 16, 3)
    rows, columns = (np.flatnonzero(pixels.any((axis, 2))) for axis in (1, 0))
    assert (len(rows), len(columns)) == seen
    assert abs((rows[0] + rows[-1]) / 2 - 7.5) <= 0.5
    assert (pixels[rows[0], columns[0]] == (9, 200, 77)).all()


def test_a_cancel_stops_after_the_batches_under_way() -> None:
    seen: list[int] = []

    def read(row: int) -> Image.Image:
        seen.append(row)
        return some_pictures(1)[0]

    def stop(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_features(TINY, read, 1_000, threads=1, tick=stop)
    assert len(seen) <= 10 * CPU_BATCH


def test_no_more_than_a_batch_for_each_thread_is_open() -> None:
    there, most, lock = set(), [0], threading.Lock()

    def read(row: int) -> Image.Image:
        with lock:
            there.add(threading.get_ident())
            most[0] = max(most[0], len(there))
        return some_pictures(1)[0]

    compute_features(TINY, read, 60, threads=2)
    assert most[0] <= 2


def test_an_error_of_a_picture_comes_out_and_torch_has_its_threads_again() -> None:
    before = torch.get_num_threads()

    def read(row: int) -> Image.Image:
        raise FileNotFoundError(str(row))

    with pytest.raises(FileNotFoundError):
        compute_features(TINY, read, 30)
    assert torch.get_num_threads() == before
