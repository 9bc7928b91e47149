"""The interval covers the truth as often as stated."""

import numpy as np
import pytest

from worker.engine import paired_difference


@pytest.mark.slow
def test_the_interval_covers_the_truth_in_about_95_of_100_cases():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        common = generator.normal(0, 5, 6)
        result = paired_difference(common, common + 0.3 + generator.normal(0, 0.5, 6))
        covered += result.low <= 0.3 <= result.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_one_pair_says_nothing_and_equal_pairs_say_everything():
    assert paired_difference([0.9], [0.95]).low == -np.inf
    same = paired_difference([0.9, 0.8], [0.95, 0.85])
    assert (same.mean, same.low) == (pytest.approx(0.05), pytest.approx(0.05))


def test_nothing_to_compare_is_an_error():
    with pytest.raises(ValueError, match="nothing to compare"):
        paired_difference([], [])
