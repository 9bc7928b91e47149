"""Choose the columns of a table: path, label and split, or a column a class."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from worker.pipeline.imports.files import SPLIT_NAMES

# The first of each is Winnow's own; others are what public data sets and programs write.
PATH_NAMES = (
    "path",
    "file_path",
    "filepath",
    "file_name",
    "filename",
    "file",
    "image_path",
    "imagepath",
    "img_path",
    "image_file",
    "image_filename",
    "image_name",
    "imagename",
    "img_name",
    "image",
    "img",
    "image_id",
    "imageid",
    "img_id",
    "picture",
    "photo",
    "fname",
    "name",
    "id",
)
LABEL_NAMES = (
    "label",
    "label_name",
    "class_name",
    "classname",
    "class_label",
    "class",
    "category_name",
    "category",
    "target_name",
    "target",
    "labels",
    "classes",
    "categories",
    "breed",
    "species",
    "variety",
    "type",
    "tag",
    "ground_truth",
    "gt",
    "diagnosis",
    "dx",
    "disease",
    "label_id",
    "class_id",
    "classid",
    "category_id",
    "y",
)
SPLIT_COLUMNS = (
    "split",
    "set",
    "subset",
    "usage",
    "partition",
    "phase",
    "data_split",
    "data_set",
    "dataset",
    "fold",
)
ONE, NO = frozenset(("1", "1.0", "true")), frozenset(("0", "0.0", "false", ""))


@dataclass(frozen=True)
class Wanted:
    """Columns that a person has chosen, and the encoding of texts without a sign of theirs."""

    path: str | None = None
    label: str | None = None
    split: str | None = None
    encoding: str | None = None

    @property
    def named(self) -> bool:
        return bool(self.path or self.label or self.split)


@dataclass(frozen=True)
class Columns:
    """Places of the columns. classes: place → class, of a table with a column a class.

    matched: rows of the sample whose path names a file. inferred: by place alone, not by a name.
    """

    path: int
    label: int | None
    split: int | None = None
    classes: dict[int, str] = field(default_factory=dict)
    has_header: bool = True
    matched: int = 0
    inferred: bool = False
    own_names: bool = False


class Unclear(Exception):
    """Columns that a person must choose. labels: places that may hold the label."""

    def __init__(self, why: str, labels: Sequence[int] = ()) -> None:
        super().__init__(why)
        self.labels = list(labels)


def choose(
    header: Sequence[str],
    sample: Sequence[Sequence[str]],
    wanted: Wanted,
    is_file: Callable[[str], bool],
) -> Columns | None:
    """Choose the columns, or None for a table without labels.

    is_file: tells whether a cell names a file. Raises Unclear.
    """
    names = [_normal(name) for name in header]
    if not wanted.named and _is_headless(names, header, is_file):
        return _headless(header, sample, is_file)
    columns = [[_cell(row, place) for row in sample] for place in range(len(names))]
    hits = [sum(map(is_file, column)) for column in columns]
    path = _named(header, wanted.path) if wanted.path else _path(names, hits, len(sample))
    if path is None:
        return None
    split = _named(header, wanted.split) if wanted.split else _split(names, columns)
    label = _named(header, wanted.label) if wanted.label else _label(names, columns, {path, split})
    found = Columns(path, label, split, matched=hits[path])
    if label is not None:
        own = names[path] == "path" and names[label] == "label"
        return Columns(path, label, split, matched=hits[path], own_names=own or wanted.named)
    others = [place for place, name in enumerate(names) if place not in (path, split) and name]
    return _without_label(header, columns, others, found)


def possible_labels(header: Sequence[str], sample: Sequence[Sequence[str]], path: int) -> list[int]:
    """List the columns that sort the sample into classes, the fewest classes first."""
    groups = {
        place: len({_cell(row, place) for row in sample})
        for place, name in enumerate(header)
        if place != path and name
    }
    fitting = [place for place, count in groups.items() if 1 < count <= len(sample) / 2]
    return sorted(fitting, key=lambda place: groups[place])


def _without_label(
    header: Sequence[str], columns: list[list[str]], others: list[int], found: Columns
) -> Columns | None:
    """Read a column a class, or the only other column as the label."""
    path, split, matched = found.path, found.split, found.matched
    marks = [{cell.lower() for cell in columns[place]} for place in others]
    if len(others) > 1 and columns[path] and all(found <= ONE | NO for found in marks):
        classes = {place: header[place].strip() for place in others}
        return Columns(path, None, split, classes, matched=matched)
    if len(others) == 1 and 2 * matched > len(columns[path]):
        values = columns[others[0]]
        if 2 * len(set(values)) <= len(values):
            return Columns(path, others[0], split, matched=matched, inferred=True)
    return None


def _path(names: list[str], hits: list[int], rows: int) -> int | None:
    if names.count("path") == 1:
        return names.index("path")
    named = [names.index(name) for name in PATH_NAMES if names.count(name) == 1]
    best = max(named, key=lambda place: hits[place], default=None)
    if best is not None and hits[best]:
        return best
    likely = max(range(len(names)), key=lambda place: hits[place], default=None)
    if likely is not None and rows and 2 * hits[likely] > rows:
        return likely
    return best


def _label(names: list[str], columns: list[list[str]], taken: set[int | None]) -> int | None:
    """Choose the label's column; of two that say the same, the one with words."""
    found = [
        place
        for wanted in LABEL_NAMES
        for place, name in enumerate(names)
        if name == wanted and place not in taken
    ]
    if not found:
        return None
    same = [place for place in found if _say_the_same(columns[found[0]], columns[place])]
    worded = [place for place in same if not all(map(_is_number, columns[place]))]
    best = (worded or same)[0]
    if len(same) == 1 and names.count(names[best]) > 1:
        raise Unclear(f"there are several columns “{names[best]}” that differ")
    if len(same) < len(found) and names[found[0]] != "label":
        listed = " and ".join(f"“{names[place]}”" for place in found)
        raise Unclear(f"{listed} could each be the label", found)
    return best


def _say_the_same(one: list[str], other: list[str]) -> bool:
    """Return True if two columns sort the rows into the same groups."""
    pairs = set(zip(one, other, strict=True))
    return len(pairs) == len(set(one)) == len(set(other))


def _split(names: list[str], columns: list[list[str]]) -> int | None:
    for wanted in SPLIT_COLUMNS:
        if names.count(wanted) == 1:
            place = names.index(wanted)
            words = {cell.lower() for cell in columns[place] if cell}
            if wanted == "split" or (words and words <= SPLIT_NAMES.keys()):
                return place
    return None


def _named(header: Sequence[str], wanted: str) -> int | None:
    exact = [place for place, name in enumerate(header) if name.strip() == wanted.strip()]
    alike = [place for place, name in enumerate(header) if _normal(name) == _normal(wanted)]
    found = exact or alike
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"“{name[:60]}”" for name in header[:20])
    raise Unclear(
        f"{'there are several columns' if found else 'there is no column'} “{wanted[:60]}” among "
        f"{there}"
    )


def _is_headless(names: list[str], header: Sequence[str], is_file: Callable[[str], bool]) -> bool:
    """Recognise a first line that is a row: it names a file, and no column."""
    known = {*PATH_NAMES, *LABEL_NAMES}
    return not known & set(names) and any(is_file(cell.strip()) for cell in header)


def _headless(
    first: Sequence[str], sample: Sequence[Sequence[str]], is_file: Callable[[str], bool]
) -> Columns | None:
    rows = [first, *sample]
    columns = [[_cell(row, place) for row in rows] for place in range(len(first))]
    hits = [sum(map(is_file, column)) for column in columns]
    path = hits.index(max(hits))
    others = [place for place in range(len(first)) if place != path]
    splits = [
        place for place in others if {cell.lower() for cell in columns[place]} <= SPLIT_NAMES.keys()
    ]
    split = splits[0] if len(others) == 2 and len(splits) == 1 else None
    labels = [place for place in others if place != split]
    if len(labels) != 1:
        return None
    return Columns(path, labels[0], split, has_header=False, matched=hits[path])


def _cell(row: Sequence[str], place: int) -> str:
    return row[place].strip() if place < len(row) else ""


def _normal(name: str) -> str:
    return re.sub(r"[\s\-.]+", "_", name.strip().lower())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
