"""The sample: 1,797 digits of scikit-learn, some with planted wrong labels."""

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from worker.pipeline.imports.decoding import Pixels
from worker.pipeline.imports.files import Entry, Found, Refusals
from worker.pipeline.imports.splits import SPLITS, assign

SIDE = 28
FLIPPED = 0.08  # of the training labels
BRIGHTEST = 16  # the digits' maximum


def sample(seed: int) -> Found:
    digits = load_digits()
    truth = [int(label) for label in digits.target]
    names = [str(digit) for digit in range(10)]
    splits, words = assign(truth, [None] * len(truth), frozenset(), names, seed)
    labels = plant(truth, splits, len(names), seed)
    entries = [
        Entry(
            f"digit-{index:04d}.png",
            names[label],
            split,
            SIDE * SIDE,
            enlarged(digits.images[index]),
            true_label=names[true] if true != label else None,
        )
        for index, (label, true, split) in enumerate(zip(labels, truth, splits, strict=True))
    ]
    return Found(
        entries,
        lambda entry: entry.key,
        Refusals(),
        frozenset(SPLITS),
        tuple(names),
        split_words=words,
        sizes=frozenset({(SIDE, SIDE)}),
    )


def plant(truth: list[int], splits: list[str], classes: int, seed: int) -> list[int]:
    """Move 8 % of the training labels to another class, each equally likely."""
    # Independent of the splits.
    generator = np.random.default_rng([seed, 1])
    train = [row for row, split in enumerate(splits) if split == "train"]
    labels = list(truth)
    for row in generator.choice(train, round(FLIPPED * len(train)), replace=False):
        labels[row] = int((truth[row] + generator.integers(1, classes)) % classes)
    return labels


def enlarged(digit: np.ndarray) -> Pixels:
    """Enlarge 8 × 8 values from 0 to 16 to 28 × 28 grey levels, bicubic."""
    grey = Image.fromarray((digit * (255 / BRIGHTEST)).astype(np.float32))
    return (
        np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        .round()
        .clip(0, 255)
        .astype(np.uint8)
    )
