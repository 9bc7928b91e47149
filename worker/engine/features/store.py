"""Features of a data set on disk: parts that processes share, joined into one array.

    parts/000012.part   features of some rows, with a header; written whole
    parts/000012.lock   held by the process that computes the part
    features.npy        (M, D) float16
    statistics.safetensors   mean and std (D,) float32 over the training rows
    features.json       written last: digests and checksums of all

Locks are the kernel's (flock), so those of a killed process are free.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from worker.engine.errors import EngineError
from worker.engine.features.compute import Features
from worker.engine.whole_files import write_whole

PART_ROWS = 256
FORMAT = 1
LEAST_STD = 1e-4

Rows = range
Tick = Callable[[], None]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StoredFeatures:
    """Features of M pictures, in order of their rows.

    array: (M, D) float16, memory-mapped, read-only. mean, std: (D,) float32 over training rows.
    digest: SHA-256 of the array's bytes. backbone: digest of the backbone.
    """

    array: Features
    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    digest: str
    backbone: str


class FeatureStore:
    """Parts and array of a data set's features in a folder.

    Args:
        folder: of this data set and backbone alone.
        backbone: the backbone's digest.
        width: D.
        keys: name of each row's picture, such as its hash; (M,).
    """

    def __init__(self, folder: Path, backbone: str, width: int, keys: Sequence[str]) -> None:
        self.folder = folder
        self.backbone = backbone
        self.width = width
        self.keys = keys
        self._sound: set[int] = set()  # numbers of checked parts

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def parts(self) -> list[Rows]:
        return [
            range(start, min(start + PART_ROWS, len(self)))
            for start in range(0, len(self), PART_ROWS)
        ]

    def is_joined(self) -> bool:
        """Return True once the array is there, sound or not."""
        return (self.folder / "features.json").exists()

    def is_complete(self) -> bool:
        """Return True where `open` would succeed; reads all bytes."""
        try:
            self.open()
        except EngineError:
            return False
        return True

    def count_missing(self) -> int:
        """Count the rows of parts that are absent or damaged."""
        return sum(len(rows) for rows in self.parts if not self.has(rows))

    def has(self, rows: Rows) -> bool:
        """Return True for a sound part; its checksum is compared once in each process."""
        number = rows.start // PART_ROWS
        path = self._part(rows)
        if number in self._sound and path.exists():
            return True
        try:
            self._read_part(path, rows)
        except (OSError, ValueError):
            return False
        self._sound.add(number)
        return True

    def write(self, rows: Rows, features: Features) -> None:
        """Write a part, whole or not at all. features: (len(rows), D) float16."""
        data = np.ascontiguousarray(features, dtype=np.float16).tobytes()
        header = self._header(rows) | {"sha256": hashlib.sha256(data).hexdigest()}
        write_whole(self._part(rows), json.dumps(header).encode() + b"\n" + data)
        self._sound.add(rows.start // PART_ROWS)

    @contextmanager
    def claim(self, rows: Rows) -> Iterator[bool]:
        """Lock a part; gives False while another process computes it, or once it is there."""
        self._parts_folder.mkdir(parents=True, exist_ok=True)
        with _lock(self._part(rows).with_suffix(".lock")) as locked:
            yield locked and not self.is_joined() and not self.has(rows)

    def join(self, train: Mask, tick: Tick = lambda: None) -> bool:
        """Join all parts, and compute mean and std over the rows `train` (M,).

        Returns:
            False while another process joins them, or parts are missing.

        Raises:
            EngineError: no training row.
        """
        if not train.any():
            raise EngineError("Features need at least one training image; the split is empty.")
        self._parts_folder.mkdir(parents=True, exist_ok=True)
        with _lock(self.folder / "join.lock") as locked:
            if not locked:
                return False
            if self.is_complete():
                return True
            if self.count_missing():
                return False
            self._join(train, tick)
        shutil.rmtree(self._parts_folder, ignore_errors=True)
        return True

    def open(self) -> StoredFeatures:
        """Open the joined features, and compare their checksums.

        Raises:
            EngineError: absent, damaged, or of other pictures.
        """
        facts = self._facts()
        digest = _digest_of_file(self.folder / "features.npy")
        try:
            content = (self.folder / "statistics.safetensors").read_bytes()
            array = np.load(self.folder / "features.npy", mmap_mode="r", allow_pickle=False)
            statistics = load(content)
        except (OSError, ValueError, SafetensorError) as error:
            raise EngineError(_DAMAGED) from error
        sound = digest == facts["sha256"] and array.shape == (len(self), self.width)
        if not sound or hashlib.sha256(content).hexdigest() != facts["statistics"]:
            raise EngineError(_DAMAGED)
        mean, std = statistics["mean"].numpy(), statistics["std"].numpy()
        return StoredFeatures(array, mean, std, facts["sha256"], self.backbone)

    def salvage(self) -> None:
        """Turn sound rows of damaged joined features back into parts; others are computed again."""
        if not self.is_joined() or self.is_complete():
            return
        self._parts_folder.mkdir(parents=True, exist_ok=True)
        with _lock(self.folder / "join.lock") as locked:
            if locked and not self.is_complete():
                self._split()
                (self.folder / "features.json").unlink(missing_ok=True)

    def _split(self) -> None:
        try:
            facts = self._facts()
            with (self.folder / "features.npy").open("rb") as file:
                for rows, sha256 in zip(self.parts, facts["parts"], strict=True):
                    size = 2 * self.width
                    file.seek(len(self._npy_header()) + rows.start * size)
                    data = file.read(len(rows) * size)
                    if hashlib.sha256(data).hexdigest() == sha256:
                        self.write(rows, np.frombuffer(data, "<f2").reshape(len(rows), -1))
        except (OSError, EngineError, ValueError):
            return

    def _join(self, train: Mask, tick: Tick) -> None:
        """Copy part by part: no more than one is in memory."""
        whole, parts = hashlib.sha256(self._npy_header()), []
        sums = np.zeros((2, self.width))
        draft = self.folder / "features.npy.part"
        with draft.open("wb") as file:
            file.write(self._npy_header())
            for rows in self.parts:
                data = self._read_part(self._part(rows), rows)
                file.write(data)
                whole.update(data)
                parts.append(hashlib.sha256(data).hexdigest())
                x = np.frombuffer(data, "<f2").reshape(len(rows), -1).astype(np.float64)
                x = x[train[rows.start : rows.stop]]
                sums += np.stack([x.sum(0), np.square(x).sum(0)])
                tick()
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.folder / "features.npy")
        mean, squares = sums / np.count_nonzero(train)
        std = np.maximum(np.sqrt(np.maximum(squares - mean**2, 0)), LEAST_STD)
        statistics = save(
            {
                "mean": torch.from_numpy(mean.astype(np.float32)),
                "std": torch.from_numpy(std.astype(np.float32)),
            }
        )
        write_whole(self.folder / "statistics.safetensors", statistics)
        facts = self._header(range(len(self))) | {
            "sha256": whole.hexdigest(),
            "parts": parts,
            "statistics": hashlib.sha256(statistics).hexdigest(),
        }
        write_whole(self.folder / "features.json", json.dumps(facts).encode())

    def _facts(self) -> dict[str, Any]:
        try:
            facts = json.loads((self.folder / "features.json").read_bytes())
        except FileNotFoundError as error:
            raise EngineError("The features of this data set are not computed yet.") from error
        except (OSError, ValueError) as error:
            raise EngineError(_DAMAGED) from error
        if self._header(range(len(self))).items() <= facts.items():
            return dict(facts)
        raise EngineError("The features here are those of other pictures; compute them again.")

    def _header(self, rows: Rows) -> dict[str, Any]:
        names = "\n".join(self.keys[rows.start : rows.stop])
        return {
            "format": FORMAT,
            "backbone": self.backbone,
            "first": rows.start,
            "rows": len(rows),
            "width": self.width,
            "pictures": hashlib.sha256(names.encode()).hexdigest(),
        }

    def _read_part(self, path: Path, rows: Rows) -> bytes:
        """Read a part's bytes. Raises ValueError unless they are as written, for these rows."""
        header, _, data = path.read_bytes().partition(b"\n")
        expected = self._header(rows) | {"sha256": hashlib.sha256(data).hexdigest()}
        if json.loads(header) != expected or len(data) != 2 * self.width * len(rows):
            raise ValueError(f"{path.name} is damaged")
        return data

    def _npy_header(self) -> bytes:
        buffer = io.BytesIO()
        shape = (len(self), self.width)
        about = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(buffer, about)
        return buffer.getvalue()

    @property
    def _parts_folder(self) -> Path:
        return self.folder / "parts"

    def _part(self, rows: Rows) -> Path:
        return self._parts_folder / f"{rows.start // PART_ROWS:06}.part"


_DAMAGED = "The features of this data set are damaged; compute them again."


def _digest_of_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EngineError(_DAMAGED) from error


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Hold a lock file; gives False where another process holds it."""
    with path.open("wb") as file:
        yield _try_lock(file)


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
