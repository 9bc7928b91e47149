"""Train, validation and test: given by the source, or drawn from every class by picture."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from worker.jobs import JobFailed
from worker.pipeline.imports.questions import listed

SPLITS = ("train", "validation", "test")
DRAWN = 0.15  # of a class into validation, and the same into test


@dataclass(frozen=True)
class Small:
    """A class with too few images. pictures: different among them, if fewer.

    needed: the splits that it must be in.
    """

    label: int
    images: int
    pictures: int
    needed: tuple[str, ...]


class TooSmall(Exception):
    """Classes that cannot be in every split that they must be in."""

    def __init__(self, classes: list[Small]) -> None:
        super().__init__(f"{len(classes)} classes are too small")
        self.classes = classes


def assign(
    labels: list[int],
    given: list[str | None],
    named: frozenset[str],
    names: list[str],
    seed: int,
    pictures: Sequence[str] | None = None,
    train_only: Collection[int] = (),
) -> tuple[list[str], str]:
    """Choose each image's split, and explain its origin.

    Args:
        labels: class of each image.
        given: split of each image, or None.
        named: splits that the source gives.
        names: names of the classes.
        seed: of what is drawn.
        pictures: content of each image; copies are never drawn apart. Unless given, all differ.
        train_only: classes that need not be in the drawn splits.

    Raises JobFailed for an empty split, TooSmall for classes that do not reach every split.
    """
    missing = tuple(split for split in SPLITS if split not in named)
    if named and "train" in missing:
        raise JobFailed(
            f"There are images for {' and '.join(sorted(named))}, but none to train with. Add a "
            f"folder or split named train."
        )
    splits = [split or "train" for split in given]
    _check_filled(splits, named)
    untrained = _find_untrained(labels, splits, len(names)) if named else []
    drawn: list[Small] = []
    if missing:
        pool = [row for row, split in enumerate(splits) if split == "train"]
        keys = list(pictures) if pictures is not None else [str(row) for row in range(len(labels))]
        draw = _Draw(labels, splits, keys, pool, missing if named else SPLITS[1:])
        drawn = [small for small in draw.too_small() if small.label not in train_only]
        if not drawn and not untrained:
            draw.run(seed, train_only)
            lost = _find_untrained(labels, splits, len(names))
            untrained = [small for small in lost if small.label in draw.rows]
    if drawn or untrained:
        raise TooSmall(sorted([*drawn, *untrained], key=lambda small: small.label))
    _check_filled(splits, SPLITS)
    return splits, _words(named, missing, seed)


def say_small(classes: Sequence[Small], names: Sequence[str]) -> str:
    """Name all classes that are too small, in a sentence or two."""
    drawn = [small for small in classes if small.images]
    untrained = [names[small.label][:90] for small in classes if not small.images]
    said = []
    if len(drawn) == 1:
        small = drawn[0]
        said.append(f"The class “{names[small.label][:200]}” {why_small(small)}.")
    elif drawn:
        counts = [f"“{names[small.label][:80]}” ({small.pictures})" for small in drawn]
        needed = drawn[0].needed
        said.append(
            f"{len(drawn):,} classes have too few different images: {listed(counts, 50)}. Each "
            f"needs at least {len(needed)} to be in {_joined(needed)}."
        )
    if len(untrained) == 1:
        said.append(f"The class “{untrained[0]}” has no training image.")
    elif untrained:
        said.append(
            f"{len(untrained):,} classes have no training image: "
            f"{listed([f'“{name}”' for name in untrained], 50)}."
        )
    return " ".join(said)


def why_small(small: Small) -> str:
    """Return the reason why a class is too small, after its name."""
    if not small.images:
        return "has no training image"
    images = "one image" if small.images == 1 else f"{small.images} images"
    if small.pictures < small.images:
        same = "a single picture" if small.pictures == 1 else f"only {small.pictures} pictures"
        images = f"{images}, copies of {same},"
    else:
        images = f"only {images},"
    return f"has {images} and needs at least {len(small.needed)} to be in {_joined(small.needed)}"


class _Draw:
    """Draws splits from the rows of `pool`, class by class, all copies of a picture together."""

    def __init__(
        self,
        labels: list[int],
        splits: list[str],
        pictures: list[str],
        pool: list[int],
        wanted: tuple[str, ...],
    ) -> None:
        self.splits, self.pictures, self.wanted = splits, pictures, wanted
        self.rows: dict[int, list[int]] = defaultdict(list)
        for row in pool:
            self.rows[labels[row]].append(row)
        # A copy in another given split keeps a picture in train, where the source put it.
        given = {pictures[row] for row, split in enumerate(splits) if split != "train"}
        self.drawn = {pictures[row]: "train" for row in pool if pictures[row] in given}

    def too_small(self) -> list[Small]:
        """List the classes with fewer pictures than splits."""
        found = []
        for label, rows in self.rows.items():
            pictures = {self.pictures[row] for row in rows}
            free = len(pictures - self.drawn.keys())
            if free + (free < len(pictures)) < len(self.wanted) + 1:
                found.append(Small(label, len(rows), len(pictures), ("train", *self.wanted)))
        return found

    def run(self, seed: int, train_only: Collection[int]) -> None:
        """Draw into `splits`, leaving some classes in train."""
        generator = np.random.default_rng(seed)
        shuffled = {label: generator.permutation(self.rows[label]) for label in sorted(self.rows)}
        pictures = {
            label: [self.pictures[row] for row in rows.tolist()] for label, rows in shuffled.items()
        }
        for label in train_only:
            self.drawn |= dict.fromkeys(pictures.get(label, ()), "train")
        # Small classes first: a picture of two labels is drawn for the class with fewer pictures.
        for label in sorted(pictures, key=lambda label: (len(set(pictures[label])), label)):
            self._fill(pictures[label])
        for rows in self.rows.values():
            for row in rows:
                self.splits[row] = self.drawn[self.pictures[row]]

    def _fill(self, pictures: list[str]) -> None:
        """Draw the pictures of a class, in this order: about the same share for each split."""
        share = max(1, round(DRAWN * len(pictures)))
        filled = Counter(self.drawn[picture] for picture in pictures if picture in self.drawn)
        free = Counter(picture for picture in pictures if picture not in self.drawn)
        spare = len(free) - (not filled["train"])  # train needs a picture, too
        for split in self.wanted:
            chosen: list[str] = []
            for picture, copies in free.items():
                if filled[split] >= share or len(chosen) == spare:
                    break
                if filled[split] + copies <= share:
                    chosen.append(picture)
                    filled[split] += copies
            if not filled[split] and spare > 0:  # each picture has more copies than the share
                chosen = [min(free, key=free.__getitem__)]
            spare -= len(chosen)
            for picture in chosen:
                self.drawn[picture] = split
                del free[picture]
        self.drawn |= dict.fromkeys(free, "train")


def _find_untrained(labels: list[int], splits: list[str], classes: int) -> list[Small]:
    trained = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    return [Small(label, 0, 0, ("train",)) for label in range(classes) if label not in trained]


def _check_filled(splits: Iterable[str], wanted: Collection[str]) -> None:
    counts = Counter(splits)
    for split in SPLITS:
        if split in wanted and not counts[split]:
            raise JobFailed(
                f"The split {split} is empty: it has no usable image. Put some there, or leave "
                f"the split out; Winnow then draws it from train."
            )


def _words(named: frozenset[str], missing: Sequence[str], seed: int) -> str:
    if not named:
        return f"Splits drawn 70/15/15 with seed {seed}."
    if not missing:
        return "Splits as given."
    kept = " and ".join(split for split in SPLITS if split in named and split != "train")
    return f"{' and '.join(missing).capitalize()}: 15 % of train, drawn with seed {seed}" + (
        f"; {kept} as given." if kept else "."
    )


def _joined(splits: Sequence[str]) -> str:
    return f"{', '.join(splits[:-1])} and {splits[-1]}"
