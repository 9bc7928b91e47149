"""The child process of an import: takes chunks over a socket, measures or decodes them, writes thumbnails. Started by imports_pool.

It imports no torch and no database, so it starts in a fifth of a second, and it ends by itself when its parent is gone: the socket closes.
"""

import os
import sys
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from worker.pipeline.imports_decoding import Measured, Pixels, Refused, content_hash, decode, fit, from_array, measure, thumbnail_and_full

# What a chunk carries for one image: the file's bytes (from a zip), its path (from a folder), or the pixels themselves (from IDX files).
Payload = bytes | str | Pixels


@dataclass(frozen=True)
class MeasureChunk:
    """Ask for the sizes of images."""

    payloads: list[Payload]
    max_pixels: int


@dataclass(frozen=True)
class DecodeChunk:
    """Ask for pixels (height, width, channels) and for WebP files below `folder`."""

    payloads: list[Payload]
    max_pixels: int
    height: int
    width: int
    channels: int
    folder: str


@dataclass(frozen=True)
class Decoded:
    """One image as it came out: original size, hash, and whether it has colour."""

    content_hash: str
    width: int
    height: int
    colour: bool


@dataclass(frozen=True)
class DecodedChunk:
    """One answer an image (a string is the reason of a refusal), and the pixels of those that are good, in order: (good, H, W, C)."""

    answers: list[Decoded | str]
    pixels: Pixels


def answer_measure(chunk: MeasureChunk) -> list[Measured | str]:
    """One answer an image; a string is the reason of a refusal."""
    return [_measure_one(payload, chunk.max_pixels) for payload in chunk.payloads]


def answer_decode(chunk: DecodeChunk) -> DecodedChunk:
    """Decode a chunk and write its thumbnails. Raises OSError where the disk is full."""
    answers: list[Decoded | str] = []
    pixels = np.empty((len(chunk.payloads), chunk.height, chunk.width, chunk.channels), np.uint8)
    good = 0
    for payload in chunk.payloads:
        try:
            image, size = from_array(payload) if isinstance(payload, np.ndarray) else decode(read(payload), chunk.max_pixels)
        except Refused as refusal:
            answers.append(str(refusal))
            continue
        digest = content_hash(image)
        write_views(Path(chunk.folder), digest, *thumbnail_and_full(image))
        pixels[good] = fit(image, chunk.height, chunk.width, chunk.channels)
        answers.append(Decoded(digest, *size, colour=image.mode != "L"))
        good += 1
    return DecodedChunk(answers, pixels[:good])


def read(payload: bytes | str) -> bytes:
    """The file's bytes. Raises Refused where a file of a folder cannot be read."""
    if isinstance(payload, bytes):
        return payload
    try:
        return Path(payload).read_bytes()
    except OSError as error:
        raise Refused(f"the file could not be read ({error.strerror})") from error


def write_views(folder: Path, digest: str, thumbnail: bytes, full: bytes | None) -> None:
    """Write the WebP files under their hash. No fsync for each: the parent syncs once before the import counts as done."""
    for kind, data in (("thumbnails", thumbnail), ("full", full)):
        if data is not None:
            place = folder / kind / digest[:2]
            try:
                (place / f"{digest}.webp").write_bytes(data)
            except FileNotFoundError:
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{digest}.webp").write_bytes(data)


def _measure_one(payload: Payload, max_pixels: int) -> Measured | str:
    if isinstance(payload, np.ndarray):
        return Measured(payload.shape[1], payload.shape[0], payload.ndim == 3)
    try:
        return measure(read(payload), max_pixels)
    except Refused as refusal:
        return str(refusal)


def main() -> None:
    """Answer chunks until the parent closes the socket. An OSError travels back as such; anything else ends this process."""
    warnings.simplefilter("ignore")  # Pillow warns about odd metadata; what matters comes back as a refusal
    connection = Connection(int(sys.argv[1]))
    while True:
        try:
            chunk = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            answer: object = answer_measure(chunk) if isinstance(chunk, MeasureChunk) else answer_decode(chunk)
        except OSError as error:
            answer = OSError(error.errno, os.strerror(error.errno or 0))
        connection.send(answer)


if __name__ == "__main__":
    main()
