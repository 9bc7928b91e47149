"""Successful imports: sample, class folders, splits, shapes, copies, reproducible rows."""

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from sklearn.datasets import load_digits

from tests.worker.pipeline.imports.importing import (
    Importer,
    class_folders,
    encoded,
    importer,
    noise,
    png,
    write_folder,
    write_zip,
)
from worker.pipeline.imports.sample import enlarged, sample
from worker.pipeline.imports.splits import assign

__all__ = ["importer"]  # a fixture
TWO = {"cat": 10, "dog": 10}


# ── the sample ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    found = load_digits()
    return found.images, found.target


@pytest.mark.slow
def test_the_sample_is_scikit_learns_digits_in_28_by_28_grey_with_wrong_labels_in_train(
    importer: Importer, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    imported = importer.run("sample", seed=3)
    images, truth = digits
    assert imported.row.class_names == list("0123456789")
    assert (imported.row.height, imported.row.width, imported.row.channels) == (28, 28, 1)
    assert imported.pixels.shape == (1797, 28, 28, 1)
    assert imported.pixels.dtype == np.uint8
    assert [
        image.label if image.true_label is None else image.true_label for image in imported.images
    ] == truth.tolist()
    assert (imported.pixels[..., 0] == np.stack([enlarged(image) for image in images])).all()
    train = [image for image in imported.images if image.split == "train"]
    planted = [image for image in imported.images if image.true_label is not None]
    assert len(planted) == imported.row.planted_count == round(0.08 * len(train))
    assert all(image.split == "train" and image.true_label != image.label for image in planted)
    assert (
        len({(image.true_label, image.label) for image in planted}) > 30
    )  # moved to any other class, not to a fixed class
    assert imported.row.report["split_words"] == "Splits drawn 70/15/15 with seed 3."


def test_an_enlarged_digit_is_that_digit(digits: tuple[np.ndarray, np.ndarray]) -> None:
    for image in digits[0][:100]:
        large = Picture.fromarray(enlarged(image)).resize((8, 8), Picture.Resampling.BOX)
        assert np.corrcoef(np.asarray(large).ravel(), image.ravel())[0, 1] > 0.95


def test_the_samples_splits_hold_the_same_share_of_every_class(
    digits: tuple[np.ndarray, np.ndarray],
) -> None:
    counts = Counter(
        (int(truth), entry.split) for truth, entry in zip(digits[1], sample(3).entries, strict=True)
    )
    for digit in range(10):
        whole = sum(counts[digit, split] for split in ("train", "validation", "test"))
        assert counts[digit, "train"] / whole == pytest.approx(0.7, abs=0.01)
        assert counts[digit, "validation"] == counts[digit, "test"]


@pytest.mark.slow
def test_the_sample_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    first, again, other = (
        [(entry.path, entry.label, entry.split) for entry in sample(seed).entries]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


# ── class folders ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_zip_of_class_folders_becomes_images_rows_pixels_and_thumbnails(
    importer: Importer,
) -> None:
    files = class_folders(TWO)
    done = importer.zip(files)
    assert (done.row.state, done.row.class_names, done.row.image_count, done.row.refused_count) == (
        "ready",
        ["cat", "dog"],
        20,
        0,
    )
    assert [image.path for image in done.images] == sorted(files)
    assert [image.row for image in done.images] == list(range(20))
    assert done.labels == {path: path.split("/")[0] for path in files}
    assert Counter(done.splits.values()) == {"train": 12, "validation": 4, "test": 4}
    for number, path in enumerate(files):
        assert (done.pixels_of(path) == np.asarray(noise(number))).all()
        assert (np.asarray(done.view(path).convert("RGB")) == np.asarray(noise(number))).all()
    (version,) = done.versions
    assert (version.id, version.number, version.state, version.note) == (
        done.row.current_version_id,
        1,
        "accepted",
        "As imported",
    )
    assert done.row.report["seconds"] > 0
    assert done.row.report["bytes"] > 20 * 32 * 32 * 3
    assert list(importer.storage.data_set(done.row.id).glob("attempt-*")) == []


@pytest.mark.slow
def test_a_folder_gives_the_same_rows_as_its_zip(importer: Importer) -> None:
    files = class_folders(TWO)
    zipped = importer.zip(files)
    folder = importer.run("folder", write_folder(importer.folder / "things", files))
    assert folder.essence == zipped.essence
    assert (folder.pixels == zipped.pixels).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_zips_are_read(importer: Importer, method: int) -> None:
    assert (
        importer.run(
            "zip", write_zip(importer.folder / "small.zip", class_folders(TWO), method)
        ).row.image_count
        == 20
    )


@pytest.mark.slow
def test_a_zip_that_unpacks_itself_is_read_as_any_other(importer: Importer) -> None:
    path = write_zip(importer.folder / "self.zip", class_folders(TWO))
    path.write_bytes(b"MZ, a program" + path.read_bytes())
    assert importer.run("zip", path).row.image_count == 20


@pytest.mark.slow
def test_the_order_of_the_files_in_a_zip_makes_no_difference(importer: Importer) -> None:
    files = class_folders(TWO)
    backwards = dict(reversed(files.items()))
    assert importer.zip(backwards, seed=4).essence == importer.zip(files, seed=4).essence


@pytest.mark.slow
def test_another_seed_draws_other_splits(importer: Importer) -> None:
    files = class_folders(TWO)
    assert importer.zip(files, seed=4).splits != importer.zip(files, seed=5).splits


@pytest.mark.parametrize("top", ["photos/", "a/b/c/", "My data (1)/"])
def test_common_top_folders_are_passed_over(importer: Importer, top: str) -> None:
    found = importer.found({**class_folders(TWO, top), "README.txt": b"hello"})
    assert found.class_names == ("cat", "dog")
    assert len(found.entries) == 20
    assert found.refusals.rows == [("README.txt", "it is no image and lies in no class folder")]


def test_folders_inside_of_a_class_belong_to_it(importer: Importer) -> None:
    found = importer.found(
        {**class_folders(TWO), **class_folders({"monday": 2, "friday": 2}, "cat/", first=50)}
    )
    assert found.class_names == ("cat", "dog")
    assert {entry.path: entry.label for entry in found.entries}["cat/monday/01.png"] == "cat"


@pytest.mark.parametrize(
    "names", [("Train", "val", "TEST"), ("training", "valid", "testing"), ("train", "dev", "test")]
)
def test_split_folders_go_by_several_names(importer: Importer, names: tuple[str, str, str]) -> None:
    found = importer.found(
        {
            path: data
            for name in names
            for path, data in class_folders({"cat": 1, "dog": 1}, f"{name}/").items()
        }
    )
    assert found.given == {"train", "validation", "test"}
    known = dict(zip(names, ("train", "validation", "test"), strict=True))
    assert all(entry.split == known[entry.path.split("/")[0]] for entry in found.entries)


@pytest.mark.slow
def test_split_folders_are_used_as_given(importer: Importer) -> None:
    files = {}
    for number, (name, count) in enumerate({"train": 5, "validation": 3, "test": 2}.items()):
        files |= class_folders({"cat": count, "dog": count}, f"data/{name}/", first=20 * number)
    done = importer.zip(files)
    assert done.splits == {path: path.split("/")[1] for path in files}
    assert done.row.report["split_words"] == "Splits as given."


@pytest.mark.slow
def test_without_a_validation_folder_validation_is_drawn_from_train(importer: Importer) -> None:
    files = {
        **class_folders({"cat": 20, "dog": 10}, "train/"),
        **class_folders({"cat": 4, "dog": 4}, "test/", first=100),
    }
    done = importer.zip(files, seed=6)
    counts = Counter((done.labels[path], split) for path, split in done.splits.items())
    assert counts == {
        ("cat", "train"): 17,
        ("cat", "validation"): 3,
        ("cat", "test"): 4,
        ("dog", "train"): 8,
        ("dog", "validation"): 2,
        ("dog", "test"): 4,
    }
    assert all(path.startswith("test/") == (split == "test") for path, split in done.splits.items())
    assert (
        done.row.report["split_words"]
        == "Validation: 15 % of train, drawn with seed 6; test as given."
    )


@pytest.mark.slow
def test_without_a_test_folder_test_is_drawn_from_train(importer: Importer) -> None:
    files = {
        **class_folders({"cat": 20, "dog": 10}, "train/"),
        **class_folders({"cat": 4, "dog": 4}, "val/", first=100),
    }
    done = importer.zip(files, seed=6)
    assert Counter(done.splits.values()) == {"train": 25, "validation": 8, "test": 5}
    assert (
        done.row.report["split_words"]
        == "Test: 15 % of train, drawn with seed 6; validation as given."
    )


@pytest.mark.slow
def test_a_class_that_a_given_split_lacks_gets_a_note(importer: Importer) -> None:
    files = {
        **class_folders({"cat": 9, "dog": 9}, "train/"),
        **class_folders({"cat": 4}, "test/", first=100),
    }
    assert importer.zip(files).row.report["notes"] == ["The class “dog” has no test image."]


def test_a_train_folder_alone_gets_all_three_splits_drawn(importer: Importer) -> None:
    found = importer.found(class_folders(TWO, "train/"))
    assert found.class_names == ("cat", "dog")
    assert found.given == frozenset()


def test_a_class_may_be_called_test(importer: Importer) -> None:
    assert importer.found(class_folders({"test": 4, "control": 4})).class_names == (
        "control",
        "test",
    )


def test_classes_stand_in_natural_order(importer: Importer) -> None:
    files = class_folders({"10": 1, "9": 1, "class 2": 1, "Class 1": 1})
    assert importer.found(files).class_names == ("9", "10", "Class 1", "class 2")


@pytest.mark.parametrize(
    "junk",
    [
        "__MACOSX/cat/._00.png",
        "cat/.DS_Store",
        "dog/Thumbs.db",
        "desktop.ini",
        ".git/config",
        "cat/.hidden.png",
        "@eaDir/cat/x.png",
    ],
)
def test_what_operating_systems_leave_behind_is_passed_over_in_silence(
    importer: Importer, junk: str
) -> None:
    found = importer.found({**class_folders({"cat": 3, "dog": 3}), junk: b"junk"})
    assert (len(found.entries), found.refusals.rows, found.class_names) == (6, [], ("cat", "dog"))


@pytest.mark.slow
def test_the_uploaded_file_is_deleted_once_it_is_imported_and_a_servers_own_is_kept(
    importer: Importer,
) -> None:
    path = write_zip(importer.folder / "mine.zip", class_folders({"cat": 3, "dog": 3}))
    importer.run("zip", path)
    assert path.exists()
    importer.run("zip", path, upload=True)
    assert not path.exists()


@pytest.mark.postgres
def test_postgresql_gets_the_same_rows_as_sqlite(
    importer: Importer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, postgres_database: str
) -> None:
    monkeypatch.setattr("worker.pipeline.imports.results.ROWS_AN_INSERT", 7)
    files = {
        **class_folders({"naïve 🐈": 10, "dog": 10}),
        "dog/bad\x07.png": b"broken",
        "dog/" + "x" * 250: b"",
    }
    sqlite = importer.zip(files)
    other = Importer(tmp_path / "other", postgres_database)
    on_postgres = other.zip(files)
    other.database.close()
    assert on_postgres.essence == sqlite.essence
    assert on_postgres.refusals == sqlite.refusals
    assert len(sqlite.refusals) == 2


# ── class names ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_class_names_are_kept_as_text_whatever_they_are(importer: Importer) -> None:
    names = [
        "<script>alert(1)<",
        "🐈 emoji",
        "x" * 300,
        "=1+1",
        "naïve",
        "' OR 1=1 --",
        "%s{{ 7*7 }}",
    ]
    done = importer.zip(class_folders(dict.fromkeys(names, 3)))
    assert set(done.row.class_names) == set(names)


def test_the_same_name_in_two_unicode_forms_is_one_class(importer: Importer) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    files = {
        **class_folders({composed: 3, "tea": 3}, "train/"),
        **class_folders({decomposed: 3, "tea": 3}, "test/", first=50),
    }
    assert importer.found(files).class_names == (composed, "tea")


@pytest.mark.slow
def test_names_that_differ_in_case_only_stay_two_classes_with_a_note(importer: Importer) -> None:
    done = importer.zip(class_folders({"Cat": 3, "cat": 3}))
    assert done.row.class_names == ["Cat", "cat"]
    assert done.row.report["notes"] == [
        "The classes “Cat” and “cat” differ in upper and lower case only; they are two classes."
    ]


def test_control_characters_in_names_are_replaced(importer: Importer) -> None:
    assert importer.found(class_folders({"a\nb": 3, "c\x07": 3})).class_names == (
        "a\ufffdb",
        "c\ufffd",
    )


@pytest.mark.slow
def test_a_name_that_is_no_utf_8_is_kept_readable(importer: Importer) -> None:
    folder = write_folder(importer.folder / "things", class_folders({"cat": 3, "dog": 3}))
    (folder / "dog").rename(Path(str(folder / "d") + "\udcff" + "g"))
    assert importer.run("folder", folder).row.class_names == ["cat", "d\ufffdg"]


@pytest.mark.slow
def test_names_of_zips_from_macos_are_read_as_utf_8_though_they_do_not_say_so(
    importer: Importer,
) -> None:
    data = bytearray(
        write_zip(
            importer.folder / "mac.zip", class_folders({"caf\u00e9": 3, "tea": 3})
        ).read_bytes()
    )
    for mark, flags in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        place = data.find(mark)
        while place >= 0:
            data[place + flags] &= ~0x08
            place = data.find(mark, place + 4)
    (importer.folder / "mac.zip").write_bytes(data)
    assert importer.run("zip", importer.folder / "mac.zip").row.class_names == ["caf\u00e9", "tea"]


@pytest.mark.slow
def test_an_empty_class_folder_is_left_out_with_a_note(importer: Importer) -> None:
    folder = write_folder(importer.folder / "things", class_folders({"cat": 3, "dog": 3}))
    (folder / "bird").mkdir()
    done = importer.run("folder", folder)
    assert done.row.class_names == ["cat", "dog"]
    assert done.row.report["notes"] == ["The class “bird” has no usable image and was left out."]


# ── the shape of the array ────────────────────────────────────────────────────────────────────────


def shape_of(importer: Importer, files: dict[str, bytes], **options: int) -> tuple[int, ...]:
    done = importer.zip(files, **options)
    assert (done.row.height, done.row.width, done.row.channels) == done.pixels.shape[1:]
    assert len(done.pixels) == done.row.image_count
    return done.pixels.shape[1:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "mode", "shape"),
    [
        ((28, 28), "L", (28, 28, 1)),
        ((64, 48), "RGB", (48, 64, 3)),
        ((8, 8), "L", (28, 28, 1)),
        ((100, 80), "RGB", (64, 64, 3)),
    ],
)
def test_one_size_between_28_and_64_is_kept_and_others_become_a_square(
    importer: Importer, size: tuple[int, int], mode: str, shape: tuple[int, int, int]
) -> None:
    assert shape_of(importer, class_folders({"a": 3, "b": 3}, size=size, mode=mode)) == shape


@pytest.mark.slow
def test_several_sizes_become_a_square_of_64(importer: Importer) -> None:
    assert shape_of(
        importer, {**class_folders({"a": 3, "b": 3}), "a/odd.png": png(99, (40, 30))}
    ) == (64, 64, 3)


@pytest.mark.slow
def test_the_side_can_be_asked_for(importer: Importer) -> None:
    assert shape_of(importer, class_folders({"a": 3, "b": 3}), side=48) == (48, 48, 3)


@pytest.mark.slow
def test_one_colour_image_makes_the_array_colour_and_the_grey_ones_stay_grey(
    importer: Importer,
) -> None:
    done = importer.zip({**class_folders({"a": 3, "b": 3}, mode="L"), "b/colour.png": png(99)})
    assert done.row.channels == 3
    grey = done.pixels_of("a/00.png")
    assert (grey == np.asarray(noise(0, mode="L"))[..., None]).all()


def test_grey_pictures_in_colour_files_count_as_grey(importer: Importer) -> None:
    files = {
        f"{name}/{index}.png": encoded(noise(index, mode="L").convert("RGB"))
        for name in "ab"
        for index in range(3)
    }
    assert shape_of(importer, files) == (32, 32, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "odd",
    [png(7777, (30, 40)), png(7777, (32, 32), "RGB")],
    ids=["another size", "the first colour"],
)
def test_an_odd_image_that_the_first_look_misses_changes_the_shape_all_the_same(
    importer: Importer, monkeypatch: pytest.MonkeyPatch, odd: bytes
) -> None:
    monkeypatch.setattr("worker.pipeline.imports.pixels.SURVEYED", 2)
    monkeypatch.setattr("worker.pipeline.imports.pixels.MOST_IMAGES_A_CHUNK", 3)
    files = {**class_folders({"a": 6, "b": 6}, mode="L"), "a/03b.png": odd}
    unhurried = importer.zip(files)
    monkeypatch.undo()
    monkeypatch.setattr("backend.core.queue.send", lambda *_: None)
    surveyed = importer.zip(files)
    assert unhurried.essence == surveyed.essence
    assert unhurried.pixels.shape == surveyed.pixels.shape
    assert (unhurried.pixels == surveyed.pixels).all()


@pytest.mark.slow
def test_images_that_are_not_square_are_centred_on_black(importer: Importer) -> None:
    wide = encoded(Picture.new("L", (64, 32), 200))
    files = {
        f"{name}/{index}.png": encoded(Picture.new("L", (64, 32), 100 + index))
        for name in "ab"
        for index in range(3)
    } | {"a/wide.png": wide}
    pixels = importer.zip(files, side=32).pixels_of("a/wide.png")[..., 0]
    assert (pixels[:8] == 0).all()
    assert (pixels[8:24] == 200).all()
    assert (pixels[24:] == 0).all()


# ── copies ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_exact_copies_are_counted_and_those_with_two_labels_and_in_two_splits_as_well(
    importer: Importer,
) -> None:
    files = {
        **class_folders({"cat": 4, "dog": 4}, "train/"),
        **class_folders({"cat": 3, "dog": 3}, "test/", first=50),
    }
    files["train/cat/copy.png"] = files["train/cat/00.png"]
    files["train/dog/copy.bmp"] = encoded(
        noise(0), "BMP"
    )  # the same picture in another format, under another label
    files["test/cat/copy.png"] = files["train/cat/01.png"]
    done = importer.zip(files)
    assert done.row.image_count == 17
    assert done.row.duplicate_count == 3
    assert done.row.report["conflicting_duplicates"] == 1
    assert done.row.report["duplicates_across_splits"] >= 1


# ── drawing splits ────────────────────────────────────────────────────────────────────────────────


def test_a_draw_holds_the_same_share_of_every_class_and_something_of_each() -> None:
    labels = [0] * 1000 + [1] * 100 + [2] * 3
    splits, words = assign(labels, [None] * 1103, frozenset(), ["a", "b", "c"], 5)
    counts = Counter(zip(labels, splits, strict=True))
    assert [counts[0, split] for split in ("train", "validation", "test")] == [700, 150, 150]
    assert [counts[1, split] for split in ("train", "validation", "test")] == [70, 15, 15]
    assert [counts[2, split] for split in ("train", "validation", "test")] == [1, 1, 1]
    assert words == "Splits drawn 70/15/15 with seed 5."


def test_a_draw_depends_on_the_seed_alone() -> None:
    labels = [0, 1] * 100
    first, again, other = (
        assign(labels, [None] * 200, frozenset(), ["a", "b"], seed)[0] for seed in (1, 1, 2)
    )
    assert first == again != other
