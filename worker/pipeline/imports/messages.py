"""Messages between an import and its children.

Children read hostile files, so their answers are never unpickled.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal, TypeAlias

import numpy as np

from worker.pipeline.imports.decoding import Pixels
from worker.pipeline.imports.reading import Reading, Sample

# An image for a child: bytes (zip), a path (folder), or pixels (IDX, the sample).
Payload = bytes | str | Pixels
Shape = tuple[int, int, int]  # height, width, channels
Wire: TypeAlias = "Connection[Any, Any]"  # Connection takes no parameters at run time
# Look at a picture's header, take a sample of its values too, or decode it.
Task = Literal["look", "survey", "decode"]


@dataclass(frozen=True)
class Work:
    """Images to decode into `shape`, or to look at, and the WebP files' folder."""

    payloads: list[Payload]
    task: Task = "survey"
    shape: Shape = (0, 0, 0)
    folder: str = ""
    reading: Reading = field(default_factory=Reading)

    @property
    def bytes(self) -> int:
        return sum(
            payload.nbytes if isinstance(payload, np.ndarray) else len(payload)
            for payload in self.payloads
        )


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded image: upright size, the bytes of its WebP files, and marks.

    source: digest of its values before a conversion to 8 bits, else empty.
    """

    content_hash: str
    width: int
    height: int
    colour: bool
    stored: int
    marks: int = 0
    source: str = ""


@dataclass(frozen=True)
class Answer:
    """Images or reasons of refusal, and the pixels (decoded, H, W, C) or samples."""

    images: list[Decoded | str]
    pixels: Pixels
    samples: list[Sample] = field(default_factory=list)


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
    about = {
        "payloads": kinds,
        "task": work.task,
        "shape": work.shape,
        "folder": work.folder,
        "ranges": list(work.reading.ranges.items()),
        "ground": work.reading.ground,
    }
    _send(connection, about, b"".join(blobs))


def receive_work(connection: Wire) -> Work:
    """Receive work in a child. Raises EOFError once the import is gone."""
    about, blob = _receive(connection)
    reading = Reading({kind: (low, high) for kind, (low, high) in about["ranges"]}, about["ground"])
    payloads = list(_payloads(about["payloads"], blob))
    return Work(payloads, about["task"], tuple(about["shape"]), about["folder"], reading)


def ask_for_memory(connection: Wire, size: int) -> None:
    """Wait in a child until it may take `size` bytes. Raises EOFError once the import is gone."""
    _send(connection, {"memory": size}, b"")
    connection.recv_bytes()


def send_answer(connection: Wire, answer: Answer) -> None:
    images = [image if isinstance(image, str) else astuple(image) for image in answer.images]
    samples = [astuple(sample) for sample in answer.samples]
    _send(
        connection,
        {"images": images, "shape": answer.pixels.shape, "samples": samples},
        answer.pixels.data.cast("B") if answer.pixels.size else b"",
    )


def send_error(connection: Wire, error: OSError) -> None:
    """Report an error that ends all work, as a full disk."""
    _send(connection, {"errno": error.errno or 0}, b"")


def receive_answer(connection: Wire, grant: Callable[[int], None]) -> Answer:
    """Receive an answer; calls `grant` with the bytes that the child asks for on the way.

    Raises the child's OSError; EOFError or ConnectionError if it died.
    """
    about, blob = _receive(connection)
    while "memory" in about:
        grant(int(about["memory"]))
        connection.send_bytes(b"")
        about, blob = _receive(connection)
    if "errno" in about:
        raise OSError(about["errno"], os.strerror(about["errno"]))
    images = [image if isinstance(image, str) else Decoded(*image) for image in about["images"]]
    pixels = np.frombuffer(blob, np.uint8).reshape(about["shape"])
    return Answer(images, pixels, [Sample(*sample) for sample in about["samples"]])


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
