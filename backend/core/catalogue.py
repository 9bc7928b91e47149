"""The methods that rank images, as a person reads them. A test compares every fact here with the engine's registry: the web must not import it."""

from dataclasses import dataclass
from typing import Literal

Needs = Literal["steps", "epochs", "end", "nothing"]


@dataclass(frozen=True)
class Method:
    """called: its usual name. title: the signal's name on a card. because: why a card is there, behind "Suggested because".

    meaning: the engine's own sentence.
    harm: whether its values say what leaving an image out does to the validation loss; the others speak of labels, of oddness, or of nothing.
    needs: of the run all its steps, the parameters at each epoch's end, those at the end, or nothing but what training recorded.
    spans: whether it makes a difference how many epochs it looks at. damps: whether it knows damping.
    """

    called: str
    title: str
    because: str
    meaning: str
    harm: bool
    needs: Literal["steps", "epochs", "end", "nothing"]
    spans: bool = False
    damps: bool = False


def _harm(
    called: str,
    meaning: str,
    needs: Literal["steps", "epochs", "end"],
    *,
    spans: bool = True,
    damps: bool = False,
) -> Method:
    return Method(called, "Hurts accuracy", "it hurts accuracy", meaning, True, needs, spans, damps)


def _other(
    called: str,
    title: str,
    because: str,
    meaning: str,
    needs: Literal["epochs", "end", "nothing"],
    *,
    spans: bool = False,
) -> Method:
    return Method(called, title, because, meaning, False, needs, spans)


# In the order in which a form offers them.
METHODS: dict[str, Method] = {
    "sgd_influence": _harm(
        "SGD influence",
        "Without this image, this very training would have ended with a lower validation loss.",
        "steps",
        damps=True,
    ),
    "marginal_influence": _harm(
        "Marginal influence",
        "The same, averaged over the moment of the epoch at which the image was seen.",
        "steps",
        damps=True,
    ),
    "final_params": _harm(
        "Influence by final parameters",
        "The same as SGD influence, estimated from the finished model alone.",
        "end",
        damps=True,
    ),
    "influence_function": _harm(
        "Influence function",
        "If training had found the best model there is, that model would have a lower validation loss without this image.",
        "end",
        spans=False,
    ),
    "tracin": _harm(
        "TracIn",
        "At the end of each epoch, learning this image pulled the model away from the validation images.",
        "epochs",
    ),
    "published_code": _harm(
        "Influence by the published code",
        "As SGD influence, with the Hessian divided by the batch size twice, as the first paper's published code does; "
        "to compare with its figures only.",
        "steps",
    ),
    "margin": _other(
        "Margin (AUM)",
        "Label looks wrong",
        "its label looks wrong",
        "During training the model rarely believed this image's label.",
        "nothing",
    ),
    "confident_learning": _other(
        "Confident learning",
        "Label doubted by others",
        "other models doubt its label",
        "Models that never saw this image do not believe its label.",
        "nothing",
    ),
    "highest_loss": _other(
        "Highest loss",
        "Label hard to believe",
        "its label is hard to believe",
        "The finished model finds this image's label hardest to believe.",
        "end",
    ),
    "forgetting": _other(
        "Forgetting count",
        "Forgotten again",
        "the model forgot it again, or never learned it",
        "During training the model learned this image and forgot it again, or never learned it.",
        "nothing",
    ),
    "self_influence": _other(
        "Self-influence",
        "Learned by heart",
        "the model had to learn it by heart",
        "The model had to learn this image by heart: nothing else taught it the same.",
        "epochs",
        spans=True,
    ),
    "outlier": _other(
        "Outlier",
        "Unlike the others",
        "it looks unlike the others",
        "To the finished model this image looks unlike the others.",
        "end",
    ),
    "random": _other(
        "Random",
        "Drawn by chance",
        "it was drawn by chance",
        "Picked by chance, for comparison.",
        "nothing",
    ),
}
MethodName = Literal[
    "sgd_influence",
    "marginal_influence",
    "final_params",
    "influence_function",
    "tracin",
    "published_code",
    "margin",
    "confident_learning",
    "highest_loss",
    "forgetting",
    "self_influence",
    "outlier",
    "random",
]
# The second ranking, whatever the first: it is free, and answers another question.
SECOND = "margin"
SPANS = {
    "last_epoch": "The last epoch (fast)",
    "all_epochs": "All epochs (slower, looks further back)",
}


def speaks_against(method: str, value: float) -> bool:
    """Whether a value says anything against its image. Only influence and margin have a sign that can deny it; even an image that stands
    first then neither hurts nor looks wrong.
    """
    return value < 0 or not (METHODS[method].harm or method == SECOND)
