"""The store `every_step`: a file per epoch, with θ and s before each step.

Rows of its tensor (T, W) are θ_t and s_t, flattened, and a checksum.
"""

import json
import os
import struct
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from worker.engine.trajectory.files import Point, check_run, damaged_error

_TYPES = {torch.float32: "F32", torch.float64: "F64"}


class StepsWriter:
    """Writer of an epoch's points; the file appears at the end."""

    def __init__(self, path: Path, steps: int, run: str) -> None:
        self.path, self.steps, self.run = path, steps, run
        self.file: Any = None

    def append(self, point: Point) -> None:
        params, state = point
        tensors = {"params": params, **state}
        if self.file is None:
            self.file = self._part().open("wb")
            self.file.write(_header(self.steps, tensors, self.run))
        row = torch.cat([tensor.detach().reshape(-1) for tensor in tensors.values()]).cpu()
        self.file.write(row.numpy().tobytes() + _checksum(row).numpy().tobytes())

    def __enter__(self) -> "StepsWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self.file is None:
            return
        with self.file as file:
            file.flush()
            os.fsync(file.fileno())
        if kind is None:
            self._part().replace(self.path)

    def _part(self) -> Path:
        return self.path.with_name(self.path.name + ".part")


def _header(steps: int, tensors: dict[str, torch.Tensor], run: str) -> bytes:
    """Head of a safetensors file: length (8 bytes) and JSON."""
    first = tensors["params"]
    width = sum(tensor.numel() for tensor in tensors.values()) + 1
    layout = json.dumps([[name, list(tensor.shape)] for name, tensor in tensors.items()])
    described = {
        "dtype": _TYPES[first.dtype],
        "shape": [steps, width],
        "data_offsets": [0, steps * width * first.element_size()],
    }
    text = json.dumps(
        {"__metadata__": {"layout": layout, "run": run}, "points": described}
    ).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _checksum(row: torch.Tensor) -> torch.Tensor:
    """CRC-32 in the row's type, (1,)."""
    check = torch.zeros(row.element_size() // 4, dtype=torch.int32)
    check[0] = zlib.crc32(row.numpy().tobytes()) - 2**31
    return check.view(row.dtype)


class StepsReader:
    """Reader of an epoch's points.

    Raises:
        EngineError: missing, damaged or another run's.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        try:
            self.file = safe_open(path, framework="pt")
            self.rows = self.file.get_slice("points")
            metadata: dict[str, str] = self.file.metadata()
            self.layout = [
                (name, torch.Size(shape)) for name, shape in json.loads(metadata["layout"])
            ]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise damaged_error(path) from error
        check_run(path, metadata.get("run", ""), run)

    def point(self, t: int) -> Point:
        row = self.rows[t]
        # As integers: a checksum can look like NaN.
        if not torch.equal(row[-1:].view(torch.int32), _checksum(row[:-1]).view(torch.int32)):
            raise damaged_error(self.path)
        pieces = row[:-1].split([shape.numel() for _, shape in self.layout])
        # Views would keep the row alive.
        state = {
            name: piece.view(shape).clone()
            for (name, shape), piece in zip(self.layout, pieces, strict=True)
        }
        return state.pop("params"), state
