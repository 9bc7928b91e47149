"""The folder in which one attempt at an import works. Only a finished import leaves files behind."""

import contextlib
import ctypes
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

STORED = ("pixels.npy", "thumbnails", "full")


class Workshop:
    """A folder of this attempt's own, inside the data set's. A context manager: leaving it after an error removes all that it made."""

    def __init__(self, home: Path, attempt: str) -> None:
        self.home = home
        self.folder = home / f"attempt-{attempt}"
        self._published: list[Path] = []

    def __enter__(self) -> Self:
        # What a killed attempt left. One that only lost its claim, and does not know yet, fails for want of its folder: it may not count anyway.
        shutil.rmtree(self.home, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return self

    def sync(self) -> None:
        """See that all files are on the disk, before the rows say that they are there: one call, not one a file."""
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
        """Move the files to where everybody looks for them. Only for the attempt that holds the claim, in the transaction of its results."""
        for name in STORED:
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
        # Nothing but our own: beside it another attempt may be at work by now.
        for path in self._published:
            shutil.rmtree(path, ignore_errors=True)
            if path.is_file():
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or gone: both are fine
            self.home.rmdir()
