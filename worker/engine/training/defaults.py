"""A sensible recipe for images one knows nothing about."""

import dataclasses

from worker.engine.errors import EngineError
from worker.engine.images import Images, pixel_statistics
from worker.engine.recipe import Recipe
from worker.engine.training import checks

FEW_IMAGES = 5_000
# Of the pixels that torchvision's weights were trained on.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def default_recipe(images: Images, classes: int, *, seed: int = 0, **asked: object) -> Recipe:
    """A recipe from the images' size, channels and number; whatever is in `asked` (a recipe's field, not None) takes precedence.

    Raises EngineError for no images, and for a setting that there is not or that makes no sense.
    """
    fields = [field.name for field in dataclasses.fields(Recipe)]
    if unknown := sorted(asked.keys() - fields):
        raise EngineError(
            f"A recipe has no setting called {unknown[0]!r}; there are {', '.join(fields)}."
        )
    checks.given(images, Images, "list of images", "Images(pixels, labels, ids) makes one")
    if not len(images):
        raise EngineError("There are no images to make a recipe for.")
    _, height, width, channels = images.pixels.shape
    mean, std = pixel_statistics(images)
    simple = channels == 1 and max(height, width) <= 32
    adam = asked.get("optimizer") in ("adam", "adamw")
    if adam and asked.get("momentum"):
        raise EngineError(
            f"{asked['optimizer']} keeps averages of its own and takes no momentum; leave it out, or choose the optimizer sgd."
        )
    settings: dict[str, object] = {
        "network": "mnist" if simple else "cifar",
        "classes": classes,
        "channels": channels,
        "height": height,
        "width": width,
        "mean": mean,
        "std": std,
        "epochs": 20,
        # Few images make few steps: smaller batches let twenty epochs come to an end.
        "batch_size": 64 if len(images) >= FEW_IMAGES else 32,
        # With momentum a step is ten times as long: at 0.05 the colour network stayed at guessing on photographs, at 0.01 it learned at once.
        "learning_rate": 0.05 if simple else 0.01,
        "momentum": 0.0 if simple or adam else 0.9,
        "schedule": "constant" if simple else "cosine",
        "augmentation": "none" if simple else "shift_flip",
        "seed": seed,
    }
    if asked.get("weights"):
        # What published weights were trained with, and a rate that changes them gently.
        settings |= {"learning_rate": 0.01} | (
            {"mean": IMAGENET_MEAN, "std": IMAGENET_STD} if channels == 3 else {}
        )
    if adam:
        # Adam's steps are as long as the rate, whatever the gradient: Kingma and Ba's own choice (2015, algorithm 1).
        settings["learning_rate"] = 0.0001 if asked.get("weights") else 0.001
    settings |= {name: value for name, value in asked.items() if value is not None}
    return Recipe(**settings)  # type: ignore[arg-type]  # the fields are checked by Recipe itself
