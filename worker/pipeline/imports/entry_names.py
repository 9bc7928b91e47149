"""Read the names of a zip's entries: their encoding and the separator of folders."""

import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from backend.core.name_encodings import codec, short_title
from worker.pipeline.imports.recognition import recognise

UTF_8 = 0x800  # flag of an entry
UNICODE_PATH = 0x7075  # extra field of Info-ZIP: version, CRC of the name, name in UTF-8
CENTRAL_HEADER, LOCAL_HEADER = b"PK\x01\x02", b"PK\x03\x04"
CENTRAL_SIZE, LOCAL_SIZE = 46, 30
CHOOSE = "If names look wrong, import again and choose their encoding (names_encoding)."


@dataclass(frozen=True)
class Names:
    """Names of all entries, in their order. encoding: of names that carry no sign of theirs."""

    names: list[str]
    encoding: str | None
    notes: list[str]


class LenientNames:
    """An archive's file in which names wrongly marked as UTF-8 lose that mark.

    zipfile refuses the whole archive for a single such name.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self.close = file.seek, file.tell, file.close
        self.seekable = file.seekable
        self._file = file

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if data.startswith(CENTRAL_HEADER) and len(data) >= CENTRAL_SIZE:
            return self._without_wrong_marks(data)
        if data.startswith(LOCAL_HEADER) and len(data) == LOCAL_SIZE:
            return self._without_wrong_mark(data)
        return data

    def _without_wrong_marks(self, directory: bytes) -> bytes:
        changed, place = bytearray(directory), 0
        while directory[place : place + 4] == CENTRAL_HEADER:
            (flags,) = struct.unpack_from("<H", directory, place + 8)
            name, extra, comment = struct.unpack_from("<3H", directory, place + 28)
            start = place + CENTRAL_SIZE
            if flags & UTF_8 and not _is_utf8(directory[start : start + name]):
                struct.pack_into("<H", changed, place + 8, flags & ~UTF_8)
            place = start + name + extra + comment
            if place + CENTRAL_SIZE > len(directory):
                break
        return bytes(changed)

    def _without_wrong_mark(self, header: bytes) -> bytes:
        (flags,) = struct.unpack_from("<H", header, 6)
        (length,) = struct.unpack_from("<H", header, 26)
        after = self._file.tell()
        name = self._file.read(length)
        self._file.seek(after)
        if not flags & UTF_8 or _is_utf8(name):
            return header
        return header[:6] + struct.pack("<H", flags & ~UTF_8) + header[8:]


def read_names(infos: Sequence[zipfile.ZipInfo], wanted: str | None = None) -> Names:
    """Read all names. wanted: encoding of the names that carry no sign of theirs."""
    raw = [_raw(info) for info in infos]
    unsigned = {name for name in raw if name is not None}
    encoding = (wanted or _encoding(unsigned)) if unsigned else None
    names = [
        _signed(info) if name is None else name.decode(codec(encoding or "cp437"), "replace")
        for info, name in zip(infos, raw, strict=True)
    ]
    notes = _notes(encoding, wanted) if unsigned else []
    if any("\\" in name for name in names) and not any("/" in name for name in names):
        names = [name.replace("\\", "/") for name in names]
        notes.append("Backslashes in the zip's names were read as folders, as Windows writes them.")
    return Names(names, encoding, notes)


def _raw(info: zipfile.ZipInfo) -> bytes | None:
    """Return the name's bytes, or None for a name that carries its encoding or is ASCII."""
    if info.flag_bits & UTF_8 or info.orig_filename.isascii():
        return None
    raw = info.orig_filename.encode("cp437")  # as zipfile has decoded it
    return raw if _unicode_path(info.extra, raw) is None else None


def _signed(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & UTF_8 or info.orig_filename.isascii():
        return info.orig_filename
    return _unicode_path(info.extra, info.orig_filename.encode("cp437")) or info.orig_filename


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """Return the name in the Unicode path field, if it belongs to this name."""
    place = 0
    while place + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, place)
        value = extra[place + 4 : place + 4 + size]
        if kind == UNICODE_PATH and value[:5] == struct.pack("<BL", 1, zlib.crc32(raw)):
            return value[5:].decode() if _is_utf8(value[5:]) else None
        place += 4 + size
    return None


def _encoding(names: set[bytes]) -> str | None:
    """Choose the encoding of all names together; macOS writes UTF-8 without its sign."""
    if 2 * sum(_is_utf8(name) for name in names) > len(names):
        return "utf-8"
    parts = {part for name in names for part in name.split(b"/") if not part.isascii()}
    return recognise(b"\n".join(sorted(parts)))


def _notes(encoding: str | None, wanted: str | None) -> list[str]:
    if encoding == "utf-8" and not wanted:
        return []
    if encoding is None:
        return [f"The encoding of the zip's names is unknown; they were read as CP437. {CHOOSE}"]
    if wanted:
        return [f"The zip's names were read as {short_title(encoding)}, as chosen."]
    return [f"The zip's names were read as {short_title(encoding)}. {CHOOSE}"]


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
