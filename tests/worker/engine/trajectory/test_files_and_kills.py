"""Files of a run: complete and its own, also after a kill at any write."""

import json
import shutil
import struct

import numpy as np
import pytest
import torch

from tests.worker.engine.conftest import a_recipe, some_images
from worker.engine import EngineError, leave_out, load_training, score, train, whole_files
from worker.engine.trajectory import files as run_files
from worker.engine.trajectory import training_dynamics


class Killed(BaseException):
    """Ends a training like a kill."""


def killed_at(count: int, monkeypatch, *, after: bool):
    """Kill the process at its `count`-th write of a file, before or after."""
    whole, written = whole_files.write_whole, []

    def write(path, content):
        written.append(path)
        if len(written) == count and not after:
            raise Killed
        whole(path, content)
        if len(written) == count:
            raise Killed

    monkeypatch.setattr(whole_files, "write_whole", write)


def files(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("store", run_files.STORES)
def test_killed_at_any_write_a_run_ends_in_the_same_files(store, images, validation, tmp_path):
    recipe, method = (
        a_recipe(momentum=0.9, epochs=2),
        "final_params" if store == "final_params" else "sgd_influence",
    )
    whole = train(recipe, images, validation, tmp_path / "whole", store=store)
    values = score(whole, images, validation, method).values
    kills = 0
    for count, after in ((count, after) for count in range(1, 30) for after in (False, True)):
        folder = tmp_path / f"{count}-{after}"
        with pytest.MonkeyPatch.context() as patch:
            killed_at(count, patch, after=after)
            try:
                train(recipe, images, validation, folder, store=store)
            except Killed:
                kills += 1
            else:
                break
        again = train(recipe, images, validation, folder, store=store)
        assert again.params_hash == whole.params_hash
        assert np.array_equal(again.margins, whole.margins)
        assert np.array_equal(score(again, images, validation, method).values, values)
        assert files(folder) == files(whole.folder)
    # run.json, the start, and for each of two epochs signals, run.json and the parameters
    assert kills == 2 * 8


def test_a_run_goes_on_only_with_the_store_it_was_begun_with(images, validation, tmp_path):
    def stop(done, total):
        if done == total // 2 + 1:
            raise Killed

    with pytest.raises(Killed):
        train(a_recipe(), images, validation, tmp_path, progress=stop)
    before = files(tmp_path)
    with pytest.raises(EngineError, match="holds a run with the store epoch_starts, not recipe"):
        train(a_recipe(), images, validation, tmp_path, store="recipe")
    assert files(tmp_path) == before
    train(a_recipe(), images, validation, tmp_path)


def test_steps_of_another_run_or_epoch_are_refused(images, validation, tmp_path):
    run = train(a_recipe(), images, validation, tmp_path / "run", store="every_step")
    other = train(a_recipe(seed=8), images, validation, tmp_path / "other", store="every_step")
    shutil.copy(run_files.steps_file(other.folder, 2), run_files.steps_file(run.folder, 2))
    with pytest.raises(
        EngineError, match=r"steps-0002\.safetensors belongs to a run with another recipe"
    ):
        score(run, images, validation)
    shutil.copy(run_files.steps_file(run.folder, 1), run_files.steps_file(run.folder, 2))
    with pytest.raises(EngineError, match=r"steps-0002\.safetensors is missing or damaged"):
        score(run, images, validation)


def flip_a_bit(path, tensor: str) -> None:
    """Flip a bit in the middle of a tensor of a safetensors file."""
    content = bytearray(path.read_bytes())
    head = struct.unpack("<Q", content[:8])[0]
    first, last = json.loads(content[8 : 8 + head])[tensor]["data_offsets"]
    content[8 + head + (first + last) // 2] ^= 0x40
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("tensor", ["state.first", "state.second", "params"])
def test_a_flipped_bit_of_parameters_or_of_the_optimizers_state_is_noticed(
    tensor, images, validation, tmp_path
):
    run = train(a_recipe(optimizer="adam", learning_rate=0.001), images, validation, tmp_path)
    flip_a_bit(run_files.epoch_file(tmp_path, 2), tensor)
    with pytest.raises(EngineError, match=r"epoch-0002\.safetensors is missing or damaged"):
        score(run, images, validation)


def test_parameters_are_read_to_where_torch_would_put_them(tmp_path):
    """Sums are split by memory alignment: a longer header must not cause drift."""
    path = tmp_path / "epoch-0000.safetensors"
    for length in range(8):
        run_files.write_point(
            path, (torch.arange(1001.0), {"momentum": torch.ones(1001)}), "r" * length
        )
        params, state = run_files.read_point(path, "r" * length)
        assert [tensor.data_ptr() % 64 for tensor in (params, *state.values())] == [0, 0]


def test_a_flipped_bit_of_what_the_training_saw_is_noticed(images, validation, tmp_path):
    train(a_recipe(), images, validation, tmp_path)
    flip_a_bit(training_dynamics.signals_file(tmp_path, 3), "margins")
    with pytest.raises(EngineError, match=r"signals-0003\.safetensors is missing or damaged"):
        load_training(tmp_path)


def test_leaving_out_is_refused_before_anything_is_trained(images, validation, tmp_path):
    run = train(a_recipe(), images, validation, tmp_path / "run")
    without = leave_out(run, images, validation, np.array([3]), tmp_path / "without").training
    for training, positions, words in (
        (without, np.array([4]), "left images out"),
        (run, np.array([1.0, 2.0]), "whole numbers"),
        (run, np.arange(45) == 3, "whole numbers"),
    ):
        with pytest.raises(EngineError, match=words):
            leave_out(training, images, validation, positions, tmp_path / "refused")
        assert not (tmp_path / "refused").exists()
    with pytest.raises(EngineError, match="validation"):
        leave_out(run, images, some_images(0), np.array([3]), tmp_path / "refused")
