"""Errors of influence over validation images (docs/method.md, section 13).

The validation split is a sample. Its K groups, each with every class in proportion, each give an
influence of their own, and the groups' spread tells how far the mean may be from the influence on
images that nobody has seen:

    I_i = Σ_k (n_k/n) I_i^(k)      SE_i = sd_k(I_i^(k)) / √K      upper_i = I_i + 1.64 SE_i
"""

from dataclasses import dataclass

import numpy as np
import torch

from backend.core.catalogue import SURE
from worker.engine.images import Images, Integers, draw_hashes

GROUPS = 32
_GROUP = 9


@dataclass(frozen=True)
class Groups:
    """Validation images in K groups.

    Args:
        of_image: (V,) the group of each image, from 0.
        shares: (K,) float64, each group's part of all images.
    """

    of_image: Integers
    shares: np.ndarray

    def __len__(self) -> int:
        return len(self.shares)


def make_groups(validation: Images, count: int = GROUPS) -> Groups | None:
    """Deal the validation images, sorted by class and by chance within it, to at most `count`.

    Returns None for a single image, whose luck cannot be told.
    """
    count = min(count, len(validation))
    if count < 2:
        return None
    draws = draw_hashes(0, 0, validation.ids, _GROUP)
    order = np.lexsort((draws, validation.labels))
    of_image = np.empty(len(validation), dtype=np.int64)
    of_image[order] = np.arange(len(validation)) % count
    return Groups(of_image, np.bincount(of_image) / len(validation))


def standard_errors(group_values: np.ndarray) -> np.ndarray:
    """Return SE_i, (N,), of group values (N, K)."""
    return group_values.std(axis=1, ddof=1) / np.sqrt(group_values.shape[1])


def upper_bounds(values: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return I_i + 1.64 SE_i, (N,): below 0, an image is surely harmful."""
    return values + SURE * errors


def shares_of(groups: Groups, like: torch.Tensor) -> torch.Tensor:
    """Return the groups' shares, (K,), in another tensor's type and device."""
    return torch.from_numpy(groups.shares).to(like)
