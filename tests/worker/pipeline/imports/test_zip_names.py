"""Names in zips as Windows and old programs write them: separators, encodings, wrong marks."""

import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.worker.pipeline.imports.importing import Importer, class_folders, importer, write_zip

__all__ = ["importer"]  # a fixture


def raw_zip(
    path: Path,
    names: dict[bytes, bytes],
    *,
    flags: int = 0,
    extra: dict[bytes, bytes] | None = None,
) -> Path:
    """Write a zip with these bytes as names; zipfile itself writes ASCII or UTF-8 only."""
    body, directory = bytearray(), bytearray()
    for name, data in names.items():
        more = (extra or {}).get(name, b"")
        rest = struct.pack(
            "<3H3I2H", 0, 0, 0, zlib.crc32(data), len(data), len(data), len(name), len(more)
        )
        start = len(body)
        body += b"PK\x03\x04" + struct.pack("<2H", 20, flags) + rest + name + more + data
        directory += b"PK\x01\x02" + struct.pack("<3H", 20, 20, flags) + rest
        directory += struct.pack("<3H2I", 0, 0, 0, 0, start) + name + more
    end = struct.pack("<4H2IH", 0, 0, len(names), len(names), len(directory), len(body), 0)
    path.write_bytes(bytes(body + directory + b"PK\x05\x06" + end))
    return path


def named(classes: dict[str, bytes], separator: bytes = b"/") -> dict[bytes, bytes]:
    """Make six pictures a class, under the class's bytes as their folder."""
    pictures = class_folders(dict.fromkeys(classes, 6))
    return {
        classes[path.partition("/")[0]] + separator + path.partition("/")[2].encode(): data
        for path, data in pictures.items()
    }


ENCODED = {
    "GBK": ("gbk", ("合格", "不合格")),
    "CP932": ("cp932", ("良品", "不良品")),
    "CP949": ("cp949", ("정상", "불량")),
    "CP866": ("cp866", ("норма", "трещина")),
    "CP1251": ("cp1251", ("кошка", "собака")),
    "CP1252": ("cp1252", ("chaîne", "étoile")),
    "CP850": ("cp850", ("blåbær", "smørrebrød")),
    "CP437": ("cp437", ("Kätzchen", "Hündchen")),
    "Big5": ("big5", ("合格", "不合格")),
}


@pytest.mark.slow
@pytest.mark.parametrize("title", ENCODED)
def test_names_without_a_sign_of_their_encoding_are_recognised_and_the_report_says_so(
    importer: Importer, title: str
) -> None:
    encoding, classes = ENCODED[title]
    files = named({name: name.encode(encoding) for name in classes})
    done = importer.run("zip", raw_zip(importer.folder / "old.zip", files))
    assert set(done.row.class_names) == set(classes)
    assert done.row.report["names_encoding"] == encoding
    assert any(f"names were read as {title}. If" in note for note in done.row.report["notes"])


@pytest.mark.slow
def test_a_chosen_encoding_wins_over_the_recognised_one(importer: Importer) -> None:
    path = raw_zip(
        importer.folder / "old.zip",
        named({name: name.encode("gbk") for name in ("合格", "不合格")}),
    )
    done = importer.run("zip", path, names_encoding="cp949")
    assert set(done.row.class_names) == {
        name.encode("gbk").decode("cp949") for name in ("合格", "不合格")
    }
    assert "The zip's names were read as CP949, as chosen." in done.row.report["notes"]


@pytest.mark.slow
def test_the_unicode_path_field_comes_before_any_guess(importer: Importer) -> None:
    files = named({"고양이": b"cat\xff", "개": b"dog\xfe"})
    paths = {b"cat\xff": "고양이", b"dog\xfe": "개"}
    extra = {}
    for name in files:
        folder, _, file = name.partition(b"/")
        value = struct.pack("<BL", 1, zlib.crc32(name)) + paths[folder].encode() + b"/" + file
        extra[name] = struct.pack("<2H", 0x7075, len(value)) + value
    done = importer.run("zip", raw_zip(importer.folder / "field.zip", files, extra=extra))
    assert done.row.class_names == ["개", "고양이"]
    assert done.row.report["notes"] == []


@pytest.mark.slow
def test_a_unicode_path_field_of_another_name_does_not_count(importer: Importer) -> None:
    files = named({"cat": "Kätzchen".encode("cp437"), "dog": b"dog"})
    value = struct.pack("<BL", 1, 12345) + "Löwe/x.png".encode()
    extra = dict.fromkeys(files, struct.pack("<2H", 0x7075, len(value)) + value)
    done = importer.run("zip", raw_zip(importer.folder / "field.zip", files, extra=extra))
    assert done.row.class_names == ["dog", "Kätzchen"]


@pytest.mark.slow
def test_utf_8_without_its_sign_needs_no_note(importer: Importer) -> None:
    files = named({name: name.encode() for name in ("Kätzchen", "Hündchen")})
    done = importer.run("zip", raw_zip(importer.folder / "mac.zip", files))
    assert done.row.class_names == ["Hündchen", "Kätzchen"]
    assert done.row.report["notes"] == []


@pytest.mark.slow
def test_a_name_wrongly_marked_as_utf_8_is_read_and_refuses_nothing(importer: Importer) -> None:
    files = named({"cat": b"cat", "dog": b"dog"}) | {
        b"cat/caf\xe9.png": class_folders({"x": 1}, first=90)["x/00.png"]
    }
    done = importer.run("zip", raw_zip(importer.folder / "marked.zip", files, flags=0x800))
    assert done.refusals == {}
    assert "cat/café.png" in done.labels
    assert len(done.labels) == 13


@pytest.mark.slow
def test_backslashes_are_folders_where_no_name_has_a_slash(importer: Importer) -> None:
    files = named({"cat": b"cat", "dog": b"dog"}, b"\\") | {b"cat\\": b"", b"dog\\": b""}
    done = importer.run("zip", raw_zip(importer.folder / "windows.zip", files))
    assert done.row.class_names == ["cat", "dog"]
    assert done.refusals == {}
    assert "cat/00.png" in done.labels
    assert any(
        note.startswith("Backslashes in the zip's names") for note in done.row.report["notes"]
    )


@pytest.mark.slow
def test_backslashes_within_letters_of_japanese_are_no_folders(importer: Importer) -> None:
    """The second byte of ソ and 表 in CP932 is a backslash."""
    files = named({name: name.encode("cp932") for name in ("ソース", "表")})
    done = importer.run("zip", raw_zip(importer.folder / "japan.zip", files))
    assert done.row.class_names == ["ソース", "表"]


@pytest.mark.slow
def test_names_with_backslashes_are_judged_after_they_became_folders(importer: Importer) -> None:
    bad = {
        b"..\\evil.png": "its name leads out of the archive (..)",
        b"cat\\..\\..\\evil.png": "its name leads out of the archive (..)",
        b"C:\\evil.png": "its name is an absolute path",
        b"\\\\server\\share\\evil.png": "its name is an absolute path",
    }
    files = named({"cat": b"cat", "dog": b"dog"}, b"\\") | dict.fromkeys(bad, b"x")
    done = importer.run("zip", raw_zip(importer.folder / "evil.zip", files))
    assert done.refusals == {
        name.decode().replace("\\", "/"): reason for name, reason in bad.items()
    }


@pytest.mark.slow
def test_a_class_that_begins_with_a_letter_and_a_colon_is_no_drive(importer: Importer) -> None:
    done = importer.zip(class_folders({"A: good": 6, "B: bad": 6}))
    assert done.row.class_names == ["A: good", "B: bad"]


def test_entries_that_share_bytes_are_refused_as_a_whole(importer: Importer) -> None:
    path = write_zip(importer.folder / "shared.zip", class_folders({"cat": 4, "dog": 4}))
    with zipfile.ZipFile(path) as archive:
        first, second = (info.header_offset for info in archive.infolist()[:2])
    data = bytearray(path.read_bytes())
    entry = data.find(b"PK\x01\x02")
    size = second - first + 100  # the first entry says that it reaches into the second
    struct.pack_into("<2I", data, entry + 20, size, size)
    path.write_bytes(data)
    said = importer.failing("zip", path)
    assert said.startswith("“cat/00.png” and “cat/01.png” share bytes of this zip")


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"Rar!\x1a\x07\x01\x00", "a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"\x1f\x8b\x08", "a gzip file (such as .tar.gz)"),
        (b"x" * 257 + b"ustar\x00", "a tar archive"),
        (b"\n<!DOCTYPE html><title>Sign in</title>", "a web page"),
    ],
)
def test_another_kind_of_file_is_called_by_its_name(
    importer: Importer, start: bytes, kind: str
) -> None:
    path = importer.folder / "data.zip"
    path.write_bytes(start + bytes(1000))
    said = importer.failing("zip", path)
    assert said.startswith(f"This is {kind}")
    assert said.endswith("not a zip archive. Put the class folders into a zip, then import that.")
