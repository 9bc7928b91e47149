"""The library: exact influence of training images on a model trained with SGD. See README.md for the symbols and an example."""

from worker.engine.data import Images
from worker.engine.defaults import default_recipe
from worker.engine.errors import Diverged, EngineError, ReplayDrift
from worker.engine.explain import explain
from worker.engine.models import NETWORKS
from worker.engine.recipe import Recipe
from worker.engine.removal import Removal, leave_out
from worker.engine.scores import METHODS, SPANS, Scores, score
from worker.engine.training import Training, evaluate, features, load_training, predict, train
from worker.engine.trajectory import EpochReport, stored_bytes
from worker.engine.verdict import Difference, paired_difference

__all__ = [
    "METHODS",
    "NETWORKS",
    "SPANS",
    "Difference",
    "Diverged",
    "EngineError",
    "EpochReport",
    "Images",
    "Recipe",
    "Removal",
    "ReplayDrift",
    "Scores",
    "Training",
    "default_recipe",
    "evaluate",
    "explain",
    "features",
    "leave_out",
    "load_training",
    "paired_difference",
    "predict",
    "score",
    "stored_bytes",
    "train",
]
