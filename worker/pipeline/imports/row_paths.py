"""Find the file that a table's row names, however the row writes its path."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from worker.pipeline.imports.files import IMAGE_SUFFIXES, SPLIT_NAMES, File, Files

# A spreadsheet takes such text for a formula; Winnow's own tables put an apostrophe before it.
GUARDED = re.compile(r"'[=+\-@\t\r\n]")
DRIVE = re.compile(r"[A-Za-z]:(?=/)")
MOST_CANDIDATES = 100  # files looked at for a row
DEEPEST = 8  # folders compared for a row


@dataclass(frozen=True)
class Match:
    """The file of a row. how: nothing for its exact path, else the kind of difference."""

    file: File
    how: str = ""


def without_guard(text: str) -> str:
    """Take off the apostrophe that keeps a spreadsheet from running a text."""
    return text[1:] if GUARDED.match(text) else text


class FileFinder:
    """Files of an import by the paths of its tables."""

    def __init__(self, files: Files) -> None:
        self.what = files.what
        self.by_path = {file.path: file for file in files.files}
        self._roots = files.roots
        self.images = [file for file in files.files if file.suffix in IMAGE_SUFFIXES]
        self._files = files.files
        self._top = _common_depth(self.images or self._files)
        self._ends: dict[int, dict[tuple[str, ...], list[File]]] = {}
        self._stems: dict[str, list[File]] | None = None

    def find(
        self, written: str, folder: Sequence[str] = (), split: str | None = None
    ) -> Match | str:
        """Return the row's file, or the reason why none is meant.

        folder: the table's. split: the table's, which tells files of the same name apart.
        """
        exact = self._exact(written, folder)
        if exact is not None:
            return Match(exact)
        if GUARDED.match(written):
            found = self.find(written[1:], folder, split)
            if isinstance(found, Match):
                return Match(found.file, "apostrophe")
        path = written.replace("\\", "/")
        for root in self._roots:
            if path.startswith(root) and path[len(root) :] in self.by_path:
                return Match(self.by_path[path[len(root) :]])
        is_absolute = path.startswith("/") or DRIVE.match(path) is not None
        parts = _resolved(DRIVE.sub("", path), () if is_absolute else folder)
        if parts is None:
            return "its name leads out of the archive (..)"
        exact = self._exact("/".join(parts), ())
        if exact is not None:
            return Match(exact, "backslash" if "\\" in written else "")
        inner = parts if is_absolute else _resolved(path, ()) or parts
        return self._by_end(inner, split)

    def lies_above(self, folder: tuple[str, ...]) -> bool:
        """Return True if all images are in or below the folder."""
        return all(file.parts[: len(folder)] == folder for file in self.images)

    def _exact(self, path: str, folder: Sequence[str]) -> File | None:
        path = path.removeprefix("./")
        inside = self.by_path.get("/".join((*folder, path))) if folder else None
        return inside or self.by_path.get(path)

    def _by_end(self, parts: tuple[str, ...], split: str | None) -> Match | str:
        """Choose the only file with the longest common end.

        All folders of the row or all of the file must be common: cats/1.png is not dogs/1.png.
        """
        missing = f"it is not in the {self.what}"
        if not parts:
            return missing
        folded = tuple(part.casefold() for part in parts)
        found = self._candidates(folded)
        best = found if len(found) > MOST_CANDIDATES else self._longest(folded, found)
        if 1 < len(best) <= MOST_CANDIDATES and split is not None:
            best = [file for file in best if split in _splits(file.parts)] or best
        if len(best) == 1:
            return Match(best[0], "end" if _same_end(parts, best[0].parts) else "name")
        if best:
            return (
                f"it fits several files, such as “{best[0].path[:200]}” and "
                f"“{best[1].path[:200]}”; give more of its folders"
            )
        return missing

    def _longest(self, folded: tuple[str, ...], found: list[File]) -> list[File]:
        """List the files whose folders agree, those with the longest common end."""
        splits = _splits(folded)
        ends: list[tuple[int, File]] = []
        for file in found:
            common = _common_end(folded[:-1], file.parts[:-1])
            others = _splits(file.parts)
            if common >= min(len(folded) - 1, len(file.parts) - 1 - self._top) and not (
                splits and others and splits.isdisjoint(others)
            ):
                ends.append((common, file))
        longest = max((common for common, _ in ends), default=0)
        return [file for common, file in ends if common == longest]

    def _candidates(self, folded: tuple[str, ...]) -> list[File]:
        """List files with the row's name, or its name and an ending; few where it names folders."""
        found = self._by_name(folded[-1:])
        if not found:
            return self._by_stem(folded[-1])
        for depth in range(2, min(len(folded), DEEPEST) + 1):
            if len(found) <= MOST_CANDIDATES:
                break
            found = self._by_name(folded[-depth:]) or found
        return found

    def _by_name(self, end: tuple[str, ...]) -> list[File]:
        index = self._ends.get(len(end))
        if index is None:
            index = defaultdict(list)
            for file in self._files:
                if len(file.parts) >= len(end):
                    index[tuple(part.casefold() for part in file.parts[-len(end) :])].append(file)
            self._ends[len(end)] = index = dict(index)
        return index.get(end, [])

    def _by_stem(self, name: str) -> list[File]:
        if self._stems is None:
            self._stems = defaultdict(list)
            for file in self.images:
                self._stems[file.parts[-1].rpartition(".")[0].casefold()].append(file)
        return self._stems.get(name, [])


def _resolved(path: str, folder: Sequence[str]) -> tuple[str, ...] | None:
    """Resolve . and .. within the import, or return None for a path that leads out of it."""
    parts = list(folder)
    for part in path.split("/"):
        if part == ".." and not parts:
            return None
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return tuple(parts)


def _common_depth(files: Sequence[File]) -> int:
    """Count the folders that lie above all files."""
    if not files:
        return 0
    # The first and the last in order differ where any two do.
    first, last = min(file.parts[:-1] for file in files), max(file.parts[:-1] for file in files)
    depth = 0
    while depth < min(len(first), len(last)) and first[depth] == last[depth]:
        depth += 1
    return depth


def _common_end(folded: Sequence[str], folders: Sequence[str]) -> int:
    common = 0
    for one, other in zip(reversed(folded), reversed(folders), strict=False):
        if one != other.casefold():
            break
        common += 1
    return common


def _same_end(one: Sequence[str], other: Sequence[str]) -> bool:
    """Compare names, and folders as far as they agree but for upper and lower case."""
    common = 1 + _common_end([part.casefold() for part in one[:-1]], other[:-1])
    return tuple(one[-common:]) == tuple(other[-common:])


def _splits(parts: Sequence[str]) -> set[str]:
    return {SPLIT_NAMES[part.lower()] for part in parts[:-1] if part.lower() in SPLIT_NAMES}


def describe_matches(counts: Counter[str], examples: dict[str, tuple[str, str]]) -> list[str]:
    """Say how many rows name their file in another way than by its path."""
    words = {
        "end": "name a file by the end of its path",
        "name": "write a file's name without its ending, or in other upper and lower case",
        "backslash": "have backslashes, which were read as folders",
        "apostrophe": "have a spreadsheet's apostrophe before the path, which was taken off",
    }
    notes = []
    for how, count in counts.items():
        written, path = examples[how]
        notes.append(
            f"Rows of the table that {words[how]}: {count:,}; “{written[:200]}” is “{path[:200]}”."
        )
    return notes
