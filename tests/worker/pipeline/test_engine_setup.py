"""The engine's limits on a machine come from settings, never from a run."""

import shutil
import sys

import pytest
import torch

from backend.core.settings import Settings
from backend.core.storage import Storage
from tests.worker.engine.conftest import a_recipe, some_images
from worker import engine
from worker.engine.networks import weights as weights_files
from worker.engine.networks.registry import NETWORKS
from worker.pipeline import engine_setup

OWN = "tests.worker.engine.networks.test_networks:Attentive"


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    known = dict(NETWORKS)
    monkeypatch.setattr("worker.engine.networks.weights._folders", [])
    yield
    NETWORKS.clear()
    NETWORKS.update(known)


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(tmp_path / "files")


def test_a_network_that_the_administrator_allowed_can_be_trained(storage, tmp_path):
    assert engine_setup.ready(Settings(networks=f" {OWN} ,"), storage) == "auto"
    images = some_images(12)
    assert engine.train(
        a_recipe(network=OWN, epochs=1), images, None, tmp_path / "run"
    ).params.numel()


def test_a_network_that_only_a_run_asks_for_is_never_imported(storage, tmp_path):
    engine_setup.ready(Settings(), storage)
    sys.modules.pop("this", None)
    with pytest.raises(engine.EngineError, match="no network called 'this:build'"):
        engine.train(a_recipe(network="this:build"), some_images(12), None, tmp_path / "run")
    assert "this" not in sys.modules


def test_weights_are_found_in_the_files_folder(storage, tmp_path):
    training = engine.train(a_recipe(epochs=1), some_images(12), None, tmp_path / "run")
    weights = engine.export_weights(training, tmp_path / "elsewhere")
    weights_files._folders.clear()
    engine_setup.ready(Settings(), storage)
    with pytest.raises(engine.EngineError, match="are not here"):
        engine.train(a_recipe(weights=weights), some_images(12), None, tmp_path / "again")
    storage.weights.mkdir(parents=True)
    (tmp_path / "elsewhere" / f"{weights}.safetensors").rename(
        storage.weights / f"{weights}.safetensors"
    )
    assert (
        engine.train(
            a_recipe(weights=weights, trained="head", epochs=1),
            some_images(12),
            None,
            tmp_path / "again",
        ).params.numel()
        == 63
    )


def test_what_is_not_there_is_a_sentence(storage):
    with pytest.raises(engine.EngineError, match=r"write it as package\.module:function"):
        engine_setup.ready(Settings(networks="no.such:thing"), storage)
    if not torch.cuda.is_available():
        with pytest.raises(engine.EngineError, match="no GPU"):
            engine_setup.ready(Settings(device="cuda"), storage)


def test_a_worker_that_is_kept_off_the_gpu_sees_none(storage, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert engine_setup.ready(Settings(device="cpu"), storage) == "cpu"
    assert engine.choose_device("auto").type == "cpu"


def train(storage, said, **recipe):
    return engine_setup.train(
        a_recipe(epochs=2, **recipe), some_images(12), None, storage, 17, log=said.append
    )


def test_a_folder_that_is_another_runs_is_begun_again(storage):
    said: list[str] = []
    before = train(storage, said, seed=1)
    assert said == []
    # A restored database gives the number 17 out again.
    after = train(storage, said, seed=2)
    assert "another training's (left from before a restore)" in said[0]
    assert after.recipe.seed == 2
    assert after.params_hash != before.params_hash
    assert after.params_hash == engine.load_training(storage.run(17)).params_hash


@pytest.mark.parametrize(
    "damage", ["run.json", "epoch-0001.safetensors", "signals-0001.safetensors"]
)
def test_a_folder_that_is_damaged_is_begun_again(storage, damage):
    said: list[str] = []
    whole = train(storage, said, seed=1)

    def stop(done, total):
        if done == total:
            raise KeyboardInterrupt

    shutil.rmtree(storage.run(17))
    with pytest.raises(KeyboardInterrupt):
        engine.train(
            a_recipe(epochs=2, seed=1), some_images(12), None, storage.run(17), progress=stop
        )
    found = list(storage.run(17).glob(damage))
    assert found, [path.name for path in storage.run(17).iterdir()]
    found[0].write_bytes(b"{")
    assert train(storage, said, seed=1).params_hash == whole.params_hash
    assert "so it starts again" in said[0]
