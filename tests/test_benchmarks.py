"""The pieces of the benchmarks against known results, on tiny inputs."""

import gzip
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from benchmarks import _data, _picture, curves, flips, published_speed, storage, table1
from tests.worker.engine.conftest import (
    a_recipe,
    forget_own_networks,  # noqa: F401 - a fixture
    some_images,
)
from worker.engine import Images, Training, evaluate, leave_out, score, train
from worker.engine.networks.registry import build

ROOT = Path(__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def images() -> Images:
    return some_images(24)


@pytest.fixture
def validation() -> Images:
    return some_images(15, seed=1, first_id=1000)


@pytest.fixture
def training(images: Images, tmp_path: Path) -> Training:
    return train(a_recipe(epochs=2), images, None, tmp_path / "run", device="cpu")


# ── table1 ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"weight_decay": 0.1, "schedule": "inverse_root"}, {"momentum": 0.9}]
)
def test_runs_side_by_side_change_the_loss_as_leaving_an_image_out_does(
    images, validation, tmp_path, settings
) -> None:
    recipe = a_recipe(epochs=2, **settings)
    training = train(recipe, images, None, tmp_path / "run", device="cpu")
    truth = table1.leave_each_out(recipe, images, validation)
    for place in (0, 7, 23):
        measured = leave_out(
            training, images, validation, np.array([place]), tmp_path / str(place)
        ).measured_change
        assert truth[place] == pytest.approx(measured, rel=2e-3, abs=2e-8)
    assert len(np.unique(truth)) == len(images)


@pytest.mark.usefixtures("forget_own_networks")
def test_a_row_of_features_survives_as_two_rows_of_pixels() -> None:
    features = np.random.default_rng(0).normal(size=(20, 5)) * [1, 10, 1e5, 0, 1]
    rows, low, step = table1.as_images(features, np.zeros(20, dtype=np.int64))
    table1.register_network("plain_rows", lambda _recipe: table1.Table(low, step, ()))
    recipe = a_recipe(network="plain_rows", classes=2, height=2, width=5, mean=(0.0,), std=(1.0,))
    network, _ = build(recipe)
    linear = network.module.layers[0]
    x, _ = table1.unaugmented_batch(recipe, rows, np.arange(20), torch.float32)
    for column in range(5):
        with torch.no_grad():
            linear.weight.copy_(torch.eye(5)[column : column + 1])
            linear.bias.zero_()
            odds = network.module(x)
        assert odds[:, 0].tolist() == [0.0] * 20
        assert odds[:, 1].numpy() == pytest.approx(
            features[:, column], abs=float(np.ptp(features[:, column])) * 2e-5 + 1e-6
        )


def test_features_are_standardised_by_the_training_rows_alone() -> None:
    features = np.random.default_rng(0).normal(3.0, 2.0, (1000, 4)) * [1, 1, 1, 0]
    drawn, labels = table1.draw(features, np.arange(1000) % 2, 5)
    assert drawn.shape == (400, 4)
    assert len(labels) == 400
    assert np.abs(drawn[:200].mean(0)).max() < 1e-12
    assert drawn[:200].std(0) == pytest.approx([1, 1, 1, 0])
    assert np.abs(drawn[200:, :3].mean(0)).max() > 1e-3


def test_agreement_is_of_ranks_and_of_both_ends() -> None:
    truth = np.arange(100.0)
    assert table1.agreement(truth, truth**3) == (1.0, 1.0)
    assert table1.agreement(truth, -truth) == (-1.0, 1.0)
    # The lowest ten changed places with the ten in the middle: ten of thirty are in both.
    moved = truth.copy()
    moved[:10], moved[45:55] = truth[45:55], truth[:10]
    assert table1.agreement(truth, moved)[1] == pytest.approx(10 / 30)


# ── flips ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", flips.KINDS)
@pytest.mark.parametrize("share", [0.05, 0.4])
def test_as_many_labels_are_wrong_as_asked_and_the_others_are_left(kind: str, share: float) -> None:
    images = some_images(200, classes=4)
    flipped, wrong = _data.with_flips(images, share, kind, seed=3, classes=4)
    assert wrong.sum() == round(200 * share)
    assert np.array_equal(flipped.labels != images.labels, wrong)
    assert set(flipped.labels.tolist()) <= set(range(4))
    moves = (flipped.labels - images.labels)[wrong] % 4
    assert set(moves.tolist()) == ({1} if kind == "class_dependent" else {1, 2, 3})
    again, _ = _data.with_flips(images, share, kind, seed=3, classes=4)
    assert np.array_equal(again.labels, flipped.labels)


def test_low_values_find() -> None:
    wrong = np.array([True, False, True, False])
    assert flips.found_by(np.array([-2.0, 0.0, -1.0, 1.0]), wrong) == {
        "roc": 1.0,
        "precision": 1.0,
        "at_flips": 1.0,
    }
    assert flips.found_by(np.array([-2.0, -1.0, 0.0, 1.0]), wrong) == pytest.approx(
        {"roc": 0.75, "precision": 5 / 6, "at_flips": 0.5}
    )


# ── curves ────────────────────────────────────────────────────────────────────────────────────────


def test_the_last_epoch_again_with_all_images_is_the_run_itself(
    training: Training, images: Images, validation: Images
) -> None:
    nothing = np.array([], dtype=np.int64)
    assert (
        curves.last_epoch_without(training, images, nothing, validation)
        == 100 - 100 * evaluate(training, validation)[0]
    )
    errors = curves.errors_without(training, images, nothing, validation)
    assert errors["last"] == errors["all"]


def test_the_last_epoch_of_a_run_of_one_epoch_is_all_of_it(
    images: Images, validation: Images, tmp_path: Path
) -> None:
    training = train(a_recipe(epochs=1, batch_size=2), images, None, tmp_path, device="cpu")
    removed = np.flatnonzero(images.labels == 0)
    errors = curves.errors_without(training, images, removed, validation)
    assert errors["last"] == errors["all"]
    assert errors["last"] != curves.last_epoch_without(
        training, images, np.array([], dtype=np.int64), validation
    )


def test_a_change_is_against_removing_nothing_of_the_same_seed() -> None:
    found = [
        {
            "margin": {
                0: dict.fromkeys(curves.WAYS, base),
                10: dict.fromkeys(curves.WAYS, base - 1.0),
            }
        }
        for base in (4.0, 8.0)
    ]
    mean, change, half = curves.summary(found, [10])["fresh"]["margin"][10]
    assert (mean, change, half) == (5.0, -1.0, 0.0)


def test_the_picture_has_a_line_a_ranking_and_a_panel_a_way() -> None:
    lines = {"margin": [(10, 4.5, 0.5), (0, 5.0, 0.0)], "a < b": [(0, 5.0, 0.0), (10, 6.0, 0.0)]}
    picture = _picture.draw({"last": lines, "all": lines}, "removed", "error")
    assert [axes.get_title() for axes in picture.axes] == ["last", "all"]
    assert [text.get_text() for text in picture.legends[0].get_texts()] == list(lines)
    for axes in picture.axes:
        assert [line.get_xydata().tolist() for line in axes.lines] == [
            [[0, 5], [10, 4.5]],
            [[0, 5], [10, 6]],
        ]
        bars = [bar.tolist() for bars in axes.collections for bar in bars.get_segments()]
        assert bars == [[[10, 4], [10, 5]]]  # the only interval
        assert axes.get_ylim() == (4, 6)  # from its end to the highest point
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "10"]


def test_the_same_figures_draw_the_same_file(tmp_path: Path) -> None:
    lines = {"a < b": [(0, 5.0, 0.0), (10, 6.0, 0.0)]}
    files = [tmp_path / "new" / "curves.svg", tmp_path / "again.svg"]
    for file in files:
        _picture.curves(file, {"last": lines}, "removed", "error")
    assert files[0].read_bytes() == files[1].read_bytes()
    words = {text.text for text in ElementTree.parse(files[0]).iter(f"{SVG}text")}
    assert {"last", "a < b", "removed", "error", "10"} <= words


def test_a_picture_of_equal_figures_has_an_axis_all_the_same(tmp_path: Path) -> None:
    _picture.curves(tmp_path / "flat.svg", {"last": {"a": [(0, 5.0, 0.0)]}}, "removed", "error")


# ── storage, and the published procedure ──────────────────────────────────────────────────────────


@pytest.mark.slow
def test_stores_keep_as_many_parameters_as_they_say_and_exact_ones_score_alike(
    images: Images, validation: Images, tmp_path: Path
) -> None:
    recipe = a_recipe(epochs=2)
    found = {
        store: storage.one_store(store, recipe, images, validation, tmp_path / store)
        for store in storage.STORES
    }
    size = 4 * build(recipe)[0].size
    kept = {store: figures["parameter_bytes"] / size for store, (figures, _) in found.items()}
    # Three steps an epoch; a file's head and checks are a few parts in a thousand.
    assert kept == pytest.approx(
        {"every_step": 2 * 3 + 3, "epoch_starts": 3, "recipe": 0, "final_params": 1}, rel=0.05
    )
    for span in storage.SPANS:
        assert all(
            np.array_equal(found[store][1][span], found["every_step"][1][span])
            for store in storage.EXACT
        )
    assert not np.array_equal(
        found["final_params"][1]["last_epoch"], found["every_step"][1]["last_epoch"]
    )


def test_the_loop_over_single_images_gives_the_same_influence(
    images: Images, validation: Images, tmp_path: Path
) -> None:
    training = train(a_recipe(epochs=2), images, None, tmp_path, store="every_step", device="cpu")
    looped = published_speed.published(training, images, validation)
    fused = score(training, images, validation, "sgd_influence", span="last_epoch").values
    assert looped == pytest.approx(fused, rel=1e-3, abs=1e-3 * float(np.abs(fused).max()))


# ── reading, and writing down ─────────────────────────────────────────────────────────────────────


def test_adult_becomes_numbers_and_a_column_for_each_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (
        "{age}, {work}, 100, 9th, 5, Divorced, Sales, Wife, White, Female, 0, 0, 40, {country}, "
        "{income}\n"
    )
    (tmp_path / "adult").mkdir()
    parts = {
        "training": line.format(age=30, work="Private", country="Cuba", income="<=50K"),
        "test": "|1x3 Cross validator\n"
        + line.format(age=40, work="?", country="Mexico", income=">50K."),
    }
    for name, text in parts.items():
        (tmp_path / "adult" / f"adult-{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    monkeypatch.setenv("WINNOW_REAL_DATA", str(tmp_path))
    features, labels = _data.adult()
    assert labels.tolist() == [0, 1]
    assert features[:, :2].tolist() == [[30.0, np.log1p(100)], [40.0, np.log1p(100)]]
    # Six numbers; two kinds of work and two regions; one word in each of the six other columns.
    assert features.shape == (2, 6 + 2 + 2 + 6)
    assert set(features[:, 6:].sum(1)) == {8.0}


@pytest.mark.slow
def test_training_validation_and_test_images_of_mnist_are_different_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnist").mkdir()
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        for kind, head, body in (
            ("images-idx3", 16, np.zeros(count * 784, np.uint8)),
            ("labels-idx1", 8, np.arange(count) % 10),
        ):
            content = bytes(head) + body.astype(np.uint8).tobytes()
            (tmp_path / "mnist" / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(content, 1))
    monkeypatch.setenv("WINNOW_REAL_DATA", str(tmp_path))
    parts = _data.subset("mnist", {"train": 50, "validation": 30, "test": 20}, seed=1)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 50,
        "validation": 30,
        "test": 20,
    }
    ids = np.concatenate([part.ids for part in parts.values()])
    assert len(np.unique(ids)) == 100
    assert np.array_equal(parts["train"].labels, parts["train"].ids % 10)
    assert np.array_equal(parts["test"].labels, (parts["test"].ids - 100_000) % 10)


def test_without_real_data_a_benchmark_ends_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_REAL_DATA", str(tmp_path / "none"))
    with pytest.raises(SystemExit, match="Set WINNOW_REAL_DATA"):
        _data.mnist()


def test_an_interval_is_students() -> None:
    # t of 97.5 % with two degrees of freedom is 4.303; the standard error of 1, 2, 3 is 1/√3.
    assert _data.interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 4.30265 / 3**0.5), rel=1e-4)
    assert _data.interval([5.0]) == (5.0, 0.0)


def test_figures_are_one_json_object_in_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    print(_data.table(("a", "b"), [(1, 2.5)]))
    _data.end({"figure": 1})
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == ["| a | b |", "| --- | --- |", "| 1 | 2.5 |"]
    assert json.loads(last)["figure"] == 1


def test_every_benchmark_is_run_by_make_or_named_as_left_out() -> None:
    text = (ROOT / "Makefile").read_text()
    lists = {
        name: re.search(rf"^{name}_BENCHMARKS := (.*)$", text, re.MULTILINE)[1].split()
        for name in ("SMALL", "LARGE")
    }
    assert sorted([*lists["SMALL"], *lists["LARGE"]]) == sorted(
        path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")
    )
    help_line = re.search(r"^bench: .*## .* Left out: (.*)$", text, re.MULTILINE)[1]
    assert help_line.split() == lists["LARGE"]
