# SPDX-License-Identifier: Apache-2.0
"""What of a QONNX model becomes hardware, layer by layer, and what stands in the way: all of it, not the first alone.

The lowering refuses at the first node that it cannot take. A survey goes on behind it with a stand-in for what that
node would give, so that a model is mended once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bitward.engine.datatypes import IntegerType
from bitward.errors import BitwardError, ModelError
from bitward.hardware import budget
from bitward.hardware.boards import load_board
from bitward.hardware.build import folded_to_fit
from bitward.hardware.declare import BuildOptions, declare, hardened_biases, memory_schemes
from bitward.hardware.estimates import Resources, estimate, total
from bitward.hardware.finn_session import finn_session
from bitward.hardware.folding import target_cycles
from bitward.hardware.lowering import lower
from bitward.hardware.lowering.constants import settle
from bitward.hardware.lowering.edges import enter, leave
from bitward.hardware.lowering.macs import weights_of
from bitward.hardware.lowering.passes import prepare as prepare_to_lower
from bitward.hardware.lowering.rule import RULES
from bitward.hardware.lowering.values import Value
from bitward.hardware.lowering.walk import BiasAs, Walk, where
from bitward.rewrites import FoldNegativeScales, Layer, LiftBiasTmr, LiftVoters, find_layers, load_model
from bitward.rewrites.harden import prepare

PIXELS = IntegerType(8, False)  # of an input that does not say what it is
SUMS, LEVELS = IntegerType(8, True), IntegerType(4, False)  # of what refused layers, and other nodes, would give
STAND_IN = "stand-in"  # the origin of such integers


@dataclass(frozen=True)
class LayerFound:
    """A layer of the model: its weights as they are stored, and what stands in the way of hardware (nothing: "").

    `bits` is None where weights are no integers; `per` is "tensor" or "channel"; `becomes` are the hardware's nodes.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    bits: int | None = None
    per: str = ""
    becomes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        """How many."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class Estimate:
    """What a build would take, by estimate: cycles an image of its slowest node, and resources without queues."""

    slowest_node: str
    cycles: int
    resources: Resources


@dataclass(frozen=True)
class Survey:
    """Layers in graph order, what stands in the way elsewhere, and, where nothing does, what a build would take."""

    layers: tuple[LayerFound, ...]
    problems: tuple[str, ...]
    estimate: Estimate | None = None

    @property
    def all_problems(self) -> list[str]:
        """One sentence each, layers' first."""
        return [problem for layer in self.layers for problem in layer.problems] + list(self.problems)


@dataclass
class _Problems:
    """Sentences, by layer and of the rest of the model."""

    by_layer: dict[str, list[str]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def add(self, error: BitwardError, layer: str | None = None) -> None:
        sentence = str(error)
        kept = self.others if layer is None else self.by_layer.setdefault(layer, [])
        if sentence not in kept:
            kept.append(sentence)

    @contextmanager
    def caught(self) -> Iterator[None]:
        """What the body refuses is a problem of the model, and goes no further."""
        try:
            yield
        except BitwardError as error:
            self.add(error)


class _Surveyor(Walk):
    """A walk that notes what it is refused, and goes on."""

    def __init__(self, model: Any, source: Value, bias_as: BiasAs, problems: _Problems) -> None:
        super().__init__(model, source, bias_as)
        self.problems = problems
        self.made: dict[str, tuple[str, ...]] = {}  # the hardware's nodes, by layer

    def step(self, node: Any) -> None:
        layer = self.layers.get(node.output[0])
        before = len(self.graph.nodes)
        try:
            if layer is not None:
                weights_of(self.model, layer)
            super().step(node)
        except ModelError as error:
            self._note(node, error, layer)
            for output in node.output:
                self.set(output, self._stand_in(output, node, LEVELS if layer is None else SUMS))
        if layer is not None:
            self.made[layer.name] = tuple(each.name for each in self.graph.nodes[before:])

    def _note(self, node: Any, error: ModelError, layer: Layer | None) -> None:
        computed = [name for name in node.input if self.is_value(name)]
        if layer is None and len(computed) > 1 and any(self._is_stood_in(name) for name in computed):
            return  # scales and types of stand-ins are nobody's: where two tensors meet, they would be blamed
        if node.op_type in RULES and any(self._is_shapeless(name) for name in (*node.input, *node.output)):
            return self._note_weights(layer)  # behind an operator of which nobody knows what it gives
        self.problems.add(error, layer.name if layer else None)
        if layer is not None:
            self._look_before(node, layer)

    def _is_shapeless(self, name: str) -> bool:
        return bool(name) and not self.model.get_tensor_shape(name) and self.model.get_initializer(name) is None

    def _note_weights(self, layer: Layer | None) -> None:
        try:
            if layer is not None:
                weights_of(self.model, layer)
        except ModelError as error:
            self.problems.add(error, layer.name if layer else None)

    def _look_before(self, node: Any, layer: Layer) -> None:
        """The layer's input is looked at too, where its weights were refused."""
        try:
            settle(self, self.value(node), where(node))
        except ModelError as error:
            self.problems.add(error, layer.name)

    def _is_stood_in(self, name: str) -> bool:
        return self._values[name].origin == STAND_IN

    def _stand_in(self, tensor: str, node: Any, kind: IntegerType) -> Value:
        """Of the tensor's shape; where an unknown operator left it unknown, of the shape of what the node takes."""
        sizes = self.model.get_tensor_shape(tensor)
        if not sizes:
            before = next((self._values[name] for name in node.input if self.is_value(name)), None)
            if before is not None:
                return self._placed(before.shape, before.axes, kind)
        shape = [int(size) for size in sizes or (1, 1)]
        if len(shape) == 4:
            shape = [shape[0], shape[2], shape[3], shape[1]]
        return self._placed(tuple(shape), "NCHW" if len(shape) == 4 else "NC", kind)

    def _placed(self, shape: tuple[int, ...], axes: Any, kind: IntegerType) -> Value:
        name = f"stand_in_{len(self.graph.tensors)}"
        self.graph.tensors[name] = (shape, str(kind))
        return Value(name, kind, kind.low, kind.high, shape, axes, origin=STAND_IN)


def survey(path: Path, options: BuildOptions) -> Survey:
    """What of the QONNX file becomes hardware. ModelError where it is no ONNX model; all else is in the result."""
    problems = _Problems()
    model = prepare(load_model(path)).transform(LiftBiasTmr()).transform(LiftVoters())
    with problems.caught():
        model = model.transform(FoldNegativeScales(options.saturate_signs))
    made = _walked(model, problems, options)
    layers = tuple(_found(model, layer, made, problems) for layer in find_layers(model).values())
    found = Survey(layers, tuple(problems.others))
    if found.all_problems:
        return found
    with problems.caught():
        return Survey(layers, (), estimated(path, options))
    return Survey(layers, tuple(problems.others))


def _walked(model: Any, problems: _Problems, options: BuildOptions) -> dict[str, tuple[str, ...]]:
    """The hardware's nodes of each layer, as far as the walk made some."""
    model, _ = prepare_to_lower(model)
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        with problems.caught():
            lower(model)
        return {}
    with problems.caught():
        enter(model)
    first = model.graph.input[0].name
    if not model.get_tensor_datatype(first).is_integer():
        model.set_tensor_datatype(first, _datatype(PIXELS))
    try:
        first, source, _ = enter(model)
    except ModelError:
        return {}  # said already
    walk = _Surveyor(model, source, options.bias_as, problems)
    with problems.caught():
        result = walk.run(first, source)
        if result.origin != STAND_IN:
            leave(result, model.get_tensor_shape(model.graph.output[0].name))
    return walk.made


def _datatype(kind: IntegerType) -> Any:
    from qonnx.core.datatype import DataType

    return DataType[str(kind)]


def _found(model: Any, layer: Layer, made: dict[str, tuple[str, ...]], problems: _Problems) -> LayerFound:
    noted = tuple(problems.by_layer.get(layer.name, ()))
    try:
        weights = weights_of(model, layer)
    except ModelError:
        shape = model.get_tensor_shape(layer.node.input[1]) or ()
        return LayerFound(layer.name, layer.node.op_type, tuple(int(size) for size in shape), problems=noted)
    per = "tensor" if weights.scale.size == 1 else "channel"
    becomes = made.get(layer.name, ())
    return LayerFound(layer.name, layer.node.op_type, weights.integers.shape, weights.bits, per, becomes, noted)


def estimated(path: Path, options: BuildOptions) -> Estimate:
    """What the build would take. ConfigError where it does not fit the board, ModelError where it cannot be built."""
    board, cycles = load_board(options.board), target_cycles(options.target_fps, options.clk_mhz)
    with TemporaryDirectory() as work, finn_session(Path(work)):
        model, schemes = declare(path, options)
        lowered = lower(model, bias_as=options.bias_as)
        stored = memory_schemes(lowered, schemes, hardened_biases(model, options), options.bias_as)
        folded = folded_to_fit(lowered, stored, options, board, cycles)
        return Estimate(*budget.slowest_node(folded), total(estimate(folded)))
