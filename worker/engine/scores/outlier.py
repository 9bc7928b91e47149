"""The papers' comparator: how far an image lies from the others in what the model sees (isolation forest, Liu, Ting and Zhou 2008)."""

from collections.abc import Iterator

import numpy as np
import torch

from worker.engine.images import draws
from worker.engine.scores.cost import Looks, Sizes, from_seed
from worker.engine.scores.method import Asked, Scored, attach
from worker.engine.sweep import walk

# Images from which the trees draw; each tree looks at 256 of them.
SAMPLE = 10_000
# The stream of draws that chooses them.
_SAMPLE = 6


def outlier(asked: Asked) -> Scored:
    """scikit-learn's `score_samples` of the features at θ_T, (N,): low for an image that few random cuts separate from the rest."""
    # Here, because it takes a second that nothing else should wait for.
    from sklearn.ensemble import IsolationForest

    images = asked.replay.run.images
    sample = _sample(asked, len(images))
    # scikit-learn takes seeds of 32 bits.
    forest = IsolationForest(
        n_estimators=int(asked.options["trees"]), random_state=asked.replay.run.recipe.seed % 2**32
    )
    forest.fit(np.concatenate(list(_features(asked, sample))))
    values = np.empty(len(images))
    done = 0
    for features in _features(asked, np.arange(len(images))):
        asked.progress(done, len(images))
        values[done : done + len(features)] = forest.score_samples(features)
        done += len(features)
    asked.progress(done, len(images))
    return values, {"features": int(features.shape[1]), "sample": len(sample)}


def _sample(asked: Asked, count: int) -> np.ndarray:
    """All images, or as many as `SAMPLE` of them."""
    order = draws(asked.replay.run.recipe.seed, 0, asked.replay.run.images.ids, _SAMPLE)
    return (
        np.arange(count) if count <= SAMPLE else np.sort(np.argsort(order, kind="stable")[:SAMPLE])
    )


def _features(asked: Asked, positions: np.ndarray) -> Iterator[np.ndarray]:
    """What the last layer sees of the images at `positions`, in parts (B, D): never all of them at once."""
    run, params = asked.replay.run, asked.replay.final_params()
    with torch.no_grad():
        for _, x, _ in walk(run.network, run.recipe, params, run.images.subset(positions)):
            yield run.network.features(params, x).flatten(1).cpu().numpy()


def _looks(sizes: Sizes) -> Looks:
    sample = min(SAMPLE, sizes.count)
    # The sample's features lie in memory in parts, and for a moment a second time as one table.
    return Looks(
        forward=sizes.count + sample,
        gradient=from_seed(sizes),
        held=2 * sample * sizes.features_bytes,
    )


METHOD = attach("outlier", outlier, _looks, options={"trees": 100})
