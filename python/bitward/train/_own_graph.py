# SPDX-License-Identifier: Apache-2.0
"""A plain torch network, traced, becomes a quantized one: quantizers where hardware needs integers, nowhere else.

Layers with weights, averages, additions and concatenations take integers times a scale. So the value that reaches one
of them is quantized where it is made: behind its activation function, and before whatever only moves values about.
Both summands of an addition pass one quantizer of their own, all parts of a concatenation share one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch
from brevitas.graph.standardize import (
    DuplicateSharedStatelessModule,
    MeanMethodToAdaptiveAvgPool2d,
    RemoveStochasticModules,
    TorchFunctionalToModule,
)
from brevitas.nn import QuantConv2d, QuantConvTranspose2d, QuantIdentity, QuantLinear
from brevitas.quant import Int8WeightPerTensorFloat
from torch import fx, nn

from bitward.errors import ModelError
from bitward.networks._quantizers import ShortScale, Widths, levels, weight_quantizer
from bitward.rewrites.torch_networks import fold_batch_norm
from bitward.train.own_recipe import Bits

MOVING = (nn.MaxPool2d, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d, nn.Upsample, nn.ZeroPad2d)
MOVING_FUNCTIONS: tuple[Any, ...] = (torch.flatten, nn.functional.interpolate, operator.getitem)
MOVING_METHODS = ("flatten", "view", "reshape", "contiguous", "squeeze")
AVERAGES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
ADDING: tuple[Any, ...] = (operator.add, operator.iadd, torch.add)
ADDING_METHODS = ("add", "add_")
MOST_BITS = 8
FEW_BITS, PERCENTILE_OF_MANY = 4, 99.999


def traced(network: nn.Module, name: str) -> fx.GraphModule:
    """The network as a graph: functions are modules, batch norms are in the layers before them where they stand behind
    one, dropout is gone.

    In evaluation mode, of the same function. ModelError where torch.fx cannot trace it.
    """
    try:
        graph = fx.symbolic_trace(fold_batch_norm(network.eval(), leave=True)[0])
    except Exception as error:  # whatever the network's own code raises on a proxy
        raise ModelError(
            f"{name} must be a network that torch.fx can trace, got {type(error).__name__}: {error}; leave out "
            "branches that depend on values, or quantize it with Brevitas yourself"
        ) from error
    for step in (
        TorchFunctionalToModule(), DuplicateSharedStatelessModule(), MeanMethodToAdaptiveAvgPool2d(),
        RemoveStochasticModules(),
    ):  # fmt: skip
        graph = step.apply(graph)
    graph.eval()
    return graph


class CoveringScale(ShortScale):
    """The least short scale that is not below x, so that no weight is cut off: nothing is trained that could adapt."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The next short value from |x| up."""
        nearest = super().forward(x)
        mantissa, exponent = torch.frexp(torch.abs(x.detach()))
        up = torch.ldexp(torch.ceil(torch.ldexp(mantissa, torch.tensor(self.significant_bits))), exponent)
        return nearest + (torch.ldexp(up, torch.tensor(-self.significant_bits)) - nearest).detach()


@torch.no_grad()
def quantized(graph: fx.GraphModule, bits: Bits, images: Iterable[torch.Tensor]) -> int:
    """The traced network has quantizers, not calibrated yet; so many of activations.

    `images` are run through it to see which values are never below 0. Weights have a scale per output channel.
    """
    is_signed = _signs(graph, images)
    groups, additions = _points(graph)
    signed_sums = {node: any(is_signed[operand] for operand in _tensors(node)) for node in additions}
    for number, group in enumerate(groups, start=1):
        is_input = any(node.op == "placeholder" for node in group)
        width = bits.input if is_input else bits.activations
        graph.add_module(f"quant{number}", _levels(width, any(is_signed[node] for node in group)))
        for node in group:
            _insert(graph, node, list(node.users), f"quant{number}")
    for number, (node, signed) in enumerate(signed_sums.items(), start=1):
        graph.add_module(f"summand{number}", _levels(min(MOST_BITS, bits.activations + int(signed)), signed))
        for operand in _tensors(node):
            _insert(graph, operand, [node], f"summand{number}")
    _replace_layers(graph, bits.weights)
    graph.recompile()
    return len(groups) + len(additions)


def _levels(bits: int, signed: bool) -> QuantIdentity:
    """As bitward's networks have them; where there are many levels, fewer values are cut off above the greatest."""
    usual = levels(bits, signed)
    if bits <= FEW_BITS:
        return usual
    return QuantIdentity(act_quant=usual.act_quant.quant_injector.let(high_percentile_q=PERCENTILE_OF_MANY))


def _tensors(node: fx.Node) -> list[fx.Node]:
    """The operands of an addition, or the parts of a concatenation, that are computed."""
    return list(node.all_input_nodes)


def _module(node: fx.Node) -> nn.Module | None:
    if node.op != "call_module":
        return None
    graph = node.graph.owning_module
    return graph.get_submodule(str(node.target)) if graph is not None else None


def _is_cat(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target in (torch.cat, torch.concat)


def _is_add(node: fx.Node) -> bool:
    of_two = node.target in ADDING if node.op == "call_function" else (
        node.op == "call_method" and node.target in ADDING_METHODS
    )  # fmt: skip
    return of_two and len(_tensors(node)) == 2


def _only_moves(node: fx.Node) -> bool:
    """Whether the node's values are those of its input, elsewhere."""
    if node.op == "call_module":
        return isinstance(_module(node), MOVING)
    if node.op == "call_function":
        return node.target in MOVING_FUNCTIONS
    return node.op == "call_method" and node.target in MOVING_METHODS


def _is_layer(node: fx.Node) -> bool:
    return isinstance(_module(node), (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))


def _makers(node: fx.Node) -> list[fx.Node]:
    """Where the values of a tensor are made: several nodes where parts are concatenated."""
    while _only_moves(node):
        node = node.all_input_nodes[0]
    if _is_cat(node):
        return [maker for part in _tensors(node) for maker in _makers(part)]
    return [node]


def _points(graph: fx.GraphModule) -> tuple[list[list[fx.Node]], list[fx.Node]]:
    """(nodes whose results are quantized, those that share a quantizer together; additions, which have their own)."""
    group: dict[fx.Node, int] = {}
    additions = []
    for node in graph.graph.nodes:
        if _is_add(node):
            additions.append(node)
        elif _is_layer(node) or isinstance(_module(node), AVERAGES) or _is_cat(node):
            makers = _makers(node if _is_cat(node) else node.all_input_nodes[0])
            known = {group[maker] for maker in makers if maker in group}
            number = min(known, default=len(group))
            group = {each: number if at in known else at for each, at in group.items()}
            group.update(dict.fromkeys(makers, number))
    groups: dict[int, list[fx.Node]] = {}
    for node, number in group.items():
        groups.setdefault(number, []).append(node)
    return list(groups.values()), additions


def _insert(graph: fx.GraphModule, node: fx.Node, users: list[fx.Node], module: str) -> None:
    """Those users of the node read it through the module."""
    with graph.graph.inserting_after(node):
        quantizer = graph.graph.call_module(module, (node,))
    for user in users:
        user.replace_input_with(node, quantizer)


class _Lowest(fx.Interpreter):
    """Runs the graph, and keeps the least value of each of its tensors."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.least: dict[fx.Node, float] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor) and result.numel():
            self.least[n] = min(self.least.get(n, 0.0), float(result.min()))
        return result


def _signs(graph: fx.GraphModule, images: Iterable[torch.Tensor]) -> dict[fx.Node, bool]:
    runner = _Lowest(graph)
    for batch in images:
        runner.run(batch)
    return {node: least < 0 for node, least in runner.least.items()}


def _replace_layers(graph: fx.GraphModule, bits: int) -> None:
    """Every layer with weights quantizes them, a scale per output channel; biases stay floats."""
    usual = weight_quantizer(Widths(bits, bits, per_channel=True))
    bases = (Int8WeightPerTensorFloat,) if usual is None else (usual,)
    quantizer = type(f"OwnWeight{bits}", bases, {"restrict_scaling_impl": CoveringScale})
    for name, layer in list(graph.named_modules()):
        made = _quantized_layer(layer, quantizer)
        if made is not None:
            made.load_state_dict(layer.state_dict(), strict=False)
            parent, _, own = name.rpartition(".")
            setattr(graph.get_submodule(parent), own, made.eval())


def _quantized_layer(layer: nn.Module, quantizer: type) -> nn.Module | None:
    has_bias = getattr(layer, "bias", None) is not None
    if isinstance(layer, nn.Linear):
        return QuantLinear(layer.in_features, layer.out_features, bias=has_bias, weight_quant=quantizer)
    kinds: dict[type[nn.Module], Callable[..., nn.Module]] = {
        nn.Conv2d: QuantConv2d, nn.ConvTranspose2d: QuantConvTranspose2d,
    }  # fmt: skip
    make = kinds.get(type(layer))
    if make is None or not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        return None
    more = {"output_padding": layer.output_padding} if isinstance(layer, nn.ConvTranspose2d) else {}
    return make(
        layer.in_channels, layer.out_channels, kernel_size=layer.kernel_size, stride=layer.stride,
        padding=layer.padding, dilation=layer.dilation, groups=layer.groups, bias=has_bias, weight_quant=quantizer,
        **more,
    )  # fmt: skip
