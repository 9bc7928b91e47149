"""Tables as other programs write them: columns, paths, encodings, several tables."""

import json
from collections.abc import Mapping

import pytest

from backend.core.models import DataSet
from backend.core.settings import Settings
from tests.worker.pipeline.imports.importing import (
    Importer,
    importer,
    png,
    write_folder,
    write_zip,
)
from worker.jobs import JobFailed
from worker.pipeline.imports.columns import Wanted
from worker.pipeline.imports.files import Found
from worker.pipeline.imports.questions import NeedsAnswer

__all__ = ["importer"]  # a fixture
PICTURE = png(1)
PLACES = [f"images/p{number:03d}.png" for number in range(8)]
LABELS = ["dog" if number % 2 else "cat" for number in range(8)]
RIGHT = dict(zip(PLACES, LABELS, strict=True))


def table(header: str, rows: list[str], end: str = "\r\n") -> bytes:
    return end.join([header, *rows, ""]).encode()


def found(
    importer: Importer,
    name: str,
    text: bytes,
    places: list[str] = PLACES,
    wanted: Wanted | None = None,
    more: Mapping[str, bytes] | None = None,
) -> Found:
    files = {**dict.fromkeys(places, PICTURE), name: text, **(more or {})}
    return importer.found(files, wanted)


def labels(found: Found) -> dict[str, str]:
    return {entry.path: entry.label for entry in found.entries}


@pytest.mark.parametrize(
    "header",
    [
        "filename,class",
        "image,label",
        "file_name,label",
        "image_path,target",
        "File Name,Category",
        "img,species",
        "Image-ID,breed",
        "name,dx",
    ],
)
def test_columns_are_known_by_their_usual_names_and_the_report_names_them(
    importer: Importer, header: str
) -> None:
    rows = [f"{path},{label}" for path, label in RIGHT.items()]
    read = found(importer, "labels.csv", table(header, rows))
    assert labels(read) == RIGHT
    path, label = header.split(",")
    assert read.columns == {"path": path, "label": label}
    assert any(f"“{label}”" in note for note in read.understood) or label == "label"
    assert read.refusals.rows == []


def test_of_several_columns_the_one_that_names_files_is_the_path(importer: Importer) -> None:
    rows = [f"{number},{path},{label}" for number, (path, label) in enumerate(RIGHT.items())]
    read = found(importer, "labels.csv", table("image_id,location,class", rows))
    assert read.columns == {"path": "location", "label": "class"}
    assert labels(read) == RIGHT


def test_of_two_columns_that_say_the_same_the_words_are_the_label(importer: Importer) -> None:
    rows = [f"{path},{label == 'cat':d},{label}" for path, label in RIGHT.items()]
    assert labels(found(importer, "labels.csv", table("file,label,class_name", rows))) == RIGHT


def test_columns_can_be_chosen(importer: Importer) -> None:
    rows = [f"{path},{label},x{number % 2}" for number, (path, label) in enumerate(RIGHT.items())]
    text = table("where,class,kind of thing", rows)
    read = found(importer, "t.csv", text, wanted=Wanted("where", "Kind of Thing"))
    assert set(labels(read).values()) == {"x0", "x1"}
    with pytest.raises(JobFailed, match="there is no column “colour” among “where”, “class”"):
        found(importer, "t.csv", text, wanted=Wanted(label="colour"))


def test_a_split_column_of_another_name_counts_if_it_holds_splits(importer: Importer) -> None:
    words = ["Training", "train", "val", "valid", "test", "testing", "dev", "train"]
    rows = [
        f"{path},{label},{word}" for (path, label), word in zip(RIGHT.items(), words, strict=True)
    ]
    read = found(importer, "labels.csv", table("filename,label,Usage", rows))
    assert [entry.split for entry in read.entries] == [
        *["train"] * 2,
        *["validation"] * 2,
        *["test"] * 2,
        "validation",
        "train",
    ]
    rows = [f"{path},{label},red" for path, label in RIGHT.items()]
    assert found(importer, "labels.csv", table("filename,label,set", rows)).given == frozenset()


@pytest.mark.parametrize(
    ("written", "how"),
    [
        ("/srv/data/parts/{}", "name a file by the end of its path"),
        ("C:\\Users\\me\\parts\\{}", "name a file by the end of its path"),
        ("parts/{}", "name a file by the end of its path"),
        ("{name}", "name a file by the end of its path"),
        ("{stem}", "without its ending"),
        ("{upper}", "in other upper and lower case"),
        ("\\{}", "backslashes"),
    ],
)
def test_a_path_of_another_machine_names_the_only_file_with_its_end(
    importer: Importer, written: str, how: str
) -> None:
    def write(path: str) -> str:
        name = path.rpartition("/")[2]
        text = written.format(path, name=name, stem=name[:-4], upper=path.upper())
        return text.replace("/", "\\") if "\\" in written else text

    rows = [f"{write(path)},{label}" for path, label in RIGHT.items()]
    other = {"thumbs/p900.png": PICTURE}
    read = found(importer, "labels.csv", table("path,label", rows), more=other)
    assert labels(read) == RIGHT
    assert len(read.understood) == 1
    assert how in read.understood[0]
    assert ": 8; " in read.understood[0]
    assert read.refusals.rows == [("thumbs/p900.png", "the manifest does not name it")]


def test_a_path_never_names_a_file_of_another_class_or_split(importer: Importer) -> None:
    places = ["train/cat/1.png", "test/cat/2.png", "train/dog/3.png", "other/dog/4.png"]
    rows = ["/x/test/cat/1.png,cat", "train/cat/2.png,cat", "/x/dog/1.png,dog", "4.png,dog"]
    read = found(importer, "labels.csv", table("path,label", rows), places)
    assert labels(read) == {"other/dog/4.png": "dog"}


def test_a_name_that_fits_two_files_is_refused_with_both(importer: Importer) -> None:
    places = ["a/1.png", "b/1.png", "a/2.png", "b/3.png"]
    rows = ["1.png,cat", "/mnt/b/1.png,dog", "2.png,cat", "3.png,dog"]
    read = found(importer, "labels.csv", table("path,label", rows), places)
    assert labels(read) == {"b/1.png": "dog", "a/2.png": "cat", "b/3.png": "dog"}
    assert (
        "1.png",
        "line 2 of the manifest names it, but it fits several files, such as “a/1.png” and "
        "“b/1.png”; give more of its folders",
    ) in read.refusals.rows


@pytest.mark.slow
def test_a_path_inside_the_imported_folder_counts(importer: Importer) -> None:
    folder = importer.folder / "parts"
    rows = [f"{folder}/{path},{label}" for path, label in RIGHT.items()]
    files = {path: png(number) for number, path in enumerate(PLACES)}
    write_folder(folder, {**files, "labels.csv": table("path,label", rows)})
    done = importer.run("folder", folder)
    assert done.labels == RIGHT
    assert done.row.report["understood"] == []


def test_paths_may_lead_up_from_the_tables_folder_but_not_out(importer: Importer) -> None:
    rows = [f"../{path},{label}" for path, label in RIGHT.items()] + ["../../etc/x.png,cat"]
    read = found(importer, "tables/labels.csv", table("file,label", rows))
    assert labels(read) == RIGHT
    assert read.refusals.rows == [
        (
            "../../etc/x.png",
            "line 10 of the manifest names it, but its name leads out of the archive (..)",
        )
    ]


FORMS = {
    "a line that names the separator": b"sep=;\r\n"
    + table("path;label", [f"{path};{label}" for path, label in RIGHT.items()]),
    "UTF-16 with its mark": table(
        "path\tlabel", [f"{path}\t{label}" for path, label in RIGHT.items()]
    )
    .decode()
    .encode("utf-16"),
    "UTF-16 without its mark": table(
        "path,label", [f"{path},{label}" for path, label in RIGHT.items()]
    )
    .decode()
    .encode("utf-16-le"),
    "carriage returns alone": table(
        "path,label", [f"{path},{label}" for path, label in RIGHT.items()], "\r"
    ),
    "no line of names": table(PLACES[0] + ",cat", [f"{p},{c}" for p, c in list(RIGHT.items())[1:]]),
    "a number before each row": table(
        ",path,label", [f"{n},{p},{c}" for n, (p, c) in enumerate(RIGHT.items())]
    ),
    "a column a class": table(
        "image,cat,dog", [f"{p},{c == 'cat':d},{c == 'dog':d}.0" for p, c in RIGHT.items()]
    ),
    "two columns, one of which names files": table(
        "photograph,what it shows", [f"{p},{c}" for p, c in RIGHT.items()]
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_read_in_each_form_that_programs_write(importer: Importer, form: str) -> None:
    read = found(importer, "labels.csv", FORMS[form])
    assert labels(read) == RIGHT
    assert read.refusals.rows == []


@pytest.mark.parametrize(
    ("encoding", "words"),
    [("cp1252", ("Käse", "Brötchen")), ("gbk", ("合格", "不合格")), ("cp932", ("良品", "不良品"))],
)
def test_a_table_of_another_encoding_is_read_with_a_note(
    importer: Importer, encoding: str, words: tuple[str, str]
) -> None:
    rows = [f"{path},{words[number % 2]}" for number, path in enumerate(PLACES)]
    read = found(importer, "t.csv", table("path,label", rows).decode().encode(encoding))
    assert set(labels(read).values()) == set(words)
    assert f"was read as {encoding.upper()}" in read.understood[0]


def test_json_lines_are_a_table(importer: Importer) -> None:
    lines = [
        json.dumps({"file_name": path.removeprefix("images/"), "label": label, "boxes": [1]})
        for path, label in RIGHT.items()
    ]
    read = found(importer, "images/metadata.jsonl", "\n".join(lines).encode())
    assert labels(read) == RIGHT
    assert read.columns == {"path": "file_name", "label": "label"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"path": "images/p000.png", "label": "cat"}\n{"path": ', "has no JSON in line 2"),
        (b'{"path": "images/p000.png", "label": "cat"}\n[1]', "has no JSON object in line 2"),
    ],
)
def test_json_lines_that_cannot_be_read_name_the_line(
    importer: Importer, text: bytes, why: str
) -> None:
    with pytest.raises(JobFailed, match=why):
        found(importer, "metadata.jsonl", text)


def test_tables_called_train_and_test_give_those_splits(importer: Importer) -> None:
    rows = [f"{path},{label}" for path, label in RIGHT.items()]
    read = importer.found(
        {
            **dict.fromkeys(PLACES, PICTURE),
            "train.csv": table("image,class", rows[:4]),
            "labels_val.csv": table("image,class", rows[4:6]),
            "Test.csv": table("image,class", rows[6:]),
        }
    )
    assert [entry.split for entry in read.entries] == [
        *["train"] * 4,
        *["validation"] * 2,
        *["test"] * 2,
    ]
    assert read.given == {"train", "validation", "test"}


def test_a_table_in_each_split_folder_gives_its_images_that_split(importer: Importer) -> None:
    """As Roboflow writes them: a column a class, and the same names in each folder."""
    files = {}
    for split in ("train", "valid", "test"):
        files |= {f"{split}/{number}.png": PICTURE for number in range(3)}
        files[f"{split}/_classes.csv"] = table(
            "filename, cat, dog", ["0.png, 1, 0", "1.png, 0, 1", "2.png, 1, 1"]
        )
    read = importer.found(files)
    assert {(entry.path, entry.split, entry.label) for entry in read.entries} == {
        (f"{folder}/{number}.png", split, label)
        for folder, split in (("train", "train"), ("valid", "validation"), ("test", "test"))
        for number, label in ((0, "cat"), (1, "dog"))
    }
    assert (
        "2.png",
        "line 4 of “train/_classes.csv” gives 2 classes, “cat” and “dog”; an image has one label",
    ) in read.refusals.rows


def test_kaggles_table_of_names_without_endings_finds_its_folder(importer: Importer) -> None:
    """The same names stand in train and test; only train has labels, and a sample of an answer."""
    places = [f"{split}/{name}.jpg" for split in ("train", "test") for name in ("0a1", "0b2")]
    read = found(
        importer,
        "train.csv",
        table("id,breed", ["0a1,boxer", "0b2,pug"]),
        places,
        more={
            "sample_submission.csv": table("id,breed", ["0a1,boxer", "0b2,boxer"]),
            "test.csv": table("id", ["0a1", "0b2"]),
        },
    )
    assert labels(read) == {"train/0a1.jpg": "boxer", "train/0b2.jpg": "pug"}
    assert read.given == frozenset()


def test_tables_beside_each_other_without_splits_are_read_together(importer: Importer) -> None:
    rows = [f"{path},{label}" for path, label in RIGHT.items()]
    read = found(
        importer,
        "first.csv",
        table("path,label", rows[:4]),
        more={"second.csv": table("file,class", rows[4:])},
    )
    assert labels(read) == RIGHT


def test_the_apostrophe_of_a_spreadsheet_is_taken_off(importer: Importer) -> None:
    places = ["-1/0.png", "-1/1.png", "+1/=2.png", "+1/@3.png"]
    rows = [f"'{path},'{path[:2]}" for path in places]
    read = found(importer, "labels.csv", table("path,label", rows), places)
    assert labels(read) == {path: path[:2] for path in places}
    assert len(read.understood) == 2
    mark = b"\xef\xbb\xbf"
    rows = [f"{path},'-{number % 2}" for number, path in enumerate(PLACES)]
    read = found(importer, "labels.csv", mark + table("path,label", rows))
    assert set(labels(read).values()) == {"-0", "-1"}


def test_more_rows_than_the_limit_of_files_stop_the_import(importer: Importer) -> None:
    importer.settings = Settings(home=importer.settings.home, max_files=9)
    rows = [f"{PLACES[0]},cat"] * 10
    with pytest.raises(JobFailed, match="has more rows than 9, the limit for the files"):
        found(importer, "labels.csv", table("path,label", rows))


def test_refused_rows_are_listed_up_to_a_limit_and_counted_beyond(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.pipeline.imports.manifest.MOST_BAD_ROWS", 3)
    rows = [f"{path},{label}" for path, label in RIGHT.items()]
    read = found(importer, "labels.csv", table("path,label", rows + rows[:1] * 10))
    assert len(read.refusals.rows) == 4
    assert read.refusals.rows[-1] == ("…", "and 7 more rows cannot be used")


def test_a_table_larger_than_the_limit_is_refused_before_it_is_read(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.pipeline.imports.table_text.MOST_BYTES", 50)
    path = write_zip(
        importer.folder / "large.zip",
        {"manifest.csv": table("path,label", ["images/p000.png,cat"] * 4), PLACES[0]: PICTURE},
    )
    assert "bytes, more than the limit of 50 for a table" in importer.failing("zip", path)


def test_many_files_of_one_name_cost_no_search_a_row(importer: Importer) -> None:
    """Each row is looked up by as many folders as tell its file apart."""
    places = [f"{top}/{number}/x.png" for top in ("a", "b") for number in range(300)]
    rows = [f"/old/{path},{path[0]}" for path in places]
    read = found(importer, "labels.csv", table("path,label", rows), places)
    assert labels(read) == {path: path[0] for path in places}


def test_two_columns_that_could_be_the_label_are_a_question_with_both_as_answers(
    importer: Importer,
) -> None:
    rows = [f"{path},{label},{number % 4}" for number, (path, label) in enumerate(RIGHT.items())]
    text = table("file,class,category", rows)
    with pytest.raises(NeedsAnswer) as asked:
        found(importer, "labels.csv", text)
    question = asked.value.question
    assert question.kind == "label_column"
    assert "Which column of the table “labels.csv” has the labels?" in question.sentence
    assert [(choice.answer, choice.class_images) for choice in question.choices] == [
        ("class", {"cat": 4, "dog": 4}),
        ("category", {"0": 2, "1": 2, "2": 2, "3": 2}),
    ]
    assert labels(found(importer, "labels.csv", text, wanted=Wanted(label="class"))) == RIGHT


def test_a_table_of_images_with_unknown_columns_asks_unless_folders_are_the_classes(
    importer: Importer,
) -> None:
    rows = [f"{path},{label},{number}" for number, (path, label) in enumerate(RIGHT.items())]
    with pytest.raises(NeedsAnswer) as asked:
        found(importer, "things.csv", table("what,quality,weight", rows))
    assert [choice.answer for choice in asked.value.question.choices] == ["quality"]
    places = [f"{label}/{number}.png" for number, label in enumerate(LABELS)]
    rows = [f"{path},{number // 3},x{number % 3}" for number, path in enumerate(places)]
    read = found(importer, "sizes.csv", table("what,width,height", rows), places)
    assert labels(read) == {path: path[:3] for path in places}


@pytest.mark.slow
def test_the_answer_to_a_tables_question_continues_the_import(importer: Importer) -> None:
    rows = [f"{path},{label},{number % 4}" for number, (path, label) in enumerate(RIGHT.items())]
    files = {path: png(number) for number, path in enumerate(PLACES)}
    path = write_zip(
        importer.folder / "asks.zip", {**files, "t.csv": table("file,class,category", rows)}
    )
    data_set_id, job_id = importer.queued("zip", path)
    assert importer.perform(job_id).state == "asking"
    with importer.database.transaction() as session:
        data_set = session.get_one(DataSet, data_set_id)
        data_set.source = data_set.source | {"label_column": "class"}
    importer.requeue(job_id)
    assert importer.perform(job_id).state == "done"
    assert importer.data_set(data_set_id).class_names == ["cat", "dog"]
