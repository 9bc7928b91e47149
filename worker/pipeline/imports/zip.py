"""List the files of a zip; entries are read into memory, never unpacked to the disk."""

import lzma
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from backend.core.settings import Settings
from worker.jobs import JobFailed
from worker.pipeline.imports.files import (
    LARGE,
    Copy,
    File,
    Files,
    Refusals,
    cleaned,
    is_junk,
    why_unsafe,
)
from worker.pipeline.imports.refused import Refused

# Small entries may shrink to almost nothing (a black bitmap); only large entries can be bombs.
SMALL = 1 << 20
ENCRYPTED, UTF_8 = 0x1, 0x800  # flags of an entry
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    RuntimeError,
    OSError,
)
DAMAGED = "this entry of the zip is damaged or cut off"
LOCAL_HEADER = b"PK\x03\x04"
PIECE = 1 << 20


def open_zip(path: Path, settings: Settings, stack: ExitStack) -> Files:
    """List the archive's files; `stack` closes it. Raises JobFailed for an unusable archive."""
    archive = stack.enter_context(_open(path))
    infos = [info for info in archive.infolist() if not info.is_dir()]
    _check(infos, settings)
    refusals = Refusals()
    files: list[File] = []
    folders = {
        _parts(_name(info))
        for info in archive.infolist()
        if info.is_dir() and why_unsafe(_name(info)) is None
    }
    for info in infos:
        parts = _parts(_name(info))
        # An unsafe name is refused even with a leading dot: “..\x.png” is no hidden file.
        if is_junk(parts) and why_unsafe(_name(info)) is None:
            continue
        reason = _why_not(info)
        if reason is None:
            files.append(File(parts, info.file_size, info))
        else:
            refusals.add(cleaned(_name(info)), reason)
    files = _each_name_once(sorted(files, key=lambda file: file.path), refusals)

    def open_entry(file: File) -> BinaryIO:
        try:
            return cast(BinaryIO, archive.open(file.key))
        except UNREADABLE as error:
            raise Refused(DAMAGED) from error

    def read(file: File) -> bytes | Copy:
        if file.size > LARGE:
            return lambda target, tick: _copy(archive, file.key, target, tick)
        return _read(archive, file.key)

    folders = {parts for parts in folders if not is_junk(parts)}
    return Files("zip", files, folders, read, open_entry, refusals)


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise JobFailed(
            "The file to import is not there any more. Upload it again, or import it from where "
            "it is now."
        ) from error
    except PermissionError as error:
        raise JobFailed(
            "Winnow may not read this file. Give the account that runs the worker the right to "
            "read it, then try again."
        ) from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        with path.open("rb") as file:
            start = file.read(4)
        if not start:
            raise JobFailed(
                "This file is empty (zero bytes). Choose the zip again; perhaps it was still "
                "being written."
            ) from error
        if start == LOCAL_HEADER:
            raise JobFailed(
                "This zip is cut off or damaged: its table of contents cannot be read. Copy or "
                "upload it again."
            ) from error
        raise JobFailed(
            "This is not a zip archive. Put the class folders into a zip, then import that."
        ) from error


def _check(infos: list[zipfile.ZipInfo], settings: Settings) -> None:
    """Check the limits in the table of contents, before unpacking."""
    if len(infos) > settings.max_files:
        raise JobFailed(
            f"The zip holds {len(infos):,} files, more than the limit of {settings.max_files:,}. "
            f"Import a part of it."
        )
    if any(info.flag_bits & ENCRYPTED for info in infos):
        raise JobFailed("This zip is encrypted. Make one without a password, then import that.")
    total = sum(info.file_size for info in infos)
    if total > settings.max_unpacked_bytes:
        raise JobFailed(
            f"This zip would unpack to {total:,} bytes, more than the limit of "
            f"{settings.max_unpacked_bytes:,}. "
            "Import a part of it, or ask the administrator to raise the limit."
        )
    for info in infos:
        if info.file_size > max(SMALL, settings.max_compression_ratio * info.compress_size):
            raise JobFailed(
                f"“{cleaned(_name(info))[:200]}” in this zip would unpack to {info.file_size:,} "
                f"bytes from {info.compress_size:,}, "
                "which no image does. Take it out, then import again."
            )


def _why_not(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "this is a link, not a file"
    if kind not in (0, stat.S_IFREG):
        return "this is a device or another special file"
    return why_unsafe(_name(info))


def _each_name_once(files: list[File], refusals: Refusals) -> list[File]:
    kept: list[File] = []
    for file in files:
        if kept and kept[-1].parts == file.parts:
            refusals.add(file.path, "the zip has this name twice; the first one counts")
        else:
            kept.append(file)
    return kept


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with _readable():
        return archive.read(info)


def _copy(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: BinaryIO, tick: Callable[[], None]
) -> None:
    with ExitStack() as stack:
        with _readable():
            source = stack.enter_context(archive.open(info))
        while True:
            tick()
            with _readable():
                piece = source.read(PIECE)
            if not piece:
                return
            target.write(piece)


@contextmanager
def _readable() -> Iterator[None]:
    """Refuse an entry that cannot be read."""
    try:
        yield
    except NotImplementedError as error:
        raise Refused(
            "it is compressed in a way that cannot be read; make the zip with the usual method "
            "(deflate)"
        ) from error
    except UNREADABLE as error:
        raise Refused(DAMAGED) from error


def _parts(name: str) -> tuple[str, ...]:
    return tuple(cleaned(part) for part in name.split("/") if part not in ("", "."))


def _name(info: zipfile.ZipInfo) -> str:
    """Decode the entry's name; macOS writes UTF-8 without its flag."""
    if info.flag_bits & UTF_8 or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError:
        return info.filename
