"""List the files of a folder on the server; links out of it are refused."""

import os
from collections.abc import Callable
from pathlib import Path

from backend.core.settings import Settings
from worker.jobs import JobFailed
from worker.pipeline.imports.files import File, Files, Refusals, cleaned, is_junk
from worker.pipeline.imports.regular_file import SPECIAL_FILE, open_regular


def open_folder(root: Path, settings: Settings, tick: Callable[[], None] = lambda: None) -> Files:
    """List all files below `root`; calls `tick` for each folder. Raises JobFailed."""
    roots = {f"{place.as_posix().rstrip('/')}/" for place in (root.absolute(), root.resolve())}
    root = root.resolve()
    refusals = Refusals()
    files: list[File] = []
    folders: set[tuple[str, ...]] = set()
    waiting: list[tuple[str, tuple[str, ...]]] = [(str(root), ())]
    while waiting:
        tick()
        place, parents = waiting.pop()
        for item in _items(place, parents, refusals):
            parts = (*parents, cleaned(item.name))
            if is_junk(parts[-1:]):
                continue
            if item.is_dir(follow_symlinks=False):
                folders.add(parts)
                waiting.append((item.path, parts))
            elif (reason := _why_not(item, root)) is None:
                files.append(File(parts, _size(item), item.path))
            else:
                refusals.add("/".join(parts), reason)
        if len(files) > settings.max_files:
            raise JobFailed(
                f"The folder holds more than {settings.max_files:,} files, which is the limit. "
                f"Import a part of it."
            )
    files.sort(key=lambda file: (file.path, file.key))
    return Files(
        "folder",
        files,
        folders,
        lambda file: str(file.key),
        lambda file: open_regular(str(file.key)),
        refusals,
        roots=tuple(roots),
    )


def _items(place: str, parents: tuple[str, ...], refusals: Refusals) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as items:
            return sorted(items, key=lambda item: item.name)
    except OSError as error:
        if not parents:
            raise JobFailed(
                f"The folder cannot be read ({error.strerror}). See that it is there and that "
                f"the account that runs the worker may read it."
            ) from error
        refusals.add("/".join(parents), f"the folder could not be read ({error.strerror})")
        return []


def _why_not(item: os.DirEntry[str], root: Path) -> str | None:
    if not item.is_symlink():
        return None if item.is_file(follow_symlinks=False) else SPECIAL_FILE
    target = Path(os.path.realpath(item.path))  # does not raise for links in a circle
    if not target.is_relative_to(root):
        return "this link leads out of the folder"
    return None if target.is_file() else "this link does not lead to a file"


def _size(item: os.DirEntry[str]) -> int:
    try:
        return item.stat().st_size
    except OSError:
        return 0  # reading it will report that it is gone
