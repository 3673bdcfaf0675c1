# SPDX-License-Identifier: Apache-2.0
"""QONNX graphs for the torch engine: as networks of torch's own layers, their weights the integers that they are."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from bitward.engine.pytorch.graph_layers import FUNCTIONS, Bounded, Constant, Quantizer, Thresholds
from bitward.engine.pytorch.storage import Choose, Storage
from bitward.errors import ModelError, nearest
from bitward.formats import Int, UInt
from bitward.memory import Role
from bitward.schemes import Plain, Scheme

if TYPE_CHECKING:
    import onnx

Array = npt.NDArray[Any]


def network_of(model: onnx.ModelProto, scheme: Callable[[int], Scheme] = Plain) -> tuple[nn.Module, Choose]:
    """The network that computes a QONNX graph, torch.fx can follow it, and how its parameters are stored.

    Its modules have the names of the nodes. Weights and biases that the graph quantizes are stored as these integers,
    one scale a tensor or channel; thresholds that are integers as such. `scheme` is made for the bits of each. All
    other parameters (batch norm's, biases in floating point) are in single precision and no memories.

    ModelError names the node that no module of torch's computes.
    """
    builder = _Builder(model, scheme)
    network = fx.GraphModule(builder.modules, builder.graph)
    network.recompile()
    storages = builder.storages

    def choose(name: str, role: Role, tensor: torch.Tensor) -> Storage | None:
        return storages.get(name)

    return network.eval(), choose


class _Node:
    """A node with what is known of its inputs: arrays where they are constants, None where they are computed."""

    def __init__(self, proto: Any, constants: dict[str, Array], rank: int) -> None:
        import onnx

        self.op, self.name = str(proto.op_type), str(proto.name or proto.output[0])
        self.where = f"node {self.name} ({self.op})"
        self.inputs, self.outputs = [str(each) for each in proto.input], [str(each) for each in proto.output]
        self.rank = rank  # of the first input that is computed
        self._constants = constants
        self._attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}

    def get(self, name: str, default: Any) -> Any:
        """An attribute; text as str."""
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def array(self, place: int) -> Array | None:
        """The constant at an input; None if it is computed, or not there."""
        return self._constants.get(self.inputs[place]) if place < len(self.inputs) else None

    def constant(self, place: int, what: str) -> Array:
        """The constant at an input; ModelError where there is none."""
        found = self.array(place)
        if found is None:
            raise self.refused(f"{what} that is a constant", "one that is computed")
        return found

    def tensor(self, place: int, what: str) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.constant(place, what), dtype=np.float32).copy())

    def require(self, name: str, default: Any, *allowed: Any) -> None:
        """The attribute has a value that is modelled; ModelError otherwise."""
        value = self.get(name, default)
        if value not in allowed:
            raise self.refused(f"{name} = {' or '.join(map(str, allowed))}", str(value))

    def pair(self, name: str, default: int) -> tuple[int, int]:
        """An attribute for height and width."""
        found = self.get(name, [default, default])
        if len(found) != 2:
            raise self.refused(f"{name} for height and width", str(list(found)))
        return int(found[0]), int(found[1])

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros on either side, alike."""
        self.require("auto_pad", "NOTSET", "NOTSET")
        top, left, bottom, right = self.get("pads", [0, 0, 0, 0])
        if (top, left) != (bottom, right):
            raise self.refused("pads that are alike on opposite sides", str([top, left, bottom, right]))
        return int(top), int(left)

    def refused(self, wanted: str, got: str) -> ModelError:
        return ModelError(f"{self.where} must have {wanted}, got {got}: rewrite the graph for the torch engine")


class _Builder:
    """Modules, their graph and the storage of their parameters, node by node."""

    def __init__(self, model: onnx.ModelProto, scheme: Callable[[int], Scheme]) -> None:
        from onnx import numpy_helper

        self.modules: dict[str, nn.Module] = {}
        self.graph, self.storages = fx.Graph(), dict[str, Storage]()
        self._scheme = scheme
        self._constants: dict[str, Array] = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        self._steps: dict[str, tuple[Array, int, bool]] = {}  # of constants that are quantized: scale, bits, signed
        sources = [each for each in model.graph.input if each.name not in self._constants]
        if len(sources) != 1 or len(model.graph.output) != 1:
            raise ModelError(
                f"a graph must have one input and one output, got {len(sources)} and {len(model.graph.output)}: split "
                "it"
            )
        source = sources[0]
        rank = len(source.type.tensor_type.shape.dim)
        self._values: dict[str, tuple[fx.Node, int]] = {source.name: (self.graph.placeholder("images"), rank)}
        for proto in model.graph.node:
            self._take(proto)
        self.graph.output(self._values[model.graph.output[0].name][0])

    def _take(self, proto: Any) -> None:
        """The node's value is known."""
        computed = [name for name in proto.input if name in self._values]
        node = _Node(proto, self._constants, self._values[computed[0]][1] if computed else 0)
        if node.op == "Quant" and not computed:
            self._fold(node)
        elif node.op in LAYERS and len(computed) == 1:
            made, rank = LAYERS[node.op](node)
            self.modules[node.name] = made
            self._store(node, made)
            given = self._values[computed[0]][0]
            self._values[node.outputs[0]] = self.graph.call_module(node.name, (given,)), rank
        elif node.op in JOINS and len(computed) > 1:
            self._join(node)
        else:
            raise ModelError(
                f"{node.where} must be an operator that the torch engine has, got {node.op} of {len(computed)} "
                f"computed values; {nearest(node.op, {*LAYERS, *JOINS})}"
            )

    def _join(self, node: _Node) -> None:
        """Two values become one."""
        given = [self._values[name] for name in node.inputs if name in self._values]
        if node.op == "Concat":
            node.require("axis", 1, 1)
        made = JOINS[node.op](self.graph, [each for each, _ in given])
        self._values[node.outputs[0]] = made, given[0][1]

    def _fold(self, node: _Node) -> None:
        """A quantized constant: its values are those that it is quantized to."""
        quantizer = quantizer_of(node)
        if bool(torch.any(quantizer.zero_point != 0)):
            raise node.refused("a zero point of 0 where it quantizes parameters", "another one")
        values = quantizer(node.tensor(0, "parameters")).numpy()
        self._constants[node.outputs[0]] = values
        scale = quantizer.scale.double().numpy()
        self._steps[node.outputs[0]] = scale, quantizer.bits, quantizer.is_signed

    def _store(self, node: _Node, module: nn.Module) -> None:
        """The module's parameters that the graph quantizes are memories."""
        places = enumerate(("bias", "bias")) if isinstance(module, Constant) else ((1, "weight"), (2, "bias"))
        for place, name in places:
            step = self._steps.get(node.inputs[place]) if place < len(node.inputs) else None
            tensor = getattr(module, name, None)
            if step is not None and isinstance(tensor, Tensor):
                scale, bits, is_signed = step
                source = self._constants[node.inputs[place]]
                whole = np.broadcast_to(scale, source.shape)
                whole = whole.T if isinstance(module, nn.Linear) and _turns(node) and name == "weight" else whole
                form = Int(bits) if is_signed else UInt(bits)
                self.storages[f"{node.name}.{name}"] = Storage(form, self._scheme(bits), whole)
        if isinstance(module, Thresholds) and (integers := module.integers()) is not None:
            self.storages[f"{node.name}.threshold"] = Storage(integers, self._scheme(integers.bits))


def _turns(node: _Node) -> bool:
    """Does a matrix stand in the graph as inputs x outputs, the other way round than in torch?"""
    return node.op == "MatMul" or not node.get("transB", 0)


def _filled(module: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    with torch.no_grad():
        module.weight.copy_(weight)  # type: ignore[operator]
        if bias is not None:
            module.bias.copy_(bias)  # type: ignore[operator]
    return module


def _bias(node: _Node) -> Tensor | None:
    return node.tensor(2, "biases") if len(node.inputs) > 2 and node.inputs[2] else None


def _conv(node: _Node) -> tuple[nn.Module, int]:
    weight, bias = node.tensor(1, "weights"), _bias(node)
    if weight.ndim != 4:
        raise node.refused("weights of two spatial dimensions", f"shape {list(weight.shape)}")
    options: dict[str, Any] = {
        "kernel_size": tuple(weight.shape[2:]), "stride": node.pair("strides", 1), "padding": node.padding,
        "dilation": node.pair("dilations", 1), "groups": node.get("group", 1), "bias": bias is not None,
    }  # fmt: skip
    if node.op == "Conv":
        return _filled(nn.Conv2d(weight.shape[1] * options["groups"], len(weight), **options), weight, bias), 4
    options["output_padding"] = node.pair("output_padding", 0)
    node.require("output_shape", None, None)
    return _filled(nn.ConvTranspose2d(len(weight), weight.shape[1] * options["groups"], **options), weight, bias), 4


def _dense(node: _Node) -> tuple[nn.Module, int]:
    for name, only in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
        node.require(name, only, only)
    weight, bias = node.tensor(1, "weights"), _bias(node)
    if weight.ndim != 2:
        raise node.refused("weights that are a matrix", f"shape {list(weight.shape)}")
    weight = weight.T if _turns(node) else weight
    return _filled(nn.Linear(weight.shape[1], weight.shape[0], bias is not None), weight, bias), node.rank


def _norm(node: _Node) -> tuple[nn.Module, int]:
    node.require("training_mode", 0, 0)
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = {name: node.tensor(place, name) for place, name in enumerate(names, start=1)}
    kind = nn.BatchNorm2d if node.rank == 4 else nn.BatchNorm1d
    made = kind(len(tensors["weight"]), eps=float(node.get("epsilon", 1e-5)))
    with torch.no_grad():
        for name, tensor in tensors.items():
            getattr(made, name).copy_(tensor)
    return made, node.rank


def _max_pool(node: _Node) -> tuple[nn.Module, int]:
    made = nn.MaxPool2d(
        node.pair("kernel_shape", 1), node.pair("strides", 1), node.padding, node.pair("dilations", 1),
        ceil_mode=bool(node.get("ceil_mode", 0)),
    )  # fmt: skip
    return made, 4


def _average_pool(node: _Node) -> tuple[nn.Module, int]:
    if node.op == "GlobalAveragePool":
        return nn.AdaptiveAvgPool2d(1), 4
    node.require("dilations", [1, 1], [1, 1])
    counts_padding = bool(node.get("count_include_pad", 0))
    shape, strides = node.pair("kernel_shape", 1), node.pair("strides", 1)
    return nn.AvgPool2d(shape, strides, node.padding, bool(node.get("ceil_mode", 0)), counts_padding), 4


def _flatten(node: _Node) -> tuple[nn.Module, int]:
    if node.op == "Reshape":
        shape = [int(each) for each in node.constant(1, "a shape")]
        if len(shape) != 2 or shape[0] not in (-1, 0, 1):
            raise node.refused("a shape of images and features", str(shape))
    else:
        node.require("axis", 1, 1)
    return nn.Flatten(), 2


def _resize(node: _Node) -> tuple[nn.Module, int]:
    node.require("mode", "nearest", "nearest")
    scales = next((found for place in (2, 1) if (found := node.array(place)) is not None and found.size == 4), None)
    if scales is None or scales[0] != 1 or scales[1] != 1 or np.any(scales != np.rint(scales)):
        raise node.refused("whole factors for height and width", str(None if scales is None else scales.tolist()))
    return nn.Upsample(scale_factor=(float(scales[2]), float(scales[3])), mode="nearest"), 4


def quantizer_of(node: _Node) -> Quantizer:
    """The module of a Quant node; ModelError for another rounding than to the nearest, ties to even."""
    node.require("rounding_mode", "ROUND", "ROUND", "HALF_EVEN")
    bits = node.constant(3, "a bit width")
    if bits.size != 1 or not 1 < float(bits.item()) == round(float(bits.item())) <= 32:
        raise node.refused("one bit width from 2 to 32", str(bits.tolist()))
    scale, zero_point = node.tensor(1, "a scale"), node.tensor(2, "a zero point")
    return Quantizer(scale, zero_point, int(bits.item()), bool(node.get("signed", 1)), bool(node.get("narrow", 1)))


def _thresholds(node: _Node) -> tuple[nn.Module, int]:
    node.require("data_layout", "NCHW", "NCHW", "NC")
    lists = node.tensor(1, "thresholds")
    return Thresholds(lists, float(node.get("out_scale", 1.0)), float(node.get("out_bias", 0.0))), node.rank


def _constant(node: _Node) -> tuple[nn.Module, int]:
    return Constant(node.op, node.array(0), node.array(1)), node.rank


def _like(make: Callable[[], nn.Module]) -> Callable[[_Node], tuple[nn.Module, int]]:
    return lambda node: (make(), node.rank)


LAYERS: dict[str, Callable[[_Node], tuple[nn.Module, int]]] = {
    "Conv": _conv, "ConvTranspose": _conv, "MatMul": _dense, "Gemm": _dense, "BatchNormalization": _norm,
    "MaxPool": _max_pool, "AveragePool": _average_pool, "GlobalAveragePool": _average_pool, "Flatten": _flatten,
    "Reshape": _flatten, "Resize": _resize, "Upsample": _resize, "MultiThreshold": _thresholds,
    "Quant": lambda node: (quantizer_of(node), node.rank), "IntQuant": lambda node: (quantizer_of(node), node.rank),
    "HardSigmoid": lambda node: (Bounded(node.get("alpha", 0.2), node.get("beta", 0.5)), node.rank),
    "Relu": _like(nn.ReLU), "Sigmoid": _like(nn.Sigmoid), "Tanh": _like(nn.Tanh), "Identity": _like(nn.Identity),
    "Dropout": _like(nn.Identity),
    **dict.fromkeys(FUNCTIONS, _constant),
}  # fmt: skip
"""By op_type: the module of a node that takes one computed value, and the rank of what it gives."""

JOINS: dict[str, Callable[[fx.Graph, list[fx.Node]], fx.Node]] = {
    "Add": lambda graph, given: graph.call_function(operator.add, tuple(given)),
    "Concat": lambda graph, given: graph.call_function(torch.cat, (given, 1)),
}
"""By op_type: the step of a node that takes several computed values."""
