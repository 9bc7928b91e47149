"""Every network trains, can be retraced, and treats each image alone."""

import hashlib
import http.server
import re
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from torchvision import models

import worker.engine
from backend.core.catalogue import NETWORKS as NETWORK_FACTS
from tests.worker.engine.conftest import a_recipe, some_images
from worker.engine import (
    EngineError,
    default_recipe,
    download_weights,
    export_weights,
    features,
    import_network,
    predict,
    register_network,
    register_weights,
    score,
    train,
)
from worker.engine.derivatives.passes import fused_pass, mean_gradient_of, products
from worker.engine.networks import torchvision
from worker.engine.networks.flat_network import PASS_BYTES, Network
from worker.engine.networks.registry import NETWORKS, build

QUICK = ["mnist", "cifar"]
SLOW = ["resnet18", "mobilenet_v3", "resnet34", "resnet50", "convnext_tiny", "vit_b_16"]
ALL = QUICK + [pytest.param(name, marks=pytest.mark.slow) for name in SLOW]


pytestmark = pytest.mark.usefixtures("forget_own_networks")


def side_of(name):
    """Return a side that leaves something to normalise."""
    return 16 if name in ("mnist", "cifar", "resnet18") else 32


def colours(count=12, side=16):
    return some_images(count, side=side, channels=3)


def colour_recipe(network, **settings):
    images = colours(side=side_of(network))
    return default_recipe(
        images, 3, seed=3, **({"network": network, "epochs": 1, "batch_size": 6} | settings)
    )


def a_batch(count=3, channels=3, side=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, channels, side, side, generator=generator), torch.arange(count) % 3


def assert_passes_equal_the_loop(network, params, side=16):
    """Compare batch passes with single images, and H v with differences, in float64."""
    generator = torch.Generator().manual_seed(1)
    v, off = (torch.randn(params.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    # Slightly off the start: behind a last layer of zeros every derivative is 0.
    wide, theta, v = network.to_float64(), params.double() + 0.01 * off, v / params.numel() ** 0.5
    x, y = a_batch(side=side)
    x = x.double()
    inner, hessian_product, _ = fused_pass(wide, theta, v, x, y)
    loop = torch.stack(
        [mean_gradient_of(wide, theta, x[i : i + 1], y[i : i + 1]) @ v for i in range(len(y))]
    )
    torch.testing.assert_close(inner, loop, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(products(wide, theta, v, x, y), inner, rtol=1e-7, atol=1e-9)
    # Several step sizes: a kink may lie within a step.
    assert min(curvature_errors(wide, theta, v, x, y, hessian_product)) < 1e-5


def curvature_errors(network, theta, v, x, y, hessian_product):
    """Yield relative errors of H v against differences of gradients, until exact."""
    for epsilon in (1e-6, 1e-7, 1e-8, 1e-5):
        after, before = (
            mean_gradient_of(network, theta + sign * epsilon * v, x, y) for sign in (1, -1)
        )
        difference = (after - before) / (2 * epsilon)
        error = float((hessian_product - difference).norm() / difference.norm())
        yield error
        if error < 1e-5:
            return


def with_one_block(name):
    """Return torchvision's maker of a network with one block in each of its stages."""
    resnet, convnext, vit = models.resnet, models.convnext, models.vision_transformer
    stages = [(96, 192), (192, 384), (384, 768), (768, None)]
    makers = {
        "resnet34": partial(resnet.ResNet, resnet.BasicBlock, [1] * 4),
        "resnet50": partial(resnet.ResNet, resnet.Bottleneck, [1] * 4),
        "convnext_tiny": partial(
            convnext.ConvNeXt, [convnext.CNBlockConfig(*widths, 1) for widths in stages]
        ),
        "vit_b_16": partial(
            vit.VisionTransformer,
            patch_size=16,
            num_layers=1,
            num_heads=12,
            hidden_dim=768,
            mlp_dim=3072,
        ),
    }
    whole = getattr(models, NETWORK_FACTS[name].body)
    return lambda weights, **settings: (
        makers[name](**settings) if name in makers else whole(weights=weights, **settings)
    )


@pytest.fixture
def one_block(monkeypatch):
    """Build deep networks with one block a stage: the blocks of a stage are alike."""
    small = {
        facts.body: with_one_block(name) for name, facts in NETWORK_FACTS.items() if facts.body
    }
    monkeypatch.setattr(torchvision, "_models", lambda: SimpleNamespace(**small))


def test_there_are_the_networks_that_the_readme_names():
    readme = Path(worker.engine.__file__).parent / "README.md"
    said = readme.read_text().split("## Networks")[1].partition(". From scratch")[0]
    assert set(re.findall(r"`(\w+)`", said)) - {"NETWORKS"} == set(NETWORKS)


# The next test covers the other networks' blocks.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    QUICK
    + [
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("resnet18", "mobilenet_v3", "convnext_tiny", "vit_b_16")
    ],
)
def test_every_family_of_networks_trains_and_can_be_retraced(name, one_block, tmp_path):
    images = colours(side=side_of(name))
    # At this rate no image is learned in one epoch; the budget holds the largest.
    training = train(colour_recipe(name, learning_rate=0.001), images, None, tmp_path)
    scores = score(training, images, images, memory_budget=2**32)
    assert scores.exact
    assert scores.report["finite_difference_error"] < 0.05
    assert np.abs(scores.values).min() > 0
    assert features(training, images).shape[0] == len(images)


@pytest.mark.parametrize("name", ALL)
def test_the_fused_pass_of_every_network_equals_a_loop_over_images(name, one_block):
    assert_passes_equal_the_loop(*build(colour_recipe(name)), side=side_of(name))


@pytest.mark.parametrize("name", ALL)
def test_every_network_takes_grey_images(name):
    grey = some_images(6, side=side_of(name))
    network, params = build(default_recipe(grey, 3, network=name))
    assert network.logits(params, a_batch(channels=1, side=side_of(name))[0]).shape == (3, 3)


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3", pytest.param("vit_b_16", marks=pytest.mark.slow)]
)
def test_images_that_are_no_square_fit(name):
    network, params = build(colour_recipe(name, height=48, width=80))
    assert network.logits(params, torch.zeros(1, 3, 48, 80)).shape == (1, 3)


def published(name, make, tmp_path, **settings):
    """Make a file like torchvision's weights: 1,000 classes, stored statistics."""
    torch.manual_seed(11)
    body = make(weights=None, **settings)
    for part in body.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    path = tmp_path / f"{name}.safetensors"
    save_file(body.state_dict(), path)
    return body.eval(), path


@pytest.mark.slow
def test_a_fine_tuned_network_computes_what_torchvision_computes(tmp_path):
    body, path = published("resnet18", models.resnet18, tmp_path, num_classes=3)
    network, params = build(colour_recipe("resnet18", weights=register_weights(path)))
    x, _ = a_batch()
    torch.testing.assert_close(network.logits(params, x), body(x).detach(), rtol=0, atol=1e-5)


def test_a_network_with_squeeze_and_excitation_computes_what_torchvision_computes(tmp_path):
    body, path = published("mobilenet_v3", models.mobilenet_v3_large, tmp_path, num_classes=3)
    network, params = build(colour_recipe("mobilenet_v3", weights=register_weights(path)))
    x, _ = a_batch()
    torch.testing.assert_close(network.logits(params, x), body(x).detach(), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_attention_computes_what_torchvision_computes(tmp_path):
    body, path = published("vit_b_16", models.vit_b_16, tmp_path, num_classes=3)
    network, params = build(colour_recipe("vit_b_16", weights=register_weights(path)))
    x, _ = a_batch(2, side=224)
    torch.testing.assert_close(network.logits(params, x), body(x).detach(), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["all", "head"])
def test_frozen_batch_statistics_give_one_image_its_own_derivative(trained, tmp_path):
    _, path = published("resnet18", models.resnet18, tmp_path)
    network, params = build(
        colour_recipe("resnet18", weights=register_weights(path), trained=trained)
    )
    assert_passes_equal_the_loop(network, params)


@pytest.mark.slow
def test_weights_are_part_of_what_fixes_a_run(tmp_path):
    images = colours(side=32)
    _, path = published("mobilenet_v3", models.mobilenet_v3_large, tmp_path)
    weights = register_weights(path)
    assert weights == hashlib.sha256(path.read_bytes()).hexdigest()
    recipe = colour_recipe("mobilenet_v3", weights=weights, learning_rate=0.01)
    first, again = (train(recipe, images, None, tmp_path / name) for name in "ab")
    assert first.params_hash == again.params_hash
    assert recipe.digest() != colour_recipe("mobilenet_v3", learning_rate=0.01).digest()
    scores = [
        score(training, images, images).values
        for training in (first, train(recipe, images, None, tmp_path / "r", store="every_step"))
    ]
    np.testing.assert_array_equal(*scores)


@pytest.mark.slow
def test_the_last_layer_alone_leaves_the_rest_as_it_was(tmp_path):
    images = colours()
    body, path = published("resnet18", models.resnet18, tmp_path)
    training = train(
        colour_recipe("resnet18", weights=register_weights(path), trained="head"),
        images,
        None,
        tmp_path / "run",
    )
    assert training.params.shape == (512 * 3 + 3,)
    exported = load_file(tmp_path / f"{export_weights(training, tmp_path)}.safetensors")
    own = body.state_dict()
    assert all(torch.equal(exported[name], own[name]) for name in own if not name.startswith("fc."))
    scores = score(training, images, images, span="all_epochs")
    assert scores.exact
    assert np.abs(scores.values).min() > 0


def test_a_training_can_go_on_from_anothers_weights(images, tmp_path):
    first = train(a_recipe(), images, None, tmp_path / "first")
    weights = export_weights(first, tmp_path / "weights")
    _, params = build(a_recipe(weights=weights))
    assert torch.equal(params, first.params)
    # Other classes: the last layer starts from the seed, the rest does not.
    network, params = build(a_recipe(weights=weights, classes=5))
    assert network.split(params)["head.weight"].shape[0] == 5
    torch.testing.assert_close(
        network.split(params)["features.0.weight"].reshape(-1), first.params[:500], rtol=0, atol=0
    )


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.mark.slow
def test_published_weights_are_fetched_checked_and_kept_without_pickle(tmp_path, capfd):
    (tmp_path / "site").mkdir()
    body = models.mobilenet_v3_large(weights=None, num_classes=3)
    torch.save(body.state_dict(), tmp_path / "w.pth")
    digest = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    for name in (f"mobilenet-{digest[:8]}.pth", "mobilenet-00000000.pth"):
        (tmp_path / "site" / name).write_bytes((tmp_path / "w.pth").read_bytes())
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *a: Files(*a, directory=str(tmp_path / "site"))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        weights = download_weights(
            "mobilenet_v3", tmp_path / "kept", url=f"{place}/mobilenet-{digest[:8]}.pth"
        )
        for name in ("mobilenet-00000000.pth", "absent-00000000.pth"):
            with pytest.raises(EngineError, match="could not be downloaded"):
                download_weights("mobilenet_v3", tmp_path / "kept", url=f"{place}/{name}")
        server.shutdown()
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [f"{weights}.safetensors"]
    assert capfd.readouterr().out == ""
    network, params = build(colour_recipe("mobilenet_v3", weights=weights))
    torch.testing.assert_close(
        network.split(params)["body.classifier.3.weight"],
        body.classifier[3].weight.detach(),
        rtol=0,
        atol=0,
    )
    with pytest.raises(EngineError, match="none for 'mnist'"):
        download_weights("mnist", tmp_path)


def test_weights_that_cannot_be_used_are_sentences(tmp_path):
    with pytest.raises(EngineError, match="cannot be read"):
        register_weights(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("not this")
    with pytest.raises(EngineError, match="no safetensors file"):
        register_weights(tmp_path / "text.safetensors")
    with pytest.raises(EngineError, match="are not here"):
        build(a_recipe(weights="0" * 64))
    with pytest.raises(EngineError, match="64 digits"):
        a_recipe(weights="resnet")
    save_file({"other": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(
        EngineError, match=r"missing or of another shape: features.0.weight.*unknown: other"
    ):
        build(a_recipe(weights=register_weights(tmp_path / "other.safetensors")))
    weights = register_weights(tmp_path / "other.safetensors")
    save_file({"other": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(EngineError, match="has changed"):
        build(a_recipe(weights=weights))
    with pytest.raises(EngineError, match="has learned something"):
        build(a_recipe(trained="head"))


def test_ones_own_module_is_trained_and_never_changed(images, validation, tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(256, 12), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(12, 3)
    )
    before = {name: value.clone() for name, value in module.state_dict().items()}
    register_network("mine", module)
    training = train(a_recipe(network="mine"), images, validation, tmp_path / "run")
    assert module.training
    assert module[2].inplace
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert training.history[-1].train_accuracy > training.history[0].train_accuracy
    assert score(training, images, validation).exact
    assert features(training, validation).shape == (30, 12)


class Attentive(nn.Module):
    """All that needs care: attention, normalisations, in-place, gates and dropout."""

    def __init__(self, recipe):
        super().__init__()
        self.patches = nn.Conv2d(recipe.channels, 16, 8, 8)
        self.norm = nn.BatchNorm2d(16)
        self.attention = nn.MultiheadAttention(16, 2, dropout=0.3, batch_first=True)
        self.act = nn.Sequential(
            nn.Hardswish(inplace=True),
            nn.Hardsigmoid(),
            nn.ELU(inplace=True),
            nn.Dropout(0.3, inplace=True),
        )
        self.last = nn.Sequential(nn.LayerNorm(16), nn.GLU())
        self.head = nn.Linear(8, recipe.classes)

    def forward(self, x):
        tokens = self.norm(self.patches(x)).flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(self.last(self.act(tokens)).mean(1))


@pytest.mark.slow
def test_one_function_builds_ones_own_network_from_the_recipe(images, validation, tmp_path):
    register_network("attentive", Attentive)
    recipe = a_recipe(network="attentive", epochs=2)
    training = train(recipe, images, None, tmp_path / "a")
    assert training.params_hash == train(recipe, images, None, tmp_path / "b").params_hash
    scores = score(training, images, validation, span="all_epochs")
    assert scores.exact
    assert scores.report["finite_difference_error"] < 0.01


class Average(nn.Module):
    """A layer after which torch's stored-statistics derivative is wrong for one image."""

    def forward(self, x):
        return x.transpose(1, 2).mean(1)


def averaging(norm, channels=3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 8, 8), norm, nn.Flatten(2), Average(), nn.Linear(4, 3)
    )


NORMS = {
    "batch": nn.BatchNorm2d(4),
    "group": nn.GroupNorm(2, 4),
    "instance": nn.InstanceNorm2d(4, affine=True),
    "layer": nn.LayerNorm([4, 2, 2]),
    "stored instance": nn.InstanceNorm2d(4, track_running_stats=True),
}


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_every_normalisation_of_one_image_has_its_first_and_second_derivatives(norm):
    network = Network(averaging(norm))
    assert_passes_equal_the_loop(network, network.initial)


def test_the_last_layer_of_ones_own_network_may_be_trained_alone(images, validation, tmp_path):
    register_network("attentive", Attentive)
    training = train(a_recipe(network="attentive", trained="head"), images, None, tmp_path)
    assert training.params.shape == (8 * 3 + 3,)
    assert score(training, images, validation).exact


class Noisy(nn.Linear):
    def forward(self, x):
        return functional.dropout(super().forward(x.flatten(1)), 0.5, training=True)


class Mixing(nn.Linear):
    def forward(self, x):
        out = super().forward(x.flatten(1))
        return out - out.mean(0)


class Once(nn.Linear):
    def forward(self, x):
        return torch.ops.aten.hardsigmoid(super().forward(x.flatten(1)))


class TorchsOwn(nn.Module):
    """torch's own stored-statistics normalisation, protected from replacement."""

    def forward(self, x):
        return torch.ops.aten.batch_norm(
            x, None, None, torch.zeros(4), torch.ones(4), False, 0.1, 1e-5, False
        )


class Itself(nn.Linear):
    """torch's own layer normalisation, protected from replacement."""

    def forward(self, x):
        return torch.ops.aten.layer_norm(super().forward(x.flatten(1)), [3])


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (nn.Linear(7, 3), "cannot take images"),
        (nn.Flatten(), "no parameters"),
        (nn.Sequential(nn.Flatten(), nn.Linear(256, 4)), r"no loss for each image.*3 logits"),
        (Noisy(256, 3), "draws random numbers"),
        (Mixing(256, 3), "mixes the images of a batch"),
        (averaging(TorchsOwn(), channels=1), "another derivative for an image alone"),
        (Itself(256, 3), "wrong second derivative"),
        (Once(256, 3), "cannot be differentiated twice"),
    ],
)
def test_a_network_that_cannot_be_retraced_is_a_sentence_before_any_training(
    images, tmp_path, module, sentence
):
    register_network("mine", module)
    with pytest.raises(EngineError, match=sentence):
        train(a_recipe(network="mine"), images, None, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_without_a_linear_layer_trains_and_says_what_it_lacks(
    images, validation, tmp_path
):
    register_network("mine", nn.Sequential(nn.Conv2d(1, 3, 16), nn.Flatten()))
    training = train(a_recipe(network="mine"), images, None, tmp_path)
    assert score(training, images, validation).exact
    with pytest.raises(EngineError, match="no linear layer"):
        features(training, validation)
    with pytest.raises(EngineError, match=r"linear layer was to be trained, but .* has none"):
        train(a_recipe(network="mine", trained="head"), images, None, tmp_path / "head")


def test_names_that_are_taken_and_paths_that_lead_nowhere_are_sentences():
    with pytest.raises(EngineError, match="already"):
        register_network("mnist", nn.Linear(2, 2))
    for path in ("no.such.module:build", "math:no_such_function", "math", "math:pi"):
        with pytest.raises(
            EngineError, match=r"package\.module:function|no function|not a function"
        ):
            import_network(path)


def test_a_network_by_path_goes_by_that_name(images, tmp_path):
    import_network("tests.worker.engine.networks.test_networks:Attentive")
    training = train(
        a_recipe(network="tests.worker.engine.networks.test_networks:Attentive", epochs=1),
        images,
        None,
        tmp_path,
    )
    assert predict(training, images).shape == (45, 3)


@pytest.mark.slow
def test_a_pass_takes_as_many_images_as_its_bytes_allow():
    small, large = (
        build(colour_recipe("resnet18", height=side, width=side))[0] for side in (32, 128)
    )
    for kind in ("logits", "products", "gradient", "fused"):
        taken = [
            small.images_per_pass((3, 32, 32), kind),
            large.images_per_pass((3, 128, 128), kind),
        ]
        assert taken[0] > taken[1] >= 1
    # The image, a convolution's output, ReLU's, three logits; and four times the largest.
    network = Network(
        nn.Sequential(nn.Conv2d(1, 64, 1), nn.ReLU(), nn.Flatten(), nn.Linear(640_000, 3))
    )
    layer = 4 * 640_000
    assert network.images_per_pass((1, 100, 100), "gradient") == PASS_BYTES // (
        40_000 + 2 * layer + 12 + 4 * layer
    )
