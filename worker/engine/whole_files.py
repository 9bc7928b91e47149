"""Atomic writing of files."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; a crash leaves it complete or absent."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
