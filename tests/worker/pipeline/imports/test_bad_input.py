"""Bad input: a file is refused with a reason, or the import fails with a sentence and no rest."""

import io
import os
import socket
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

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

__all__ = ["importer"]  # a fixture
GOOD = class_folders({"cat": 3, "dog": 3})


# ── archives that cannot be used at all ───────────────────────────────────────────────────────────


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def encrypted() -> bytes:
    """A zip whose entries are flagged as encrypted, in local headers and central directory."""
    data = bytearray(zipped(GOOD))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(mark)
        while place >= 0:
            data[place + flags] |= 1
            place = data.find(mark, place + 4)
    return bytes(data)


def huge_by_its_own_word() -> bytes:
    """A tiny zip whose changed central directory claims more than 100 GB unpacked."""
    data = bytearray(zipped({f"cat/{index}.png": b"x" * 10 for index in range(30)}))
    place = data.find(b"PK\x01\x02")
    while place >= 0:
        data[place + 20 : place + 28] = struct.pack("<II", 0xFFFFFF00, 0xFFFFFFF0)
        place = data.find(b"PK\x01\x02", place + 4)
    return bytes(data)


BAD_ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "no zip": (lambda: b"Dear Sir or Madam, " * 100, "This is not a zip archive."),
    "an image": (lambda: png(1), "This is a PNG image, not a zip archive."),
    "zero bytes": (lambda: b"", "This file is empty (zero bytes)."),
    "cut off": (lambda: zipped(GOOD)[:-400], "This zip is cut off or damaged"),
    "cut off early": (lambda: zipped(GOOD)[:100], "This zip is cut off or damaged"),
    "encrypted": (encrypted, "This zip is encrypted. Make one without a password"),
    "a bomb": (
        lambda: zipped({**GOOD, "cat/big.bmp": bytes(5 << 20)}, zipfile.ZIP_DEFLATED),
        "“cat/big.bmp” in this zip would unpack to 5,242,880",
    ),
    "100 GB": (huge_by_its_own_word, "This zip would unpack to 128,849,018,"),
    "empty zip": (lambda: zipped({}), "There is no image in this zip."),
    "no image in it": (
        lambda: zipped({"readme.txt": b"hello", "LICENSE": b"hello"}),
        "There is no image in this zip.",
    ),
    "junk only": (lambda: zipped({"__MACOSX/cat/._1.png": b"x"}), "There is no image in this zip."),
    "another archive": (
        lambda: zipped({"data.zip": zipped(GOOD)}),
        "There is an archive inside the zip (“data.zip”)",
    ),
    "no class folders": (
        lambda: zipped({f"{n}.png": png(n) for n in range(4)}),
        "All images lie in one folder",
    ),
    "one class": (
        lambda: zipped(class_folders({"cat": 9})),
        "There is only one class, “cat”; telling classes apart takes two or more.",
    ),
    "one class with images": (
        lambda: zipped({**class_folders({"cat": 9}), "dog/1.jpg": b"broken"}),
        "There is only one class, “cat”; telling classes apart takes two or more. 1 file was "
        "refused; the first is “dog/1.jpg”: not a readable",
    ),
    "one class in three splits": (
        lambda: zipped(
            {
                **class_folders({"cat": 2}, "train/"),
                **class_folders({"cat": 2}, "val/", first=10),
                **class_folders({"cat": 2}, "test/", first=20),
            }
        ),
        "There is only one class, “cat”",
    ),
    "a class with two images": (
        lambda: zipped(class_folders({"cat": 2, "dog": 9})),
        "The class “cat” has only 2 images, and needs at least 3 to be in train, validation and "
        "test. Add images to it, or take the class out",
    ),
    "a class with one image": (
        lambda: zipped(class_folders({"cat": 1, "dog": 9})),
        "The class “cat” has only one image",
    ),
    "a class with one image to train and to validate": (
        lambda: zipped(
            {
                **class_folders({"cat": 1, "dog": 9}, "train/"),
                **class_folders({"cat": 3, "dog": 3}, "test/", first=50),
            }
        ),
        "The class “cat” has only one image, and needs at least 2 to be in train and validation.",
    ),
    "a split with broken images only": (
        lambda: zipped(
            {
                **class_folders({"cat": 3, "dog": 3}, "train/"),
                **class_folders({"cat": 3, "dog": 3}, "val/", first=50),
                "test/cat/1.jpg": b"broken",
                "test/dog/1.jpg": b"",
            }
        ),
        "The split test is empty: it has no usable image.",
    ),
    "no train": (
        lambda: zipped(
            {
                **class_folders({"cat": 3, "dog": 3}, "val/"),
                **class_folders({"cat": 3, "dog": 3}, "test/", first=50),
            }
        ),
        "There are images for test and validation, but none to train with.",
    ),
    "broken images only": (
        lambda: zipped({"cat/1.jpg": b"broken", "dog/1.jpg": b"broken"}),
        "There is no usable image. 2 files were refused; the first is “cat/1.jpg”: not a "
        "readable image",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_an_archive_that_cannot_be_used_gets_a_sentence_and_leaves_nothing(
    importer: Importer, name: str
) -> None:
    make, sentence = BAD_ARCHIVES[name]
    path = importer.folder / "bad.zip"
    path.write_bytes(make())
    said = importer.failing("zip", path, upload=True)
    assert sentence in said
    assert said.endswith(".")
    assert path.exists()  # another try needs it


def test_more_files_than_the_limit_are_refused_as_a_whole(importer: Importer) -> None:
    importer.settings.max_files = 5
    assert "The zip holds 6 files, more than the limit of 5." in importer.failing(
        "zip", write_zip(importer.folder / "many.zip", GOOD)
    )
    folder = write_folder(importer.folder / "many", GOOD)
    assert "The folder holds more than 5 files" in importer.failing("folder", folder)


def test_more_bytes_than_the_limit_are_refused_as_a_whole(importer: Importer) -> None:
    importer.settings.max_unpacked_bytes = 1000
    assert "more than the limit of 1,000" in importer.failing(
        "zip", write_zip(importer.folder / "large.zip", GOOD)
    )


def test_a_source_that_is_gone_gets_a_sentence(importer: Importer) -> None:
    assert "not there any more" in importer.failing("zip", importer.folder / "gone.zip")
    assert "not there any more" in importer.failing("folder", importer.folder / "gone")


@pytest.mark.slow
def test_an_import_that_failed_works_from_scratch_once_its_source_is_mended(
    importer: Importer,
) -> None:
    path = write_zip(importer.folder / "one.zip", {"cat/1.jpg": b"broken"})
    data_set_id, job_id = importer.queued("zip", path)
    assert importer.perform(job_id).state == "failed"
    write_zip(path, GOOD)
    importer.requeue(job_id)
    assert importer.perform(job_id).state == "done"
    assert importer.data_set(data_set_id).state == "ready"
    assert importer.data_set(data_set_id).image_count == 6


# ── single files that are refused ─────────────────────────────────────────────────────────────────


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is that large, and holds nearly nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


FORMATS = "JPEG, PNG, WebP, BMP, GIF or TIFF"
BAD_FILES = {
    "cut.jpg": (encoded(noise(1, (200, 200)), "JPEG")[:4000], "the image is damaged or cut off"),
    "cut early.jpg": (
        encoded(noise(1, (200, 200)), "JPEG")[:100],
        "the image is damaged or cut off",
    ),
    "cut early.png": (png(1)[:20], "the image is damaged or cut off"),
    "cut.png": (png(1)[:800], "the image is damaged or cut off"),
    "drawing.jpg": (
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        f"this is an SVG or XML file, not an image in {FORMATS}",
    ),
    "xml.jpg": (
        b"<?xml version='1.0'?><svg/>",
        f"this is an SVG or XML file, not an image in {FORMATS}",
    ),
    "page.jpg": (
        b"\n<!DOCTYPE html><script>alert(1)</script>",
        f"this is a web page, not an image in {FORMATS}",
    ),
    "wide.png": (
        png_of(50_000, 50_000),
        "50,000 × 50,000 pixels are more than the limit of 50,000,000",
    ),
    "nothing.png": (b"", "the file is empty (zero bytes)"),
    "text.png": (b"hello", f"not a readable image in {FORMATS}"),
    "inner.zip": (b"PK\x03\x04", "an archive inside the import is not opened; unpack it first"),
    "program.jpg": (b"\x7fELF" + bytes(100), f"not a readable image in {FORMATS}"),
    "icon.ico": (encoded(noise(3), "ICO"), f"not a readable image in {FORMATS}"),
    "postscript.jpg": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        f"not a readable image in {FORMATS}",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_each_file_that_is_no_image_is_refused_with_its_reason_and_the_good_ones_stay(
    importer: Importer, kind: str
) -> None:
    files = {**GOOD, **{f"dog/{name}": data for name, (data, _) in BAD_FILES.items()}}
    done = (
        importer.zip(files)
        if kind == "zip"
        else importer.run("folder", write_folder(importer.folder / "things", files))
    )
    assert done.refusals == {f"dog/{name}": reason for name, (_, reason) in BAD_FILES.items()}
    assert [image.path for image in done.images] == sorted(GOOD)
    assert done.row.refused_count == len(BAD_FILES)
    assert len(done.pixels) == 6


@pytest.mark.slow
def test_the_first_refusals_stand_in_the_jobs_log(importer: Importer) -> None:
    bad = {f"dog/x{number:02d}.jpg": b"broken" for number in range(14)}
    _, job_id = importer.queued("zip", write_zip(importer.folder / "some.zip", {**GOOD, **bad}))
    importer.perform(job_id)
    log = importer.log(job_id)
    assert "Refused: dog/x00.jpg: not a readable image" in log
    assert "4 more files were refused." in log


def entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


@pytest.mark.slow
def test_zip_entries_that_lead_out_of_the_archive_are_refused_and_nothing_is_written_there(
    importer: Importer,
) -> None:
    bad = {
        "../evil.png": "its name leads out of the archive (..)",
        "cat/../../evil.png": "its name leads out of the archive (..)",
        "/etc/evil.png": "its name is an absolute path",
        "C:/evil.png": "its name is an absolute path",
        "cat\\evil.png": "its name has a backslash; folders are separated by / in a zip",
        "cat/..\\..\\evil.png": "its name has a backslash; folders are separated by / in a zip",
    }
    special = {
        "cat/link.png": stat.S_IFLNK,
        "cat/device.png": stat.S_IFCHR,
        "cat/pipe.png": stat.S_IFIFO,
    }
    files = [
        *GOOD.items(),
        *((name, png(1)) for name in bad),
        *((entry(name, mode | 0o777), b"/etc/passwd") for name, mode in special.items()),
    ]
    before = {
        path for path in importer.folder.rglob("*") if importer.settings.home not in path.parents
    }
    done = importer.run("zip", write_zip(importer.folder / "evil.zip", files))
    expected = {**bad, "cat/link.png": "this is a link, not a file"}
    expected |= dict.fromkeys(
        ("cat/device.png", "cat/pipe.png"), "this is a device or another special file"
    )
    assert done.refusals == expected
    assert done.row.image_count == 6
    after = {
        path for path in importer.folder.rglob("*") if importer.settings.home not in path.parents
    }
    assert after - before == {importer.folder / "evil.zip"}
    assert not list(importer.folder.rglob("*evil.png"))
    assert not Path("/etc/evil.png").exists()


@pytest.mark.slow
def test_damaged_bytes_in_the_middle_of_a_zip_cost_that_image_only(importer: Importer) -> None:
    files = {**GOOD, "dog/03.png": png(77)}
    path = write_zip(importer.folder / "hurt.zip", files)
    data = bytearray(path.read_bytes())
    place = data.find(files["dog/01.png"])
    data[place + 100 : place + 120] = bytes(20)
    path.write_bytes(data)
    done = importer.run("zip", path)
    assert done.refusals == {"dog/01.png": "this entry of the zip is damaged or cut off"}
    assert done.row.image_count == 6


@pytest.mark.slow
def test_a_name_that_is_twice_in_a_zip_counts_once(importer: Importer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # zipfile warns that the name is a duplicate, which is the point
        path = write_zip(importer.folder / "twice.zip", [*GOOD.items(), ("cat/00.png", png(99))])
    done = importer.run("zip", path)
    assert done.row.image_count == 6
    assert done.refusals == {"cat/00.png": "the zip has this name twice; the first one counts"}
    assert (done.pixels_of("cat/00.png") == noise(0)).all()


@pytest.mark.slow
def test_a_class_name_of_more_than_300_characters_is_refused(importer: Importer) -> None:
    done = importer.zip({**GOOD, f"{'x' * 301}/1.png": png(50)})
    assert done.refusals == {f"{'x' * 301}/1.png": "its class name is longer than 300 characters"}


def test_images_beside_the_class_folders_or_the_splits_are_refused(importer: Importer) -> None:
    found = importer.found({**GOOD, "stray.png": png(50)})
    assert found.refusals.rows == [("stray.png", "it lies in no class folder")]
    splits = {f"{split}/{path}": data for split in ("train", "test") for path, data in GOOD.items()}
    found = importer.found({**splits, "extra/cat/1.png": png(51), "train/stray.png": png(52)})
    assert found.refusals.rows == [
        ("extra/cat/1.png", "it lies in none of the folders train, validation and test"),
        ("train/stray.png", "it lies in no class folder"),
    ]


# ── folders ───────────────────────────────────────────────────────────────────────────────────────


def test_links_out_of_a_folder_and_special_files_are_refused(importer: Importer) -> None:
    folder = write_folder(importer.folder / "things", GOOD)
    secret = importer.folder / "secret.png"
    secret.write_bytes(png(60))
    (folder / "cat" / "out.png").symlink_to(secret)
    (folder / "cat" / "up.png").symlink_to("../../secret.png")
    (folder / "cat" / "gone.png").symlink_to("nowhere.png")
    (folder / "cat" / "loop.png").symlink_to("loop.png")
    (folder / "fish").symlink_to(importer.folder)
    (folder / "cat" / "alias.png").symlink_to("00.png")
    os.mkfifo(folder / "dog" / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "dog" / "s.png"))
    done = importer.run("folder", folder)
    assert done.refusals == {
        "cat/out.png": "this link leads out of the folder",
        "cat/up.png": "this link leads out of the folder",
        "cat/gone.png": "this link does not lead to a file",
        "cat/loop.png": "this link does not lead to a file",
        "fish": "this link leads out of the folder",
        "dog/pipe.png": "this is a device or another special file",
        "dog/s.png": "this is a device or another special file",
    }
    assert done.row.image_count == 7  # the alias stays inside
    assert done.row.duplicate_count == 1


def test_a_folder_that_became_a_link_is_not_followed(importer: Importer) -> None:
    write_folder(importer.folder / "elsewhere", GOOD)
    (importer.folder / "things").symlink_to(importer.folder / "elsewhere")
    sentence = importer.failing("folder", importer.folder / "things")
    assert "has become a link since the import was asked for" in sentence


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_in_a_folder_is_refused(importer: Importer) -> None:
    folder = write_folder(
        importer.folder / "things", {**GOOD, "dog/locked.png": png(1), "bird/1.png": png(2)}
    )
    (folder / "dog" / "locked.png").chmod(0)
    (folder / "bird").chmod(0)
    done = importer.run("folder", folder)
    (folder / "bird").chmod(0o755)
    assert done.refusals == {
        "bird": "the folder could not be read (Permission denied)",
        "dog/locked.png": "the file could not be read (Permission denied)",
    }


def test_a_file_that_vanishes_during_the_import_is_refused(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker.pipeline.imports import job

    folder = write_folder(importer.folder / "things", {**GOOD, "dog/brief.png": png(1)})
    listed = job.open_folder

    def list_then_lose(*arguments: object) -> object:
        files = listed(*arguments)  # type: ignore[arg-type]  # whatever the import passes
        (folder / "dog" / "brief.png").unlink()
        return files

    monkeypatch.setattr(job, "open_folder", list_then_lose)
    assert importer.run("folder", folder).refusals == {
        "dog/brief.png": "the file could not be read (No such file or directory)"
    }
