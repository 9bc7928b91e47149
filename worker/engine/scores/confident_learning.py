"""Confident learning (Northcutt, Jiang and Chuang 2021), with the library cleanlab: would a model that never saw the image agree?"""

from pathlib import Path

import numpy as np

from worker.engine.errors import EngineError
from worker.engine.images import Images, draws
from worker.engine.inference import predict
from worker.engine.scores.cost import Looks, Sizes
from worker.engine.scores.method import Asked, Scored, attach
from worker.engine.sweep import Progress
from worker.engine.training.loop import train

# The stream of draws that deals images to folds.
_FOLDS = 7


def confident_learning(asked: Asked) -> Scored:
    """The out-of-sample probability of the given label, (N,), from `folds` trainings of the run's recipe, each without one fold.

    The report says how many labels cleanlab's confident joint takes for wrong. The trainings stay in the run's folder: a scoring that is
    stopped goes on where it was, and a second one finds them done.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    run, folds = asked.replay.run, int(asked.options["folds"])
    dealt = deal(run.images, run.recipe.seed, folds)
    probabilities = np.empty((len(run.images), run.recipe.classes))
    for fold in range(folds):
        folder = asked.replay.training.folder / f"fold-{fold + 1}-of-{folds}"
        probabilities[dealt == fold] = _out_of_sample(
            asked, dealt == fold, folder, _part(asked.progress, fold, folds)
        )
    present, labels = np.unique(run.images.labels, return_inverse=True)
    # cleanlab wants classes without gaps; probabilities that sum to 1
    known = probabilities[:, present]
    known = known / known.sum(axis=1, keepdims=True)
    wrong = find_label_issues(labels, known, n_jobs=1)
    return get_label_quality_scores(labels, known, method="self_confidence"), {
        "folds": folds,
        "labels_taken_for_wrong": int(wrong.sum()),
    }


def deal(images: Images, seed: int, folds: int) -> np.ndarray:
    """The fold of each image, (N,) from 0: each class is dealt out evenly, by each image's own draw.

    Raises EngineError where there are fewer images than folds, or a class has a single image: no model could know it without that one.
    """
    if not 2 <= folds <= len(images):
        raise EngineError(
            f"Choose between 2 and {len(images)} folds for {len(images)} images, not {folds}."
        )
    counts = np.bincount(images.labels)
    if (counts == 1).any():
        raise EngineError(
            f"Class {int(np.flatnonzero(counts == 1)[0])} has a single training image, so no model can know that class without it; "
            "add an image of the class, or leave the class out."
        )
    order = np.lexsort((draws(seed, 0, images.ids, _FOLDS), images.labels))
    dealt = np.empty(len(images), dtype=np.int64)
    dealt[order] = np.arange(len(images)) % folds
    return dealt


def _out_of_sample(
    asked: Asked, held_out: np.ndarray, folder: Path, progress: Progress
) -> np.ndarray:
    """Probabilities (n, classes) of the held-out images from a training on the others."""
    run = asked.replay.run
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


def _part(progress: Progress, fold: int, folds: int) -> Progress:
    """The progress of one of several equal parts."""
    return lambda done, total: progress(fold * total + done, folds * total)


def _looks(sizes: Sizes) -> Looks:
    folds = int(sizes.options["folds"])
    trained = sizes.recipe.epochs * sizes.count * (folds - 1)
    # a training's parameters and gradients; the probabilities in float64, and cleanlab's own copies of them
    held = 4 * sizes.params_bytes + 4 * 8 * sizes.count * sizes.recipe.classes
    return Looks(
        forward=sizes.count, gradient=trained, held=held, stored=folds * sizes.params_bytes
    )


METHOD = attach("confident_learning", confident_learning, _looks, options={"folds": 5})
