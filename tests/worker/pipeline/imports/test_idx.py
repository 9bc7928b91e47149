"""Imports of MNIST's IDX files: plain, packed, in a folder or a zip, and damaged in every way."""

import gzip
import os
import struct
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.worker.pipeline.imports.importing import Importer, importer, write_folder, write_zip
from worker.pipeline.imports.folder import open_folder
from worker.pipeline.imports.job import arranged

__all__ = ["importer"]  # a fixture
RANDOM = np.random.default_rng(0)
IMAGES = {
    part: RANDOM.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    for part, count in (("train", 60), ("t10k", 20))
}
LABELS = {part: np.arange(len(images), dtype=np.uint8) % 10 for part, images in IMAGES.items()}


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def idx_files(suffix: str = "", parts: tuple[str, ...] = ("train", "t10k")) -> dict[str, bytes]:
    files = {}
    for part in parts:
        for name, array in (
            (f"{part}-images-idx3-ubyte", IMAGES[part]),
            (f"{part}-labels-idx1-ubyte", LABELS[part]),
        ):
            files[name + suffix] = gzip.compress(idx(array), 1) if suffix == ".gz" else idx(array)
    return files


@pytest.mark.slow
def test_packed_idx_files_in_a_folder_become_train_validation_and_test(importer: Importer) -> None:
    done = importer.run("idx", write_folder(importer.folder / "mnist", idx_files(".gz")))
    assert done.row.class_names == list("0123456789")
    assert done.pixels.shape == (80, 28, 28, 1)
    assert (done.pixels[..., 0] == np.concatenate([IMAGES["train"], IMAGES["t10k"]])).all()
    assert [image.label for image in done.images] == [*LABELS["train"], *LABELS["t10k"]]
    assert [image.split == "test" for image in done.images] == [False] * 60 + [True] * 20
    assert done.images[0].path == "train/00000"
    assert done.images[60].path == "test/00000"
    assert (
        done.row.report["split_words"]
        == "Validation: 15 % of train, drawn with seed 0; test as given."
    )
    assert (np.asarray(done.view("test/00003").convert("L")) == IMAGES["t10k"][3]).all()


@pytest.mark.slow
def test_plain_packed_and_zipped_idx_files_are_the_same_import(importer: Importer) -> None:
    essence = importer.run(
        "idx", write_folder(importer.folder / "packed", idx_files(".gz"))
    ).essence
    assert (
        importer.run("folder", write_folder(importer.folder / "plain", idx_files())).essence
        == essence
    )
    assert (
        importer.zip({f"MNIST/raw/{name}": data for name, data in idx_files(".gz").items()}).essence
        == essence
    )


@pytest.mark.slow
def test_packed_files_beside_their_plain_ones_are_passed_over(importer: Importer) -> None:
    folder = write_folder(
        importer.folder / "both", {**idx_files(), **dict.fromkeys(idx_files(".gz"), b"broken")}
    )
    assert importer.run("idx", folder).row.image_count == 80


def test_other_common_names_are_known(importer: Importer) -> None:
    files = {
        f"emnist-letters-{name.replace('-idx', '.idx')}": data for name, data in idx_files().items()
    }
    assert len(importer.found(files).entries) == 80


@pytest.mark.slow
def test_a_training_pair_alone_gets_all_three_splits_drawn(importer: Importer) -> None:
    done = importer.zip(idx_files(parts=("train",)))
    assert {image.split for image in done.images} == {"train", "validation", "test"}
    assert done.row.report["split_words"] == "Splits drawn 70/15/15 with seed 0."


def changed(name: str, data: bytes) -> dict[str, bytes]:
    return {**idx_files(), name: data}


def without(name: str) -> dict[str, bytes]:
    return {other: data for other, data in idx_files().items() if other != name}


TRAIN, LABELLED = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
BAD_FILES = {
    "no labels": (without(LABELLED), f"“{TRAIN}” is there, but the file with its labels is not."),
    "no images": (without(TRAIN), f"“{LABELLED}” is there, but the file with its images is not."),
    "images cut off": (
        changed(TRAIN, idx(IMAGES["train"])[:-100]),
        "is cut off or damaged: it should hold 60 images, and image 60 cannot be read.",
    ),
    "packed images cut off": (
        {**without(TRAIN), f"{TRAIN}.gz": gzip.compress(idx(IMAGES["train"]))[:-9000]},
        "is cut off or damaged: it should hold 60 images",
    ),
    "labels cut off": (
        changed(LABELLED, idx(LABELS["train"])[:-1]),
        "is cut off or damaged: it should hold 60 labels.",
    ),
    "another number of labels": (
        changed(LABELLED, idx(LABELS["train"][:50])),
        f"“{TRAIN}” holds 60 images, but “{LABELLED}” 50 labels.",
    ),
    "no idx": (
        changed(TRAIN, b"hello, this is text"),
        f"“{TRAIN}” is not an IDX file of images (unsigned bytes, three dimensions), as MNIST's "
        "are.",
    ),
    "zero bytes": (changed(TRAIN, b""), f"“{TRAIN}” is not an IDX file, or it is cut off."),
    "labels for images": (
        changed(TRAIN, idx(LABELS["train"])),
        f"“{TRAIN}” is not an IDX file of images",
    ),
    "floats": (
        changed(TRAIN, struct.pack(">HBB3I", 0, 0x0D, 3, 1, 2, 2) + bytes(16)),
        f"“{TRAIN}” is not an IDX file of images",
    ),
    "impossible sizes": (
        changed(TRAIN, struct.pack(">HBB3I", 0, 8, 3, 60, 2**31, 2**31)),
        f"“{TRAIN}” is not an IDX file of images",
    ),
    "too large": (
        changed(TRAIN, struct.pack(">HBB3I", 0, 8, 3, 60, 10_000, 10_000)),
        "10,000 × 10,000 pixels, which cannot be imported",
    ),
    "broken gzip": (
        {**without(TRAIN), f"{TRAIN}.gz": b"\x1f\x8b" + bytes(50)},
        f"“{TRAIN}.gz” is not an IDX file, or it is cut off.",
    ),
}


def claiming(count: int, height: int = 1, width: int = 1, held: int = 10_000) -> dict[str, bytes]:
    """A pair of packed files whose headers claim `count` images; `held` bytes follow."""
    images = struct.pack(">HBB3I", 0, 8, 3, count, height, width) + bytes(held)
    labels = struct.pack(">HBBI", 0, 8, 1, count) + bytes(held)
    return {f"{TRAIN}.gz": gzip.compress(images), f"{LABELLED}.gz": gzip.compress(labels)}


@pytest.mark.parametrize(
    ("count", "side", "sentence"),
    [
        (12_000_000, 1, "The files hold 12,000,000 images, more than the limit of 2,000,000."),
        (4_000_000_000, 1, "The files hold 4,000,000,000 images, more than the limit"),
        (200_000, 1000, "hold 200,000,000,000 bytes of images, more than the limit of"),
        (1_900_000, 5, "it should hold 1,900,000 images, and image "),
    ],
)
def test_claims_of_idx_headers_are_checked_before_anything_is_built(
    importer: Importer, monkeypatch: pytest.MonkeyPatch, count: int, side: int, sentence: str
) -> None:
    def built(*_: object, **__: object) -> None:
        raise AssertionError("an entry was built")

    monkeypatch.setattr("worker.pipeline.imports.idx.Entry", built)
    path = write_zip(importer.folder / "claims.zip", claiming(count, side, side))
    assert sentence in importer.failing("zip", path)


def test_a_plain_idx_file_is_compared_with_its_size(importer: Importer) -> None:
    short = {**idx_files(), TRAIN: idx(IMAGES["train"])[: 16 + 30 * 784]}
    path = write_zip(importer.folder / "short.zip", short)
    assert "it should hold 60 images, and image 31 cannot be read" in importer.failing("zip", path)


@pytest.mark.parametrize("name", BAD_FILES)
def test_idx_files_that_cannot_be_used_get_a_sentence(importer: Importer, name: str) -> None:
    files, sentence = BAD_FILES[name]
    said = importer.failing("zip", write_zip(importer.folder / "bad.zip", files))
    assert sentence in said
    assert said.endswith(".")


def test_real_mnist_is_found_whole(importer: Importer) -> None:
    """The listing only: labels and sizes of all 70,000, and a few pixels."""
    folder = Path(os.environ.get("WINNOW_REAL_DATA", "../shared/data")) / "mnist"
    if not folder.is_dir():
        pytest.skip("MNIST is not here; WINNOW_REAL_DATA names the folder that has mnist/")
    with ExitStack() as stack:
        found = arranged(open_folder(folder, importer.settings), importer.settings, stack, None)
        assert len(found.entries) == 70_000
        assert found.sizes == {(28, 28)}
        assert [entry.label for entry in found.entries[:5]] == list("50419")
        first = found.read(found.entries[0])
        assert isinstance(first, np.ndarray)
        assert first.sum() == 27525
