"""Find the classes whose images a ranking cannot judge."""

import numpy as np

from backend.core.catalogue import METHODS
from backend.core.unjudged import (
    FEW_VALIDATION,
    FEWEST_VALIDATION,
    LEARNED,
    NO_VALIDATION,
    NOT_LEARNED,
)
from worker.engine import Images

Unjudged = dict[int, str]  # class → reason


def find_unjudged(
    method: str, images: Images, validation: Images, predicted: np.ndarray | None = None
) -> Unjudged:
    """Find the classes that a method cannot judge.

    Args:
        images: N training images.
        validation: They define harm.
        predicted: Classes that the finished model predicts, (N,); None where unknown.
    """
    if METHODS[method].harm:
        return find_unmeasured(images, validation)
    if METHODS[method].doubts_labels and predicted is not None:
        return find_unlearned(images, predicted)
    return {}


def find_unmeasured(images: Images, validation: Images) -> Unjudged:
    """Find classes with too few validation images to show harm to their own class."""
    counts = np.bincount(validation.labels, minlength=int(images.labels.max()) + 1)
    return {
        int(label): FEW_VALIDATION if counts[label] else NO_VALIDATION
        for label in np.unique(images.labels)
        if counts[label] < FEWEST_VALIDATION
    }


def find_unlearned(images: Images, predicted: np.ndarray) -> Unjudged:
    """Find classes of whose training images the model gets hardly any right."""
    counts = np.bincount(images.labels)
    right = np.bincount(images.labels[predicted == images.labels], minlength=len(counts))
    return {
        int(label): NOT_LEARNED
        for label in np.flatnonzero(counts)
        if right[label] < LEARNED * counts[label]
    }


def select_images(images: Images, unjudged: Unjudged) -> np.ndarray:
    """Select the images of these classes, (N,)."""
    return np.isin(images.labels, list(unjudged))
