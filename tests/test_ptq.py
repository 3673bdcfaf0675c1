# SPDX-License-Identifier: Apache-2.0
"""Quantization without retraining: every step does what it says and nothing else; the result is a network as any."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from bitward.cli import main
from bitward.datasets import Dataset, Examples, load_dataset
from bitward.errors import ConfigError
from bitward.networks import find_network, network_names
from bitward.train import Recipe, export_network, recipe_of, train_network
from bitward.train._checkpoints import fingerprint, float_fingerprint
from bitward.train._foldable import normed_layers
from bitward.train._ptq import balance, calibrate, correct, equalize, quantize
from bitward.train._stage import accuracy
from bitward.train.recipe import RECIPES
from bitward.train.training import restore

pytestmark = pytest.mark.filterwarnings("ignore")  # Brevitas tells of libraries that nothing here needs
FAMILIES = {find_network(name).family: name for name in network_names() if find_network(name).family}
FAST = Recipe(
    batch_size=64, float_epochs=12, float_optimizer="adam", float_learning_rate=0.01, method="ptq"
)  # of digits


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small are quicker on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def lively(build, seed=0):
    """A float network whose batch norms are as training might leave them: positive, and of very different scales."""
    torch.manual_seed(seed)
    model = build()
    for _, norm in normed_layers(model):
        with torch.no_grad():
            for values in (norm.weight, norm.running_var):
                values.copy_(torch.rand(len(values)) * 3 + 0.05)
            norm.bias.normal_()
            norm.running_mean.normal_()
    return model.eval()


def pixels(network, count=4):
    return torch.randint(0, 256, (count, *network.input_shape), generator=torch.Generator().manual_seed(1)).float()


@pytest.mark.parametrize("step", [equalize, balance])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_step_on_floats_leaves_the_function(family, step):
    network = find_network(FAMILIES[family])
    model = lively(network.build_float)
    images = pixels(network)
    with torch.no_grad():
        before = model(images)
        changed = copy.deepcopy(model)
        assert step(changed) >= 1
        after = changed(images)
    assert not torch.equal(flat(model), flat(changed))
    assert torch.allclose(before, after, rtol=1e-3, atol=1e-4 * before.abs().max().item())
    assert all((norm.weight > 0).all() for _, norm in normed_layers(changed)), "there is no sign to fold"


def flat(model):
    return torch.cat([weights.flatten() for weights in model.parameters()])


def test_equalized_neighbours_have_like_ranges():
    """Each channel's gamma and the weights that read it, where they were far apart before."""
    model = lively(find_network("digits_cnn_ptq").build_float)

    def apart(model):
        ranges = model.bn1.weight / model.conv2.weight.abs().amax((0, 2, 3))
        return (ranges.max() / ranges.min()).item()

    before = apart(model)
    assert equalize(model) == 1
    assert apart(model) < 1.2 < 3 < before


def test_balanced_channels_have_one_range():
    model = lively(find_network("digits_cnn_ptq").build_float)
    with torch.no_grad():
        model.conv1.weight[3] = 0
    largest = model.conv2.weight.abs().max()
    assert balance(model) == 2
    ranges = [layer.weight.abs().amax((1, 2, 3)) for layer, _ in normed_layers(model)]
    assert torch.allclose(ranges[1], largest.expand(16))
    assert ranges[0][3] == 0 and torch.allclose(ranges[0][[0, 1, 2, 4, 5, 6, 7]], ranges[0].max().expand(7))
    assert all(torch.isfinite(values).all() for values in model.state_dict().values())


def test_balance_of_a_transposed_convolution_is_by_its_output_channels():
    model = lively(find_network("unet_relu").build_float)
    balance(model)
    ranges = model.up1.conv.weight.abs().amax((0, 2, 3))
    assert torch.allclose(ranges, ranges.max().expand(len(ranges)))


def member_of(floats, name="digits_cnn_ptq"):
    member = find_network(name).build()
    member.load_state_dict(floats.state_dict(), strict=False)
    return member


def test_calibrated_scales_hold_what_the_images_give():
    """A scale is the 99.9th percentile of what floats give there, over the levels; larger images give larger ones."""
    network = find_network("digits_cnn_ptq")
    floats = lively(network.build_float)
    small, large = (member_of(floats) for _ in range(2))
    images = pixels(network, 100)
    calibrate(small, [images / 4])
    calibrate(large, [images])
    for scale in ("quant", "act1.quant", "act2.quant"):
        low, high = (dict(m.named_modules())[scale].act_quant.scale().item() for m in (small, large))
        assert low < high
    with torch.no_grad():
        wanted = np.percentile(floats.quant(floats.scale(images)).numpy(), 99.9) / 15
    assert large.quant.act_quant.scale().item() == pytest.approx(wanted, rel=0.07)  # a short scale has 4 bits
    assert not large.training


def test_corrected_means_are_those_of_float_weights():
    network = find_network("digits_cnn_ptq")
    floats = lively(network.build_float)
    member = member_of(floats)
    images = pixels(network, 50)
    calibrate(member, [images])
    before = mean_error(member, floats.bn1, images)
    assert correct(member, [images]) == (2, 3)
    assert mean_error(member, floats.bn1, images) < 1e-3 * before
    assert all(getattr(layer, "bias", None) is None for layer in (member.conv1, member.conv2, member.fc))


@torch.no_grad()
def mean_error(member, uncorrected, images):
    """How far the mean of a channel of bn1's output is from what conv1 with float weights would make it."""
    inputs = member.quant(member.scale(images))
    exact = uncorrected(nn.functional.conv2d(inputs, member.conv1.weight, padding=1))
    found = member.bn1(member.conv1(inputs))
    return (found.mean((0, 2, 3)) - exact.mean((0, 2, 3))).abs().max().item()


# ---- from training to the card --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    cache = tmp_path_factory.mktemp("trained")
    return train_network("digits_cnn_ptq", seeds=(0,), recipe=FAST, cache=cache), cache


def test_a_network_is_quantized_without_retraining(digits_run):
    run, cache = digits_run
    result = run.exported
    assert result.float_accuracy > 0.95 and result.accuracy > result.float_accuracy - 0.04
    digits = load_dataset("digits")
    assert accuracy(restore(result), digits.test_images, digits.test_labels) == result.accuracy
    again = train_network("digits_cnn_ptq", seeds=(0,), recipe=FAST, cache=cache).exported
    assert again == replace(result, cached=True) and again.steps == result.steps
    assert {path.name.split("-seed")[0] for path in cache.iterdir()} == {"digits_cnn_float-float", "digits_cnn_ptq"}


def test_calibration_is_worth_something(digits_run):
    """Scales from noise in place of training images are far worse: the accuracy above is not had for nothing."""
    _, cache = digits_run
    digits = load_dataset("digits")
    (path,) = cache.glob("digits_cnn_float-float*.pt")
    floats = find_network("digits_cnn_ptq").build_float()
    floats.load_state_dict(torch.load(path, weights_only=True)["state"])
    member = member_of(floats)
    calibrate(member, [torch.rand(10, 1, 8, 8) * 20])
    wrong = accuracy(member, digits.test_images, digits.test_labels)
    steps = quantize(floats, member, digits, seed=0)
    assert accuracy(member, digits.test_images, digits.test_labels) > wrong + 0.1
    assert steps == (
        "cross-layer equalization of 1 pairs of neighbours",
        "output channels balanced in 2 layers",
        "activations calibrated with 1000 training images",
        "biases corrected in 2 of 3 layers, into batch norms",
    )


def test_the_card_says_which_steps_were_done(digits_run, tmp_path):
    run = digits_run[0]
    text = (
        export_network(run, tmp_path).with_suffix(".md").read_text()
    )  # itself compares torch's answers and the file's
    assert f"| Steps of quantization | {'; '.join(run.exported.steps)} |" in text
    assert "then quantized without retraining; batches of 64; fixed in advance |" in text
    assert "| Negative batch-norm gammas | none |" in text and "equal outputs, bit by bit" in text
    assert "| Made by | `bitward train digits_cnn_ptq`, then `bitward export digits_cnn_ptq` |" in text


@pytest.mark.parametrize("name", ["vgg_cifar_w2", "resnet8_cifar", "dwsep_cifar", "unet_sigmoid"])
def test_every_family_can_be_quantized(name, monkeypatch):
    """On a few random images: shapes, shared quantizers, depthwise and transposed convolutions."""
    network = find_network(name)
    data = few(network)
    monkeypatch.setattr("bitward.train.training.load_dataset", lambda *_: data)
    recipe = replace(recipe_of(name, ptq=True), float_epochs=1, batch_size=8)
    result = train_network(name, seeds=(0,), recipe=recipe).exported
    assert len(result.steps) == 4 and 0 <= result.accuracy <= 1
    restored = restore(result)
    assert all((norm.weight > 0).all() for _, norm in normed_layers(restored))


def few(network):
    shape, pixel = network.input_shape, network.dataset == "digit_scenes"

    def examples(seed, count):
        random = np.random.default_rng(seed)
        labels = random.integers(0, 10, (count, *shape[1:]) if pixel else count)
        return Examples(random.integers(0, 256, (count, *shape), dtype=np.uint8), labels)

    parts = partial(examples, 0, 16), partial(examples, 1, 8)
    labelled = "pixel" if pixel else "image"
    return Dataset(network.dataset, "random", "few", 11 if pixel else 10, 8, shape, *parts, labelled=labelled)


def test_ptq_and_training_share_the_float_network_and_nothing_else():
    network, digits = find_network("digits_cnn_ptq"), load_dataset("digits")
    qat = replace(FAST, method="qat", epochs=3)
    assert float_fingerprint(network, digits, FAST, 0) == float_fingerprint(network, digits, qat, 0)
    assert fingerprint(network, digits, FAST, 0) != fingerprint(network, digits, qat, 0)
    assert fingerprint(network, digits, FAST, 0) == fingerprint(network, digits, replace(FAST, epochs=3), 0)


# ---- what cannot be -------------------------------------------------------------------------------------------------


def test_a_network_without_a_float_network_is_refused():
    rule = r"^digits_mlp must have a trained float network to be quantized from, got none: train it with"
    with pytest.raises(ConfigError, match=rule):
        train_network("digits_mlp", recipe=FAST)
    rule = r"^digits_cnn_ptq must have a trained float network .*, got one, trained for 0 epochs: train it with"
    with pytest.raises(ConfigError, match=rule):
        train_network("digits_cnn_ptq", recipe=replace(FAST, float_epochs=0))


def test_a_recipe_of_floats_is_refused():
    rule = r"^Recipe\.method must be 'qat' or 'ptq' for digits_cnn, which is quantized, got 'float': leave it out$"
    with pytest.raises(ConfigError, match=rule):
        train_network("digits_cnn", recipe=RECIPES["classic"])


# ---- as typed -------------------------------------------------------------------------------------------------------


def test_ptq_as_typed(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(RECIPES, "digits-ptq", replace(FAST, float_epochs=1, method="qat"))
    cache = ["--seeds", "3", "--cache", str(tmp_path / "cache")]
    assert main(["train", "digits_cnn_ptq", "--ptq", *cache]) == 0
    assert re.search(r"^seed 3: \d+\.\d\d%$", capsys.readouterr().out, re.MULTILINE)
    trained = sorted((tmp_path / "cache").iterdir())
    assert main(["export", "digits_cnn_ptq", "--ptq", *cache, "--out", str(tmp_path)]) == 0
    assert sorted((tmp_path / "cache").iterdir()) == trained
    card = (tmp_path / "digits_cnn_ptq.md").read_text()
    assert "`bitward train digits_cnn_ptq --ptq`, then `bitward export digits_cnn_ptq --ptq`" in card
    assert main(["train", "resnet18", "--ptq", "--dataset", "digits"]) == 2
    assert "--ptq is for quantized networks, and resnet18 is a classic float one" in capsys.readouterr().err
    assert main(["train", "digits_mlp", "--ptq"]) == 1
    assert "bitward: digits_mlp must have a trained float network" in capsys.readouterr().err
