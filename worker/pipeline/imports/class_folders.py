"""Read classes from folders, and splits from the folders above them."""

from collections import defaultdict
from collections.abc import Sequence

from worker.jobs import JobFailed
from worker.pipeline.imports.files import (
    ARCHIVE_SUFFIXES,
    IMAGE_SUFFIXES,
    LONG_NAME,
    LONGEST_CLASS_NAME,
    Entry,
    File,
    Files,
    Found,
    natural,
    why_no_image,
)
from worker.pipeline.imports.folder_tree import Layout, Tree
from worker.pipeline.imports.layout import understand
from worker.pipeline.imports.questions import few
from worker.pipeline.imports.split_names import is_exact

NO_CLASS_FOLDER = "it lies in no class folder"
HOW = (
    "Put the images of each class into a folder of that name, "
    "or add a CSV file with the columns path and label."
)


def from_class_folders(files: Files, wanted: str | None = None) -> Found:
    """Collect the images in class folders, by the wanted layout if any.

    Raises JobFailed if there are none, NeedsAnswer where the folders may mean several things.
    """
    images = [file for file in files.files if file.suffix in IMAGE_SUFFIXES] or [
        file for file in files.files if len(file.parts) > 1
    ]
    if not images:
        raise JobFailed(_nothing_there(files))
    tree = Tree(file.parts[:-1] for file in images)
    if not tree.inside(tree.common_top()):
        raise JobFailed(
            f"All images lie in one folder, so there are no classes to tell apart. {HOW}"
        )
    layout = understand(tree, wanted)
    found = Found([], lambda entry: files.read(entry.key), files.refusals)
    spelled: dict[str, set[str]] = defaultdict(set)
    for file in files.files:
        reason = _place(file, layout, found, spelled)
        if reason is not None:
            found.refusals.add(file.path, reason)
    found.given = frozenset(entry.split for entry in found.entries if entry.split)
    found.class_names = _class_names(files, found, layout)
    found.understood = list(layout.words)
    found.notes = [
        *few(_unlabelled(layout, found)),
        *few(_left_out(tree, layout)),
        *few(_empty_splits(files, tree, layout)),
        *few(_same_but_spaces(spelled)),
    ]
    if len(found.class_names) == 1:
        raise JobFailed(only_one_class(found.class_names[0], found.refusals.rows))
    return found


def only_one_class(name: str, refused: Sequence[tuple[str, str]]) -> str:
    """Report too few classes, with what was refused: it may hold the others."""
    return (
        f"There is only one class, “{name[:200]}”; telling classes apart takes two or "
        f"more.{_refused(refused)} {HOW}"
    )


def _place(file: File, layout: Layout, found: Found, spelled: dict[str, set[str]]) -> str | None:
    reason = why_no_image(file)
    if reason is not None:
        return reason
    home = layout.home_of(file.parts)
    lost = home is None and layout.has_splits and len(file.parts) > len(layout.top) + 2
    if lost and not any(file.parts[: len(folder)] == folder for folder, _ in layout.unlabelled):
        return "it lies in none of the folders train, validation and test"
    if home is None or len(file.parts) < len(home) + (3 if layout.inner else 2):
        return (
            NO_CLASS_FOLDER
            if file.suffix in IMAGE_SUFFIXES
            else "it is no image and lies in no class folder"
        )
    name = file.parts[len(home)]
    split = layout.inner.get(file.parts[len(home) + 1]) if layout.inner else layout.homes[home]
    if layout.inner and split is None:
        return "it lies in none of the split folders of its class"
    label = name.strip() or "(no name)"
    if len(label) > LONGEST_CLASS_NAME:
        return LONG_NAME
    spelled[label].add(name)
    found.entries.append(Entry(file.path, label, split, file.size, file))
    return None


def _class_names(files: Files, found: Found, layout: Layout) -> tuple[str, ...]:
    """Collect the classes of folders, including empty folders."""
    empty = {
        parts[-1].strip()
        for parts in files.folders
        if parts and parts[:-1] in layout.homes and layout.home_of((*parts, "")) == parts[:-1]
    }
    return tuple(sorted(empty | {entry.label for entry in found.entries}, key=natural))


def _unlabelled(layout: Layout, found: Found) -> list[str]:
    """Say which folders hold images without labels."""
    notes = []
    for folder, split in layout.unlabelled:
        drawn = split is not None and split not in found.given and found.given
        notes.append(
            f"The images in {folder[-1]} have no labels"
            + (f"; the {split} split is drawn from train." if drawn else " and were left out.")
        )
    return notes


def _left_out(tree: Tree, layout: Layout) -> list[str]:
    return [
        f"The folder {folder[-1]} is no split, so its images were left out ({count:,})."
        for folder, count in tree.counts(layout.left_out).items()
    ]


def _empty_splits(files: Files, tree: Tree, layout: Layout) -> list[str]:
    """Say which folders named as splits hold no image at all."""
    depth = len(layout.top)
    return [
        f"The folder {parts[-1]} holds no image."
        for parts in sorted(files.folders)
        if layout.has_splits
        and len(parts) == depth + 1
        and parts[:depth] == layout.top
        and parts[-1] not in tree.inside(layout.top)
        and is_exact(parts[-1])
    ]


def _same_but_spaces(spelled: dict[str, set[str]]) -> list[str]:
    """Say which folders became a single class."""
    return [
        f"{len(names)} folders differ only in the spaces around “{label[:200]}”; they are one "
        f"class."
        for label, names in sorted(spelled.items())
        if len(names) > 1
    ]


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
