"""Imports by a CSV manifest: header, rows, encodings, and the reason for each bad row."""

from collections.abc import Sequence

import pytest

from tests.worker.pipeline.imports.importing import (
    Importer,
    importer,
    noise,
    png,
    write_folder,
    write_zip,
)

__all__ = ["importer"]  # a fixture
PICTURES = {f"img/{number}.png": png(number) for number in range(8)}
ROWS = [f"img/{number}.png,{'cat' if number % 2 else 'dog'}" for number in range(8)]


def manifest(rows: Sequence[str] = ROWS, header: str = "path,label") -> bytes:
    return "\n".join([header, *rows, ""]).encode()


@pytest.mark.slow
def test_a_manifest_gives_the_labels_and_the_splits_are_drawn(importer: Importer) -> None:
    done = importer.zip({"manifest.csv": manifest(), **PICTURES})
    assert done.labels == {
        path: "cat" if number % 2 else "dog" for number, path in enumerate(PICTURES)
    }
    assert done.refusals == {}
    assert done.row.report["split_words"] == "Splits drawn 70/15/15 with seed 0."
    assert (done.pixels_of("img/3.png") == noise(3)).all()


@pytest.mark.slow
def test_a_manifest_may_give_the_splits(importer: Importer) -> None:
    splits = ["train", "train", "Train", "train", "val", "validation", "test", "TEST"]
    done = importer.zip(
        {
            "all.csv": manifest(
                [f"{row},{split}" for row, split in zip(ROWS, splits, strict=True)],
                "path,label,split",
            ),
            **PICTURES,
        }
    )
    assert list(done.splits.values()) == ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    assert done.row.report["split_words"] == "Splits as given."


@pytest.mark.slow
def test_a_folder_with_a_manifest_and_the_manifest_itself_are_the_same_import(
    importer: Importer,
) -> None:
    folder = write_folder(importer.folder / "things", {"manifest.csv": manifest(), **PICTURES})
    by_folder = importer.run("folder", folder)
    assert importer.run("folder", folder / "manifest.csv").essence == by_folder.essence
    assert importer.zip({"manifest.csv": manifest(), **PICTURES}).essence == by_folder.essence


@pytest.mark.parametrize(
    "table",
    [
        b"\xef\xbb\xbf" + manifest(),
        manifest().replace(b"\n", b"\r\n"),
        manifest([row.replace(",", ";") for row in ROWS], "path;label"),
        manifest([row.replace(",", "\t") for row in ROWS], "path\tlabel"),
        manifest(
            [f"x,{row.split(',')[1]},{row.split(',')[0]}" for row in ROWS], " Id , LABEL , Path "
        ),
        manifest([f'"{row.split(",")[0]}" , {row.split(",")[1]} ' for row in ROWS]).replace(
            b'" ,', b'",'
        ),
        manifest([f"./{row}" for row in ROWS]),
        manifest([*ROWS[:4], "", ",", *ROWS[4:]]),
    ],
    ids=[
        "byte order mark",
        "Windows lines",
        "semicolons",
        "tabs",
        "other columns and order",
        "quotes and spaces",
        "dot slash",
        "empty lines",
    ],
)
def test_the_usual_ways_to_write_a_table_are_read(importer: Importer, table: bytes) -> None:
    found = importer.found({"manifest.csv": table, **PICTURES})
    assert {entry.path: entry.label for entry in found.entries} == {
        row.split(",")[0]: row.split(",")[1] for row in ROWS
    }
    assert found.refusals.rows == []


def test_paths_count_from_the_manifests_folder_or_from_the_top(importer: Importer) -> None:
    inside = {f"data/{path}": picture for path, picture in PICTURES.items()}
    assert len(importer.found({"data/manifest.csv": manifest(), **inside}).entries) == 8
    assert (
        len(
            importer.found(
                {"data/manifest.csv": manifest([f"data/{row}" for row in ROWS]), **inside}
            ).entries
        )
        == 8
    )


@pytest.mark.slow
def test_each_bad_row_is_refused_with_its_reason_and_the_good_ones_stay(importer: Importer) -> None:
    split = [
        f"{row},{name}"
        for row, name in zip(ROWS, ["train"] * 4 + ["validation"] * 2 + ["test"] * 2, strict=True)
    ]
    bad = {
        "img/absent.png,cat,train": (
            "img/absent.png",
            "line 10 of the manifest names it, but it is not in the zip",
        ),
        "img/8.png,cat,holdout": (
            "img/8.png",
            "“holdout” (line 11 of the manifest) is no split; there are train, validation and test",
        ),
        "img/0.png,cat,train": (
            "img/0.png",
            "line 12 of the manifest names it again; line 2 counts, there with the label “dog”",
        ),
        "img/1.png,cat,test": (
            "img/1.png",
            "line 13 of the manifest names it again; line 3 counts",
        ),
        "../secret.png,cat,train": (
            "../secret.png",
            "line 14 of the manifest names it, but its name leads out of the archive (..)",
        ),
        "/etc/passwd,cat,train": (
            "/etc/passwd",
            "line 15 of the manifest names it, but it is not in the zip",
        ),
        ",cat,train": ("manifest.csv, line 16", "line 16 of the manifest gives no path"),
        "img/9.png,,train": ("img/9.png", "line 17 of the manifest gives no label"),
        f"img/10.png,{'y' * 301},train": (
            "img/10.png",
            "its class name is longer than 300 characters",
        ),
        "img/11.png,cat,": (
            "img/11.png",
            "the manifest gives a split to other images, but none to this one",
        ),
        "img/12.png": ("img/12.png", "line 20 of the manifest gives no label"),
        "notes.txt,cat,train": (
            "notes.txt",
            "not a readable image in JPEG, PNG, WebP, BMP, GIF or TIFF",
        ),
    }
    unnamed = {"img/forgotten.png": png(70)}
    more = {f"img/{number}.png": png(number) for number in range(8, 13)}
    table = manifest([*split, *bad], "path,label,split")
    done = importer.zip(
        {"manifest.csv": table, **PICTURES, **more, **unnamed, "notes.txt": b"hello"}
    )
    expected = dict(bad.values()) | {"img/forgotten.png": "the manifest does not name it"}
    assert done.refusals == expected
    assert list(done.labels) == list(PICTURES)


def test_labels_may_be_any_text(importer: Importer) -> None:
    names = [
        "<script>alert(1)</script>",
        "=SUM(A1)",
        "🦊 fox, red",
        "a/b\\c",
        "x" * 300,
        'say "hi"',
        "nul\x00l",
        "ünï",
    ]
    rows = [
        f'img/{number}.png,"{name.replace(chr(34), chr(34) * 2)}"'
        for number, name in enumerate(names)
    ]
    found = importer.found({"manifest.csv": manifest(rows), **PICTURES})
    assert {entry.path: entry.label for entry in found.entries} == {
        f"img/{number}.png": name.replace("\x00", "\ufffd") for number, name in enumerate(names)
    }


BAD_MANIFESTS = {
    "unknown columns": (
        manifest(["1,good,2", "2,bad,3"], header="sample,quality,weight"),
        "The table “manifest.csv” has the columns “sample, quality, weight”, of which none is "
        "known to hold a path or a label. Call its columns path and label, or choose them",
    ),
    "a column twice": (
        manifest(header="path,label,label"),
        "In the table “manifest.csv”, there are several columns “label” that differ. Call",
    ),
    "empty": (b"", "The table “manifest.csv” is empty."),
    "header only": (
        manifest([]),
        "There is no usable image. 8 files were refused; the first is “img/0.png”: the manifest "
        "does not name it.",
    ),
    "all absent": (
        manifest([f"x{row.replace('/', '/x')}" for row in ROWS]),
        "the first is “ximg/x0.png”: line 2 of the manifest names it, but it is not in the zip.",
    ),
    "an open quote": (
        manifest([*ROWS[:4], f'"{ROWS[4]}', *ROWS[5:]]),
        'has a quote (") that opens in line 6 and never closes, so all that follows is one cell. '
        "Close the quote, then import again.",
    ),
    "an open quote before much text": (
        manifest([*ROWS, '"', *["x" * 1000] * 200]),
        'has a quote (") that opens in line 10 and does not close',
    ),
    "a cell without end": (manifest([*ROWS, "x" * 200_000]), "cannot be read in line 10"),
    "a line without end": (
        manifest([*ROWS, "x" * 1_000_001]),
        "has a line of more than 1,000,000 characters, line 10.",
    ),
    "Parquet": (b"PAR1\x00\x15" + bytes(range(256)), "is a Parquet file, not a table of text."),
    "other bytes": (bytes(range(256)), "is binary data, not a table of text."),
    "one class": (
        manifest([row.replace("cat", "dog") for row in ROWS]),
        "There is only one class with images, “dog”; telling classes apart takes two or more. Fix",
    ),
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_a_manifest_that_cannot_be_used_gets_a_sentence(importer: Importer, name: str) -> None:
    table, sentence = BAD_MANIFESTS[name]
    said = importer.failing(
        "zip", write_zip(importer.folder / "bad.zip", {"manifest.csv": table, **PICTURES})
    )
    assert sentence in said
    assert said.endswith(".")


@pytest.mark.slow
def test_a_manifest_whose_other_classes_cannot_be_used_says_how_many_rows_and_why(
    importer: Importer,
) -> None:
    rows = ["img/0.png,x", "missing.jpg,y", "../b.jpg,y"]
    said = importer.failing(
        "zip",
        write_zip(
            importer.folder / "bad.zip", {"manifest.csv": manifest(rows), "img/0.png": png(0)}
        ),
    )
    assert said == (
        "There is only one class with images, “x”; telling classes apart takes two or more. 2 "
        "rows of the manifest cannot be used: "
        "“missing.jpg”: line 3 of the manifest names it, but it is not in the zip; "
        "“../b.jpg”: line 4 of the manifest names it, but its name leads out of the archive "
        "(..). Fix the manifest, then import again."
    )


@pytest.mark.slow
def test_of_many_rows_that_cannot_be_used_the_first_are_named_and_broken_images_count(
    importer: Importer,
) -> None:
    rows = ["img/0.png,x", "broken.png,y", *(f"missing{number}.jpg,y" for number in range(4))]
    files = {
        "manifest.csv": manifest(rows),
        "img/0.png": png(0),
        "broken.png": b"broken",
        "unnamed.png": png(1),
    }
    said = importer.failing("zip", write_zip(importer.folder / "bad.zip", files))
    assert "5 rows of the manifest cannot be used, first: “missing0.jpg”" in said
    assert "unnamed" not in said


def test_a_table_whose_columns_are_unknown_is_named_where_nothing_else_gives_classes(
    importer: Importer,
) -> None:
    rows = [f"{number},{row}" for number, row in enumerate("some words")]
    path = write_zip(
        importer.folder / "bad.zip", {"things.csv": manifest(rows, header="a,b"), **PICTURES}
    )
    assert "The table “things.csv” has the columns “a, b”, of which" in importer.failing(
        "zip", path
    )


def test_two_tables_that_name_the_same_image_are_one_too_many(importer: Importer) -> None:
    path = write_zip(
        importer.folder / "bad.zip",
        {"a.csv": manifest(ROWS[:5]), "b.csv": manifest(ROWS[4:]), **PICTURES},
    )
    assert "The tables “a.csv” and “b.csv” name the same image. Keep" in importer.failing(
        "zip", path
    )


def test_another_table_beside_class_folders_is_no_manifest(importer: Importer) -> None:
    files = {f"{name}/{number}.png": png(number) for name in ("cat", "dog") for number in range(2)}
    found = importer.found(
        {**files, "sizes.csv": b"image,width\n1,2\n", "cat/table.csv": manifest()}
    )
    assert (
        len(found.entries) == 5
    )  # the table inside a class is read like any file, and then refused
    assert found.refusals.rows == [("sizes.csv", "it is no image and lies in no class folder")]


@pytest.mark.slow
def test_a_split_that_only_refused_rows_name_is_an_empty_split(importer: Importer) -> None:
    rows = [f"{row},train" for row in ROWS] + ["img/absent.png,cat,test"]
    path = write_zip(
        importer.folder / "bad.zip",
        {"manifest.csv": manifest(rows, "path,label,split"), **PICTURES},
    )
    assert "The split test is empty: it has no usable image." in importer.failing("zip", path)
