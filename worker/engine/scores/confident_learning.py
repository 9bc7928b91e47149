"""Confident learning with cleanlab (Northcutt, Jiang and Chuang 2021)."""

from pathlib import Path

import numpy as np

from worker.engine.errors import EngineError, LoneImages
from worker.engine.images import Images, draw_hashes
from worker.engine.inference import predict
from worker.engine.scores.cost import ImagePasses, Sizes
from worker.engine.scores.method import ScoresAndReport, ScoringRequest, attach
from worker.engine.sweep import Progress
from worker.engine.training.loop import train

_FOLDS = 7


def confident_learning(request: ScoringRequest) -> ScoresAndReport:
    """Compute the out-of-sample probability of each label, (N,), by k-fold training.

    Trainings stay in the run's folder, so a stopped scoring resumes.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    run, folds = request.replay.run, int(request.options["folds"])
    fold_of_image = assign_folds(run.images, run.recipe.seed, folds)
    probabilities = np.empty((len(run.images), run.recipe.classes))
    for fold in range(folds):
        folder = request.replay.training.folder / f"fold-{fold + 1}-of-{folds}"
        probabilities[fold_of_image == fold] = _out_of_sample(
            request, fold_of_image == fold, folder, _part_progress(request.progress, fold, folds)
        )
    present, labels = np.unique(run.images.labels, return_inverse=True)
    # cleanlab needs classes without gaps, and probabilities that sum to 1
    present_probabilities = probabilities[:, present]
    present_probabilities = present_probabilities / present_probabilities.sum(axis=1, keepdims=True)
    wrong = find_label_issues(labels, present_probabilities, n_jobs=1)
    return ScoresAndReport(
        get_label_quality_scores(labels, present_probabilities, method="self_confidence"),
        {"folds": folds, "labels_taken_for_wrong": int(wrong.sum())},
    )


def assign_folds(images: Images, seed: int, folds: int) -> np.ndarray:
    """Assign each image to a fold, (N,) from 0, spreading classes evenly.

    Raises:
        EngineError: too few images, or a class of a single image.
    """
    if folds < 2:
        raise EngineError(f"Choose at least 2 folds, not {folds}.")
    if folds > len(images):
        raise EngineError(
            f"This method splits the training images into {folds} folds, and there are only "
            f"{len(images)}. Add images, or choose another method."
        )
    counts = np.bincount(images.labels)
    if (counts == 1).any():
        raise LoneImages([int(number) for number in np.flatnonzero(counts == 1)])
    order = np.lexsort((draw_hashes(seed, 0, images.ids, _FOLDS), images.labels))
    fold_of_image = np.empty(len(images), dtype=np.int64)
    fold_of_image[order] = np.arange(len(images)) % folds
    return fold_of_image


def _out_of_sample(
    request: ScoringRequest, held_out: np.ndarray, folder: Path, progress: Progress
) -> np.ndarray:
    run = request.replay.run
    others, held = (
        run.images.subset(np.flatnonzero(~held_out)),
        run.images.subset(np.flatnonzero(held_out)),
    )
    training = train(
        run.recipe,
        others,
        None,
        folder,
        store="final_params",
        progress=progress,
        device=run.device.type,
    )
    return predict(training, held, device=run.device.type)


def _part_progress(progress: Progress, fold: int, folds: int) -> Progress:
    return lambda done, total: progress(fold * total + done, folds * total)


def _count_passes(sizes: Sizes) -> ImagePasses:
    folds = int(sizes.options["folds"])
    trained = sizes.recipe.epochs * sizes.count * (folds - 1)
    # parameters and gradients; float64 probabilities and cleanlab's copies
    held = 4 * sizes.params_bytes + 4 * 8 * sizes.count * sizes.recipe.classes
    return ImagePasses(
        forward=sizes.count, gradient=trained, held=held, stored=folds * sizes.params_bytes
    )


METHOD = attach("confident_learning", confident_learning, _count_passes, options={"folds": 5})
