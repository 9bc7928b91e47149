"""The engine: exact influence of training images on a model trained with SGD.

README.md has the symbols and an example.
"""

from worker.engine.devices import choose_device
from worker.engine.errors import (
    AnotherRun,
    CannotGoOn,
    Diverged,
    EngineError,
    LoneImages,
    ReplayDrift,
)
from worker.engine.features.backbones import Backbone, load_backbone
from worker.engine.features.compute import compute_features
from worker.engine.features.pictures import fit_picture
from worker.engine.features.store import FeatureStore, StoredFeatures
from worker.engine.images import Features, Images
from worker.engine.inference import evaluate, export_weights, features, predict
from worker.engine.influence.explain import explain, explain_most
from worker.engine.influence.leave_out import Removal, leave_out
from worker.engine.influence.readout import Readout, load_readout, read_out
from worker.engine.influence.replay import with_params
from worker.engine.networks.registry import NETWORKS, import_network, register_network
from worker.engine.networks.torchvision import download_weights
from worker.engine.networks.weights import register_weights, use_weights_folder
from worker.engine.recipe import Recipe
from worker.engine.scores import (
    METHODS,
    SPANS,
    Cost,
    Method,
    Scores,
    Sizes,
    ensemble,
    score,
    trust_words,
    warns,
)
from worker.engine.scores.cost import GRADIENT
from worker.engine.training.defaults import default_recipe
from worker.engine.training.loop import train
from worker.engine.training.resume import load_training
from worker.engine.training.runner import Training
from worker.engine.trajectory.files import EpochReport, stored_bytes
from worker.engine.trajectory.revolve import LEAST_ROOM
from worker.engine.verdict import Difference, paired_difference
from worker.engine.whole_files import write_whole

__all__ = [
    "GRADIENT",
    "LEAST_ROOM",
    "METHODS",
    "NETWORKS",
    "SPANS",
    "AnotherRun",
    "Backbone",
    "CannotGoOn",
    "Cost",
    "Difference",
    "Diverged",
    "EngineError",
    "EpochReport",
    "FeatureStore",
    "Features",
    "Images",
    "LoneImages",
    "Method",
    "Readout",
    "Recipe",
    "Removal",
    "ReplayDrift",
    "Scores",
    "Sizes",
    "StoredFeatures",
    "Training",
    "choose_device",
    "compute_features",
    "default_recipe",
    "download_weights",
    "ensemble",
    "evaluate",
    "explain",
    "explain_most",
    "export_weights",
    "features",
    "fit_picture",
    "import_network",
    "leave_out",
    "load_backbone",
    "load_readout",
    "load_training",
    "paired_difference",
    "predict",
    "read_out",
    "register_network",
    "register_weights",
    "score",
    "stored_bytes",
    "train",
    "trust_words",
    "use_weights_folder",
    "warns",
    "with_params",
    "write_whole",
]
