# SPDX-License-Identifier: Apache-2.0
"""The torch engine follows networks in whatever form they are written, or refuses them.

The oracle is a copy of the network that the engine never sees, bits of its parameters flipped in numpy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import brevitas.nn as qnn
import brevitas.quant as quantizers
import numpy as np
import pytest
import torch
import torch_networks
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from bitward.engine.pytorch import TorchEngine, as_float32, frozen, walk
from bitward.engine.pytorch import engine as engine_module
from bitward.engine.pytorch.program import trace
from bitward.engine.pytorch.rules import Flatten
from bitward.engine.pytorch.verdicts import CRITICAL, HARMLESS, UNKNOWN
from bitward.errors import ModelError
from bitward.faults import Fault

IMAGES = torch_networks.images().numpy()
BITS = (31, 30, 24, 23, 22)
Form = Callable[["Written", Tensor], Tensor]


class Written(nn.Module):
    """Layers for images of 3 channels, and `form`, which says how they are used."""

    def __init__(self, form: Form, **more: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.flat = nn.Linear(256, 5)
        self.dense = nn.Linear(4, 5)
        self.bias = nn.Parameter(torch.rand(1, 4, 1, 1))
        for name, module in more.items():
            self.add_module(name, module)
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        return self.form(self, x)


def written(form: Form, **more: nn.Module) -> Written:
    torch.manual_seed(3)
    network = Written(form, **more)
    network.norm.running_mean.normal_(0, 0.2)
    network.norm.weight.data.uniform_(-1.5, 1.5)
    network.eval().requires_grad_(False)
    scores = network(torch_networks.images(64, seed=9))
    if isinstance(scores, Tensor):
        for layer in (network.flat, network.dense):  # no class wins by its bias
            layer.bias -= scores.mean(dim=0)
    return network


def mean(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3))


def pooled(x: Tensor) -> Tensor:
    """As `mean`, by steps of which it is known that they are continuous: layers are joined."""
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def faults_of(engine: TorchEngine, each: int = 6) -> list[tuple[Fault, ...]]:
    random = np.random.default_rng(4)
    return [
        (Fault(memory.name, int(random.integers(memory.depth)), int(random.choice(BITS))),)
        for memory in engine.manifest.memories
        for _ in range(each)
    ]


@torch.no_grad()
def expected_of(network: nn.Module, faults: tuple[Fault, ...], images: np.ndarray) -> np.ndarray:
    """What a copy of the network gives with these bits of its float32 parameters flipped."""
    own = copy.deepcopy(network)
    values = {**dict(own.named_parameters()), **dict(own.named_buffers())}
    for fault in faults:
        flat = values[fault.memory].detach().numpy().reshape(-1)
        flat.view(np.uint32)[fault.word] ^= np.uint32(1 << fault.bit)
    return own(torch.tensor(images)).numpy()


def assert_followed(network: nn.Module, images: np.ndarray = IMAGES) -> TorchEngine:
    """All outcomes are those of the oracle; the engine, which has seen the images."""
    engine = TorchEngine(copy.deepcopy(network))
    trials, golden, changed = faults_of(engine), expected_of(network, (), images), 0
    assert np.allclose(engine.infer(images), golden, rtol=1e-4, atol=1e-5)
    for faults, (outputs, path, _) in zip(trials, engine.outcomes(images, trials), strict=True):
        expected = expected_of(network, faults, images)
        assert np.array_equal(outputs.argmax(axis=1), expected.argmax(axis=1)), (faults, path)
        finite = np.isfinite(expected) & np.isfinite(outputs)
        scale = np.abs(expected[finite]).max(initial=1.0)
        assert np.allclose(outputs[finite] / scale, expected[finite] / scale, atol=2e-5), (faults, path)
        changed += not np.array_equal(expected.argmax(axis=1), golden.argmax(axis=1))
    assert changed > 2, "faults that change nothing would show nothing"
    return engine


FLATTENED: dict[str, Callable[[Tensor], Tensor]] = {
    "torch.flatten(x, 1)": lambda x: torch.flatten(x, 1),
    "torch.flatten(x, start_dim=1)": lambda x: torch.flatten(x, start_dim=1),
    "torch.flatten(x, 1, -1)": lambda x: torch.flatten(x, 1, -1),
    "x.flatten(1)": lambda x: x.flatten(1),
    "x.flatten(start_dim=1, end_dim=-1)": lambda x: x.flatten(start_dim=1, end_dim=-1),
    "x.view(x.size(0), -1)": lambda x: x.view(x.size(0), -1),
    "x.reshape(x.shape[0], -1)": lambda x: x.reshape(x.shape[0], -1),
}


@pytest.mark.parametrize("form", FLATTENED)
def test_flattening_is_known_however_it_is_written(form):
    flatten = FLATTENED[form]
    network = written(lambda n, x: n.flat(flatten(n.relu(n.conv(x)))))
    assert [type(step.rule) for step in trace(network).steps][2] is Flatten
    assert_followed(network)


@pytest.mark.parametrize(
    "flatten", [lambda x: torch.flatten(x, 2), lambda x: x.flatten(1, 2), lambda x: x.flatten(2, 3)]
)
def test_what_flattens_other_axes_is_not_taken_for_it(flatten):
    network = written(lambda n, x: n.dense(flatten(n.conv(x)).reshape(-1, 4, 64).mean(dim=2)))
    assert not any(isinstance(step.rule, Flatten) for step in trace(network).steps)
    assert_followed(network)


def in_other_orders(n: Written, x: Tensor) -> Tensor:
    """One change comes to a sum at two different channels, another as a whole and as one channel."""
    y, beside = n.conv(x), x[:, [0, 1, 2, 0], ::2, ::2]
    both = torch.cat([y, beside], 1) + torch.cat([beside, y], 1) + torch.cat([y, y * 0.5], 1)
    return n.flat(((both[:, :4] + both[:, 4:]) + n.again(y)).flatten(1))


FORMS: dict[str, Form] = {
    "methods": lambda n, x: n.dense(mean(n.again(n.conv(x).relu().clamp(-0.5, max=1.5)).sigmoid().contiguous())),
    "scalars": lambda n, x: n.dense(mean(2 - (n.conv(x) * 0.5 + 1) / 3)),
    "a sum of other shapes": lambda n, x: n.dense(mean(n.again((y := n.conv(x)) + y.mean((2, 3), keepdim=True)))),
    "a sum with one channel": lambda n, x: n.dense(mean(n.again(n.conv(x) + x[:, :1, ::2, ::2]))),
    "two places": in_other_orders,
    "a sum with a factor": lambda n, x: n.dense(mean(torch.add(n.conv(x), n.again(n.conv(x)), alpha=2))),
    "a fork": lambda n, x: n.dense(mean((y := n.norm(n.conv(x))) + F.relu(y))),
    "the same twice": lambda n, x: n.dense(mean((y := n.conv(x)) + y)),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_functions_are_followed(form):
    assert len(assert_followed(written(FORMS[form])).program.steps) > 3


LAYERS: dict[str, nn.Module] = {
    "circular": nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
    "reflected": nn.Conv2d(4, 4, 3, padding=(2, 1), padding_mode="reflect"),
    "circular by channel": nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="circular"),
    "in groups": nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
    "by channel": nn.Sequential(nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.BatchNorm2d(4), nn.ReLU6(inplace=True)),
    "dense over pixels": nn.Linear(8, 6),
    "padded pool": nn.MaxPool2d(3, 2, ceil_mode=True),
    "dilated pool": nn.MaxPool2d(2, dilation=2),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_forms_of_layers_are_followed(layer):
    torch.manual_seed(6)
    network = written(lambda n, x: n.dense(pooled(n.again(n.special(n.relu(n.conv(x)))))), special=LAYERS[layer])
    assert len(assert_followed(network).program.steps) > 4


def test_a_pool_that_gives_places_too_is_followed():
    pool = nn.MaxPool2d(2, return_indices=True)
    assert_followed(written(lambda n, x: n.dense(mean(n.pool(n.relu(n.conv(x)))[0])), pool=pool))


def test_hooks_are_followed():
    """A hook makes of a layer something else; that of an activation sees the others' channels."""
    network = written(lambda n, x: n.dense(mean(n.act(n.up(n.conv(x))))), up=nn.ConvTranspose2d(4, 4, 2), act=nn.ReLU())
    network.up.register_forward_hook(lambda module, given, result: 2 * result)
    network.act.register_forward_hook(lambda module, given, result: result / (1 + result.sum(dim=1, keepdim=True)))
    assert len(assert_followed(network).program.steps) == 5


def test_one_input_of_several_is_enough():
    class Scaled(Written):
        def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
            y = self.dense(mean(self.relu(self.conv(x))))
            return y if scale is None else y * scale

    network = Scaled(lambda n, x: x).eval().requires_grad_(False)
    assert len(assert_followed(network).program.steps) == 1


def in_place(n: Written, x: Tensor) -> Tensor:
    """The sum takes what the activation left."""
    y = n.conv(x)
    return n.dense(mean(n.again(n.relu(y)) + y))


def changes_its_images(n: Written, x: Tensor) -> Tensor:
    return n.dense(mean(n.conv(x.sub_(0.5))))


@pytest.mark.parametrize(
    "form",
    [
        in_place, changes_its_images,
        lambda n, x: (n.relu(y := n.conv(x)), n.dense(mean(n.again(y))))[1],
        lambda n, x: (F.relu(y := n.conv(x), inplace=True), n.dense(mean(n.again(y))))[1],
    ],
    ids=["shared", "images", "statement", "statement of a function"],
)  # fmt: skip
def test_what_works_in_place_does_so_as_it_is_written(form):
    images = IMAGES.copy()
    assert_followed(written(form), images)
    assert np.array_equal(images, IMAGES)


@pytest.mark.parametrize(
    "form",
    [
        lambda n, x: n.dense(mean(n.again(n.relu(n.conv(x))))),
        lambda n, x: n.dense(mean(n.conv(x) * n.bias)),  # a parameter that its code reads
    ],
)
def test_an_engine_that_saw_one_image_first_does_the_others(form):
    network = written(form)
    engine = TorchEngine(copy.deepcopy(network))
    trials = faults_of(engine)
    for images in (IMAGES[:1], IMAGES):
        for faults, (outputs, _, _) in zip(trials, engine.outcomes(images, trials), strict=True):
            assert np.allclose(outputs, expected_of(network, faults, images), 1e-3, 1e-4, equal_nan=True)


def test_networks_that_no_fault_can_be_followed_in_are_refused():
    trial = [(Fault("conv.weight", 0, 31),)]
    for form, message in (
        (lambda n, x: (n.conv(x), x), "^a network must give one tensor, got tuple: wrap it to give the scores$"),
        (lambda n, x: n.dense(F.dropout(mean(n.conv(x)))), "^a network must give the same outputs each time, got oth"),
        (lambda n, x: n.dense(mean(n.own(n.conv(x)))), "^a network must treat each image by itself, got one that mix"),
    ):
        network = written(form, own=nn.BatchNorm2d(4, track_running_stats=False))
        for count in (1, 12):
            with pytest.raises(ModelError, match=message):
                next(TorchEngine(copy.deepcopy(network)).outcomes(IMAGES[:count], trial))


# -- rows and images in parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["residual", "skip", "depthwise"])
def test_rows_in_small_parts_give_the_same(monkeypatch, name):
    """Single channels of more rows than go together are put in order, and computed whole in parts."""
    network = torch_networks.calibrated(name)
    trials = faults_of(engine := TorchEngine(copy.deepcopy(network)), 3)
    expected = [outputs for outputs, _, _ in engine.outcomes(IMAGES, trials)]
    divided, way = [], walk.Walk._divide
    monkeypatch.setattr(walk, "BATCH_BYTES", 1 << 16)
    monkeypatch.setattr(walk.Walk, "_divide", lambda *given: divided.append(way(*given)) or divided[-1])
    found = [outputs for outputs, _, _ in TorchEngine(network).outcomes(IMAGES, trials)]
    assert any(divided) and not all(divided)
    for faults, one, other in zip(trials, found, expected, strict=True):
        finite = np.isfinite(other) & np.isfinite(one)
        scale = np.abs(other[finite]).max(initial=1.0)
        assert np.allclose(one[finite] / scale, other[finite] / scale, atol=2e-5), faults
        assert name == "skip" or np.array_equal(one.argmax(axis=1), other.argmax(axis=1)), faults


def test_no_image_goes_through_the_network_alone(monkeypatch):
    """Torch adds the products of one image in another order than those of several."""
    monkeypatch.setattr(engine_module, "IMAGES", 4)
    network = torch_networks.calibrated("chain")
    images, together = torch_networks.images(13).numpy(), []
    engine = TorchEngine(network)
    golden = np.concatenate([engine.infer(part) for part in (images[:4], images[4:8], images[8:])])
    network.register_forward_pre_hook(lambda module, given: together.append(len(given[0])))
    ((outputs, path, _),) = engine.outcomes(images, [()])
    assert [count for count in together if count > 2] == [4, 4, 5] and 1 not in together
    assert path == "masked" and np.array_equal(outputs, golden)


# -- verdicts --------------------------------------------------------------------------------------------------------


def test_a_score_for_every_pixel_has_no_verdict():
    engine = TorchEngine(torch_networks.calibrated("skip"))
    trials = faults_of(engine, 1)
    assert set(engine.verdicts(IMAGES, trials)) == {UNKNOWN} and not engine.screened(IMAGES, trials).any()


@pytest.mark.parametrize(
    ("form", "layer"),
    [(FORMS["a sum with one channel"], "conv"), (lambda n, x: n.dense(mean(n.conv(n.pixels(x)))), "pixels")],
    ids=["whole at once", "not of a channel"],
)
def test_where_no_channel_is_followed_verdicts_are_right_or_unknown(form, layer):
    """A sum that spreads at once what changes in a channel; a layer whose parameters change parts of all channels."""
    network = written(form, pixels=nn.Linear(16, 16))
    engine = TorchEngine(copy.deepcopy(network))
    golden = expected_of(network, (), IMAGES).argmax(axis=1)
    trials = [trial for trial in faults_of(engine, 20) if trial[0].memory.startswith(layer)]
    verdicts = engine.verdicts(IMAGES, trials)
    for faults, verdict in zip(trials, verdicts, strict=True):
        changes = not np.array_equal(expected_of(network, faults, IMAGES).argmax(axis=1), golden)
        assert verdict == UNKNOWN or (verdict == CRITICAL) == changes, faults
    assert set(verdicts) == {UNKNOWN} if layer == "pixels" else {CRITICAL, HARMLESS} <= set(verdicts)


# -- Brevitas ------------------------------------------------------------------------------------------------------


def brevitas_network(bias: type | None, weight: type = quantizers.Int8WeightPerTensorFloat) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        qnn.QuantConv2d(3, 4, 3, weight_quant=weight, bias=True, bias_quant=bias), qnn.QuantReLU(act_quant=None),
        nn.Flatten(), qnn.QuantLinear(784, 5, bias=True),
    )  # fmt: skip
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("bias", [None, quantizers.Int8BiasPerTensorFloatInternalScaling])
def test_biases_of_brevitas_are_as_the_layer_adds_them(bias):
    network = brevitas_network(bias)
    expected = network(torch.tensor(IMAGES)).numpy()
    plain, choose = frozen(copy.deepcopy(network))
    assert np.array_equal(TorchEngine(plain, choose).infer(IMAGES), expected)
    assert plain[1].treats_channels_alike
    is_rounded = not torch.equal(plain[0].bias, network[0].bias)
    assert is_rounded == (bias is not None) and torch.allclose(plain[0].bias, network[0].bias, atol=2e-3)


def test_quantizers_of_brevitas_that_no_memory_holds_are_refused():
    zero, sums = quantizers.ShiftedUint8WeightPerTensorFloat, quantizers.Int32Bias
    with pytest.raises(ModelError, match="^layer 0 must have weights without a zero point, got one: quantize symmetr"):
        frozen(brevitas_network(None, zero))
    with pytest.raises(
        ModelError, match="^layer 0 must have biases with a scale of their own, or in floating point, g"
    ):
        frozen(brevitas_network(sums))


def test_single_precision_is_what_the_oracle_takes_it_for():
    """Negative control: with another bit flipped in the oracle, the comparison fails."""
    network = written(FORMS["methods"])
    fault, other = Fault("dense.bias", 1, 31), Fault("dense.bias", 1, 22)
    ((outputs, _, _),) = TorchEngine(copy.deepcopy(network), as_float32).outcomes(IMAGES, [(fault,)])
    assert np.allclose(outputs, expected_of(network, (fault,), IMAGES), atol=1e-4)
    assert not np.allclose(outputs, expected_of(network, (other,), IMAGES), atol=1e-4)
