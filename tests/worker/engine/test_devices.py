"""Devices, their records, and exact repetition on a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.worker.engine.conftest import a_recipe
from worker.engine import EngineError, devices, score, train
from worker.engine.images import augmented_batch
from worker.engine.trajectory import files


@pytest.mark.slow
def test_training_and_retracing_stay_on_the_device_that_they_were_given():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(Path(__file__).with_name("pretended_device.py")),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "5 passed" in done.stdout


def test_the_gpu_of_a_machine_without_one_is_a_sentence(images, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("This machine has a GPU.")
    with pytest.raises(EngineError, match="no GPU that this torch can use"):
        train(a_recipe(), images, None, tmp_path, device="cuda")
    with pytest.raises(EngineError, match="no device called 'tpu'; choose from auto, cpu, cuda"):
        train(a_recipe(), images, None, tmp_path, device="tpu")
    assert devices.choose_device("auto").type == "cpu"


def test_the_record_names_the_device_and_its_name(images, tmp_path):
    environment = train(a_recipe(epochs=1), images, None, tmp_path).record.environment
    assert environment["device"] == "cpu"
    assert environment["device_name"]
    assert environment["threads"] == "1"


def test_a_run_that_was_begun_elsewhere_does_not_go_on_here(images, validation, tmp_path):
    train(a_recipe(epochs=2), images, None, tmp_path)
    record = files.read_record(tmp_path)
    record.environment |= {"device": "cuda", "device_name": "Some GPU"}
    (tmp_path / "run.json").write_text(record.to_json())
    if not torch.cuda.is_available():
        # A finished run can be scored, and here its replay happens to match.
        assert score(train(a_recipe(epochs=2), images, None, tmp_path), images, validation).exact
    record.history.pop()
    (tmp_path / "run.json").write_text(record.to_json())
    files.epoch_file(tmp_path, 2).unlink()
    with pytest.raises(EngineError, match=r"started on cuda and would continue on cpu"):
        train(a_recipe(epochs=2), images, None, tmp_path, device="cpu")


def test_what_makes_a_gpu_repeat_is_set_within_and_put_back_after():
    def settings():
        backends = torch.backends
        return (
            torch.are_deterministic_algorithms_enabled(),
            backends.cudnn.benchmark,
            backends.cudnn.deterministic,
            backends.cuda.matmul.fp32_precision,
            backends.cudnn.conv.fp32_precision,
            backends.cudnn.rnn.fp32_precision,
        )

    before = settings()
    with devices.deterministic(torch.device("cuda"), 1):
        assert settings() == (True, False, True, "ieee", "ieee", "ieee")
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert settings() == before
    with devices.deterministic(torch.device("cpu"), 1):
        assert settings() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_real_gpu_runs_repeat_and_all_exact_stores_give_the_same_bits(
    images, validation, tmp_path
):
    recipe = a_recipe(augmentation="shift", momentum=0.9)
    trainings = [
        train(recipe, images, validation, tmp_path / s, store=s, device="cuda")
        for s in ("epoch_starts", "every_step", "recipe")
    ]
    assert len({training.params_hash for training in trainings}) == 1
    scores = [score(training, images, validation, span="all_epochs") for training in trainings]
    assert all(one.exact for one in scores)
    for other in scores[1:]:
        np.testing.assert_array_equal(scores[0].values, other.values)
    there, here = (
        augmented_batch(recipe, images, np.arange(8), 1, torch.float32, device)[0].cpu()
        for device in ("cuda", "cpu")
    )
    torch.testing.assert_close(there, here, rtol=0, atol=0)
