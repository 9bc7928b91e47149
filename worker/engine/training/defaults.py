"""Default recipe, chosen from image size, channels and count."""

import dataclasses

from worker.engine.errors import EngineError
from worker.engine.images import Images, pixel_statistics
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
    _, height, width, channels = images.pixels.shape
    mean, std = pixel_statistics(images)
    simple = channels == 1 and max(height, width) <= 32
    adam = settings.get("optimizer") in ("adam", "adamw")
    if adam and settings.get("momentum"):
        raise EngineError(
            f"{settings['optimizer']} keeps averages of its own and takes no momentum; leave it "
            "out, or choose the optimizer sgd."
        )
    chosen: dict[str, object] = {
        "network": "mnist" if simple else "cifar",
        "classes": classes,
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
        "seed": seed,
    }
    if settings.get("weights"):
        # Published weights need their pixel statistics and a gentle rate.
        chosen |= {"learning_rate": 0.01} | (
            {"mean": IMAGENET_MEAN, "std": IMAGENET_STD} if channels == 3 else {}
        )
    if adam:
        # Adam's authors' choice (Kingma and Ba 2015).
        chosen["learning_rate"] = 0.0001 if settings.get("weights") else 0.001
    chosen |= {name: value for name, value in settings.items() if value is not None}
    return Recipe(**chosen)  # type: ignore[arg-type]  # Recipe checks its fields
