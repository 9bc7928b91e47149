"""What a training's job says of the model that came out."""

import numpy as np
import pytest

from worker.pipeline.train import guessing

LABELS = np.array([0, 0, 0, 1])


def test_a_model_that_only_guesses_is_told_from_one_that_learned() -> None:
    assert guessing(0.76, LABELS) is None
    assert guessing(None, LABELS) is None


@pytest.mark.parametrize("accuracy", [0.75, 0.3])
def test_guessing_is_a_sentence_that_says_what_to_do(accuracy: float) -> None:
    sentence = guessing(accuracy, LABELS)
    assert sentence is not None
    assert f"right for {accuracy:.0%} of the validation images" in sentence
    assert "would be for 75%" in sentence
    assert "Train again with a lower learning rate" in sentence
