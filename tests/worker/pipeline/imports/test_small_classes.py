"""Small classes, copies and all problems of an import, at once."""

from collections import Counter, defaultdict

import pytest
from sqlalchemy import select

from backend.core.models import Refusal
from tests.worker.pipeline.imports.importing import (
    Importer,
    class_folders,
    importer,
    png,
    write_zip,
)
from worker.pipeline.imports.splits import TooSmall, assign, say_small

__all__ = ["importer"]  # a fixture
RARE = {"bolt": 6, "nut": 6, "pin": 1, "rod": 2, "tee": 1}
BROKEN = {"nut/broken.jpg": b"broken"}


def problems(importer: Importer, data_set_id: int) -> dict[str, str]:
    with importer.database.transaction(write=False) as session:
        rows = session.scalars(select(Refusal).where(Refusal.data_set_id == data_set_id))
        return {row.path: row.reason for row in rows}


# ── small classes ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_all_small_classes_and_refused_files_come_in_one_question_and_one_table(
    importer: Importer,
) -> None:
    path = write_zip(importer.folder / "parts.zip", {**class_folders(RARE), **BROKEN})
    data_set_id, job_id = importer.queued("zip", path)
    assert importer.perform(job_id).state == "asking"
    data_set = importer.data_set(data_set_id)
    question = data_set.typed_report.question
    assert question is not None
    assert question.kind == "small_classes"
    assert question.sentence == (
        "3 classes have too few different images: “pin” (1), “rod” (2) and “tee” (1). Each needs "
        "at least 3 to be in train, validation and test. Go on without them, or keep them in "
        "train only, where they are not measured?"
    )
    assert [choice.answer for choice in question.choices] == ["leave-out", "train-only"]
    assert question.choices[0].class_images == {"bolt": 6, "nut": 6}
    found = problems(importer, data_set_id)
    assert set(found) == {"pin", "rod", "tee", "nut/broken.jpg"}
    assert found["pin"] == (
        "this class has only one image, and needs at least 3 to be in train, validation and test"
    )
    assert data_set.refused_count == 4
    assert not importer.storage.data_set(data_set_id).exists()


@pytest.mark.slow
def test_small_classes_are_left_out_as_answered(importer: Importer) -> None:
    done = importer.zip({**class_folders(RARE), **BROKEN}, small_classes="leave-out")
    assert done.row.class_names == ["bolt", "nut"]
    assert len(done.pixels) == done.row.image_count == 12
    assert done.row.report["notes"] == [
        "3 classes were left out, having too few images: pin, rod and tee."
    ]
    assert set(done.refusals) == {
        "pin/00.png",
        "rod/00.png",
        "rod/01.png",
        "tee/00.png",
        "nut/broken.jpg",
    }
    assert done.refusals["pin/00.png"].startswith("its class has only one image,")


@pytest.mark.slow
def test_a_class_that_broken_files_make_small_is_left_out_with_its_files(
    importer: Importer,
) -> None:
    files = {**class_folders({"bolt": 6, "nut": 6, "pin": 2}), "pin/x.jpg": b"", "pin/y.jpg": b""}
    done = importer.zip(files, small_classes="leave-out")
    assert done.row.class_names == ["bolt", "nut"]
    assert len(done.pixels) == done.row.image_count == 12
    stored = list((importer.storage.data_set(done.row.id) / "thumbnails").rglob("*.webp"))
    assert len(stored) == 12


@pytest.mark.slow
def test_small_classes_stay_in_train_as_answered(importer: Importer) -> None:
    done = importer.zip(class_folders(RARE), small_classes="train-only")
    assert done.row.class_names == ["bolt", "nut", "pin", "rod", "tee"]
    splits = {path.split("/")[0]: set[str]() for path in done.splits}
    for path, split in done.splits.items():
        splits[path.split("/")[0]].add(split)
    assert splits["pin"] == splits["rod"] == splits["tee"] == {"train"}
    assert splits["bolt"] == {"train", "validation", "test"}
    assert done.row.report["notes"][0] == (
        "3 classes are in train only, being too small: pin, rod and tee."
    )


@pytest.mark.slow
def test_classes_that_train_lacks_are_asked_about_too(importer: Importer) -> None:
    files = {
        **class_folders({"cat": 4, "dog": 4}, "train/"),
        **class_folders({"cat": 2, "bird": 2, "cow": 2}, "test/", first=50),
    }
    path = write_zip(importer.folder / "some.zip", files)
    data_set_id, job_id = importer.queued("zip", path)
    assert importer.perform(job_id).state == "asking"
    question = importer.data_set(data_set_id).typed_report.question
    assert question is not None
    assert question.sentence == (
        "2 classes have no training image: “bird” and “cow”. Go on without them?"
    )
    assert [choice.answer for choice in question.choices] == ["leave-out"]
    assert importer.zip(files, small_classes="leave-out").row.class_names == ["cat", "dog"]


@pytest.mark.slow
def test_an_import_that_fails_leaves_the_table_of_its_problems(importer: Importer) -> None:
    files = {"cat/a.png": png(1), "dog/a.jpg": b"broken", "cow/b.jpg": b"", "c/x.zip": b"PK"}
    path = write_zip(importer.folder / "bad.zip", files)
    data_set_id, job_id = importer.queued("zip", path)
    assert importer.perform(job_id).state == "failed"
    assert set(problems(importer, data_set_id)) == {"dog/a.jpg", "cow/b.jpg", "c/x.zip"}
    write_zip(path, class_folders({"cat": 3, "dog": 3}))
    importer.requeue(job_id)
    assert importer.perform(job_id).state == "done"
    assert problems(importer, data_set_id) == {}


@pytest.mark.slow
def test_the_table_of_problems_is_bounded(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.pipeline.imports.results.MOST_REFUSALS", 3)
    broken = {f"cat/x{number}.jpg": b"" for number in range(9)}
    done = importer.zip({**class_folders({"cat": 3, "dog": 3}), **broken})
    assert done.row.refused_count == 9
    assert len(done.refusals) == 4
    assert done.refusals["…"] == "and 6 more"


# ── splits by picture ─────────────────────────────────────────────────────────────────────────────


def splits_of_pictures(pictures: list[str], splits: list[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for picture, split in zip(pictures, splits, strict=True):
        found[picture].add(split)
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("copies", [2, 4, 7])
@pytest.mark.parametrize("given", [False, True])
def test_copies_are_never_drawn_apart(seed: int, copies: int, given: bool) -> None:
    labels = [row // (15 * copies) for row in range(30 * copies)]
    pictures = [f"p{row // copies}" for row in range(30 * copies)]
    named = frozenset({"train"}) if given else frozenset[str]()
    splits, _ = assign(
        labels, ["train" if given else None] * len(labels), named, ["a", "b"], seed, pictures
    )
    assert all(len(found) == 1 for found in splits_of_pictures(pictures, splits).values())
    counts = Counter(zip(labels, splits, strict=True))
    for label in (0, 1):
        assert 0.07 <= counts[label, "validation"] / (15 * copies) <= 0.2
        assert 0.07 <= counts[label, "test"] / (15 * copies) <= 0.2


def test_a_picture_with_two_labels_is_in_one_split_and_one_in_a_given_split_stays_in_train() -> (
    None
):
    labels = [0] * 10 + [1] * 10 + [0, 0]
    pictures = [f"p{row}" for row in range(20)] + ["p1", "p2"]
    pictures[10] = "p0"
    given: list[str | None] = [*["train"] * 20, "test", "test"]
    for seed in range(20):
        splits, _ = assign(labels, given, frozenset({"train", "test"}), ["a", "b"], seed, pictures)
        found = splits_of_pictures(pictures, splits)
        assert len(found["p0"]) == 1
        assert found["p1"] == found["p2"] == {"train", "test"}  # as given


@pytest.mark.parametrize("seed", range(10))
def test_classes_that_share_all_their_pictures_are_drawn_together(seed: int) -> None:
    labels = [0] * 40 + [1] * 3 + [2] * 40
    pictures = [f"p{row}" for row in range(40)] + ["p0", "p1", "p2"] + [f"p{r}" for r in range(40)]
    splits, _ = assign(labels, [None] * 83, frozenset(), ["a", "b", "c"], seed, pictures)
    assert all(len(found) == 1 for found in splits_of_pictures(pictures, splits).values())
    assert set(splits[40:43]) == {"train", "validation", "test"}
    counts = Counter(zip(labels, splits, strict=True))
    assert [counts[2, split] for split in ("train", "validation", "test")] == [28, 6, 6]


def test_pictures_of_a_class_in_train_only_stay_there_under_other_labels() -> None:
    labels, pictures = [0] * 12 + [1, 1], [f"p{row}" for row in range(12)] + ["p0", "p1"]
    for seed in range(10):
        splits, _ = assign(labels, [None] * 14, frozenset(), ["a", "b"], seed, pictures, {1})
        assert splits[0] == splits[1] == splits[12] == splits[13] == "train"


def test_without_copies_a_draw_is_the_same_as_by_row() -> None:
    labels = [row % 3 for row in range(100)]
    names = ["a", "b", "c"]
    for seed in range(5):
        alone = assign(labels, [None] * 100, frozenset(), names, seed)
        assert alone == assign(
            labels, [None] * 100, frozenset(), names, seed, [str(row) for row in range(100)]
        )


def test_a_class_of_copies_of_two_pictures_is_too_small_and_that_is_said() -> None:
    labels = [0] * 6 + [1] * 6
    pictures = ["x"] * 3 + ["y"] * 3 + [f"p{row}" for row in range(6)]
    with pytest.raises(TooSmall) as caught:
        assign(labels, [None] * 12, frozenset(), ["few", "more"], 0, pictures)
    assert say_small(caught.value.classes, ["few", "more"]) == (
        "The class “few” has 6 images, copies of only 2 pictures, and needs at least 3 to be in "
        "train, validation and test."
    )


@pytest.mark.slow
def test_an_import_of_copies_has_none_on_both_sides(importer: Importer) -> None:
    files = {
        f"{name}/{picture:02d}_{copy}.png": png(picture + 50 * (name == "box"))
        for name in ("ring", "box")
        for picture in range(10)
        for copy in range(3)
    }
    done = importer.zip(files)
    assert done.row.duplicate_count == 40
    assert done.row.report["duplicates_across_splits"] == 0
    assert set(done.splits.values()) == {"train", "validation", "test"}


# ── hidden files and look-alikes ──────────────────────────────────────────────────────────────────


def test_class_folders_may_begin_with_a_dot(importer: Importer) -> None:
    found = importer.found(class_folders({".NET": 3, ".22lr": 3, "java": 3}))
    assert found.class_names == (".22lr", ".NET", "java")
    assert found.notes == []


def test_everything_below_a_hidden_folder_is_imported(importer: Importer) -> None:
    assert importer.found(class_folders({"cat": 3, "dog": 3}, ".data/")).class_names == (
        "cat",
        "dog",
    )


@pytest.mark.slow
def test_hidden_files_are_counted_in_a_line_with_an_example(importer: Importer) -> None:
    files = class_folders({"cat": 3, "dog": 3})
    done = importer.zip({**files, "cat/.real.png": png(90), "dog/.x.png": png(91)})
    assert done.row.image_count == 6
    assert done.row.report["notes"] == [
        "2 hidden files were passed over, for example “cat/.real.png”."
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "other", "note"),
    [
        ("cat", "cat\u200b", "look alike, but differ by U+200B ZERO WIDTH SPACE"),
        ("cat", "c\u0430t", "look alike, but differ by U+0430 CYRILLIC SMALL LETTER A"),
        ("black cat", "black\u00a0cat", "look alike, but differ by U+00A0 NO-BREAK SPACE"),
        ("cat", "\u202ecat", "look alike, but differ by U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("A", "\uff21", "look alike, but differ by U+FF21 FULLWIDTH LATIN CAPITAL LETTER A"),
        ("Cat", "cat", "differ in upper and lower case only"),
    ],
)
def test_class_names_that_look_alike_stay_two_classes_with_a_note(
    importer: Importer, one: str, other: str, note: str
) -> None:
    done = importer.zip(class_folders({one: 3, other: 3}))
    assert set(done.row.class_names) == {one, other}
    (said,) = done.row.report["notes"]
    assert note in said
    assert said.endswith("; they are two classes.")


@pytest.mark.parametrize("spelling", ["cat ", "cat\u00a0", " cat"])
def test_folders_that_differ_in_spaces_become_one_class_with_a_note(
    importer: Importer, spelling: str
) -> None:
    found = importer.found(class_folders({"cat": 3, spelling: 3, "dog": 3}))
    assert found.class_names == ("cat", "dog")
    assert found.notes == ["2 folders differ only in the spaces around “cat”; they are one class."]
