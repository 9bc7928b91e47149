"""Bad image lists are refused with a sentence; any integers are accepted."""

import numpy as np
import pytest
import torch

from tests.worker.engine.conftest import a_recipe, some_images
from worker.engine import EngineError, Images, read_out, score, train


def changed(images, **change):
    return Images(
        **({"pixels": images.pixels, "labels": images.labels, "ids": images.ids} | change)
    )


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.uint64, ">i8", list, torch.from_numpy])
def test_whole_numbers_of_any_kind_are_the_same_images(images, tmp_path, kind):
    convert = (
        kind
        if callable(kind) and not isinstance(kind, type)
        else (lambda values: values.tolist() if kind is list else values.astype(kind))
    )
    same = changed(
        images,
        **{name: convert(getattr(images, name)) for name in ("labels", "ids")},
        rows=convert(np.arange(45)),
    )
    assert [same.labels.dtype, same.ids.dtype, same.rows.dtype] == [np.dtype(np.int64)] * 3
    assert same.digest() == images.digest()
    assert (
        train(a_recipe(epochs=1), same, None, tmp_path / "a").params_hash
        == train(a_recipe(epochs=1), images, None, tmp_path / "b").params_hash
    )


@pytest.mark.parametrize("name", ["labels", "ids", "rows"])
@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.arange(45.0), r"float64 \(45,\)"),
        (np.arange(45) > 3, r"bool \(45,\)"),
        (np.arange(45)[:, None], r"int64 \(45, 1\)"),
        (np.int64(3), r"int64 \(\)"),
        (["one"] * 45, r"<U3 \(45,\)"),
        ([None] * 45, r"object \(45,\)"),
    ],
)
def test_what_is_no_list_of_whole_numbers_is_refused(images, name, values, found):
    with pytest.raises(
        EngineError,
        match=(
            rf"images' {name} must be whole numbers, int64 of shape \(N,\), not {found}; convert "
            r"them first"
        ),
    ):
        changed(images, **{name: values})


def test_ragged_lists_and_numbers_too_large_are_refused(images):
    with pytest.raises(
        EngineError, match=r"labels are not a list of whole numbers .*give an int64 array of shape"
    ):
        changed(images, labels=[[1], [1, 2]])
    with pytest.raises(
        EngineError, match="ids go up to 18446744073709551615, more than int64 holds"
    ):
        changed(images, ids=np.append(np.arange(44, dtype=np.uint64), np.uint64(2**64 - 1)))


@pytest.mark.parametrize("rows", [np.arange(45) - 1, np.arange(45) + 1])
def test_rows_outside_the_pixels_are_refused_and_never_wrap(images, rows):
    with pytest.raises(
        EngineError,
        match=(
            f"rows must lie between 0 and 44, where the pixels are; they range from {rows.min()} "
            f"to {rows.max()}"
        ),
    ):
        changed(images, rows=rows)


@pytest.mark.parametrize("pixels", [torch.zeros(45, 16, 16, 1, dtype=torch.uint8), [[[[0]]]]])
def test_pixels_that_are_no_array_are_refused(images, pixels):
    with pytest.raises(
        EngineError,
        match=r"Pixels must be a NumPy array or memory map of uint8, not a (Tensor|list)",
    ):
        changed(images, pixels=pixels)


def test_what_is_no_list_of_images_is_a_sentence_wherever_images_are_asked_for(images, tmp_path):
    training = train(a_recipe(epochs=1), images, None, tmp_path / "run")
    for ask in (
        lambda: score(training, images, None),
        lambda: read_out(training, images, None),
        lambda: train(a_recipe(), (images.pixels, images.labels), None, tmp_path / "other"),
    ):
        with pytest.raises(
            EngineError, match=r"must be given as worker\.engine\.Images, not as (NoneType|tuple)"
        ):
            ask()


def test_an_empty_subset_is_a_list_without_images():
    assert len(some_images(5).subset(np.array([], dtype=np.int64))) == 0


@pytest.mark.parametrize("method", ["tracin", "highest_loss", "sgd_influence"])
def test_other_pixels_under_the_same_ids_and_labels_are_refused(
    images, validation, tmp_path, method
):
    training = train(a_recipe(epochs=1), images, None, tmp_path)
    other = changed(images, pixels=255 - images.pixels)
    with pytest.raises(
        EngineError, match=r"not the images that the run was trained on.*same labels and pixels"
    ):
        score(training, other, validation, method)
    with pytest.raises(EngineError, match="another recipe or image list"):
        train(a_recipe(epochs=1), other, None, tmp_path)


def test_the_same_pixels_in_other_rows_are_the_same_images(images):
    backwards = changed(images, pixels=images.pixels[::-1], rows=np.arange(45)[::-1])
    assert backwards.digest() == images.digest()
    assert images.subset(np.arange(9)).digest() == backwards.subset(np.arange(9)).digest()


def test_the_digest_reads_a_sample_of_the_pixels():
    images = some_images(1000)
    pixels = images.pixels.copy()
    pixels[1] += 1
    assert changed(images, pixels=pixels).digest() == images.digest()
    pixels[999] += 1
    assert changed(images, pixels=pixels).digest() != images.digest()
