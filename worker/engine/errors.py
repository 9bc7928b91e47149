"""What can go wrong, each with a sentence for a person: what happened and what to do."""


class EngineError(ValueError):
    """Input that cannot be used as it is."""


class Diverged(EngineError):
    """The training loss is no longer a number."""

    def __init__(self, epoch: int, learning_rate: float) -> None:
        self.epoch = epoch
        super().__init__(
            f"The training diverged in epoch {epoch}: its loss is no longer a number. "
            f"Choose a lower learning rate than {learning_rate:g} (a tenth of it is a good try) and train again."
        )


class ReplayDrift(EngineError):
    """A replay did not reach the parameters that the run recorded."""

    def __init__(self, epoch: int, recorded: dict[str, str], here: dict[str, str]) -> None:
        self.epoch = epoch
        failed = f"Replaying epoch {epoch} did not reach the recorded parameters, so exact scores are not possible here."
        if recorded == here:
            super().__init__(
                f"{failed} The run was made in this same environment ({_words(here)}), so the images' pixels, or the network of that name, "
                "are not those that it was trained with. Give those, train again, or ask for approximate scores."
            )
            return
        super().__init__(
            f"{failed} The run was made with {_words(recorded)}; this is {_words(here)}. "
            "Score on the machine that trained it, train again here, or ask for approximate scores."
        )


class CannotGoOn(EngineError):
    """A step of the run that is to be resumed does not come out as it did."""

    def __init__(self, recorded: dict[str, str], here: dict[str, str]) -> None:
        super().__init__(
            "This run cannot go on here: a step of it, repeated to see, does not come out as it did. "
            f"It was begun with {_words(recorded)}; this is {_words(here)}. If those are the same, its network is not the one that it began with. "
            "Go on where it was begun and with that network, or train again in another folder."
        )


def _words(environment: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in environment.items())
