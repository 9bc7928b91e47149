"""Child process of an import: decodes images from a socket, writes thumbnails.

It loads neither torch nor a database, to start fast. It ends when its parent closes the socket.
Its arguments: descriptors of the socket and of the file that tells its place in the work, the most
pixels of a picture, and the seconds of processor for each.
"""

import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, BinaryIO

import numpy as np

from worker.pipeline.imports.decoding import (
    Picture,
    content_hash,
    decode,
    fit,
    from_array,
    look,
    thumbnail_and_full,
)
from worker.pipeline.imports.limits import FREE_BYTES, allow_seconds, confine, memory_of
from worker.pipeline.imports.messages import (
    Answer,
    Decoded,
    Payload,
    Work,
    ask_for_memory,
    receive_work,
    send_answer,
    send_error,
)
from worker.pipeline.imports.reading import Sample
from worker.pipeline.imports.refused import Refused
from worker.pipeline.imports.regular_file import open_regular

# A larger file stays on the disk while it is decoded.
MOST_BYTES_READ = 4 << 20


@dataclass(frozen=True)
class Child:
    """Decodes within its limits; the parent learns each image's place, and grants memory."""

    max_pixels: int
    begin: Callable[[int], None]
    wait_for_memory: Callable[[int], None]

    def answer(self, work: Work) -> Answer:
        """Do the work. Raises OSError on a full disk."""
        images: list[Decoded | str] = []
        samples: list[Sample] = []
        room = len(work.payloads) if work.task == "decode" else 0
        pixels = np.empty((room, *work.shape), np.uint8)
        good = 0
        for place, payload in enumerate(work.payloads):
            self.begin(place)
            try:
                picture = self._picture(payload, work)
            except Refused as refusal:
                images.append(str(refusal))
                continue
            digest, stored, colour = "", 0, False
            if work.task != "look":
                colour = picture.image.mode != "L"
            if work.task == "survey" and picture.sample is not None:
                samples.append(picture.sample)
            if work.task == "decode":
                digest = content_hash(picture.image)
                views = thumbnail_and_full(picture.image)
                stored = write_views(work.folder, digest, *views)
                pixels[good] = fit(picture.image, *work.shape)
                good += 1
            width, height = picture.size
            marks, source = int(picture.marks), picture.source
            images.append(Decoded(digest, width, height, colour, stored, marks, source))
            # Freed before the next is decoded: the largest takes 200 MB.
            del picture
        return Answer(images, pixels[:good], samples)

    def _picture(self, payload: Payload, work: Work) -> Picture:
        if isinstance(payload, np.ndarray):
            return from_array(payload)
        with opened(payload) as file:
            if work.task == "look":
                return look(file, self.max_pixels)
            return decode(
                file,
                self.max_pixels,
                work.reading,
                self.wait_for_memory,
                survey=work.task == "survey",
            )


def opened(payload: bytes | str) -> BinaryIO:
    """Open an image; small files are read at once. Raises Refused."""
    if isinstance(payload, bytes):
        return io.BytesIO(payload)
    file = open_regular(payload)
    if os.fstat(file.fileno()).st_size > MOST_BYTES_READ:
        return file
    with file:
        try:
            return io.BytesIO(file.read())
        except OSError as error:
            raise Refused(f"the file could not be read ({error.strerror})") from error


def write_views(folder: str, digest: str, thumbnail: bytes, full: bytes | None) -> int:
    """Write the WebP files under their hash; returns their bytes. The parent syncs them."""
    _write(f"{folder}/thumbnails/{digest[:2]}", f"{digest}.webp", thumbnail)
    if full is not None:
        _write(f"{folder}/full/{digest[:2]}", f"{digest}.webp", full)
    return len(thumbnail) + len(full or b"")


def _write(folder: str, name: str, data: bytes) -> None:
    # Writing small files is most of an import; pathlib and buffers would double it.
    try:
        file = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)
        file = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        if os.write(file, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(file)


def main() -> None:
    """Work until the parent closes the socket; an OSError is sent back to it."""
    warnings.simplefilter("ignore")  # Pillow warns about odd metadata,
    logging.disable()  # and logs a line for each odd picture
    wire, place_file, max_pixels, seconds = (int(argument) for argument in sys.argv[1:])
    connection: Connection[Any, Any] = Connection(wire)
    confine(max_pixels)

    def begin(place: int) -> None:
        os.pwrite(place_file, place.to_bytes(4, "little"), 0)
        allow_seconds(seconds)

    def wait_for_memory(pixels: int) -> None:
        if memory_of(pixels) > FREE_BYTES:
            ask_for_memory(connection, memory_of(pixels))

    child = Child(max_pixels, begin, wait_for_memory)
    while True:
        try:
            work = receive_work(connection)
        except (EOFError, ConnectionError):
            return
        try:
            answered = child.answer(work)
        except OSError as error:
            send_error(connection, error)
            continue
        send_answer(connection, answered)


if __name__ == "__main__":
    main()
