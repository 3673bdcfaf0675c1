# SPDX-License-Identifier: Apache-2.0
"""QONNX graphs in the torch engine compute what qonnx's executor does, without faults and with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.util.basic import qonnx_make_model

from bitward.datasets import load_dataset
from bitward.engine.pytorch import TorchEngine, network_of
from bitward.errors import ModelError
from bitward.faults import Fault, fault_model
from bitward.flow.verify import run_qonnx
from bitward.formats import Int, UInt
from bitward.networks import find_network
from bitward.schemes import Tmr

MODELS = Path(__file__).parents[1] / "onnx_models"
NAMES = ("digits_mlp", "digits_cnn", "vgg_cifar", "resnet8_cifar", "dwsep_cifar", "unet_sigmoid", "unet_hardsigmoid")
ROUNDING = 1e-6  # of the largest score: sums of floats in another order


def pictures(name: str, count: int):
    """Test images where they are made here, else random pixels."""
    network = find_network(name)
    if network.dataset == "cifar10":
        return np.random.default_rng(1).integers(0, 256, (count, 3, 32, 32)).astype(np.float32)
    return load_dataset(network.dataset).test_images[:count].astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_gives_what_qonnx_gives(name):
    images = pictures(name, 40 if name.startswith("digits") else 4)
    engine = TorchEngine(*network_of(onnx.load(MODELS / f"{name}.onnx")), name)
    expected, got = run_qonnx(MODELS / f"{name}.onnx", images), engine.infer(images)
    assert np.abs(got - expected).max() <= ROUNDING * np.abs(expected).max()
    assert np.array_equal(got.argmax(axis=1), expected.argmax(axis=1))
    assert len(engine.program.steps) == 1 and engine.manifest.design == name
    list(engine.outcomes(images[:2], []))
    assert len(engine.program.steps) > 5  # torch.fx can follow it


def with_fault(name: str, engine: TorchEngine, fault: Fault, path: Path) -> Path:
    """The QONNX file with the flip in its initializer, as the integer times the scale that the Quant node has."""
    model = onnx.load(MODELS / f"{name}.onnx")
    memory = engine.manifest.memory(fault.memory)
    tensors = {each.name: each for each in model.graph.initializer}
    node = next(each for each in model.graph.node if each.input[0] == memory.name and each.op_type == "Quant")
    scale = numpy_helper.to_array(tensors[node.input[1]])
    weights = numpy_helper.to_array(tensors[memory.name]).copy()
    at = np.unravel_index(fault.word, memory.shape)
    at = at[::-1] if weights.shape != memory.shape or memory.layer.startswith("fc") else at  # torch's are transposed
    of_weight = np.broadcast_to(scale, weights.shape)[at]
    integer = int(np.clip(np.rint(weights[at] / of_weight), *ends(memory.format.bits)))
    flipped = (integer & (1 << memory.format.bits) - 1) ^ 1 << fault.bit
    signed = flipped - (1 << memory.format.bits) * (flipped >> memory.format.bits - 1)
    weights[at] = signed * of_weight
    tensors[memory.name].CopyFrom(numpy_helper.from_array(weights, memory.name))
    onnx.save(model, path)
    return path


def ends(bits: int) -> tuple[int, int]:
    return -(1 << bits - 1), (1 << bits - 1) - 1


@pytest.mark.parametrize(
    ("name", "count"), [("digits_mlp", 12), ("digits_cnn", 12), ("vgg_cifar", 4), ("dwsep_cifar", 4)]
)
def test_a_flip_in_a_weight_is_the_flip_in_the_graphs_initializer(name, count, tmp_path):
    """By every way the engine has; and some flips change something."""
    images, count = pictures(name, 6), 12 if name.startswith("digits") else 4
    engine = TorchEngine(*network_of(onnx.load(MODELS / f"{name}.onnx")), name)
    model = fault_model(engine.manifest, {"model": "layers"})
    trials = [model.trial(number) for number in range(count)]
    golden, changed = engine.infer(images), 0
    for faults, (outputs, path, _) in zip(trials, engine.outcomes(images, trials), strict=True):
        expected = run_qonnx(with_fault(name, engine, faults[0], tmp_path / "faulty.onnx"), images)
        assert path in ("delta", "again", "masked", "suffix")
        assert np.abs(outputs - expected).max() <= 3 * ROUNDING * np.abs(expected).max(), faults
        assert np.array_equal(outputs.argmax(axis=1), expected.argmax(axis=1)), faults
        changed += not np.array_equal(outputs, golden)
    assert changed > count // 4


# -- operators -------------------------------------------------------------------------------------------------------


def single(nodes, source, sink, **constants) -> onnx.ModelProto:
    """The graph of (op, name, inputs, attributes): the last gives y, the first takes x; None where that is the last."""
    made, value = [], "x"
    for op, name, inputs, attributes in nodes:
        domain = "qonnx.custom_op.general" if op in ("Quant", "MultiThreshold", "BipolarQuant") else ""
        given = [value if each is None else each for each in inputs]
        value = name if constants.get(given[0]) is None else value
        made.append(helper.make_node(op, given, [name], name=name, domain=domain, **attributes))
    made[-1].output[0] = "y"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", source), ("y", sink))]
    fixed = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    return qonnx_make_model(helper.make_graph(made, "one", ends[:1], ends[1:], initializer=fixed))


def executed(model: onnx.ModelProto, images) -> np.ndarray:
    """By qonnx's executor, image by image."""
    wrapped = ModelWrapper(model).transform(InferShapes())
    return np.concatenate([execute_onnx(wrapped, {"x": image[None]})["y"] for image in images])


def floats(*shape, seed=0, low=-3, high=3):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def f32(*values):
    return np.array(values if len(values) > 1 else values[0], dtype=np.float32)


Q4 = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
PICTURE = [1, 4, 6, 6]
STEPS = {"scale": f32(0.25), "zero": f32(0.0), "bits": f32(4.0)}
CASES = {
    "conv": ([("Quant", "q", ["w", "scale", "zero", "bits"], Q4), ("Quant", "p", ["b", "fine", "zero", "eight"], Q4),
              ("Conv", "c", [None, "q", "p"], {"kernel_shape": [3, 2], "pads": [1, 0, 1, 0], "strides": [2, 1],
                                               "group": 2, "dilations": [1, 2]})], [1, 6, 3, 4],
             {"w": floats(6, 2, 3, 2), "b": floats(6), "fine": f32(0.125), "eight": f32(8.0), **STEPS}),
    "deconv": ([("Quant", "q", ["w", "scale", "zero", "bits"], Q4),
                ("ConvTranspose", "c", [None, "q"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1],
                                                     "output_padding": [1, 1]})], [1, 2, 12, 12],
               {"w": floats(4, 2, 3, 3), **STEPS}),
    "gemm": ([("Reshape", "r", [None, "shape"], {}), ("Quant", "q", ["w", "scale", "zero", "bits"], Q4),
              ("Gemm", "g", [None, "q", "b"], {"transB": 1})], [1, 5],
             {"shape": np.array([1, -1]), "w": floats(5, 144), "b": floats(5), **STEPS}),
    "matmul": ([("Flatten", "r", [None], {"axis": 1}), ("Quant", "q", ["w", "each", "zero", "bits"], Q4),
                ("MatMul", "m", [None, "q"], {}), ("Quant", "p", ["b", "scale", "zero", "bits"], Q4),
                ("Add", "a", [None, "p"], {})], [1, 3],
               {"w": floats(144, 3), "each": f32(0.25, 0.5, 0.125), "b": floats(1, 3), **STEPS}),
    "pools": ([("MaxPool", "m", [None], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}),
               ("AveragePool", "a", [None], {"kernel_shape": [2, 2], "strides": [2, 2]}),
               ("GlobalAveragePool", "g", [None], {})], [1, 4, 1, 1], {}),
    "functions": ([("HardSigmoid", "h", [None], {"alpha": 0.3, "beta": 0.4}), ("Sub", "s", ["half", None], {}),
                   ("Div", "d", [None, "each"], {}), ("Mul", "m", [None, "half"], {}), ("Tanh", "t", [None], {}),
                   ("Sigmoid", "o", [None], {}), ("Identity", "i", [None], {}), ("Relu", "r", [None], {})], PICTURE,
                  {"half": f32(0.5), "each": floats(1, 4, 1, 1, low=1)}),
    "resize": ([("Resize", "r", [None, "roi", "scales"], {"mode": "nearest", "nearest_mode": "floor",
                                                          "coordinate_transformation_mode": "asymmetric"})],
               [1, 4, 12, 18], {"scales": f32(1.0, 1.0, 2.0, 3.0), "roi": np.zeros(0, np.float32)}),
    "norm": ([("BatchNormalization", "n", [None, "g", "b", "m", "v"], {"epsilon": 0.01})], PICTURE,
             {"g": floats(4), "b": floats(4, seed=1), "m": floats(4, seed=2), "v": floats(4, seed=3, low=1)}),
    "quants": ([("Quant", "a", [None, "each", "zero", "bits"], {**Q4, "narrow": 1}),
                ("Quant", "b", [None, "scale", "three", "bits"], {**Q4, "signed": 0, "narrow": 1})], PICTURE,
               {"each": floats(1, 4, 1, 1, low=0.1, high=0.4), "three": f32(3.0), **STEPS}),
    "thresholds": ([("MultiThreshold", "t", [None, "lists"], {"out_scale": 0.5, "out_bias": -1.0,
                                                              "out_dtype": "INT8"})], PICTURE,
                   {"lists": f32(*np.sort(np.rint(floats(4, 7) * 2), axis=1))}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_operator_gives_what_qonnx_gives(name):
    nodes, sink, constants = CASES[name]
    model = single(nodes, PICTURE, sink, **constants)
    images = floats(5, *PICTURE[1:], seed=9)
    expected = executed(model, images)
    network, choose = network_of(model)
    if any(choose(each, "weight", None) for each in ("c.weight", "g.weight", "m.weight", "t.threshold", "y.weight")):
        network = TorchEngine(network, choose).network
    import torch

    with torch.no_grad():
        got = network(torch.from_numpy(images)).numpy()
    assert got.shape == expected.shape and np.ptp(expected) > 0
    assert np.abs(got - expected).max() <= 3e-6 * max(1.0, np.abs(expected).max())


def test_parameters_are_stored_as_the_integers_that_they_are():
    """Weights and biases by their own steps, protected as asked; thresholds too; what is not quantized is no memory."""

    def memories(name):
        nodes, sink, constants = CASES[name]
        network, choose = network_of(single(nodes, PICTURE, sink, **constants), lambda bits: Tmr(bits, 1))
        return TorchEngine(network, choose), constants

    engine, constants = memories("conv")
    found = {each.name: (each.role, each.format, each.scheme) for each in engine.manifest.memories}
    assert found == {"c.weight": ("weight", Int(4), Tmr(4, 1)), "c.bias": ("bias", Int(8), Tmr(8, 1))}
    integers = np.clip(np.rint(constants["w"] / 0.25), -8, 7).astype(int).ravel()
    read = [engine.stored("c.weight").memory.scheme.decode(np.uint8([engine.stored("c.weight").read(word)]))[0] & 15
            for word in range(len(integers))]  # fmt: skip
    assert read == (integers & 15).tolist()
    assert [(each.name, each.role) for each in memories("matmul")[0].manifest.memories] == [
        ("m.weight", "weight"),
        ("a.bias", "bias"),
    ]
    assert [each.name for each in memories("gemm")[0].manifest.memories] == ["g.weight"]
    (thresholds,) = memories("thresholds")[0].manifest.memories
    assert (thresholds.name, thresholds.role, thresholds.shape) == ("t.threshold", "threshold", (4, 7))
    assert thresholds.format == Int(4)


def test_a_flip_in_a_threshold_is_exact():
    nodes, sink, constants = CASES["thresholds"]
    images = floats(5, *PICTURE[1:], seed=9)
    engine = TorchEngine(*network_of(single(nodes, PICTURE, sink, **constants)))
    trials = [(Fault("t.threshold", word, bit),) for word in (0, 9, 27) for bit in range(4)]
    for (fault,), (outputs, _, _) in zip(trials, engine.outcomes(images, trials), strict=True):
        lists = constants["lists"].copy()
        word = (int(lists.flat[fault.word]) & 15) ^ 1 << fault.bit
        lists.flat[fault.word] = word - 16 * (word >> 3)
        expected = executed(single(nodes, PICTURE, sink, lists=lists), images)
        assert np.array_equal(outputs, expected), fault


def test_unsigned_steps_are_unsigned_and_fractions_are_no_memories():
    nodes = [("Quant", "q", ["w", "scale", "zero", "bits"], {**Q4, "signed": 0}), ("Conv", "c", [None, "q"], {}),
             ("MultiThreshold", "t", [None, "lists"], {"out_dtype": "UINT4"})]  # fmt: skip
    made = single(nodes, PICTURE, PICTURE, w=floats(4, 4, 1, 1), lists=floats(1, 3), **STEPS)
    engine = TorchEngine(*network_of(made))
    assert [(each.name, each.format) for each in engine.manifest.memories] == [("c.weight", UInt(4))]


# -- refusals --------------------------------------------------------------------------------------------------------

SAME = {"w": floats(4, 4, 1, 1), **STEPS}
REFUSALS = {
    r"^node z \(Softmax\) must be an operator that the torch engine has, got Softmax of 1 computed values; ":
        [("Softmax", "z", [None], {})],
    r"^node z \(Mul\) must be an operator that the torch engine has, got Mul of 2 computed values; ":
        [("Relu", "a", [None], {}), ("Mul", "z", ["a", "x"], {})],
    r"^node z \(Conv\) must have weights that is a constant, got one that is computed: ":
        [("Conv", "z", ["w", None], {})],
    r"^node z \(Conv\) must have pads that are alike on opposite sides, got \[1, 0, 0, 0\]: rewrite":
        [("Conv", "z", [None, "w"], {"pads": [1, 0, 0, 0]})],
    r"^node z \(Conv\) must have auto_pad = NOTSET, got SAME_UPPER: rewrite":
        [("Conv", "z", [None, "w"], {"auto_pad": "SAME_UPPER"})],
    r"^node z \(Conv\) must have strides for height and width, got \[1\]: ":
        [("Conv", "z", [None, "w"], {"strides": [1]})],
    r"^node z \(Conv\) must have weights of two spatial dimensions, got shape \[4, 3\]: ":
        [("Conv", "z", [None, "m"], {})],
    r"^node z \(Gemm\) must have weights that are a matrix, got shape \[4, 4, 1, 1\]: ":
        [("Gemm", "z", [None, "w"], {})],
    r"^node z \(Gemm\) must have alpha = 1.0, got 2.0: ": [("Gemm", "z", [None, "m"], {"alpha": 2.0})],
    r"^node z \(Flatten\) must have axis = 1, got 2: ": [("Flatten", "z", [None], {"axis": 2})],
    r"^node z \(Reshape\) must have a shape of images and features, got \[2, 72\]: ":
        [("Reshape", "z", [None, "shape"], {})],
    r"^node z \(Resize\) must have whole factors for height and width, got \[1.0, 1.0, 1.5, 2.0\]: ":
        [("Resize", "z", [None, "", "scales"], {"mode": "nearest"})],
    r"^node z \(Quant\) must have rounding_mode = ROUND or HALF_EVEN, got FLOOR: ":
        [("Quant", "z", [None, "scale", "zero", "bits"], {**Q4, "rounding_mode": "FLOOR"})],
    r"^node z \(Quant\) must have one bit width from 2 to 32, got 1.5: ":
        [("Quant", "z", [None, "scale", "zero", "odd"], Q4)],
    r"^node q \(Quant\) must have a zero point of 0 where it quantizes parameters, got another one: ":
        [("Quant", "q", ["w", "scale", "odd", "bits"], Q4), ("Conv", "z", [None, "q"], {})],
    r"^node z \(Concat\) must have axis = 1, got 2: ":
        [("Relu", "a", [None], {}), ("Concat", "z", ["a", "x"], {"axis": 2})],
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSALS)
def test_what_no_module_computes_is_refused(message):
    constants = {
        "m": floats(4, 3),
        "shape": np.array([2, 72]),
        "scales": f32(1.0, 1.0, 1.5, 2.0),
        "odd": f32(1.5),
        **SAME,
    }
    with pytest.raises(ModelError, match=message):
        network_of(single(REFUSALS[message], PICTURE, PICTURE, **constants))


def test_a_graph_of_two_inputs_is_refused():
    made = single([("Add", "z", ["x", "b"], {})], PICTURE, PICTURE)
    made.graph.input.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, PICTURE))
    with pytest.raises(ModelError, match=r"^a graph must have one input and one output, got 2 and 1: split it$"):
        network_of(made)
