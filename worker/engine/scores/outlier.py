"""Outliers in feature space, by isolation forest (Liu, Ting and Zhou 2008)."""

from collections.abc import Iterator

import numpy as np
import torch

from worker.engine.images import draw_hashes
from worker.engine.scores.cost import ImagePasses, Sizes, count_from_seed
from worker.engine.scores.method import ScoresAndReport, ScoringRequest, attach
from worker.engine.sweep import iterate_parts

# Images from which each tree draws 256.
SAMPLE = 10_000
_SAMPLE = 6


def outlier(request: ScoringRequest) -> ScoresAndReport:
    """Compute score_samples of the features at θ_T, (N,): low for outliers."""
    from sklearn.ensemble import IsolationForest  # slow import

    images = request.replay.run.images
    sample = _sample(request, len(images))
    # scikit-learn's seeds have 32 bits.
    forest = IsolationForest(
        n_estimators=int(request.options["trees"]),
        random_state=request.replay.run.recipe.seed % 2**32,
    )
    forest.fit(np.concatenate(list(_features(request, sample))))
    values = np.empty(len(images))
    done = 0
    for features in _features(request, np.arange(len(images))):
        request.progress(done, len(images))
        values[done : done + len(features)] = forest.score_samples(features)
        done += len(features)
    request.progress(done, len(images))
    return ScoresAndReport(values, {"features": int(features.shape[1]), "sample": len(sample)})


def _sample(request: ScoringRequest, count: int) -> np.ndarray:
    order = draw_hashes(request.replay.run.recipe.seed, 0, request.replay.run.images.ids, _SAMPLE)
    return (
        np.arange(count) if count <= SAMPLE else np.sort(np.argsort(order, kind="stable")[:SAMPLE])
    )


def _features(request: ScoringRequest, positions: np.ndarray) -> Iterator[np.ndarray]:
    run, params = request.replay.run, request.replay.final_params()
    with torch.no_grad():
        for _, x, _ in iterate_parts(run.network, run.recipe, params, run.images.subset(positions)):
            yield run.network.features(params, x).flatten(1).cpu().numpy()


def _count_passes(sizes: Sizes) -> ImagePasses:
    sample = min(SAMPLE, sizes.count)
    # twice: in parts, then as a table
    return ImagePasses(
        forward=sizes.count + sample,
        gradient=count_from_seed(sizes),
        held=2 * sample * sizes.features_bytes,
    )


METHOD = attach("outlier", outlier, _count_passes, options={"trees": 100})
