"""List the files of a zip; entries are read into memory, never unpacked to the disk."""

import lzma
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, cast

from backend.core import file_kinds
from backend.core.settings import Settings
from worker.jobs import JobFailed
from worker.pipeline.imports.entry_names import LOCAL_HEADER, LenientNames, read_names
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
ENCRYPTED = 0x1  # flag of an entry
FIXED_LOCAL_SIZE = 30  # bytes of a local header before its name
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
PIECE = 1 << 20


def open_zip(
    path: Path, settings: Settings, stack: ExitStack, names_encoding: str | None = None
) -> Files:
    """List the archive's files; `stack` closes it. Raises JobFailed for an unusable archive."""
    archive = stack.enter_context(_open(path, stack))
    infos = archive.infolist()
    names = read_names(infos, names_encoding)
    named = list(zip(names.names, infos, strict=True))
    entries = [(name, info) for name, info in named if not name.endswith("/")]
    _check(entries, settings)
    refusals = Refusals()
    files: list[File] = []
    folders = {_parts(name) for name, _ in named if name.endswith("/") and why_unsafe(name) is None}
    for name, info in entries:
        parts = _parts(name)
        # An unsafe name is refused even with a leading dot: “..\x.png” is no hidden file.
        if is_junk(parts) and why_unsafe(name) is None:
            continue
        reason = _why_not(name, info)
        if reason is None:
            files.append(File(parts, info.file_size, info))
        else:
            refusals.add(cleaned(name), reason)
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
    return Files(
        "zip",
        files,
        folders,
        read,
        open_entry,
        refusals,
        notes=names.notes,
        names_encoding=names.encoding,
    )


def _open(path: Path, stack: ExitStack) -> zipfile.ZipFile:
    try:
        file = stack.enter_context(path.open("rb"))
        return zipfile.ZipFile(cast(BinaryIO, LenientNames(file)))
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
            start = file.read(file_kinds.MOST_BYTES)
        if not start:
            raise JobFailed(
                "This file is empty (zero bytes). Choose the zip again; perhaps it was still "
                "being written."
            ) from error
        if start.startswith(LOCAL_HEADER):
            raise JobFailed(
                "This zip is cut off or damaged: its table of contents cannot be read. Copy or "
                "upload it again."
            ) from error
        raise JobFailed(
            f"{file_kinds.not_a_zip(start)} Put the class folders into a zip, then import that."
        ) from error


def _check(entries: list[tuple[str, zipfile.ZipInfo]], settings: Settings) -> None:
    """Check the limits in the table of contents, before unpacking."""
    if len(entries) > settings.max_files:
        raise JobFailed(
            f"The zip holds {len(entries):,} files, more than the limit of "
            f"{settings.max_files:,}. Import a part of it."
        )
    if any(info.flag_bits & ENCRYPTED for _, info in entries):
        raise JobFailed("This zip is encrypted. Make one without a password, then import that.")
    total = sum(info.file_size for _, info in entries)
    if total > settings.max_unpacked_bytes:
        raise JobFailed(
            f"This zip would unpack to {total:,} bytes, more than the limit of "
            f"{settings.max_unpacked_bytes:,}. "
            "Import a part of it, or ask the administrator to raise the limit."
        )
    for name, info in entries:
        if info.file_size > max(SMALL, settings.max_compression_ratio * info.compress_size):
            raise JobFailed(
                f"“{cleaned(name)[:200]}” in this zip would unpack to {info.file_size:,} "
                f"bytes from {info.compress_size:,}, "
                "which no image does. Take it out, then import again."
            )
    _check_overlap(entries)


def _check_overlap(entries: list[tuple[str, zipfile.ZipInfo]]) -> None:
    """Raise JobFailed where entries share bytes, so that few bytes unpack to many."""
    in_place = sorted(entries, key=lambda entry: entry[1].header_offset)
    for (name, info), (other, following) in pairwise(in_place):
        end = info.header_offset + FIXED_LOCAL_SIZE + info.compress_size
        if end > following.header_offset:
            raise JobFailed(
                f"“{cleaned(name)[:200]}” and “{cleaned(other)[:200]}” share bytes of this zip, "
                "as no program for zips writes them. Make the zip again, then import that."
            )


def _why_not(name: str, info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "this is a link, not a file"
    if kind not in (0, stat.S_IFREG):
        return "this is a device or another special file"
    return why_unsafe(name)


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
