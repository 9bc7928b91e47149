"""Choose the pixel array's shape, and write it row by row."""

import io
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from worker.pipeline.imports.decoding import Pixels, Refused
from worker.pipeline.imports.files import Entry, Found
from worker.pipeline.imports.messages import Decoded, Payload, Shape, Work
from worker.pipeline.imports.pool import Pool

SURVEYED = 256
MOST_IMAGES_A_CHUNK = 64
MOST_BYTES_A_CHUNK = 4 << 20
SMALLEST_SIDE, LARGEST_SIDE = 28, 64
Progress = Callable[[int, int, str], None]


@dataclass
class Look:
    """Sizes and colour of the images so far."""

    sizes: set[tuple[int, int]] = field(default_factory=set)  # two at most
    colour: bool = False

    def add(self, seen: Decoded) -> None:
        self.colour = self.colour or seen.colour
        if len(self.sizes) < 2:
            self.sizes.add((seen.height, seen.width))

    def shape(self, side: int | None) -> Shape:
        """Choose a square of `side`, else a common size from 28 to 64, else a square."""
        channels = 3 if self.colour else 1
        if side:
            return side, side, channels
        if len(self.sizes) == 1:
            ((height, width),) = self.sizes
            if min(height, width) >= SMALLEST_SIDE and max(height, width) <= LARGEST_SIDE:
                return height, width, channels
            if max(height, width) <= SMALLEST_SIDE:
                return SMALLEST_SIDE, SMALLEST_SIDE, channels
        return LARGEST_SIDE, LARGEST_SIDE, channels


class PixelFile:
    """A growing .npy file (N, H, W, C) of uint8; its end writes N."""

    def __init__(self, path: Path, shape: Shape) -> None:
        self.rows = 0
        self._shape = shape
        self._header = self._made_header()
        # Unbuffered: closing a half-written file must not write, and fail, again.
        self._file = path.open("wb", buffering=0)

    def __enter__(self) -> Self:
        self._write(self._header)
        return self

    def append(self, pixels: Pixels) -> None:
        if len(pixels):
            self._write(np.ascontiguousarray(pixels).data)
            self.rows += len(pixels)

    def finish(self) -> None:
        """Write the number of rows, and flush to the disk."""
        header = self._made_header()
        if len(header) != len(self._header):
            raise RuntimeError(
                "numpy made a header of another length; it should leave room for the number of rows"
            )
        self._file.seek(0)
        self._write(header)
        os.fsync(self._file.fileno())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self._file.close()

    def _write(self, data: bytes | memoryview) -> None:
        left = memoryview(data).cast("B")
        while left:
            left = left[self._file.write(left) :]

    def _made_header(self) -> bytes:
        buffer = io.BytesIO()
        about = {"descr": "|u1", "fortran_order": False, "shape": (self.rows, *self._shape)}
        np.lib.format.write_array_header_1_0(buffer, about)
        return buffer.getvalue()


class Decoding:
    """Decodes an import's images into `folder`, in a shape that fits them all."""

    def __init__(
        self, found: Found, folder: Path, side: int | None, max_pixels: int, progress: Progress
    ) -> None:
        self.found = found
        self.folder = folder
        self.side = side
        self.max_pixels = max_pixels
        self.progress = progress
        self.look = Look(set(found.sizes))
        self.shape: Shape = (0, 0, 0)

    def run(self, pool: Pool) -> list[Decoded | str]:
        """Decode every entry; pixels.npy has the decoded images in the same order.

        A later image of another size, or the first with colour, starts again: twice at most.
        """
        if not self.look.sizes and self.found.entries:
            self._survey(pool)
        while True:
            answers = self._decode(pool)
            if answers is not None:
                return answers

    def refusals(self, answers: list[Decoded | str]) -> list[tuple[str, str]]:
        """List path and reason of each entry that could not be decoded."""
        pairs = zip(self.found.entries, answers, strict=True)
        return [(entry.path, answer) for entry, answer in pairs if isinstance(answer, str)]

    def _survey(self, pool: Pool) -> None:
        entries = self.found.entries
        spread = [
            entries[index]
            for index in np.unique(np.linspace(0, len(entries) - 1, SURVEYED).round().astype(int))
        ]
        self.progress(0, len(entries), "Looking at some of the images")
        works = (
            Work(payloads, self.max_pixels, None, "") for _, payloads, _ in self._chunks(spread)
        )
        for surveyed in pool.run(works):
            self.progress(0, len(entries), "Looking at some of the images")
            for image in surveyed.images:
                if isinstance(image, Decoded):
                    self.look.add(image)

    def _decode(self, pool: Pool) -> list[Decoded | str] | None:
        """Decode all, or return None at an image that the shape does not fit."""
        entries = self.found.entries
        self.shape = self.look.shape(self.side)
        answers: list[Decoded | str | None] = [None] * len(entries)
        under_way: deque[list[int]] = deque()

        def works() -> Iterator[Work]:
            for places, payloads, unreadable in self._chunks(entries):
                for place, reason in unreadable:
                    answers[place] = reason
                under_way.append(places)
                yield Work(payloads, self.max_pixels, self.shape, str(self.folder))

        with PixelFile(self.folder / "pixels.npy", self.shape) as file:
            done = 0
            for decoded in pool.run(works()):
                places = under_way.popleft()
                for place, answer in zip(places, decoded.images, strict=True):
                    answers[place] = answer
                    if isinstance(answer, Decoded):
                        self.look.add(answer)
                if self.look.shape(self.side) != self.shape:
                    return None
                file.append(decoded.pixels)
                done += len(places)
                self.progress(done, len(entries), f"Decoding {done:,} of {len(entries):,}")
        return [answer for answer in answers if answer is not None]

    def _chunks(
        self, entries: list[Entry]
    ) -> Iterator[tuple[list[int], list[Payload], list[tuple[int, str]]]]:
        """Group images to decode together; the third part holds unreadable entries."""
        places: list[int] = []
        payloads: list[Payload] = []
        unreadable: list[tuple[int, str]] = []
        size = 0
        for place, entry in enumerate(entries):
            try:
                payloads.append(self.found.read(entry))
            except Refused as refusal:
                unreadable.append((place, str(refusal)))
                continue
            places.append(place)
            size += entry.size
            if len(places) == MOST_IMAGES_A_CHUNK or size >= MOST_BYTES_A_CHUNK:
                yield places, payloads, unreadable
                places, payloads, unreadable, size = [], [], [], 0
        if places or unreadable:
            yield places, payloads, unreadable
