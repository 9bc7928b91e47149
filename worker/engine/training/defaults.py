"""Default recipe, chosen from image size, channels and count."""

import dataclasses

from worker.engine.errors import EngineError
from worker.engine.images import Features, Images, pixel_statistics
from worker.engine.recipe import Recipe
from worker.engine.training import checks

FEW_IMAGES = 5_000
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def default_recipe(images: Images, classes: int, *, seed: int = 0, **settings: object) -> Recipe:
    """Choose a recipe for training images.

    Args:
        images: training images.
        classes: number of classes.
        seed: of the run.
        settings: fields of `Recipe` that take precedence unless None.

    Raises:
        EngineError: no images, or an invalid setting.
    """
    fields = [field.name for field in dataclasses.fields(Recipe)]
    if unknown := sorted(settings.keys() - fields):
        raise EngineError(
            f"A recipe has no setting called {unknown[0]!r}; choose from {', '.join(fields)}."
        )
    checks.check_type(images, Images, "list of images", "Images(pixels, labels, ids) makes one")
    if not len(images):
        raise EngineError("There are no images to make a recipe for.")
    adam = settings.get("optimizer") in ("adam", "adamw")
    if adam and settings.get("momentum"):
        raise EngineError(
            f"{settings['optimizer']} keeps averages of its own and takes no momentum; leave it "
            "out, or choose the optimizer sgd."
        )
    chosen = (
        _head_on(images)
        if isinstance(images, Features)
        else _network_for(images, adam=adam, published=bool(settings.get("weights")))
    )
    chosen |= {"classes": classes, "seed": seed}
    chosen |= {name: value for name, value in settings.items() if value is not None}
    return Recipe(**chosen)  # type: ignore[arg-type]  # Recipe checks its fields


def _head_on(features: Features) -> dict[str, object]:
    """Choose a head's settings; docs/decisions/0050 has the table of what was tried."""
    return {
        "network": "linear_head",
        "backbone": features.backbone,
        "channels": features.count,
        "height": 1,
        "width": 1,
        "mean": (),
        "std": (),
        "epochs": 20,
        "batch_size": 64,
        "learning_rate": 0.03,
        "weight_decay": 0.01,
        "schedule": "cosine",
    }


def _network_for(images: Images, *, adam: bool, published: bool) -> dict[str, object]:
    """Choose a network's settings. published: it starts from published weights."""
    _, height, width, channels = images.pixels.shape
    mean, std = pixel_statistics(images)
    simple = channels == 1 and max(height, width) <= 32
    chosen: dict[str, object] = {
        "network": "mnist" if simple else "cifar",
        "channels": channels,
        "height": height,
        "width": width,
        "mean": mean,
        "std": std,
        "epochs": 20,
        # Few images need more steps to converge.
        "batch_size": 64 if len(images) >= FEW_IMAGES else 32,
        # Momentum makes steps ten times as long.
        "learning_rate": 0.05 if simple else 0.01,
        "momentum": 0.0 if simple or adam else 0.9,
        "schedule": "constant" if simple else "cosine",
        "augmentation": "none" if simple else "shift_flip",
    }
    if published:
        # Published weights need their pixel statistics and a gentle rate.
        chosen |= {"learning_rate": 0.01} | (
            {"mean": IMAGENET_MEAN, "std": IMAGENET_STD} if channels == 3 else {}
        )
    if adam:
        # Adam's authors' choice (Kingma and Ba 2015).
        chosen["learning_rate"] = 0.0001 if published else 0.001
    return chosen
