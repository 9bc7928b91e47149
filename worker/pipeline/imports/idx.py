"""Read MNIST's IDX files, plain or .gz, from front to back."""

import gzip
import math
import re
import struct
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np

from backend.core.settings import Settings
from worker.jobs import JobFailed
from worker.pipeline.imports.decoding import Pixels
from worker.pipeline.imports.files import SPLIT_NAMES, Entry, File, Files, Found, natural
from worker.pipeline.imports.refused import Refused

NAME = re.compile(
    r"(?:.*[-_])?(?P<part>train|t10k|test|validation|valid|val)[-_.]"
    r"(?P<what>images|labels)[-_.]idx[13][-_.]ubyte(?:\.gz)?",
    re.IGNORECASE,
)
PARTS = SPLIT_NAMES | {"t10k": "test"}
UNSIGNED_BYTE = 0x08
GZIP = b"\x1f\x8b"
HEADER = 16  # bytes, of a file of images
DEFLATE = 1032  # unpacked bytes for a packed byte, at most
LABELS = [str(label) for label in range(256)]
DAMAGED = (OSError, EOFError, zlib.error, struct.error, Refused)


@dataclass(frozen=True)
class Pair:
    split: str
    images: File
    labels: File


def find_pairs(files: Files) -> list[Pair]:
    """Find the IDX files, train first. Raises JobFailed for a half pair."""
    found: dict[tuple[str, str], File] = {}
    for file in files.files:
        match = NAME.fullmatch(file.parts[-1])
        if match is not None:
            # A plain file sorts before its .gz, and is quicker to read.
            found.setdefault((PARTS[match["part"].lower()], match["what"].lower()), file)
    pairs = []
    for split in ("train", "validation", "test"):
        images, labels = found.get((split, "images")), found.get((split, "labels"))
        if images is not None and labels is not None:
            pairs.append(Pair(split, images, labels))
        elif images is not None or labels is not None:
            there, missing = (images, "labels") if images is not None else (labels, "images")
            raise JobFailed(
                f"“{cast(File, there).path}” is there, but the file with its {missing} is not. "
                f"Put it beside, then import again."
            )
    return pairs


def from_idx(files: Files, pairs: list[Pair], settings: Settings, stack: ExitStack) -> Found:
    """Collect the images of IDX files, closed by `stack`. Raises JobFailed for a damaged file."""
    readers = [_Images(files, pair.images, settings, stack) for pair in pairs]
    _check(readers, settings)
    entries: list[Entry] = []
    for number, (pair, reader) in enumerate(zip(pairs, readers, strict=True)):
        labels, split = _labels(files, pair, reader.count, stack), pair.split
        entries += [
            Entry(f"{split}/{index:05d}", LABELS[label], split, reader.size, (number, index))
            for index, label in enumerate(labels)
        ]
    given = frozenset(pair.split for pair in pairs)
    names = tuple(sorted({entry.label for entry in entries}, key=natural))
    return Found(
        entries,
        lambda entry: readers[entry.key[0]].at(entry.key[1]),
        files.refusals,
        given if given != {"train"} else frozenset(),
        names,
        sizes=frozenset((reader.height, reader.width) for reader in readers),
    )


def _check(readers: list["_Images"], settings: Settings) -> None:
    """Check what the headers claim, before anything is built. Raises JobFailed."""
    count = sum(reader.count for reader in readers)
    if count > settings.max_files:
        raise JobFailed(
            f"The files hold {count:,} images, more than the limit of {settings.max_files:,}. "
            "Import a part of them."
        )
    claimed = sum(reader.count * reader.size for reader in readers)
    if claimed > settings.max_unpacked_bytes:
        raise JobFailed(
            f"The files say that they hold {claimed:,} bytes of images, more than the limit of "
            f"{settings.max_unpacked_bytes:,}. Import a part of them."
        )
    for reader in readers:
        reader.check_length()


class _Images:
    """A file of images, read in order; an earlier image rewinds it."""

    def __init__(self, files: Files, file: File, settings: Settings, stack: ExitStack) -> None:
        self._stack = stack
        self._files = files
        self._file = file
        self._open()
        self.size = self.height * self.width
        if not self.size or self.size > settings.max_image_pixels:
            raise JobFailed(
                f"“{file.path}” says that its images have {self.height:,} × {self.width:,} "
                f"pixels, which cannot be imported."
            )

    def _open(self) -> None:
        self._stream = _stream(self._files, self._file, self._stack)
        self._most_growth = DEFLATE if isinstance(self._stream, gzip.GzipFile) else 1
        self.count, self.height, self.width = _header(self._stream, self._file, 3)
        self._next = 0

    def check_length(self) -> None:
        """Compare the claimed images with the file's true size. Raises JobFailed."""
        most = max(0, self._file.size * self._most_growth - HEADER)
        if self.count * self.size > most:
            raise self._too_short(most // self.size)

    def at(self, index: int) -> Pixels:
        """Read image `index`, (H, W). Raises JobFailed if the file ends before it."""
        if index < self._next:
            self._open()
        try:
            while self._next <= index:
                data = self._stream.read(self.size)
                if len(data) < self.size:
                    raise EOFError
                self._next += 1
        except DAMAGED as error:
            raise self._too_short(self._next) from error
        return np.frombuffer(data, np.uint8).reshape(self.height, self.width)

    def _too_short(self, there: int) -> JobFailed:
        return JobFailed(
            f"“{self._file.path}” is cut off or damaged: it should hold {self.count:,} "
            f"images, and image {there + 1:,} cannot be read. Get the file again."
        )


def _labels(files: Files, pair: Pair, images: int, stack: ExitStack) -> list[int]:
    stream = _stream(files, pair.labels, stack)
    (count,) = _header(stream, pair.labels, 1)
    if count != images:
        raise JobFailed(
            f"“{pair.images.path}” holds {images:,} images, but “{pair.labels.path}” {count:,} "
            f"labels. They do not belong together."
        )
    try:
        data = stream.read(count)
    except DAMAGED:
        data = b""
    if len(data) < count:
        raise JobFailed(
            f"“{pair.labels.path}” is cut off or damaged: it should hold {count:,} labels. Get "
            f"the file again."
        )
    return list(data)


def _stream(files: Files, file: File, stack: ExitStack) -> BinaryIO:
    try:
        stream = stack.enter_context(files.open(file))
        start = stream.read(2)
        stream.seek(0)
    except DAMAGED as error:
        raise JobFailed(f"“{file.path}” cannot be read: {error}.") from error
    return (
        cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=stream)))
        if start == GZIP
        else stream
    )


def _header(stream: BinaryIO, file: File, dimensions: int) -> tuple[int, ...]:
    """Read the sizes: number, and for images height and width.

    IDX: two zero bytes, the type, the number of dimensions, then each as 32 bits.
    """
    try:
        zero, kind, found = struct.unpack(">HBB", stream.read(4))
        sizes = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
    except DAMAGED as error:
        raise JobFailed(
            f"“{file.path}” is not an IDX file, or it is cut off. Get the file again."
        ) from error
    if zero or kind != UNSIGNED_BYTE or found != dimensions or math.prod(sizes) > 2**40:
        what = (
            "images (unsigned bytes, three dimensions)"
            if dimensions == 3
            else "labels (unsigned bytes, one dimension)"
        )
        raise JobFailed(f"“{file.path}” is not an IDX file of {what}, as MNIST's are.")
    return sizes
