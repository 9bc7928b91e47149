"""Choose the pixel array's shape, and write it row by row."""

import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from worker.jobs import JobFailed
from worker.pipeline.imports.decoding import Pixels
from worker.pipeline.imports.files import Found
from worker.pipeline.imports.messages import Answer, Decoded, Payload, Shape, Work
from worker.pipeline.imports.pool import Pool, ended_its_decoder
from worker.pipeline.imports.reading import DEEP, Reading
from worker.pipeline.imports.refused import Refused
from worker.pipeline.imports.spool import Spool
from worker.pipeline.imports.survey import Survey

SURVEYED = 256
MOST_IMAGES_A_CHUNK = 64
MOST_BYTES_A_CHUNK = 4 << 20
SMALLEST_SIDE, LARGEST_SIDE = 28, 64
# So many images that end their decoder are an attack, or a broken machine.
MOST_DEATHS = 50
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


@dataclass
class Chunk:
    """Images to decode together, and those that cannot be read."""

    places: list[int] = field(default_factory=list)
    payloads: list[Payload] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)


class Decoding:
    """Decodes an import's images into `folder`, in a shape and a reading that fit them all."""

    def __init__(self, found: Found, folder: Path, side: int | None, progress: Progress) -> None:
        self.found = found
        self.folder = folder
        self.side = side
        self.progress = progress
        self.look = Look(set(found.sizes))
        self.survey = Survey()
        self.reading = Reading()
        self.shape: Shape = (0, 0, 0)
        self._ended_their_decoder: dict[int, str] = {}  # by place

    def run(self, pool: Pool) -> list[Decoded | str]:
        """Decode every entry; pixels.npy has the decoded images in the same order.

        A later image of another size, or the first with colour or more than 8 bits, starts again.
        Raises JobFailed.
        """
        if not self.look.sizes and self.found.entries:
            self._survey(pool, self._spread(range(len(self.found.entries))))
            if self.survey.lacks(len(self.found.entries), SURVEYED):
                self._survey_deep(pool)
        while True:
            answers = self._decode(pool)
            if answers is not None:
                return answers

    def refusals(self, answers: list[Decoded | str]) -> list[tuple[str, str]]:
        """List path and reason of each entry that could not be decoded."""
        pairs = zip(self.found.entries, answers, strict=True)
        return [(entry.path, answer) for entry, answer in pairs if isinstance(answer, str)]

    def _spread(self, places: Sequence[int]) -> list[int]:
        numbers = np.unique(np.linspace(0, len(places) - 1, SURVEYED).round().astype(int))
        return [places[number] for number in numbers]

    def _survey(self, pool: Pool, places: list[int]) -> None:
        for chunk, answer in self._answers(pool, places, self._looking, task="survey"):
            self._remember_deaths(chunk.places, answer)
            self.survey.add(answer)
            for image in answer.images:
                if isinstance(image, Decoded):
                    self.look.add(image)
        self.reading = self.survey.reading()

    def _survey_deep(self, pool: Pool) -> None:
        """Find all pictures of more than 8 bits by their headers, and survey a sample of them."""
        deep = []
        everything = range(len(self.found.entries))
        for chunk, answer in self._answers(pool, everything, self._looking, task="look"):
            for place, image in zip(chunk.places, answer.images, strict=True):
                if isinstance(image, Decoded) and image.marks & DEEP:
                    deep.append(place)
        self.survey.forget_values()
        self._survey(pool, self._spread(deep))

    def _decode(self, pool: Pool) -> list[Decoded | str] | None:
        """Decode all, or return None at an image that shape or reading does not fit."""
        entries = self.found.entries
        self.shape = self.look.shape(self.side)
        answers: list[Decoded | str | None] = [None] * len(entries)
        done = 0

        def tick() -> None:
            self.progress(done, len(entries), f"Decoding {done:,} of {len(entries):,}")

        work = self._answers(
            pool,
            range(len(entries)),
            tick,
            task="decode",
            shape=self.shape,
            folder=str(self.folder),
            reading=self.reading,
        )
        with PixelFile(self.folder / "pixels.npy", self.shape) as file:
            for chunk, decoded in work:
                self._remember_deaths(chunk.places, decoded)
                for place, answer in [
                    *chunk.refused,
                    *zip(chunk.places, decoded.images, strict=True),
                ]:
                    answers[place] = answer
                    if isinstance(answer, Decoded):
                        self.look.add(answer)
                        if not self.reading.fits(answer.marks):
                            self._survey_deep(pool)
                            return None
                if self.look.shape(self.side) != self.shape:
                    return None
                file.append(decoded.pixels)
                done += len(chunk.places) + len(chunk.refused)
                tick()
        return [answer for answer in answers if answer is not None]

    def _looking(self) -> None:
        self.progress(0, len(self.found.entries), "Looking at some of the images")

    def _remember_deaths(self, places: list[int], answer: Answer) -> None:
        """Keep the images that ended a decoder, to decode them no second time."""
        for place, image in zip(places, answer.images, strict=True):
            if isinstance(image, str) and ended_its_decoder(image):
                self._ended_their_decoder[place] = image
        if len(self._ended_their_decoder) >= MOST_DEATHS:
            place, reason = next(iter(self._ended_their_decoder.items()))
            raise JobFailed(
                f"{MOST_DEATHS} images could not be decoded within the limits of a decoder; the "
                f"first is “{self.found.entries[place].path[:200]}”: {reason}. Take such images "
                "out or save them again, then import."
            )

    def _answers(
        self, pool: Pool, places: Sequence[int], tick: Callable[[], None], **options: Any
    ) -> Iterator[tuple[Chunk, Answer]]:
        """Have images worked on; yields them in order, with the answers."""
        under_way: deque[Chunk] = deque()
        # In the archive, large files are packed; a decoder reads them from the disk.
        with Spool(self.folder, tick) as spool:

            def works() -> Iterator[Work]:
                for chunk in self._chunks(places, spool):
                    under_way.append(chunk)
                    yield Work(chunk.payloads, **options)

            for answer in pool.run(works(), tick):
                chunk = under_way.popleft()
                spool.discard(chunk.payloads)
                yield chunk, answer

    def _chunks(self, places: Sequence[int], spool: Spool) -> Iterator[Chunk]:
        """Group images to decode together."""
        chunk, size = Chunk(), 0
        for place in places:
            entry = self.found.entries[place]
            try:
                if place in self._ended_their_decoder:
                    raise Refused(self._ended_their_decoder[place])
                chunk.payloads.append(spool.read(self.found, entry))
            except Refused as refusal:
                chunk.refused.append((place, str(refusal)))
            else:
                chunk.places.append(place)
                size += entry.size
            if len(chunk.places) == MOST_IMAGES_A_CHUNK or size >= MOST_BYTES_A_CHUNK:
                yield chunk
                chunk, size = Chunk(), 0
        if chunk.places or chunk.refused:
            yield chunk
