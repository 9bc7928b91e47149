"""Recognize the names of splits among the names of folders."""

import re
from collections.abc import Iterable, Mapping

from worker.pipeline.imports.files import SPLIT_NAMES, natural

SPLIT_WORDS = SPLIT_NAMES | {
    "trn": "train",
    "trainval": "train",
    "validate": "validation",
    "tst": "test",
    "holdout": "test",
    "eval": "eval",
    "evaluation": "eval",
}
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
NOUN = re.compile(r"(?<=.)(sets?|data|split|images?|imgs?|folder|files?)$")


def split_of(name: str) -> str | None:
    """Return the split that a folder's name tells: train, validation, test, eval or None."""
    exact = SPLIT_NAMES.get(name.strip().lower())
    if exact:
        return exact
    joined = re.sub(r"hold[-_ ]?out", "holdout", name, flags=re.IGNORECASE)
    words = {word.lower() for word in WORD.findall(joined)}
    found = {SPLIT_WORDS.get(word) or SPLIT_WORDS.get(NOUN.sub("", word)) for word in words}
    found.discard(None)
    return found.pop() if len(found) == 1 else None


def splits_of(names: Iterable[str]) -> dict[str, str]:
    """Map the names that tell a split; “eval” is the test, or validation where there is a test."""
    told = {name: split for name in names if (split := split_of(name)) is not None}
    other = "validation" if "test" in told.values() else "test"
    return {name: other if split == "eval" else split for name, split in told.items()}


def is_exact(name: str) -> bool:
    return name.strip().lower() in SPLIT_NAMES


def in_order(names: Iterable[str], told: Mapping[str, str]) -> list[str]:
    """Sort names by their splits: train, validation, test."""
    order = ("train", "validation", "test")
    return sorted(names, key=lambda name: (order.index(told[name]), natural(name)))
