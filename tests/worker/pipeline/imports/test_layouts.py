"""Splits and classes are recognised by folders; where several readings fit, the import asks."""

from pathlib import Path

import pytest

from backend.core.reports import Question
from tests.worker.pipeline.imports.importing import (
    Importer,
    class_folders,
    importer,
    png,
    write_folder,
    write_zip,
)
from worker.jobs import JobFailed
from worker.pipeline.imports.folder_tree import Layout, Tree
from worker.pipeline.imports.layout import understand
from worker.pipeline.imports.questions import NeedsAnswer
from worker.pipeline.imports.split_names import split_of

__all__ = ["importer"]  # a fixture
TWO = {"cat": 3, "dog": 3}


def tree(*folders: str) -> Tree:
    """Three images in each of the folders."""
    return Tree(tuple(folder.split("/")) for folder in folders for _ in range(3))


def below(*tops: str) -> list[str]:
    return [f"{top}/{name}" for top in tops for name in TWO]


def read(*folders: str, wanted: str | None = None) -> Layout:
    return understand(tree(*folders), wanted)


def homes(layout: Layout) -> dict[str, str | None]:
    return {"/".join(home): split for home, split in layout.homes.items()}


def asked(*folders: str) -> Question:
    with pytest.raises(NeedsAnswer) as caught:
        understand(tree(*folders), None)
    return caught.value.question


# ── sure ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "found",
    [
        {"training_set": "train", "test_set": "test"},
        {"seg_train/seg_train": "train", "seg_test/seg_test": "test"},
        {"Train Data": "train", "Test Data": "test"},
        {"train": "train", "eval": "test"},
        {"train2017": "train", "val2017": "validation"},
        {"train": "train", "eval": "validation", "test images": "test"},
        {"archive/data/train": "train", "archive/data/val2": "validation"},
        {"TrainingImages": "train", "hold-out": "test"},
        {"trainset": "train", "validset": "validation", "testset": "test"},
        {"asl_alphabet_train/asl_alphabet_train": "train", "asl_alphabet_test": "test"},
        {"train_1": "train", "train_2": "train", "test": "test"},
    ],
)
def test_folders_whose_names_tell_a_split_and_hold_the_same_folders_are_splits(
    found: dict[str, str],
) -> None:
    layout = read(*below(*found))
    assert homes(layout) == found
    assert layout.words
    assert layout.words[0].startswith("Splits found as folders: ")


def test_the_reading_is_said_in_a_sentence() -> None:
    assert read(*below("training_set", "test_set")).words == [
        "Splits found as folders: training_set is train, test_set is test."
    ]


def test_splits_inside_of_the_classes_are_splits() -> None:
    layout = read("cat/train", "cat/test", "dog/train", "dog/test")
    assert (homes(layout), layout.inner) == ({"": None}, {"train": "train", "test": "test"})
    assert layout.words == ["Each class has folders for its splits: train, test."]


def test_splits_beside_a_folder_of_other_pictures_are_found() -> None:
    layout = read(*below("data/train", "data/test"), "docs")
    assert homes(layout) == {"data/train": "train", "data/test": "test"}
    assert layout.left_out == [("docs",)]


@pytest.mark.parametrize(
    "names",
    [("bus", "car", "train"), ("test", "control"), ("valid", "invalid"), ("trainers", "boots")],
)
def test_classes_may_have_the_name_of_a_split(names: tuple[str, ...]) -> None:
    assert homes(read(*names)) == {"": None}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("TRAIN", "train"),
        ("x_test", "test"),
        ("ValidationImages", "validation"),
        ("dev", "validation"),
        ("evaluation", "eval"),
        ("trainval", "train"),
        ("train-test", None),
        ("trainers", None),
        ("untested", None),
        ("restraint", None),
        ("", None),
    ],
)
def test_a_name_tells_a_split_by_its_words(name: str, split: str | None) -> None:
    assert split_of(name) == split


# ── unsure ────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_folders_in_folders_of_other_names_are_asked_about() -> None:
    question = asked(*below("camera1", "camera2"))
    assert question.kind == "layout"
    assert question.sentence == (
        "The folders camera1 and camera2 hold the same folders: cat and dog. Which are the classes?"
    )
    assert [choice.answer for choice in question.choices] == ["classes", "subfolders"]
    assert [choice.class_images for choice in question.choices] == [
        {"camera1": 6, "camera2": 6},
        {"cat": 6, "dog": 6},
    ]


def test_superclasses_are_asked_about() -> None:
    question = asked("animals/cat", "animals/dog", "vehicles/car")
    assert question.sentence == (
        "The folders animals and vehicles hold further folders: car, cat and dog. "
        "Which are the classes?"
    )


def test_splits_beside_another_folder_of_the_same_classes_are_asked_about() -> None:
    question = asked(*below("train_1", "test_1", "more"))
    assert question.sentence == "These look like splits: train_1 and test_1. Use them so?"
    splits = question.choices[0]
    assert splits.answer == "splits"
    assert splits.splits == {"train_1": "train", "test_1": "test"}
    assert splits.split_images == {"train_1": 6, "test_1": 6}
    assert splits.class_images == {"cat": 6, "dog": 6}


def test_split_names_with_other_folders_inside_are_asked_about() -> None:
    question = asked("train_a/x", "train_a/y", "test_a/p", "test_a/q")
    assert [choice.answer for choice in question.choices] == ["splits", "classes", "subfolders"]


def test_folders_train_and_test_without_class_folders_are_asked_about() -> None:
    question = asked("train", "test")
    assert "have the names of splits, but there are no class folders" in question.sentence
    assert [choice.answer for choice in question.choices] == ["classes"]


def test_splits_of_several_cameras_are_asked_about() -> None:
    question = asked(*below("a/train", "a/test", "b/train", "b/test"))
    assert question.choices[0].splits == {
        "a/train": "train",
        "a/test": "test",
        "b/train": "train",
        "b/test": "test",
    }


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("classes", {"": None}),
        ("subfolders", {"camera1": None, "camera2": None}),
    ],
)
def test_an_answer_is_used(wanted: str, found: dict[str, str | None]) -> None:
    assert homes(read(*below("camera1", "camera2"), wanted=wanted)) == found


@pytest.mark.parametrize(
    ("folders", "wanted", "sentence"),
    [
        (below("camera1", "camera2"), "splits", "their names do not say which of them train"),
        (["cat", "dog"], "subfolders", "hold no further folders"),
    ],
)
def test_an_answer_that_does_not_fit_gets_a_sentence(
    folders: list[str], wanted: str, sentence: str
) -> None:
    with pytest.raises(JobFailed, match=sentence):
        read(*folders, wanted=wanted)


# ── whole imports ─────────────────────────────────────────────────────────────────────────────────


SPLIT_FOLDERS = {
    **class_folders({"cat": 8, "dog": 8}, "training_set/"),
    **class_folders({"cat": 3, "dog": 3}, "test_set/", first=50),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "zip with folder entries", "folder"])
def test_split_folders_are_used_however_they_come(importer: Importer, kind: str) -> None:
    if kind == "folder":
        done = importer.run("folder", write_folder(importer.folder / "set", SPLIT_FOLDERS))
    else:
        entries = {"training_set/": b"", "training_set/cat/": b"", "test_set/": b""}
        done = importer.zip({**(entries if "entries" in kind else {}), **SPLIT_FOLDERS})
    assert done.row.class_names == ["cat", "dog"]
    given = {path: split for path, split in done.splits.items() if path.startswith("test_set")}
    assert set(given.values()) == {"test"}
    assert sum(split == "test" for split in done.splits.values()) == 6
    assert done.row.report["understood"] == [
        "Splits found as folders: training_set is train, test_set is test."
    ]
    assert done.row.report["split_words"].startswith("Validation: 15 % of train")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "zip with folder entries", "folder"])
@pytest.mark.parametrize("inside", ["", "test/", "unknown/"])
def test_a_test_folder_without_labels_is_left_out_and_said(
    importer: Importer, kind: str, inside: str
) -> None:
    files = {
        **class_folders({"cat": 8, "dog": 8}, "train/"),
        **{f"test/{inside}{n}.png": png(90 + n) for n in range(5)},
    }
    if kind == "folder":
        done = importer.run("folder", write_folder(importer.folder / "set", files))
    else:
        entries = {"train/": b"", "train/cat/": b"", "test/": b""}
        done = importer.zip({**(entries if "entries" in kind else {}), **files})
    assert done.row.image_count == 16
    assert done.row.report["notes"] == [
        "The images in test have no labels; the test split is drawn from train."
    ]
    assert done.refusals == {
        path: "it lies in no class folder" for path in files if path.startswith("test/")
    }
    assert set(done.splits.values()) == {"train", "validation", "test"}


@pytest.mark.slow
def test_an_empty_split_folder_is_drawn_from_train_and_said(importer: Importer) -> None:
    done = importer.zip(
        {
            **class_folders({"cat": 6, "dog": 6}, "train/"),
            **class_folders(TWO, "val/", first=50),
            "test/": b"",
        }
    )
    assert done.row.report["notes"] == ["The folder test holds no image."]
    assert "test" in done.splits.values()


def test_a_folder_that_is_no_split_is_said_to_be_left_out(importer: Importer) -> None:
    found = importer.found(
        {
            **class_folders(TWO, "train/"),
            **class_folders(TWO, "test/", first=20),
            **class_folders(TWO, "extra/", first=40),
            "sorting/0.png": png(70),
        }
    )
    assert found.notes == [
        "The images in sorting have no labels and were left out.",
        "The folder extra is no split, so its images were left out (6).",
    ]


def test_splits_inside_of_classes_are_imported(importer: Importer) -> None:
    files = {
        **class_folders({"train": 6, "test": 2}, "cat/"),
        **class_folders({"train": 6, "test": 2}, "dog/", first=50),
    }
    found = importer.found(files)
    assert found.class_names == ("cat", "dog")
    assert {entry.path: entry.split for entry in found.entries} == {
        path: path.split("/")[1] for path in files
    }


QUESTIONABLE = {
    **class_folders({"ok": 4, "bad": 4}, "camera1/"),
    **class_folders({"ok": 4, "bad": 4}, "camera2/", first=50),
}


def test_an_import_that_asks_keeps_its_upload_and_nothing_else(importer: Importer) -> None:
    path = write_zip(importer.folder / "up.zip", QUESTIONABLE)
    data_set_id, job_id = importer.queued("zip", path, upload=True)
    job = importer.perform(job_id)
    data_set = importer.data_set(data_set_id)
    assert (job.state, job.claim, job.error, data_set.state) == ("asking", None, None, "asking")
    question = data_set.typed_report.question
    assert question is not None
    assert question.sentence in importer.log(job_id)
    importer.check_nothing_left(data_set_id)
    assert path.exists()
    # A second delivery of the message does nothing.
    assert importer.perform(job_id).state == "asking"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "classes"), [("classes", ["camera1", "camera2"]), ("subfolders", ["bad", "ok"])]
)
def test_an_answer_in_advance_asks_nothing(
    importer: Importer, layout: str, classes: list[str]
) -> None:
    path = write_zip(importer.folder / "up.zip", QUESTIONABLE)
    done = importer.run("zip", path, layout=layout, upload=True)
    assert done.row.class_names == classes
    assert done.row.report["understood"]
    assert not path.exists()


def test_an_import_that_was_interrupted_while_asking_asks_again(
    importer: Importer, tmp_path: Path
) -> None:
    path = write_zip(tmp_path / "up.zip", QUESTIONABLE)
    data_set_id, job_id = importer.queued("zip", path)
    importer.perform(job_id)
    importer.requeue(job_id)
    assert importer.perform(job_id).state == "asking"
    assert importer.data_set(data_set_id).typed_report.question is not None
