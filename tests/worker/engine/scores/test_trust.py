"""Self-checks of a scoring, in figures and words."""

import numpy as np
import pytest

from tests.worker.engine.conftest import a_recipe
from tests.worker.engine.pretended_machine import other_arithmetic, other_rate
from worker.engine import (
    EngineError,
    Images,
    ReplayDrift,
    ensemble,
    leave_out,
    score,
    train,
    trust_words,
    warns,
)
from worker.engine.scores import trust
from worker.engine.scores.cost import damping_candidates
from worker.engine.scores.damping import prediction_error
from worker.engine.scores.scores import Scores
from worker.engine.scores.trust import measure_change, top_group
from worker.engine.training.runner import Runner, make_runner
from worker.engine.trajectory.files import stored_bytes


@pytest.fixture
def noisy(images) -> Images:
    """Return images with every eighth label wrong."""
    return Images(
        images.pixels,
        np.where(np.arange(45) % 8 == 0, (images.labels + 1) % 3, images.labels),
        images.ids,
    )


@pytest.mark.slow
@pytest.mark.parametrize("span", ["last_epoch", "all_epochs"])
@pytest.mark.parametrize("store", ["epoch_starts", "recipe", "final_params"])
def test_the_measured_change_is_that_of_really_leaving_the_group_out(
    noisy, validation, tmp_path, span, store
):
    training = train(a_recipe(epochs=3), noisy, None, tmp_path / "with", store=store)
    method = "final_params" if store == "final_params" else "sgd_influence"
    scores = score(training, noisy, validation, method, span=span, verify=True)
    group = np.argsort(scores.values, kind="stable")[: scores.report["top_group"]]
    assert scores.report["predicted_change"] == pytest.approx(scores.values[group].sum())
    if span == "all_epochs":
        stored = (
            training
            if store != "recipe"
            else train(a_recipe(epochs=3), noisy, None, tmp_path / "again")
        )
        truth = leave_out(stored, noisy, validation, group, tmp_path / "without").measured_change
        assert scores.report["measured_change"] == pytest.approx(truth, abs=1e-9)
    else:
        # Leaving out of the last epoch differs from leaving out of all.
        assert scores.report["measured_change"] != 0


@pytest.mark.slow
def test_a_low_rate_predicts_what_is_measured_and_says_so(noisy, validation, tmp_path):
    training = train(a_recipe(learning_rate=0.002), noisy, None, tmp_path)
    report = score(training, noisy, validation, span="all_epochs", verify=True).report
    assert report["measured_change"] == pytest.approx(report["predicted_change"], rel=0.2)
    assert report["adjoint_growth"] < 2
    assert report["seconds"] > 0
    assert report["stored_bytes"] == stored_bytes(tmp_path)
    words = trust_words(report)
    assert report["trust"] == words
    assert words[0].endswith("the prediction holds.")
    assert not warns(report)


@pytest.mark.slow
def test_a_high_rate_grows_the_adjoint_and_the_words_say_so(noisy, validation, tmp_path):
    training = train(a_recipe(learning_rate=0.3, epochs=8), noisy, None, tmp_path)
    report = score(training, noisy, validation, span="all_epochs", verify=True).report
    assert report["adjoint_growth"] > 4
    assert report["warns"] is warns(report) is True
    assert any(
        "grew" in sentence and "lower learning rate" in sentence for sentence in trust_words(report)
    )


@pytest.mark.parametrize(
    ("measured", "sentence", "warning"),
    [
        (-0.019, "the prediction holds", False),
        (-0.002, "the direction is right, the size is not", True),
        (+0.004, "wrong in its direction", True),
        (None, "diverged", True),
    ],
)
def test_predicted_against_measured_in_words(measured, sentence, warning):
    report = {
        "top_group": 20,
        "predicted_change": -0.02,
        "adjoint_growth": 1.0,
    } | trust.report_measurement(measured)
    assert sentence in trust_words(report)[0]
    assert "first 20 images" in trust_words(report)[0]
    assert "-0.0200" in trust_words(report)[0]
    assert warns(report) == warning


def test_what_was_not_measured_is_said():
    assert trust_words({"top_group": 1, "predicted_change": -0.02}) == [
        "Without the first image the validation loss was predicted to change by -0.0200; whether "
        "it does was not measured."
    ]
    assert trust_words({"seconds": 1.0}) == []
    assert not warns({"top_group": 1, "predicted_change": -0.02})


def test_a_derivative_that_is_off_and_an_unsolved_equation_are_said():
    assert "derivatives is off by 30%" in trust_words({"finite_difference_error": 0.3})[0]
    unsolved = {"converged": False, "residual": 0.123, "iterations": 50}
    assert trust_words(unsolved)[0].startswith(
        "The equation behind these scores was solved to 12.3% only, after 50 iterations"
    )
    assert warns(unsolved)
    assert warns({"finite_difference_error": 0.3})


def test_a_training_that_diverges_without_a_group_says_nothing(images, validation, tmp_path):
    training = train(a_recipe(epochs=1), images, None, tmp_path)
    from worker.engine.influence.replay import Replay

    run, _ = make_runner(training.recipe, images)
    replay = Replay(training, run, 2**30)
    real = run.update
    run.update = lambda params, state, gradient, rate: real(
        params * float("nan"), state, gradient, rate
    )
    assert (
        measure_change(replay, validation, np.array([0]), range(1), lambda _done, _total: None)
        is None
    )


@pytest.mark.slow
def test_the_average_of_runs_is_less_of_one_runs_luck(noisy, validation, tmp_path):
    runs = [
        train(a_recipe(seed=seed, epochs=4), noisy, None, tmp_path / str(seed)) for seed in range(3)
    ]
    scores = [score(run, noisy, validation) for run in runs]
    average = ensemble(scores)
    np.testing.assert_allclose(
        average.values, (scores[0].values + scores[1].values + scores[2].values) / 3
    )
    assert average.method == "sgd_influence"
    assert average.exact
    assert average.report["runs"] == 3
    assert -1 < average.report["agreement"] < 1
    assert average.report["predicted_change"] == pytest.approx(
        average.values[top_group(average.values)].sum()
    )
    assert average.report["seconds"] == pytest.approx(sum(one.report["seconds"] for one in scores))
    assert "The 3 runs agree" in average.report["trust"][-1]
    assert ensemble(scores[:1]).report["agreement"] is None


def an_average(*reports):
    """Average runs whose scorings reported this."""
    base = {
        "predicted_change": -0.02,
        "top_group": 20,
        "seconds": 1.0,
        "stored_bytes": 1,
        "span": "last_epoch",
    }
    values = np.arange(60.0) - 30
    return ensemble(
        [
            Scores(values, "sgd_influence", True, base | report, "a list", str(run))
            for run, report in enumerate(reports)
        ]
    ).report


@pytest.mark.parametrize(
    ("doubt", "sentence"),
    [
        ({"adjoint_growth": 50.0}, "the estimate grew 50-fold"),
        ({"finite_difference_error": 0.2}, "derivatives is off by 20%"),
        ({"drifted": True}, "came out differently here"),
        (
            {"converged": False, "residual": 0.3, "iterations": 40},
            "solved to 30.0% only, after 40 iterations",
        ),
        (
            {"damping": 0.5, "damping_errors": {"0.5": 1.0}},
            "In 1 of the 3 runs no damping predicted",
        ),
    ],
)
def test_what_puts_one_run_in_doubt_is_said_of_the_average(doubt, sentence):
    good = {"adjoint_growth": 1.5, "finite_difference_error": 0.001}
    sound = an_average(good, good, good)
    assert not sound["warns"]
    assert (sound["adjoint_growth"], sound["finite_difference_error"]) == (1.5, 0.001)
    report = an_average(good, good | doubt, good)
    assert report["warns"]
    assert sentence in " ".join(report["trust"])


@pytest.mark.parametrize(
    ("measured", "held", "warning"),
    [((-0.02, -0.015, 0.03), 2, False), ((-0.02, 0.01, 0.03), 1, True)],
)
def test_an_average_says_in_how_many_runs_the_prediction_held(measured, held, warning):
    report = an_average(*({"measured_change": change} for change in measured))
    assert (report["runs_measured"], report["runs_held"], report["warns"]) == (3, held, warning)
    assert f"was measured, and held in {held} of 3 runs" in report["trust"][0]
    assert ("do not remove them unseen" in report["trust"][0]) == warning


@pytest.mark.slow
def test_scores_that_do_not_belong_together_are_not_averaged(noisy, images, validation, tmp_path):
    first = score(train(a_recipe(epochs=1), noisy, None, tmp_path / "a"), noisy, validation)
    with pytest.raises(EngineError, match="at least one run"):
        ensemble([])
    with pytest.raises(EngineError, match="same run is among these twice"):
        ensemble([first, first])
    other = train(a_recipe(epochs=1, seed=8), images, None, tmp_path / "b")
    with pytest.raises(EngineError, match="different image lists"):
        ensemble([first, score(other, images, validation)])
    seeded = train(a_recipe(epochs=1, seed=9), noisy, None, tmp_path / "c")
    with pytest.raises(EngineError, match="a single method; these are margin, sgd_influence"):
        ensemble([first, score(seeded, noisy, validation, "margin")])


@pytest.mark.slow
def test_scores_of_different_spans_or_validation_images_are_not_averaged(
    images, validation, tmp_path
):
    runs = [
        train(a_recipe(epochs=2, seed=seed), images, None, tmp_path / str(seed)) for seed in (1, 2)
    ]
    first = score(runs[0], images, validation)
    with pytest.raises(EngineError, match="different spans, which do not mean the same"):
        ensemble([first, score(runs[1], images, validation, span="all_epochs")])
    half = validation.subset(np.arange(15))
    with pytest.raises(
        EngineError, match="different validation images, which do not mean the same"
    ):
        ensemble([first, score(runs[1], images, half)])
    margins = [
        score(runs[0], images, validation, "margin"),
        score(runs[1], images, half, "margin"),
    ]  # they use none
    assert ensemble(margins).report["runs"] == 2


def test_the_grid_of_dampings_halves_down_to_one_over_the_batch():
    assert damping_candidates(64) == [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64]
    assert damping_candidates(1) == [1]


def test_the_error_of_a_damping_is_relative_to_what_was_measured():
    told = [(np.array([0, 1]), 0.3), (np.array([2]), -0.1)]
    assert prediction_error(np.array([0.1, 0.2, -0.1]), told) == pytest.approx(0)
    assert prediction_error(np.zeros(3), told) == pytest.approx(1)
    assert prediction_error(np.array([np.inf, 0, 0]), told) == 1e30


@pytest.mark.slow
def test_the_chosen_damping_is_the_one_that_predicts_best(noisy, validation, tmp_path):
    calm = train(a_recipe(learning_rate=0.002), noisy, None, tmp_path / "calm")
    scores = score(calm, noisy, validation, span="all_epochs", damping="auto")
    assert scores.report["damping"] == 1.0
    assert scores.exact
    np.testing.assert_array_equal(
        scores.values, score(calm, noisy, validation, span="all_epochs").values
    )
    wild = train(a_recipe(learning_rate=0.3, epochs=8), noisy, None, tmp_path / "wild")
    scores = score(wild, noisy, validation, span="all_epochs", damping="auto")
    errors = scores.report["damping_errors"]
    assert scores.report["damping"] < 1
    assert not scores.exact
    assert errors[f"{scores.report['damping']:g}"] == min(errors.values())
    assert errors["1"] > 1
    np.testing.assert_array_equal(
        scores.values,
        score(wild, noisy, validation, span="all_epochs", damping=scores.report["damping"]).values,
    )


def test_the_words_say_what_measuring_the_damping_found():
    report = {
        "damping": 0.5,
        "damping_errors": {"1": 2.6, "0.5": 0.4, "0.25": 1.1},
        "damping_groups": 12,
    }
    assert trust_words(report) == [
        "12 groups of images were really left out; damping 0.5 predicted the changes best, with "
        "60% of their square explained."
    ]
    assert not warns(report)
    useless = report | {"damping_errors": {"1": 2.6, "0.5": 1.2, "0.25": 1.3}}
    assert "no damping predicted what that changed" in trust_words(useless)[0]
    assert warns(useless)
    exact = report | {"damping": 1.0, "damping_errors": {"1": 0.1}}
    assert "the exact recursion predicted the changes best, with 90%" in trust_words(exact)[0]


@pytest.mark.slow
def test_the_groups_are_disjoint_and_really_left_out(noisy, validation, tmp_path, monkeypatch):
    training = train(a_recipe(), noisy, None, tmp_path)
    left, module = [], "worker.engine.scores.trust.measure_change"

    def recording(replay, validation, positions, epochs, progress):
        change = measure_change(replay, validation, positions, epochs, progress)
        left.append((positions, epochs, change))
        return change

    monkeypatch.setattr(module, recording)
    report = score(training, noisy, validation, damping="auto").report
    assert report["damping_groups"] == len(left) == 12
    everyone = np.concatenate([positions for positions, _, _ in left])
    assert len(np.unique(everyone)) == len(everyone)
    assert {tuple(epochs) for _, epochs, _ in left} == {(2,)}


@pytest.mark.slow
@pytest.mark.parametrize("other", [other_arithmetic, other_rate])
@pytest.mark.parametrize(
    ("method", "store", "asked"),
    [
        ("influence_function", "epoch_starts", {"verify": True}),
        ("influence_function", "recipe", {"verify": True}),
        ("final_params", "epoch_starts", {"verify": True}),
        ("final_params", "final_params", {"verify": True}),
        ("sgd_influence", "every_step", {"verify": True}),
        ("sgd_influence", "epoch_starts", {"damping": "auto"}),
        ("sgd_influence", "every_step", {"damping": "auto"}),
    ],
)
def test_removals_are_measured_only_where_the_run_repeats(
    images, validation, tmp_path, monkeypatch, other, method, store, asked
):
    training = train(a_recipe(), images, None, tmp_path, store=store)
    other(monkeypatch)
    steps, real = [], Runner.advance
    monkeypatch.setattr(
        Runner, "advance", lambda self, *arguments: steps.append(1) or real(self, *arguments)
    )
    with pytest.raises(ReplayDrift, match="did not reach the recorded parameters"):
        score(training, images, validation, method, **asked)
    # Detected by the first step, not after a training or twelve.
    assert len(steps) == 1
    drifted = score(training, images, validation, method, allow_drift=True, **asked)
    assert not drifted.exact
    assert "measured_change" in drifted.report or "damping_errors" in drifted.report


def test_what_measures_nothing_does_not_ask_for_the_runs_steps(
    images, validation, tmp_path, monkeypatch
):
    training = train(a_recipe(), images, None, tmp_path)
    other_arithmetic(monkeypatch)
    for method in ("final_params", "influence_function", "tracin"):
        score(training, images, validation, method)
    score(training, images, validation, "highest_loss", verify=True)
