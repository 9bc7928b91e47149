"""Train, validation and test: given by the source, or drawn from every class."""

from collections import Counter

import numpy as np

from worker.jobs import JobFailed

SPLITS = ("train", "validation", "test")
DRAWN = 0.15  # of a class into validation, and the same into test


def assign(
    labels: list[int], given: list[str | None], named: frozenset[str], names: list[str], seed: int
) -> tuple[list[str], str]:
    """Choose each image's split, and explain its origin. Raises JobFailed for an empty split."""
    missing = [split for split in SPLITS if split not in named]
    if not named:
        splits, words = (
            _draw(labels, names, ("validation", "test"), seed),
            f"Splits drawn 70/15/15 with seed {seed}.",
        )
    elif "train" in missing:
        raise JobFailed(
            f"There are images for {' and '.join(sorted(named))}, but none to train with. Add a "
            f"folder or split named train."
        )
    elif missing:
        splits = _draw_from_train(labels, given, names, missing, seed)
        kept = " and ".join(split for split in SPLITS if split in named and split != "train")
        words = f"{' and '.join(missing).capitalize()}: 15 % of train, drawn with seed {seed}" + (
            f"; {kept} as given." if kept else "."
        )
    else:
        splits, words = [split or "train" for split in given], "Splits as given."
    _check(labels, splits, names)
    return splits, words


def _draw(labels: list[int], names: list[str], wanted: tuple[str, ...], seed: int) -> list[str]:
    """Draw the `wanted` splits from each class, at least one image into each."""
    generator = np.random.default_rng(seed)
    splits = np.full(len(labels), "train", dtype=object)
    counts = np.bincount(labels, minlength=len(names))
    for label, rows in enumerate(
        np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    ):
        if len(rows) < len(wanted) + 1:
            raise JobFailed(_too_few(names[label], len(rows), ("train", *wanted)))
        shuffled = generator.permutation(rows)
        share = max(1, round(DRAWN * len(rows)))
        for place, split in enumerate(wanted):
            splits[shuffled[place * share : (place + 1) * share]] = split
    return [str(split) for split in splits]


def _draw_from_train(
    labels: list[int], given: list[str | None], names: list[str], wanted: list[str], seed: int
) -> list[str]:
    rows = [row for row, split in enumerate(given) if split == "train"]
    present = {label: place for place, label in enumerate(sorted({labels[row] for row in rows}))}
    drawn = _draw(
        [present[labels[row]] for row in rows],
        [names[label] for label in present],
        tuple(wanted),
        seed,
    )
    splits = [split or "train" for split in given]
    for row, split in zip(rows, drawn, strict=True):
        splits[row] = split
    return splits


def _check(labels: list[int], splits: list[str], names: list[str]) -> None:
    counts = Counter(splits)
    for split in SPLITS:
        if not counts[split]:
            raise JobFailed(
                f"The split {split} is empty: it has no usable image. Put some there, or leave "
                f"the split out; Winnow then draws it from train."
            )
    trained = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    for label, name in enumerate(names):
        if label not in trained:
            raise JobFailed(
                f"The class “{name[:200]}” has no training image. Add some to train, or take the "
                f"class out."
            )


def _too_few(name: str, count: int, needed: tuple[str, ...]) -> str:
    images = "one image" if count == 1 else f"{count} images"
    where = f"{', '.join(needed[:-1])} and {needed[-1]}"
    return (
        f"The class “{name[:200]}” has only {images}, and needs at least {len(needed)} to be in "
        f"{where}. "
        "Add images to it, or take the class out, then import again."
    )
