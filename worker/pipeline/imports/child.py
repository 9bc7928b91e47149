"""Child process of an import: decodes images from a socket, writes thumbnails.

It loads neither torch nor a database, to start fast. It ends when its parent closes the socket.
"""

import errno
import os
import sys
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from worker.pipeline.imports.decoding import (
    Refused,
    content_hash,
    decode,
    fit,
    from_array,
    thumbnail_and_full,
)
from worker.pipeline.imports.messages import (
    Answer,
    Decoded,
    Payload,
    Work,
    receive_work,
    send_answer,
    send_error,
)


def answer(work: Work) -> Answer:
    """Do the work. Raises OSError on a full disk."""
    images: list[Decoded | str] = []
    pixels = np.empty(
        (len(work.payloads) if work.shape else 0, *(work.shape or (0, 0, 0))), np.uint8
    )
    good = 0
    for payload in work.payloads:
        try:
            image, (width, height) = _image(payload, work.max_pixels)
        except Refused as refusal:
            images.append(str(refusal))
            continue
        digest, stored = "", 0
        if work.shape:
            digest = content_hash(image)
            stored = write_views(work.folder, digest, *thumbnail_and_full(image))
            pixels[good] = fit(image, *work.shape)
            good += 1
        images.append(Decoded(digest, width, height, image.mode != "L", stored))
    return Answer(images, pixels[:good])


def read(path: str) -> bytes:
    """Read a file of a folder. Raises Refused."""
    try:
        return Path(path).read_bytes()
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


def _image(payload: Payload, max_pixels: int) -> tuple[Image, tuple[int, int]]:
    if isinstance(payload, np.ndarray):
        return from_array(payload)
    return decode(payload if isinstance(payload, bytes) else read(payload), max_pixels)


def main() -> None:
    """Work until the parent closes the socket; an OSError is sent back to it."""
    warnings.simplefilter("ignore")  # Pillow warns about odd metadata
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    while True:
        try:
            work = receive_work(connection)
        except (EOFError, ConnectionError):
            return
        try:
            answered = answer(work)
        except OSError as error:
            send_error(connection, error)
            continue
        send_answer(connection, answered)


if __name__ == "__main__":
    main()
