# SPDX-License-Identifier: Apache-2.0
"""The torch engine gives what a naive loop gives: inject, run all of the network, restore."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch_networks
from torch import nn

from bitward.engine.pytorch import TorchEngine, as_affine, as_float32, as_format, as_integers, frozen, walk
from bitward.engine.pytorch import engine as engine_module
from bitward.engine.pytorch.layers import Convolution
from bitward.engine.pytorch.memories import tensors_of
from bitward.engine.pytorch.program import execute, trace
from bitward.engine.pytorch.rules import Add, Flatten
from bitward.engine.pytorch.simplify import simplified
from bitward.engine.pytorch.verdicts import CRITICAL, FIRST, HARMLESS, UNKNOWN
from bitward.errors import ConfigError, ManifestError, ModelError
from bitward.faults import Fault
from bitward.formats import BFloat16, Fixed, Float16
from bitward.networks import find_network
from bitward.schemes import Tmr
from bitward.targets.torch import TorchTarget

IMAGES = torch_networks.images().numpy()
BRIGHT = 8 * IMAGES
FORMATS = {
    "float32": as_float32,
    "float16": as_format(Float16()),
    "bfloat16": as_format(BFloat16()),
    "fixed": as_format(Fixed(8, 6)),
    "int8": as_integers(8, per_channel=True),
    "affine4": as_affine(4),
    "affine3-msb": as_affine(3, per_channel=True, scheme=lambda bits: Tmr(bits, 1), roles=("weight", "bias")),
    "int4-msb": as_integers(4, scheme=lambda bits: Tmr(bits, 1)),
    "float16-tmr": as_format(Float16(), lambda bits: Tmr(bits, bits), roles=("weight",)),
}


def engine_of(name: str, form: str = "float32") -> TorchEngine:
    return TorchEngine(torch_networks.calibrated(name), FORMATS[form])


def singles(engine: TorchEngine, count: int, seed: int = 0) -> list[tuple[Fault, ...]]:
    """One fault each, every memory hit equally often."""
    random = np.random.default_rng(seed)
    memories = engine.manifest.memories
    chosen = (memories[number % len(memories)] for number in range(count))
    return [(Fault(m.name, int(random.integers(m.depth)), int(random.integers(m.width))),) for m in chosen]


def naive(engine: TorchEngine, trials: list[tuple[Fault, ...]], images: np.ndarray = IMAGES) -> list[np.ndarray]:
    found = []
    for faults in trials:
        engine.inject(faults)
        found.append(engine.infer(images))
        engine.restore()
    return found


def decisions(outputs: np.ndarray) -> np.ndarray:
    return outputs.argmax(axis=1)


def expect_equal(found: np.ndarray, expected: np.ndarray, golden: np.ndarray, where: object) -> None:
    """Decisions are equal, scores but for rounding; where the naive loop finds golden scores there are golden ones."""
    assert np.array_equal(decisions(found), decisions(expected)), where
    finite = np.isfinite(expected) & np.isfinite(found)
    scale = np.abs(expected[finite]).max(initial=1.0)
    assert np.allclose(found[finite] / scale, expected[finite] / scale, atol=2e-5), where
    assert np.array_equal(np.isnan(found), np.isnan(expected)), where


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "float16-tmr"])
@pytest.mark.parametrize("name", ["chain", "residual", "depthwise"])
def test_single_faults_give_what_a_naive_loop_gives(name, form):
    engine = engine_of(name, form)
    trials = singles(engine, 100)
    golden = engine.infer(IMAGES)
    found = list(engine.outcomes(IMAGES, trials))
    for faults, (outputs, path, seconds), expected in zip(trials, found, naive(engine, trials), strict=True):
        expect_equal(outputs, expected, golden, (faults, path))
        assert path in engine_module.PATHS and seconds > 0
    changed = sum(not np.array_equal(decisions(outputs), decisions(golden)) for outputs, _, _ in found)
    for outputs, path, _ in found:
        same = (outputs == golden).all(axis=1)
        assert path != "masked" or same.all()
    assert changed > 1, "faults that change nothing would show nothing"
    assert np.array_equal(engine.infer(IMAGES), golden)


@pytest.mark.parametrize("name", ["skip", "choosy"])
def test_per_pixel_and_untraceable_networks_too(name):
    engine = engine_of(name)
    trials = singles(engine, 100)
    golden = engine.infer(IMAGES)
    for faults, (outputs, path, _), expected in zip(
        trials, engine.outcomes(IMAGES, trials), naive(engine, trials), strict=True
    ):
        equal = decisions(outputs) == decisions(expected)
        assert equal.mean() > (0.999 if name == "skip" else 0.9999), (
            faults,
            path,
        )  # a pixel in a thousand may be close
        assert np.allclose(outputs, expected, rtol=1e-3, atol=1e-4, equal_nan=True) or not np.isfinite(expected).all()
    assert np.array_equal(engine.infer(IMAGES), golden)
    assert (len(engine.program.steps) == 1) == (name == "choosy")


def test_paths_are_the_quick_ones():
    """Nothing of these is computed whole: that would be right, and slow."""
    for name in ("chain", "residual", "depthwise", "skip"):
        engine = engine_of(name, "int8")
        paths = [path for _, path, _ in engine.outcomes(IMAGES, singles(engine, 80))]
        assert set(paths) <= {"delta", "masked"}, name


def test_copies_that_are_outvoted_are_masked():
    engine = engine_of("chain", "int4-msb")
    memory = engine.manifest.memories[0]
    copies = [bit for bit in range(memory.width) if memory.scheme.origin(bit)[0] > 0]
    trials = [(Fault(memory.name, word, bit),) for word in range(5) for bit in copies]
    golden = engine.infer(IMAGES)
    for outputs, path, _ in engine.outcomes(IMAGES, trials):
        assert path == "masked" and np.allclose(outputs, golden, atol=1e-6)
    assert engine.screened(IMAGES, trials).all()


@pytest.mark.parametrize("form", ["float16", "int4-msb"])
def test_trials_of_several_faults_are_computed_from_the_first_that_is_hit(form):
    engine = engine_of("residual", form)
    trials = [tuple(fault for (fault,) in singles(engine, count, seed=count)) for count in (2, 3, 7, 40)]
    trials.append((Fault("stem.weight", 3, 1, "stuck1"), Fault("stem.weight", 3, 2, "stuck0")))
    golden = engine.infer(IMAGES)
    found = engine.outcomes(IMAGES, trials)
    for faults, (outputs, path, _), expected in zip(trials, found, naive(engine, trials), strict=True):
        expect_equal(outputs, expected, golden, faults)
        assert path in ("suffix", "masked", "again", "delta")


def test_a_bit_that_is_stuck_where_it_was_changes_nothing():
    engine = engine_of("chain", "int8")
    stored = engine.stored("0.weight")
    for bit in range(8):
        same = "stuck1" if stored.golden(5) >> bit & 1 else "stuck0"
        other = "stuck0" if same == "stuck1" else "stuck1"
        (_, path, _), (_, moved, _), (_, flipped, _) = engine.outcomes(
            IMAGES, [(Fault("0.weight", 5, bit, kind),) for kind in (same, other, "flip")]
        )
        assert path == "masked" and moved == flipped


def test_words_are_read_and_written_as_they_are_stored():
    engine = engine_of("chain", "float16-tmr")
    stored = engine.stored("0.weight")
    golden = stored.golden(7)
    assert stored.read(7) == golden and stored.memory.width == 48
    stored.write(7, golden ^ (1 << 47))  # a copy of the sign: outvoted
    assert stored.read(7) == golden ^ (1 << 47) and list(stored.faulty) == [7]
    assert stored.changes()[0].size == 0
    stored.write(7, golden ^ (1 << 47) ^ (1 << 31))  # two copies of it: the sign has changed
    (index,), (was,), (now,) = stored.changes()
    assert (index, now) == (7, -was)
    image = stored.image()
    assert int(image[7, 0]) | int(image[7, 1]) << 32 == stored.read(7)
    stored.restore()
    assert stored.read(7) == golden and not len(stored.faulty)


def test_golden_values_in_parts_give_the_same(monkeypatch):
    engine = engine_of("residual", "int8")
    trials = singles(engine, 60)
    whole = [outputs for outputs, _, _ in engine.outcomes(IMAGES, trials)]
    monkeypatch.setattr(engine_module, "GOLDEN_BYTES", 200_000)
    parts = [outputs for outputs, _, _ in engine_of("residual", "int8").outcomes(IMAGES, trials)]
    for one, other in zip(whole, parts, strict=True):
        assert np.array_equal(decisions(one), decisions(other)) and np.allclose(one, other, atol=1e-4)


def test_other_images_are_computed_anew():
    engine = engine_of("chain")
    trials = singles(engine, 20)
    list(engine.outcomes(IMAGES, trials))
    others = torch_networks.images(seed=5).numpy()
    for faults, (outputs, _, _) in zip(trials, engine.outcomes(others, trials), strict=True):
        engine.inject(faults)
        assert np.array_equal(decisions(outputs), decisions(engine.infer(others)))
        engine.restore()


@pytest.mark.parametrize(("rule", "method"), [(Add, "follow"), (Convolution, "follow"), (Convolution, "_taps")])
def test_a_wrong_rule_is_found(monkeypatch, rule, method):
    """Negative control: these tests can fail."""
    right = getattr(rule, method)

    def wrong(*arguments):
        made = right(*arguments)
        if made is None or isinstance(made, torch.Tensor):
            return None if made is None else made.flip(0)
        return type(made)(made.values * 1.5, made.channel)

    monkeypatch.setattr(rule, method, wrong)
    engine = engine_of("residual", "int8")
    trials = singles(engine, 100)
    pairs = zip(engine.outcomes(IMAGES, trials), naive(engine, trials), strict=True)
    assert any(not np.array_equal(decisions(outputs), decisions(expected)) for (outputs, _, _), expected in pairs)


def overflowing() -> tuple[TorchEngine, list[tuple[Fault, ...]]]:
    """Flipped exponents make numbers overflow in their convolution, though not behind batch norm that scales down."""
    network = torch_networks.calibrated("chain")
    network[1].weight.data *= 1e-3
    engine = TorchEngine(network)
    return engine, [(Fault("0.weight", word, 30),) for word in range(0, 162, 3)]


def test_numbers_overflow_where_those_of_the_network_do():
    engine, trials = overflowing()
    several = [(fault, Fault("4.weight", 5, 30), *(Fault("4.bias", 0, bit) for bit in range(8))) for (fault,) in trials]
    trials += several[::9]
    expected = naive(engine, trials, BRIGHT)
    assert sum(not np.isfinite(each).all() for each in expected) > 20
    found = [outputs for outputs, _, _ in engine.outcomes(BRIGHT, trials)]
    for faults, one, other in zip(trials, found, expected, strict=True):
        assert np.array_equal(decisions(one), decisions(other)), faults
    golden = decisions(engine.infer(BRIGHT))
    for verdict, faults, other in zip(engine.verdicts(BRIGHT, trials), trials, expected, strict=True):
        assert verdict == UNKNOWN or (verdict == CRITICAL) == (decisions(other) != golden).any(), faults


def test_without_the_watch_they_do_not(monkeypatch):
    monkeypatch.setattr(walk, "OVERFLOW", np.inf)
    monkeypatch.setattr(walk, "ONE_TERM", np.inf)
    engine, trials = overflowing()
    pairs = zip(engine.outcomes(BRIGHT, trials), naive(engine, trials, BRIGHT), strict=True)
    assert any(not np.array_equal(decisions(outputs), decisions(other)) for (outputs, _, _), other in pairs)


def test_a_screen_leaves_out_what_changes_no_decision():
    engine = engine_of("residual", "int8")
    trials = singles(engine, 300)
    left_out = engine.screened(IMAGES, trials)
    golden = decisions(engine.infer(IMAGES))
    changed = [not np.array_equal(decisions(outputs), golden) for outputs, _, _ in engine.outcomes(IMAGES, trials)]
    missed = np.logical_and(left_out, changed).sum()
    assert left_out.mean() > 0.3 and sum(changed) > 20
    assert missed <= 0.02 * left_out.sum()
    several = [tuple(fault for (fault,) in trials[:2])]
    assert not engine.screened(IMAGES, several).any()


@pytest.mark.parametrize("name", ["resnet8_cifar", "unet_relu"])
def test_networks_of_brevitas_are_their_integers(name):
    network = find_network(name)
    torch.manual_seed(0)
    module = network.build().train()
    images = torch.randint(0, 2**network.input_bits, (4, *network.input_shape)).float()
    module(images)
    expected = module.eval()(images).detach().numpy()
    engine = TorchEngine(*frozen(module))
    assert np.array_equal(engine.infer(images), expected)
    assert {memory.format.bits for memory in engine.manifest.memories} == {network.weight_bits}
    trials = singles(engine, 40)
    for faults, (outputs, _, _) in zip(trials, engine.outcomes(images.numpy(), trials), strict=True):
        engine.inject(faults)
        assert np.array_equal(outputs, engine.infer(images)), faults
        engine.restore()


def test_the_target_is_golden_again_and_says_where_it_is_not():
    with TorchTarget(lambda: torch_networks.calibrated("chain"), as_integers(8)) as target:
        golden = {memory.name: target.engine.images()[memory.name] for memory in target.manifest.memories}
        outcomes = list(target.outcomes(IMAGES, singles(target.engine, 600)))
        assert len(outcomes) == 600 and not list(target.differing(golden))
        fault = Fault("0.weight", 4, 2)
        target.inject(fault)
        assert list(target.differing(golden)) == [("0.weight", 4)]
        with pytest.raises(ManifestError, match="^memories must be golden before trials, got faults in them: restore"):
            next(target.outcomes(IMAGES, [(fault,)]))
        target.restore(fault)
        assert target.read("0.weight", 4) == target.golden("0.weight", 4) and not list(target.differing(golden))
    with pytest.raises(ConfigError, match="^a target must be opened before it is used, got one that is closed: use"):
        target.infer(IMAGES)


def test_places_that_are_none_are_refused():
    engine = engine_of("chain")
    with pytest.raises(ManifestError, match=r"^bit must be 0 to 31 in memory 0\.weight, got 32; take faults from"):
        next(engine.outcomes(IMAGES, [(Fault("0.weight", 0, 32),)]))
    with pytest.raises(ManifestError, match=r"^word must be 0 to 161 in memory 0\.weight, got 162; take faults from"):
        engine.inject([Fault("0.weight", 162, 0)])
    with pytest.raises(ManifestError, match=r"^a memory must be one of design network, got 'wieght'; "):
        engine.stored("wieght")


def test_a_network_without_memories_is_refused():
    with pytest.raises(ConfigError, match="^a network must have a tensor that is a memory, got none: choose formats"):
        TorchEngine(nn.Sequential(nn.ReLU()))
    half = torch_networks.calibrated("chain").double()
    with pytest.raises(ConfigError, match=r"^tensor 0\.weight must be contiguous and of float32 to be a memory, got "):
        TorchEngine(half)


def test_a_layer_that_quantizes_its_input_is_refused():
    from brevitas.nn import QuantConv2d
    from brevitas.quant import Int8ActPerTensorFloat

    with pytest.raises(ModelError, match="^layer 0 must be a convolution or dense layer that quantizes its weights al"):
        frozen(nn.Sequential(QuantConv2d(3, 4, 3, input_quant=Int8ActPerTensorFloat)))


def test_tracing_leaves_the_network_as_it_computes():
    network = torch_networks.calibrated("residual")
    images = torch_networks.images()
    expected = copy.deepcopy(network)(images)
    trace(network)
    assert torch.equal(network(images), expected)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", range(2, 9))
def test_affine_words_follow_equations_1_to_5_of_fortune(bits: int, per_channel: bool) -> None:
    network = torch_networks.calibrated("chain")
    before = {
        name: tensor.detach().double().numpy().copy()
        for name, _, role, tensor in tensors_of(network)
        if role == "weight"
    }
    engine = TorchEngine(network, as_affine(bits, per_channel))
    for memory in engine.manifest.memories:
        for channel, x in enumerate(before[memory.name] if per_channel else [before[memory.name]]):
            low, high = x.min(), x.max()  # (1), (2)
            s = (high - low) / (2**bits - 1)  # (3)
            q = np.rint(x / s - low / s)  # (4), (5)
            words = engine.images()[memory.name][:, 0].reshape(before[memory.name].shape)
            assert np.array_equal(words[channel] if per_channel else words, q)
            held = engine.stored(memory.name).tensor.numpy()
            assert np.allclose(held[channel] if per_channel else held, (q + low / s) * s, atol=1e-6)


def test_affine_takes_a_tensor_of_one_value() -> None:
    network = nn.Sequential(nn.Linear(3, 2, bias=False))
    nn.init.constant_(network[0].weight, 0.25)
    engine = TorchEngine(network, as_affine(3))
    assert engine.images()["0.weight"].max() == 0
    assert engine.stored("0.weight").tensor.tolist() == [[0.25] * 3] * 2


def test_a_channel_that_its_activation_closes_threatens_nothing(monkeypatch):
    """A huge weight that drives a channel below zero, where it was before: to first order behind the activation, 0."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    with torch.no_grad():
        network[0].weight[0] = -(2.0**-90)
        network[0].bias[0] = -50.0
    engine = TorchEngine(network)
    images = np.abs(IMAGES) + 0.1
    exponent = (Fault("0.weight", 0, 30),)  # -2^38
    assert np.array_equal(naive(engine, [exponent], images)[0], engine.infer(images))
    sent = []
    whole = walk.Walk.send
    monkeypatch.setattr(
        walk.Walk, "send", lambda self, i, rows, w=False: (sent.append(len(rows.trial)), whole(self, i, rows, w))[1]
    )
    assert engine.verdicts(images, [exponent]).tolist() == [HARMLESS]
    wild = sum(sent)  # the few images that a wild value has run in any case
    assert 0 < wild <= FIRST
    engine.network[0].bias[0] = 50.0  # a channel that was open is closed by the same fault
    assert TorchEngine(engine.network).verdicts(images, [exponent]).tolist() == [CRITICAL]


@pytest.mark.parametrize("most", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["chain", "residual", "skip"])
def test_idle_rows_change_nothing(monkeypatch, name, most):
    """Rows that are kept although they do not differ leave outputs and paths as they are without them."""
    trials = singles(engine_of(name, "int8"), 60)
    monkeypatch.setattr(walk, "MOST", 1.0)
    expected = list(engine_of(name, "int8").outcomes(IMAGES, trials))
    monkeypatch.setattr(walk, "MOST", most)
    found = list(engine_of(name, "int8").outcomes(IMAGES, trials))
    assert [path for _, path, _ in found] == [path for _, path, _ in expected]
    for (outputs, _, _), (others, _, _) in zip(found, expected, strict=True):
        assert np.allclose(outputs, others, rtol=1e-4, atol=1e-5, equal_nan=True)
        golden = (others == engine_of(name, "int8").infer(IMAGES)).all(axis=tuple(range(1, others.ndim)))
        assert np.array_equal(outputs[golden], others[golden])


def test_a_flatten_inside_a_dense_layer_gives_what_it_gave_before():
    network = torch_networks.calibrated("chain")
    program = simplified(trace(network))
    (inside,) = (step for step in program.steps if isinstance(step.rule, Convolution) and step.rule.flattens)
    assert not any(isinstance(step.rule, Flatten) for step in program.steps)
    images = torch.from_numpy(IMAGES).contiguous(memory_format=torch.channels_last)
    assert torch.allclose(execute(program, images)[program.sink], network(images), rtol=1e-4, atol=1e-5)
    assert inside.layers


@pytest.mark.parametrize("name", ["chain", "residual", "skip", "depthwise"])
def test_the_same_trials_give_the_same_bits_whatever_came_before(name):
    """Which rows are dropped decides on the order of sums: it follows from the trials alone, not from time."""
    trials = singles(engine_of(name, "int8"), 40, seed=2)
    engine = engine_of(name, "int8")
    first = [(outputs.tobytes(), path) for outputs, path, _ in engine.outcomes(IMAGES, trials)]
    list(engine.outcomes(IMAGES, singles(engine, 30, seed=3)))
    again = [(outputs.tobytes(), path) for outputs, path, _ in engine.outcomes(IMAGES, trials)]
    assert again == first


def test_a_look_is_skipped_where_too_few_rows_end_there():
    look = walk.Look(worth=10.0)
    assert look.is_due()
    look.took(100, 50)  # half of them: five times what looking takes
    assert look.is_due()
    for _ in range(5):
        look.took(100, 100)
    assert [look.is_due() for _ in range(walk.SKIPPED + 1)] == [False] * walk.SKIPPED + [True]
