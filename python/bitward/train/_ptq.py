# SPDX-License-Identifier: Apache-2.0
"""Quantization without retraining: a trained float network becomes a quantized member of its family.

Four steps, each with a few training images at most: cross-layer equalization and bias correction (M. Nagel et al., ICCV
2019) and the calibration of activations are Brevitas'; between them, output channels are balanced. What is left is the
network as it would come from quantization-aware training: no layer has a bias, batch norms take up what the steps ask
for, so everything behind training treats both alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from brevitas.graph.calibrate import bias_correction_mode, calibration_mode
from brevitas.graph.equalize import EqualizeGraph
from brevitas.nn.quant_layer import QuantWeightBiasInputOutputLayer
from torch import fx, nn

from bitward.datasets import Dataset
from bitward.train._foldable import normed_layers
from bitward.train._stage import pixels

CALIBRATION_IMAGES, CALIBRATED_AT_ONCE = 1000, 100


def quantize(floats: nn.Module, member: nn.Module, dataset: Dataset, seed: int) -> tuple[str, ...]:
    """`member`, untrained so far, is the float network quantized, in evaluation mode; the steps done, in words.

    The training images used are drawn from `seed`. `floats` is changed on the way, but computes what it did.
    """
    images = some_images(dataset, seed)
    regions = equalize(floats.eval())
    balanced = balance(floats)
    member.load_state_dict(floats.state_dict(), strict=False)  # all but the quantizers' scales
    calibrate(member, images)
    corrected, layers = correct(member, images)
    used = sum(len(batch) for batch in images)
    return (
        f"cross-layer equalization of {regions} pairs of neighbours",
        f"output channels balanced in {balanced} layers",
        f"activations calibrated with {used} training images",
        f"biases corrected in {corrected} of {layers} layers, into batch norms",
    )


def some_images(dataset: Dataset, seed: int) -> list[torch.Tensor]:
    """Batches of training images, drawn from `seed`, as they are."""
    order = torch.randperm(len(dataset.train_images), generator=torch.Generator().manual_seed(seed))
    chosen = dataset.train_images[order[:CALIBRATION_IMAGES].numpy()]
    return list(torch.from_numpy(pixels(chosen)).split(CALIBRATED_AT_ONCE))


class _Tracer(fx.Tracer):
    """Looks into every module but torch's own and Brevitas' layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the module is a node of the graph."""
        return isinstance(m, QuantWeightBiasInputOutputLayer) or super().is_leaf_module(m, module_qualified_name)


@torch.no_grad()
def equalize(floats: nn.Module) -> int:
    """Ranges of neighbouring layers, channel by channel, are alike (Nagel et al., eq. 11); how many pairs there are.

    A pair is a batch norm and the layers that it feeds through activations whose output grows with the input (ReLU),
    poolings and the like. The network computes what it did.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shapes that cannot be paired, which stay as they are
        traced = fx.GraphModule(floats, _Tracer().trace(floats))
        _, regions = EqualizeGraph(return_regions=True, merge_bias=False).apply(traced)
    return len(regions)


@torch.no_grad()
def balance(floats: nn.Module) -> int:
    """Every output channel of a layer before a batch norm has the same largest weight; how many such layers there are.

    Batch norm undoes the scaling exactly, so a scale per tensor is as good as one per channel, at no cost in hardware.
    A channel of zeros stays one.
    """
    pairs = list(normed_layers(floats))
    for layer, norm in pairs:
        axis = 1 if isinstance(layer, nn.modules.conv._ConvTransposeNd) else 0
        others = [dim for dim in range(layer.weight.dim()) if dim != axis]
        largest = layer.weight.abs().amax(others)
        factor = torch.where(largest > 0, largest.max() / largest.clamp(min=torch.finfo().tiny), 1.0)
        layer.weight.mul_(factor.view([-1 if dim == axis else 1 for dim in range(layer.weight.dim())]))
        norm.running_mean.mul_(factor)  # type: ignore[union-attr]
        norm.weight.div_(factor)
    return len(pairs)


@torch.no_grad()
def calibrate(member: nn.Module, images: list[torch.Tensor]) -> None:
    """The scales of all activations are from these images, run through float weights; the member evaluates."""
    member.eval()
    with calibration_mode(member):
        for batch in images:
            member(batch)
    member.eval()


@torch.no_grad()
def correct(member: nn.Module, images: list[torch.Tensor]) -> tuple[int, int]:
    """The mean of each channel before a batch norm is what it was before weights were quantized; so many layers of all.

    A layer without a batch norm has nothing that could take up the correction, and stays as it is.
    """
    norms = {id(layer): norm for layer, norm in normed_layers(member)}
    layers = correct_biases(member, images)
    for layer in layers:
        if (norm := norms.get(id(layer))) is not None and isinstance(layer.bias, nn.Parameter):
            norm.running_mean.sub_(layer.bias)  # type: ignore[union-attr]
        layer.register_parameter("bias", None)
    return len(norms), len(layers)


@torch.no_grad()
def correct_biases(member: nn.Module, images: list[torch.Tensor]) -> list[nn.Module]:
    """Biases, new ones where there were none, make up for what quantized weights moved the means by; the layers."""
    with bias_correction_mode(member.eval()):
        for batch in images:
            member(batch)
    return list(_layers(member))


def _layers(member: nn.Module) -> Iterator[nn.Module]:
    return (module for module in member.modules() if isinstance(module, QuantWeightBiasInputOutputLayer))
