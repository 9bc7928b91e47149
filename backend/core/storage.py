"""Files of images, uploads, weights and trajectories, shared by web and worker.

Names come from ids and hashes, never from user input. A test lists the few other files
that use paths (tests/backend/core/test_storage.py).
"""

import contextlib
import ctypes
import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

logger = logging.getLogger(__name__)


class Storage:
    def __init__(self, root: Path) -> None:
        self.root = root

    def read_identity(self) -> str | None:
        """Read which database the files belong to, or None."""
        with contextlib.suppress(FileNotFoundError):
            return self._identity.read_text().strip() or None
        return None

    def write_identity(self, identity: str) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self._identity.write_text(f"{identity}\n")

    @property
    def _identity(self) -> Path:
        return self.root / "identity"

    def data_set(self, data_set_id: int) -> Path:
        """Holds pixels.npy, thumbnails/, full/, features/."""
        return self.root / "datasets" / str(data_set_id)

    def pixels(self, data_set_id: int) -> Path:
        """Memory-mapped uint8 array (N, H, W, C)."""
        return self.data_set(data_set_id) / "pixels.npy"

    def thumbnail(self, data_set_id: int, content_hash: str) -> Path:
        """WebP, at most 160 pixels a side."""
        return self.data_set(data_set_id) / "thumbnails" / content_hash[:2] / f"{content_hash}.webp"

    def full_image(self, data_set_id: int, content_hash: str) -> Path:
        """WebP, at most 1,600 pixels a side; absent where the thumbnail shows every pixel."""
        return self.data_set(data_set_id) / "full" / content_hash[:2] / f"{content_hash}.webp"

    def read_image(self, data_set_id: int, content_hash: str, *, full: bool) -> bytes | None:
        """Read a WebP file, or None; without a full image, the thumbnail."""
        paths = [self.full_image(data_set_id, content_hash)] if full else []
        for path in [*paths, self.thumbnail(data_set_id, content_hash)]:
            with contextlib.suppress(FileNotFoundError):
                return path.read_bytes()
        return None

    def features(self, data_set_id: int, backbone: str) -> Path:
        """Folder of the features by a backbone, named by its digest."""
        return self.data_set(data_set_id) / "features" / backbone

    def has_features(self, data_set_id: int, backbone: str) -> bool:
        """Return True once all features by a backbone are there."""
        return (self.features(data_set_id, backbone) / "features.json").exists()

    def attempt_folder(self, data_set_id: int, attempt: str) -> "AttemptFolder":
        return AttemptFolder(self.data_set(data_set_id), attempt)

    def names_of_data_set(
        self, data_set_id: int, run_ids: Iterable[int], uploads: Iterable[Path] = ()
    ) -> list[str]:
        """Name the files of a data set, of its runs and its uploads, for `discard_named`."""
        paths = [self.data_set(data_set_id), *(self.run(run_id) for run_id in run_ids)]
        paths += [path for path in uploads if path.is_relative_to(self.root)]
        return [path.relative_to(self.root).as_posix() for path in paths]

    def discard_named(self, names: list[str]) -> set[str]:
        """Delete files by their names; returns the names of those that are still there."""
        self.discard(*(self.root / name for name in names))
        return {name for name in names if (self.root / name).exists()}

    def run(self, run_id: int) -> Path:
        return self.root / "runs" / str(run_id)

    def read_run_file(self, run_id: int, name: str) -> bytes | None:
        with contextlib.suppress(FileNotFoundError):
            return (self.run(run_id) / name).read_bytes()
        return None

    def write_run_file(self, run_id: int, name: str, data: bytes) -> None:
        """Write the file, whole or not at all."""
        folder = self.run(run_id)
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{name}.part"
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / name)

    def keep_run_files(self, run_id: int, names: Collection[str]) -> None:
        """Delete the run's other files."""
        for path in self.run(run_id).iterdir():
            if path.name not in names and path.is_file():
                path.unlink()

    @property
    def weights(self) -> Path:
        """Folder of pretrained weights, named <SHA-256>.safetensors."""
        return self.root / "weights"

    def list_weights(self) -> list[tuple[str, int]]:
        """List (SHA-256, bytes) of each weights file, sorted."""
        files = sorted(self.weights.glob("*.safetensors"))
        return [(file.stem, file.stat().st_size) for file in files]

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"

    def new_upload(self, suffix: str) -> Path:
        self.uploads.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(suffix=suffix, dir=self.uploads)
        os.close(descriptor)
        return Path(name)

    def open_upload(self, upload: Path) -> BinaryIO:
        return upload.open("wb")

    def uploads_before(self, moment: datetime) -> list[Path]:
        uploads = []
        for path in self.uploads.glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < moment.timestamp():
                    uploads.append(path)
        return uploads

    def note_given_back(self, job_id: int, claim: str) -> None:
        """Note that a worker gave a job back, where the database cannot be told."""
        self._given_back.mkdir(parents=True, exist_ok=True)
        (self._given_back / f"{job_id}").write_text(claim)

    def take_given_back(self) -> list[tuple[int, str]]:
        """Return and forget the noted (job id, claim)."""
        notes = []
        for path in self._given_back.glob("*"):
            with contextlib.suppress(FileNotFoundError, ValueError):  # another worker took it
                note = (int(path.name), path.read_text())
                path.unlink()
                notes.append(note)
        return notes

    @property
    def _given_back(self) -> Path:
        return self.root / "given-back"

    def cache(self, name: str) -> Path:
        """Folder of files that can be made again."""
        return self.root / "cache" / name

    def discard(self, *paths: Path) -> None:
        """Delete files and folders; failures are only logged."""
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path, onerror=_log_failure)
                continue
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("%s was not deleted: %s", path, error)


class AttemptFolder:
    """Folder of an import's attempt; an error removes its files."""

    STORED = ("pixels.npy", "thumbnails", "full")

    def __init__(self, home: Path, attempt: str) -> None:
        self.home = home
        self.folder = home / f"attempt-{attempt}"
        self.cleared = False  # of files that were left here
        self._published: list[Path] = []

    def __enter__(self) -> Self:
        # For a killed attempt; an attempt that lost its claim fails without its files. A database
        # that is restored from a backup gives out numbers again.
        self.cleared = self.home.exists()
        shutil.rmtree(self.home, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return self

    def clear(self) -> None:
        """Delete what was written so far."""
        shutil.rmtree(self.folder)
        self.folder.mkdir()

    def sync(self) -> None:
        """Flush all files to the disk, before any row refers to them."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
            if syncfs is None:
                os.sync()
            elif syncfs(descriptor) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(descriptor)

    def publish(self) -> None:
        """Move the files to their final names, within the transaction of the results."""
        for name in self.STORED:
            if (self.folder / name).exists():
                target = self.home / name
                (self.folder / name).rename(target)
                self._published.append(target)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if kind is None:
            return
        # Another attempt may have files here.
        for path in self._published:
            shutil.rmtree(path, ignore_errors=True)
            if path.is_file():
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or gone
            self.home.rmdir()


def _log_failure(_function: object, path: str, problem: Any) -> None:
    logger.warning("%s was not deleted: %s", path, problem[1])
