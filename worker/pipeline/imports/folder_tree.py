"""Folders that hold images, and their reading as splits and classes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Folder = tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """Places of class folders.

    homes: a folder of class folders → its split, or None. inner: split folders inside of classes.
    """

    top: Folder
    homes: Mapping[Folder, str | None]
    inner: Mapping[str, str] = field(default_factory=dict)
    words: Sequence[str] = ()
    unlabelled: Sequence[tuple[Folder, str | None]] = ()  # folder and split without class folders
    left_out: Sequence[Folder] = ()

    @property
    def has_splits(self) -> bool:
        return bool(self.inner) or any(split is not None for split in self.homes.values())

    def home_of(self, parts: Folder) -> Folder | None:
        """Return the innermost home above a file, or None."""
        return next(
            (
                parts[:depth]
                for depth in range(len(parts) - 1, -1, -1)
                if parts[:depth] in self.homes
            ),
            None,
        )


class Tree:
    """Folders that hold images, directly or further down."""

    def __init__(self, folders: Iterable[Folder]) -> None:
        self.direct = Counter(folders)
        self.children: dict[Folder, set[str]] = defaultdict(set)
        for folder in self.direct:
            for depth in range(len(folder)):
                self.children[folder[:depth]].add(folder[depth])
        self.children.default_factory = None

    def inside(self, folder: Folder) -> set[str]:
        return self.children.get(folder, set())

    def common_top(self) -> Folder:
        """Return the path of the single folder above all class folders."""
        top: Folder = ()
        while len(self.inside(top)) == 1:
            (child,) = self.inside(top)
            if not self.inside((*top, child)):
                break  # a class, as it has images
            top = (*top, child)
        return top

    def home(self, folder: Folder) -> Folder:
        """Pass over folders that hold a single folder of folders, as archives nest them."""
        while len(self.inside(folder)) == 1 and not self.direct[folder]:
            (child,) = self.inside(folder)
            if not self.inside((*folder, child)):
                break
            folder = (*folder, child)
        return folder

    def counts(self, folders: Iterable[Folder]) -> Counter[Folder]:
        """Count the images in each of the folders and below it."""
        wanted, found = set(folders), Counter[Folder]()
        for place, images in self.direct.items():
            for depth in range(len(place) + 1):
                if place[:depth] in wanted:
                    found[place[:depth]] += images
        return found
