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
from worker.pipeline.imports.decoding import Pixels, Refused
from worker.pipeline.imports.files import SPLIT_NAMES, Entry, File, Files, Found, natural

NAME = re.compile(
    r"(?:.*[-_])?(?P<part>train|t10k|test|validation|valid|val)[-_.]"
    r"(?P<what>images|labels)[-_.]idx[13][-_.]ubyte(?:\.gz)?",
    re.IGNORECASE,
)
PARTS = SPLIT_NAMES | {"t10k": "test"}
UNSIGNED_BYTE = 0x08
GZIP = b"\x1f\x8b"
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
    entries: list[Entry] = []
    for number, (pair, reader) in enumerate(zip(pairs, readers, strict=True)):
        labels = _labels(files, pair, reader.count, stack)
        entries += [
            Entry(f"{pair.split}/{index:05d}", str(label), pair.split, reader.size, (number, index))
            for index, label in enumerate(labels)
        ]
    if len(entries) > settings.max_files:
        raise JobFailed(
            f"The files hold {len(entries):,} images, more than the limit of "
            f"{settings.max_files:,}."
        )
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
        self.count, self.height, self.width = _header(self._stream, self._file, 3)
        self._next = 0

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
            raise JobFailed(
                f"“{self._file.path}” is cut off or damaged: it should hold {self.count:,} "
                f"images, and image {self._next + 1:,} cannot be read. "
                "Get the file again."
            ) from error
        return np.frombuffer(data, np.uint8).reshape(self.height, self.width)


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
