"""Errors of the engine; each message says what to do."""

from collections.abc import Sequence


class EngineError(ValueError):
    """Unusable input."""


class Diverged(EngineError):
    """A training loss that is no longer a number."""

    def __init__(self, epoch: int, learning_rate: float) -> None:
        self.epoch = epoch
        super().__init__(
            f"The training diverged in epoch {epoch}: its loss is no longer a number. Choose a "
            f"lower learning rate than {learning_rate:g} (try a tenth of it) and train again."
        )


class AnotherRun(EngineError):
    """A folder whose files belong to another run, or are damaged."""


class LoneImages(EngineError):
    """Classes of a single training image, by number."""

    def __init__(self, classes: Sequence[int]) -> None:
        self.classes = classes
        super().__init__(self.name([f"number {number}" for number in classes]))

    @staticmethod
    def name(classes: Sequence[str]) -> str:
        """Return the sentence with the classes' names."""
        which = f"class {classes[0]} has" if len(classes) == 1 else "these classes have"
        listed = "" if len(classes) == 1 else f" each ({', '.join(classes)})"
        return (
            f"This method leaves images out in turn, and {which} a single training image{listed}: "
            "no model can know such a class without it. Add images of it, or choose another method."
        )


class ReplayDrift(EngineError):
    """A replay that misses the parameters recorded by the run."""

    def __init__(self, epoch: int, recorded: dict[str, str], here: dict[str, str]) -> None:
        self.epoch = epoch
        failed = (
            f"Replaying epoch {epoch} did not reach the recorded parameters, so exact scores are "
            "not possible here."
        )
        if recorded == here:
            super().__init__(
                f"{failed} The run was made in this same environment ({_describe(here)}), so the "
                "images' pixels, or the network of that name, are not those it was trained with. "
                "Give those, train again, or ask for approximate scores."
            )
            return
        super().__init__(
            f"{failed} The run was made with {_describe(recorded)}; this is {_describe(here)}. "
            "Score on the machine that trained it, train again here, or ask for approximate "
            "scores."
        )


class CannotGoOn(EngineError):
    """A run whose steps come out differently when it is resumed."""

    def __init__(self, recorded: dict[str, str], here: dict[str, str]) -> None:
        super().__init__(
            "This run cannot continue here: one of its steps, repeated as a check, comes out "
            f"differently. It was started with {_describe(recorded)}; this is {_describe(here)}. "
            "If those are the same, its network is not the one it started with. Continue where it "
            "was started and with that network, or train again in another folder."
        )


def _describe(environment: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in environment.items())
