"""Large files of an archive, on the disk while a child decodes them."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.pipeline.imports.files import Entry, Found
from worker.pipeline.imports.messages import Payload
from worker.pipeline.imports.refused import Refused


class Spool:
    """Copies large files into a folder of its own, which its exit removes."""

    def __init__(self, folder: Path, tick: Callable[[], None]) -> None:
        self._folder = folder / "spool"
        self._tick = tick
        self._copies = 0

    def __enter__(self) -> Self:
        self._folder.mkdir(exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def read(self, found: Found, entry: Entry) -> Payload:
        """Read an image for a child. Raises Refused."""
        payload = found.read(entry)
        if not callable(payload):
            return payload
        self._copies += 1
        path = self._folder / str(self._copies)
        try:
            with path.open("wb") as file:
                payload(file, self._tick)
        except Refused:
            path.unlink()
            raise
        return str(path)

    def discard(self, payloads: Iterable[Payload]) -> None:
        """Remove the copies among the payloads."""
        for payload in payloads:
            if isinstance(payload, str) and Path(payload).parent == self._folder:
                Path(payload).unlink(missing_ok=True)
