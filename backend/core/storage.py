"""Where files lie: images, thumbnails, uploads and trajectories, in one local folder that web and worker share."""

import logging
import os
import shutil
import tempfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class Storage:
    """Paths under one root. Every name is made from ids and hashes, never from what a person typed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def data_set(self, data_set_id: int) -> Path:
        """Folder of one data set: pixels.npy, thumbnails/, full/."""
        return self.root / "datasets" / str(data_set_id)

    def pixels(self, data_set_id: int) -> Path:
        """The memory-mapped uint8 array (N, H, W, C)."""
        return self.data_set(data_set_id) / "pixels.npy"

    def thumbnail(self, data_set_id: int, content_hash: str) -> Path:
        """WebP, at most 160 pixels a side."""
        return self.data_set(data_set_id) / "thumbnails" / content_hash[:2] / f"{content_hash}.webp"

    def full_image(self, data_set_id: int, content_hash: str) -> Path:
        """WebP, at most 1,600 pixels a side; absent where the thumbnail already shows every pixel."""
        return self.data_set(data_set_id) / "full" / content_hash[:2] / f"{content_hash}.webp"

    def run(self, run_id: int) -> Path:
        """Folder of one run's trajectory."""
        return self.root / "runs" / str(run_id)

    @property
    def weights(self) -> Path:
        """Folder of the weights that trainings may start from, each called <SHA-256>.safetensors."""
        return self.root / "weights"

    @property
    def uploads(self) -> Path:
        """Folder of archives that wait for their import."""
        return self.root / "uploads"

    def new_upload(self, suffix: str) -> Path:
        """An empty file of a fresh name for an upload."""
        self.uploads.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(suffix=suffix, dir=self.uploads)
        os.close(descriptor)
        return Path(name)

    def uploads_before(self, moment: datetime) -> list[Path]:
        """The archives that nobody has written to since."""
        found = []
        for path in self.uploads.glob("*"):
            # A worker may take one away while we look.
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < moment.timestamp():
                    found.append(path)
        return found

    def discard(self, *paths: Path) -> None:
        """Delete files and folders; what is gone already, or cannot be deleted, is no error of the person's who deletes the rows."""
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path, onerror=_say)
                continue
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("%s was not deleted: %s", path, error)


def _say(_function: object, path: str, problem: Any) -> None:
    logger.warning("%s was not deleted: %s", path, problem[1])
