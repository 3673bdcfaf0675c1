# SPDX-License-Identifier: Apache-2.0
"""ONNX files as people have them: taken whatever their dialect, or refused in one sentence by their own names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import public_graphs
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from bitward.errors import ModelError
from bitward.flow.importing import import_qonnx
from bitward.flow.spec import load_flow
from bitward.hardware.build import build
from bitward.hardware.declare import BuildOptions
from bitward.hardware.survey import survey
from bitward.qonnx_ops.execute import execute_images
from bitward.rewrites import load_model

SLOW = BuildOptions(target_fps=1000, board="kv260")
Change = Callable[[ModelProto], None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conv (signed input, normalised by the graph), Relu, MaxPool, quantizer, dense layer."""
    return public_graphs.signed_input_no_batch_norm(tmp_path_factory.mktemp("forms") / "base.onnx")


@pytest.fixture
def changed(base: Path, tmp_path: Path) -> Callable[[Change], Path]:
    def save(change: Change) -> Path:
        model = onnx.load(str(base))
        change(model)
        onnx.save(model, str(tmp_path / "model.onnx"))
        return tmp_path / "model.onnx"

    return save


def nodes(model: ModelProto, op: str) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type == op]


def of_domain(domain: str) -> Change:
    def change(model: ModelProto) -> None:
        for node in nodes(model, "Quant"):
            node.domain = domain
        model.opset_import.append(helper.make_opsetid(domain, 1))

    return change


def without_opsets(model: ModelProto) -> None:
    for entry in [entry for entry in model.opset_import if entry.domain]:
        model.opset_import.remove(entry)


def with_constant_nodes(model: ModelProto) -> None:
    for tensor in model.graph.initializer:
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]


def with_plain_constants(model: ModelProto) -> None:
    """As attributes that are no tensors."""
    for tensor in [each for each in model.graph.initializer if not each.dims]:
        value = float(numpy_helper.to_array(tensor))
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value_float=value))
        model.graph.initializer.remove(tensor)


def with_initializers_as_inputs(model: ModelProto) -> None:
    """As ONNX's older versions had it."""
    del model.graph.value_info[:]
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, list(tensor.dims)))


def with_initializers_as_inputs_said_twice(model: ModelProto) -> None:
    """Which have their types among the values too."""
    with_initializers_as_inputs(model)
    model.graph.value_info.extend(model.graph.input[1:])


def with_newer_name(model: ModelProto) -> None:
    for node in nodes(model, "Quant"):
        node.op_type = "IntQuant"


def channels_last_input(model: ModelProto) -> None:
    entry = model.graph.input[0]
    entry.name = "pixels"
    for dimension, size in zip(entry.type.tensor_type.shape.dim, (1, 6, 6, 3), strict=True):
        dimension.dim_value = size
    model.graph.node.insert(0, helper.make_node("Transpose", ["pixels"], ["image"], perm=[0, 3, 1, 2], name="order"))
    model.graph.quantization_annotation[0].tensor_name = "pixels"


TAKEN: dict[str, Change] = {
    "onnx.brevitas": of_domain("onnx.brevitas"),
    "finn.custom_op.general": of_domain("finn.custom_op.general"),
    "no opset": without_opsets,
    "Constant nodes": with_constant_nodes,
    "Constant nodes of plain values": with_plain_constants,
    "initializers as inputs": with_initializers_as_inputs,
    "initializers as inputs and values": with_initializers_as_inputs_said_twice,
    "IntQuant": with_newer_name,
    "NHWC input": channels_last_input,
}


@pytest.mark.parametrize("form", sorted(TAKEN))
def test_a_dialect_is_the_same_model(form: str, base: Path, changed: Callable[[Change], Path]) -> None:
    path = changed(TAKEN[form])
    found = survey(path, SLOW)
    assert found.all_problems == [] and found.estimate is not None
    assert [(layer.name, layer.bits) for layer in found.layers] == [("Conv_y1", 4), ("MatMul_y2", 3)]
    images = np.random.default_rng(3).integers(-128, 128, (20, 3, 6, 6)).astype(np.float32)
    given = images.transpose(0, 2, 3, 1) if form == "NHWC input" else images
    assert np.array_equal(execute_images(load_model(path), given), execute_images(load_model(base), images))


def batch(size: int | str) -> Change:
    def change(model: ModelProto) -> None:
        for entry in (*model.graph.input, *model.graph.output):
            dimension = entry.type.tensor_type.shape.dim[0]
            if isinstance(size, str):
                dimension.dim_param = size
            else:
                dimension.dim_value = size

    return change


def any_size(model: ModelProto) -> None:
    for dimension in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_param = "any"


def unannotated(model: ModelProto) -> None:
    del model.graph.quantization_annotation[:]


def second_input(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, (1, 5)))
    model.graph.node.append(helper.make_node("Add", ["logits", "other"], ["sum"], name="Add_sum"))
    model.graph.output[0].name = "sum"


def replaced(op: str, by: str, domain: str = "") -> Change:
    def change(model: ModelProto) -> None:
        for node in nodes(model, op):
            node.op_type, node.domain = by, domain

    return change


def float_weights(model: ModelProto) -> None:
    (node,) = nodes(model, "Conv")
    node.input[1] = "w1_float"


def of_bits(bits: float) -> Change:
    def change(model: ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name == "w1_bits":
                tensor.CopyFrom(numpy_helper.from_array(np.float32(bits).reshape(()), tensor.name))

    return change


def bipolar(model: ModelProto) -> None:
    for node in nodes(model, "Quant"):
        if node.output[0] == "w1":
            node.op_type = "BipolarQuant"
            del node.input[2:], node.attribute[:]


def multi_threshold(model: ModelProto) -> None:
    (node,) = nodes(model, "Relu")
    node.op_type, node.domain = "MultiThreshold", "qonnx.custom_op.general"
    node.input.append("levels")
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((8, 3), np.float32), "levels"))


def qcdq(model: ModelProto) -> None:
    for node in nodes(model, "Quant"):
        if node.output[0] == "x1":
            node.op_type, node.domain = "QuantizeLinear", ""
            del node.input[2:], node.attribute[:]


REFUSED: dict[str, tuple[Change, str]] = {
    "dynamic batch": (batch("N"), r"input image must have shape \(1, channels, height, width\) or .*, got \[any, 3, 6"
                      r", 6\]: export the model for batches of one, and images of one size"),
    "batch of 8": (batch(8), r"input image must have shape .*, got \[8, 3, 6, 6\]: export the model for batches "),
    "images of any size": (any_size, r"input image must have shape .*, got \[1, 3, any, any\]: export the model for "),
    "float input": (unannotated, r"input image must have an integer FINN datatype, got FLOAT32: annotate it \(UINT8"),
    "two inputs": (second_input, r"the model must have one input and one output, got 2 and 1: cut it"),
    "unsupported operator": (replaced("Relu", "Gelu"), r"node Relu_r1 \(Gelu\) has no RTL: bitward lowers Add, .*; "
                             "change the model, or leave that part to the host"),
    "float weights": (float_weights, r"layer 'Conv_y1' must have weights behind a Quant node, got none; quantize it "),
    "weights of 1 bit": (of_bits(1), r"layer 'Conv_y1' must have one whole width from 2 to 32 bits, got \[1.0\]; "),
    "weights of 2.5 bits": (of_bits(2.5), r"layer 'Conv_y1' must have one whole width from 2 to 32 bits, got \[2.5\]"),
    "weights of 9 bits": (of_bits(9), r"layer Conv_y1 must have weights of 2 to 8 bits, got 9: quantize them so"),
    "bipolar weights": (bipolar, r"node Conv_y1 \(Conv\) must have constant quantized weights, got computed ones: "
                        "BipolarQuant's two values have no stored word; quantize with Quant, to 2 bits or more"),
    "FINN's own form": (multi_threshold, r"node Relu_r1 \(MultiThreshold\) has no RTL: .*; take the QONNX file that "
                        "FINN was given, before its own transformations"),
    "QCDQ": (qcdq, r"node Quant_x1 \(QuantizeLinear\) has no RTL: .*; export QONNX instead of QCDQ, or convert it with "
             "qonnx's QCDQToQuant"),
}  # fmt: skip


@pytest.mark.parametrize("form", sorted(REFUSED))
def test_what_stands_in_the_way_is_one_sentence_by_the_files_own_names(
    form: str, changed: Callable[[Change], Path]
) -> None:
    change, sentence = REFUSED[form]
    problems = survey(changed(change), SLOW).all_problems
    assert len(problems) == 1, problems
    assert re.match(f"^{sentence}", problems[0])


def loop(model: ModelProto) -> None:
    model.graph.node[0].input[0] = "logits"


def dangling(model: ModelProto) -> None:
    (node,) = nodes(model, "Relu")
    node.input[0] = "nowhere"


def no_output(model: ModelProto) -> None:
    model.graph.output[0].name = "nothing"


def said_twice(model: ModelProto) -> None:
    model.graph.value_info.extend([model.graph.value_info[0]] * 2)


def text(model: ModelProto) -> None:
    """A constant that is no number."""
    model.graph.node.insert(0, helper.make_node("Constant", [], ["words"], value_string="words", name="said"))
    nodes(model, "Relu")[0].input[0] = "words"


BROKEN: dict[str, tuple[Change, str]] = {
    "foreign operator": (replaced("Relu", "MyAct", "my.domain"), r".* must have operators of ONNX and QONNX "
                         r"\(domain qonnx.custom_op.general\) alone, got node Relu_r1 \(MyAct\) of domain my.domain: "),
    "Quant of another domain": (of_domain("com.xilinx"), r".* must have operators of .*, got node Quant_x0 \(Quant\) "
                                r"of domain com.xilinx, node Quant_w1 .*: replace them, or leave that part"),
    "channels last": (replaced("Conv", "Conv", "qonnx.custom_op.channels_last"), r".* must have images channels first, "
                      r"got node Conv_y1 \(Conv\) of domain qonnx.custom_op.channels_last: take the file "),
    "text": (text, r".*: node said \(Constant\) must hold a tensor or numbers, got value_string: export one with"),
    "loop": (loop, r".* must have no loop between nodes, got one of .*Conv_y1, .*: export one with bitward export"),
    "dangling": (dangling, r".*: node Relu_r1 \(Relu\) must read tensors that are made, got 'nowhere': export one"),
    "no output": (no_output, r".*: output nothing must be made by a node, got none that does: export one"),
    "contradiction": (said_twice, r".* must be an ONNX model that agrees with itself, got: Multiple ValueInfoProto "),
}  # fmt: skip


@pytest.mark.parametrize("form", sorted(BROKEN))
def test_a_graph_that_cannot_be_executed_is_refused(form: str, changed: Callable[[Change], Path]) -> None:
    change, sentence = BROKEN[form]
    path = changed(change)
    for use in (load_model, lambda given: survey(given, SLOW)):
        with pytest.raises(ModelError, match=f"^{sentence}"):
            use(path)


def cut_in_half(base: Path) -> bytes:
    return base.read_bytes()[: base.stat().st_size // 2]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (cut_in_half, "must be an ONNX model, got a file that is none"),
        (lambda base: b"this is no model\n", "must be an ONNX model, got a file that is none"),
        (lambda base: b"PK\x03\x04" + bytes(100), "must be an ONNX model, got a file that is none"),
        (lambda base: b"", "must be an ONNX model with nodes, got none"),
    ],
    ids=["truncated", "text", "a checkpoint of torch", "empty"],
)
def test_a_file_that_is_no_model_is_refused(
    content: Callable[[Path], bytes], sentence: str, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(content(base))
    with pytest.raises(
        ModelError, match=f"^.*model.onnx {sentence}: export one with bitward export, or with Brevitas'"
    ):
        survey(tmp_path / "model.onnx", SLOW)


def test_data_outside_the_file_is_read_or_missed(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(onnx.load(str(base)), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert survey(path, SLOW).all_problems == []
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"^.*model.onnx must have its external data beside it, got: .*weights.bin"):
        survey(path, SLOW)


def test_an_imported_dialect_has_a_flow(base: Path, changed: Callable[[Change], Path], tmp_path: Path) -> None:
    """What is left is in the one form that all commands take."""
    path = changed(of_domain("onnx.brevitas"))
    imported = import_qonnx(path, tmp_path / "out", "theirs", "digits", None)
    assert imported.survey.all_problems == [] and imported.flow is not None
    assert load_flow(imported.flow).model == imported.model
    images = np.random.default_rng(3).integers(-128, 128, (20, 3, 6, 6)).astype(np.float32)
    assert np.array_equal(execute_images(load_model(imported.model), images), execute_images(load_model(base), images))


@pytest.mark.parametrize("parameter", ["{}.weight", "{}.weight_quant.export_handler.lifted_tensor_3"])
def test_layers_are_called_as_the_users_modules_are(
    parameter: str, changed: Callable[[Change], Path], tmp_path: Path
) -> None:
    """Newer exporters number the nodes; what Brevitas calls the parameters of a quantizer says which module it was."""

    def rename(model: ModelProto) -> None:
        new = {"w1_scale": parameter.format("block1.conv"), "w2_scale": parameter.format("head")}
        for number, node in enumerate(model.graph.node):
            node.name = f"node_{number}"
            for index, name in enumerate(node.input):
                node.input[index] = new.get(name, name)
        for entry in (*model.graph.initializer, *model.graph.value_info):
            entry.name = new.get(entry.name, entry.name)

    path = changed(rename)
    assert [layer.name for layer in survey(path, SLOW).layers] == ["block1.conv", "head"]
    imported = import_qonnx(path, tmp_path / "out", "named", "digits", None)  # cleaned: nodes and tensors renamed
    assert [layer.name for layer in imported.survey.layers] == ["block1.conv", "head"]
    manifest = build(imported.model, tmp_path / "build", BuildOptions("msb", target_fps=1000, simulate=False))
    assert {memory.layer for memory in manifest.memories if memory.role == "weight"} == {"block1.conv", "head"}
