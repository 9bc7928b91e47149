"""Classes whose images a ranking cannot judge, and why."""

from collections.abc import Mapping

# Fewer validation images of a class say nothing about harm.
FEWEST_VALIDATION = 3
# Share of a class's training images that a model which learned it gets right, at least.
LEARNED = 0.1

NO_VALIDATION, FEW_VALIDATION, NOT_LEARNED = "no_validation", "few_validation", "not_learned"

# Reason → the sentence on a card.
SENTENCES = {
    NO_VALIDATION: "Can’t be judged: no validation image of this class.",
    FEW_VALIDATION: (
        f"Can’t be judged: fewer than {FEWEST_VALIDATION} validation images of this class."
    ),
    NOT_LEARNED: "Can’t be judged: the model has not learned this class.",
}

# Reason → the words before the classes' names in a notice, and those behind them.
_NOTICES = {
    NO_VALIDATION: ("No validation image shows ", ", so harm can’t be judged there"),
    FEW_VALIDATION: (
        f"Fewer than {FEWEST_VALIDATION} validation images show ",
        ", so harm can’t be judged there",
    ),
    NOT_LEARNED: ("The model has not learned ", ", so its labels can’t be judged"),
}
# Classes that a notice names.
MOST_NAMED = 5


def describe(unjudged: Mapping[int, str], class_names: list[str]) -> list[str]:
    """Write a notice for each reason. unjudged: class number → reason."""
    notices = []
    for reason, (start, end) in _NOTICES.items():
        names = [
            f"“{class_names[label]}”" for label in sorted(unjudged) if unjudged[label] == reason
        ]
        if names:
            more = len(names) - MOST_NAMED
            listed = ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
            notices.append(f"{start}{listed}{end}. These images are marked and come last for it.")
    return notices
