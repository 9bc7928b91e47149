"""Backbones agree with timm's own network, and bad weights are a sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from backend.core import catalogue
from tests.test_architecture import run_python
from tests.worker.engine.features.pictures import plainly, some_pictures
from worker.engine import EngineError, register_weights
from worker.engine.features import backbones
from worker.engine.features.backbones import Backbone, load_backbone
from worker.engine.features.compute import compute_features

FACTS = catalogue.BACKBONES["efficientnet_lite0"]
SMALL = "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone()


@pytest.mark.slow
def test_features_are_those_of_timms_own_network_to_float16_rounding(backbone: Backbone) -> None:
    plain = load_backbone(fold=False)
    pictures = some_pictures(11)
    truth = plainly(plain, pictures)
    features = compute_features(backbone, pictures.__getitem__, len(pictures), threads=2)
    assert features.dtype == np.float16
    assert features.shape == (11, FACTS.features)
    np.testing.assert_allclose(features, truth, rtol=2e-3, atol=2e-3)
    assert truth.std(0).mean() > 0.05  # pictures differ


@pytest.mark.slow
def test_features_do_not_depend_on_the_batch_they_are_in(backbone: Backbone) -> None:
    pictures = some_pictures(9)
    together = compute_features(backbone, pictures.__getitem__, 9, threads=2).astype(float)
    for row in (0, 8):
        alone = compute_features(backbone, lambda _, row=row: pictures[row], 1).astype(float)
        np.testing.assert_allclose(together[row], alone[0], rtol=1e-3, atol=1e-3)


def test_the_catalogue_and_the_network_say_the_same(backbone: Backbone) -> None:
    assert (backbone.side, backbone.features) == (FACTS.side, FACTS.features)
    assert backbone.digest == FACTS.digest
    norms = [m for m in backbone.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms == []


def test_a_grey_picture_is_seen_as_a_grey_colour_picture(backbone: Backbone) -> None:
    grey = some_pictures(1)[0].convert("L")
    pictures: list[Image.Image] = [grey, grey.convert("RGB")]
    one, other = compute_features(backbone, pictures.__getitem__, 2)
    np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_damaged_or_missing_weights_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for change, words in (
        ({"sha256": "0" * 64}, "damaged or another file's; install the package"),
        ({"file": "models/absent.pth"}, "are missing; install the package"),
        ({"package": "no_such_package"}, "are missing; install the package"),
    ):
        facts = catalogue.Backbone(**{**vars(FACTS), **change})  # type: ignore[arg-type]
        monkeypatch.setitem(catalogue.BACKBONES, "efficientnet_lite0", facts)
        with pytest.raises(EngineError, match=words):
            load_backbone()


def test_weights_of_another_network_are_refused() -> None:
    network = backbones._make("tf_efficientnet_lite0")
    tensors = list(network.state_dict().values())
    with pytest.raises(EngineError, match="do not fit its network"):
        backbones._load_in_order(network, tensors[1:], "EfficientNet-Lite0")


def test_an_unknown_backbone_is_a_sentence() -> None:
    with pytest.raises(EngineError, match="choose from efficientnet_lite0"):
        load_backbone("efficientnet_lite9")
    with pytest.raises(EngineError, match="timm knows no model"):
        load_backbone(f"nonsense@{'0' * 64}")


@pytest.mark.slow
def test_any_timm_model_is_a_backbone_by_its_weights_file(tmp_path: Path) -> None:
    network = backbones._make(SMALL)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    name = f"{SMALL}@{register_weights(tmp_path / 'weights.safetensors')}"
    backbone = load_backbone(name)
    pixels = np.array(some_pictures(1)[0].resize((224, 224)), dtype=np.float32)
    x = (pixels - backbone.mean) / backbone.std
    network.reset_classifier(0)
    with torch.no_grad():
        truth = network(torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1)[None])[0]
        mine = backbone.network(torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1)[None])[0]
    np.testing.assert_allclose(mine, truth, rtol=1e-3, atol=1e-3 * float(truth.abs().max()))
    with pytest.raises(EngineError, match="do not fit resnet18"):
        load_backbone(name.replace(SMALL, "resnet18"))


@pytest.mark.slow
def test_the_engine_does_not_load_timm_before_it_needs_it() -> None:
    assert run_python("import sys, worker.engine; print('timm' in sys.modules)").strip() == "False"
