"""Read classes from folders, and splits from the folders above them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from worker.jobs import JobFailed
from worker.pipeline.imports.files import (
    ARCHIVE_SUFFIXES,
    IMAGE_SUFFIXES,
    LONG_NAME,
    LONGEST_CLASS_NAME,
    SPLIT_NAMES,
    Entry,
    File,
    Files,
    Found,
    natural,
    why_no_image,
)

NO_CLASS_FOLDER = "it lies in no class folder"
HOW = (
    "Put the images of each class into a folder of that name, "
    "or add a CSV file with the columns path and label."
)


def from_class_folders(files: Files) -> Found:
    """Collect the images in class folders. Raises JobFailed if there are none."""
    images = [file for file in files.files if file.suffix in IMAGE_SUFFIXES] or [
        file for file in files.files if len(file.parts) > 1
    ]
    if not images:
        raise JobFailed(_nothing_there(files))
    top = _common_top(images)
    names = {
        file.parts[len(top)]
        for file in images
        if len(file.parts) > len(top) + 1 and file.parts[: len(top)] == top
    }
    if not names:
        raise JobFailed(
            f"All images lie in one folder, so there are no classes to tell apart. {HOW}"
        )
    has_splits = _are_splits(names)
    found = Found([], lambda entry: files.read(entry.key), files.refusals)
    for file in files.files:
        reason = _place(file, top, has_splits, found)
        if reason is not None:
            found.refusals.add(file.path, reason)
    found.class_names, found.given = _named(files, found, top, has_splits)
    if len(found.class_names) == 1:
        raise JobFailed(only_one_class(found.class_names[0], found.refusals.rows))
    return found


def only_one_class(name: str, refused: Sequence[tuple[str, str]]) -> str:
    """Report too few classes, with what was refused: it may hold the others."""
    return (
        f"There is only one class, “{name[:200]}”; telling classes apart takes two or "
        f"more.{_refused(refused)} {HOW}"
    )


def _place(file: File, top: tuple[str, ...], has_splits: bool, found: Found) -> str | None:
    reason = why_no_image(file)
    if reason is not None:
        return reason
    depth = len(top) + has_splits
    if file.parts[: len(top)] != top or len(file.parts) < depth + 2:
        return (
            NO_CLASS_FOLDER
            if file.suffix in IMAGE_SUFFIXES
            else "it is no image and lies in no class folder"
        )
    split = SPLIT_NAMES.get(file.parts[len(top)].lower()) if has_splits else None
    if has_splits and split is None:
        return "it lies in none of the folders train, validation and test"
    label = file.parts[depth].strip() or "(no name)"
    if len(label) > LONGEST_CLASS_NAME:
        return LONG_NAME
    found.entries.append(Entry(file.path, label, split, file.size, file))
    return None


def _common_top(images: list[File]) -> tuple[str, ...]:
    """Return the path of the single folder above all class folders."""
    inside: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for file in images:
        for depth in range(len(file.parts) - 1):
            inside[file.parts[:depth]].add(file.parts[depth])
    top: tuple[str, ...] = ()
    while len(inside[top]) == 1:
        (child,) = inside[top]
        if not inside[(*top, child)]:
            break  # a class, as it has images
        top = (*top, child)
    return top


def _are_splits(names: Iterable[str]) -> bool:
    splits = {SPLIT_NAMES.get(name.lower()) for name in names}
    return None not in splits or ("train" in splits and len(splits - {None}) > 1)


def _named(
    files: Files, found: Found, top: tuple[str, ...], has_splits: bool
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Collect the classes and splits of folders, including empty folders."""
    depth = len(top) + has_splits
    below = [parts for parts in files.folders if parts[: len(top)] == top]
    classes = {parts[depth].strip() for parts in below if len(parts) == depth + 1} | {
        entry.label for entry in found.entries
    }
    splits = {entry.split for entry in found.entries if entry.split}
    if has_splits:
        splits |= {
            SPLIT_NAMES[parts[-1].lower()]
            for parts in below
            if len(parts) == len(top) + 1 and parts[-1].lower() in SPLIT_NAMES
        }
    return tuple(sorted(classes, key=natural)), frozenset(splits)


def _nothing_there(files: Files) -> str:
    inner = next(
        (file.path for file in files.files if file.parts[-1].lower().endswith(ARCHIVE_SUFFIXES)),
        None,
    )
    if inner is not None:
        return (
            f"There is an archive inside the {files.what} (“{inner[:200]}”), and no image. "
            f"Unpack it, and import the class folders themselves."
        )
    return f"There is no image in this {files.what}.{_refused(files.refusals.rows)} {HOW}"


def _refused(rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return ""
    path, why = rows[0]
    return (
        f" {'1 file was' if len(rows) == 1 else f'{len(rows):,} files were'} refused; the first "
        f"is “{path[:200]}”: {why}."
    )
