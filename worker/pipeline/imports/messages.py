"""Messages between an import and its children.

Children read hostile files, so their answers are never unpickled.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import numpy as np

from worker.pipeline.imports.decoding import Pixels

# An image for a child: bytes (zip), a path (folder), or pixels (IDX, the sample).
Payload = bytes | str | Pixels
Shape = tuple[int, int, int]  # height, width, channels
Wire: TypeAlias = "Connection[Any, Any]"  # Connection takes no parameters at run time


@dataclass(frozen=True)
class Work:
    """Images to decode into `shape` (None: survey only), and the WebP files' folder."""

    payloads: list[Payload]
    max_pixels: int
    shape: Shape | None
    folder: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded image: upright size, and the bytes of its WebP files."""

    content_hash: str
    width: int
    height: int
    colour: bool
    stored: int


@dataclass(frozen=True)
class Answer:
    """Decoded images or reasons of refusal, and the pixels (decoded, H, W, C)."""

    images: list[Decoded | str]
    pixels: Pixels


def send_work(connection: Wire, work: Work) -> None:
    blobs: list[bytes | memoryview] = []
    kinds: list[Any] = []
    for payload in work.payloads:
        if isinstance(payload, str):
            kinds.append(payload)
        elif isinstance(payload, bytes):
            kinds.append(len(payload))
            blobs.append(payload)
        else:
            kinds.append(payload.shape)
            blobs.append(np.ascontiguousarray(payload).data.cast("B"))
    _send(
        connection,
        {
            "payloads": kinds,
            "max_pixels": work.max_pixels,
            "shape": work.shape,
            "folder": work.folder,
        },
        b"".join(blobs),
    )


def receive_work(connection: Wire) -> Work:
    """Receive work in a child. Raises EOFError once the import is gone."""
    about, blob = _receive(connection)
    shape = tuple(about["shape"]) if about["shape"] else None
    return Work(
        list(_payloads(about["payloads"], blob)), about["max_pixels"], shape, about["folder"]
    )


def send_answer(connection: Wire, answer: Answer) -> None:
    images = [image if isinstance(image, str) else astuple(image) for image in answer.images]
    _send(
        connection,
        {"images": images, "shape": answer.pixels.shape},
        answer.pixels.data.cast("B") if answer.pixels.size else b"",
    )


def send_error(connection: Wire, error: OSError) -> None:
    """Report an error that ends all work, as a full disk."""
    _send(connection, {"errno": error.errno or 0}, b"")


def receive_answer(connection: Wire) -> Answer:
    """Receive an answer. Raises the child's OSError; EOFError or ConnectionError if it died."""
    about, blob = _receive(connection)
    if "errno" in about:
        raise OSError(about["errno"], os.strerror(about["errno"]))
    images = [image if isinstance(image, str) else Decoded(*image) for image in about["images"]]
    return Answer(images, np.frombuffer(blob, np.uint8).reshape(about["shape"]))


def _payloads(kinds: list[Any], blob: bytes) -> Iterator[Payload]:
    start = 0
    for kind in kinds:
        if isinstance(kind, str):
            yield kind
            continue
        size = kind if isinstance(kind, int) else int(np.prod(kind))
        piece = blob[start : start + size]
        start += size
        yield piece if isinstance(kind, int) else np.frombuffer(piece, np.uint8).reshape(kind)


def _send(connection: Wire, about: dict[str, Any], blob: bytes | memoryview) -> None:
    connection.send_bytes(json.dumps(about).encode())
    connection.send_bytes(blob)


def _receive(connection: Wire) -> tuple[Any, bytes]:
    return json.loads(connection.recv_bytes()), connection.recv_bytes()
