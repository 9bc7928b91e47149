"""Where files lie: images, thumbnails, uploads and trajectories, in one local folder that web and worker share."""

import os
import tempfile
from pathlib import Path


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

    def new_upload(self, suffix: str) -> Path:
        """An empty file of a fresh name for an upload."""
        folder = self.root / "uploads"
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(suffix=suffix, dir=folder)
        os.close(descriptor)
        return Path(name)
