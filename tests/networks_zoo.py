# SPDX-License-Identifier: Apache-2.0
"""Tiny random networks of every shape that hardware takes: residual, U-Net, depthwise, mixed widths, each activation.

As in `small_networks`, every batch norm has gammas of both signs, and a layer has weights of -2^(b-1) only where no
negative gamma asks for their negative. `build(design, path, seed)` exports one; `DESIGNS` holds them all by name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from brevitas.nn import QuantConv2d, QuantConvTranspose2d, QuantIdentity, QuantLinear
from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerTensorFloat, Uint8ActPerTensorFloat
from small_networks import SmallNetwork
from torch import nn

from bitward.networks import Network
from bitward.networks._blocks import PixelScale, with_both_signs
from bitward.rewrites import save_model
from bitward.train.export import to_qonnx

Design = tuple[tuple[int, ...], nn.Module]
Mac = (QuantConv2d, QuantConvTranspose2d, QuantLinear)
Norm = (nn.BatchNorm1d, nn.BatchNorm2d)


def weights(bits: int = 4, per_channel: bool = False) -> type:
    """A weight quantizer: signed, the whole range, one scale a tensor or an output channel."""
    attributes = {"bit_width": bits, "narrow_range": False, "scaling_per_output_channel": per_channel}
    return type("Weight", (Int8WeightPerTensorFloat,), attributes)


def levels(bits: int = 4, signed: bool = False) -> QuantIdentity:
    """An activation quantizer with a learned scale."""
    base = Int8ActPerTensorFloat if signed else Uint8ActPerTensorFloat
    quantizer = type("Activation", (base,), {"bit_width": bits, "narrow_range": False})
    return QuantIdentity(act_quant=quantizer, return_quant_tensor=False)


ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "relu": (nn.ReLU, False),
    "sigmoid": (nn.Sigmoid, False),
    "hardsigmoid": (nn.Hardsigmoid, False),
    "tanh": (nn.Tanh, True),
    "hardtanh": (nn.Hardtanh, True),
    "relu6": (nn.ReLU6, False),
    "clipped": (partial(nn.Hardtanh, 0.0, 1.5), False),
    "leaky": (partial(nn.LeakyReLU, 0.25), True),
}
"""Activation modules by name, and whether their values are signed."""


def activation(name: str = "relu", bits: int = 4) -> nn.Sequential:
    """An activation function and its quantizer."""
    function, signed = ACTIVATIONS[name]
    return nn.Sequential(OrderedDict(function=function(), quant=levels(bits, signed)))


def conv(inputs: int, outputs: int, size: int = 3, bits: int = 4, per_channel: bool = False, **options: object):
    """A convolution that keeps the size (padding = size // 2) unless `options` say otherwise."""
    options = {"padding": size // 2, "bias": False, **options}
    return QuantConv2d(inputs, outputs, kernel_size=size, weight_quant=weights(bits, per_channel), **options)


def norm(channels: int) -> nn.Module:
    """Batch norm with gammas of both signs."""
    return with_both_signs(nn.BatchNorm2d(channels))


class Residual(nn.Module):
    """relu(quant(norm(conv(x))) + quant(skip(x))), both summands through one quantizer, hence of one scale."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1, self.act1 = conv(inputs, outputs, stride=stride), norm(outputs), activation()
        self.conv2, self.bn2 = conv(outputs, outputs), norm(outputs)
        self.down = nn.Identity()
        if stride > 1 or inputs != outputs:
            layers = OrderedDict(conv=conv(inputs, outputs, size=1, stride=stride), bn=norm(outputs))
            self.down = nn.Sequential(layers)
        self.shared, self.act2 = levels(5, signed=True), activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's output, quantized."""
        main = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        return self.act2(self.shared(main) + self.shared(self.down(x)))


def residual() -> Design:
    """Conv, an identity block, a block with stride 2, global average pooling, dense to 3; 2x6x6 pixels."""
    layers = OrderedDict(
        scale=PixelScale(),
        quant=levels(),
        conv=conv(2, 4),
        bn=norm(4),
        act=activation(),
        block1=Residual(4, 4, 1),
        block2=Residual(4, 6, 2),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=QuantLinear(6, 3, bias=False, weight_quant=weights()),
    )
    return (2, 6, 6), nn.Sequential(layers)


class UNet(nn.Module):
    """One level: conv, pool, conv, up (transposed convolution or nearest neighbour), concatenation, conv, 1x1 head."""

    def __init__(self, name: str, transposed: bool) -> None:
        super().__init__()
        function, signed = ACTIVATIONS[name]
        self.scale, self.quant = PixelScale(), levels()
        self.down, self.bn1, self.function, self.skip = conv(1, 4), norm(4), function(), levels(4, signed)
        self.pool, self.deep, self.bn2, self.act2 = nn.MaxPool2d(2), conv(4, 6), norm(6), activation(name)
        self.up: nn.Module = nn.Upsample(scale_factor=2, mode="nearest")
        if transposed:
            self.up = QuantConvTranspose2d(6, 4, kernel_size=2, stride=2, bias=False, weight_quant=weights())
        self.bn3 = norm(4) if transposed else nn.Identity()
        self.merge, self.bn4, self.act4 = conv(8 if transposed else 10, 4), norm(4), activation(name)
        self.head = conv(4, 3, size=1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scores of 3 classes for every pixel."""
        skip = self.skip(self.function(self.bn1(self.down(self.quant(self.scale(pixels))))))
        deep = self.act2(self.bn2(self.deep(self.pool(skip))))
        up = self.skip(self.function(self.bn3(self.up(deep))))
        return self.head(self.act4(self.bn4(self.merge(torch.cat([up, skip], dim=1)))))


def unet(name: str = "relu", transposed: bool = True) -> Design:
    """A U-Net of one level on 1x4x4 pixels with that activation; up by transposed convolution or nearest neighbour."""
    return (1, 4, 4), UNet(name, transposed)


def depthwise() -> Design:
    """Conv, depthwise 3x3, pointwise, depthwise with stride 2, pointwise, average pooling, dense to 3; 1x8x8 pixels."""
    layers = OrderedDict(
        scale=PixelScale(),
        quant=levels(),
        conv=conv(1, 4),
        bn=norm(4),
        act=activation(),
        deep1=conv(4, 4, groups=4),
        bn1=norm(4),
        act1=activation(),
        point1=conv(4, 6, size=1),
        bn2=norm(6),
        act2=activation(),
        deep2=conv(6, 6, groups=6, stride=2, per_channel=True),
        bn3=norm(6),
        act3=activation(),
        point2=conv(6, 5, size=1),
        bn4=norm(5),
        act4=activation(),
        pool=nn.AvgPool2d(2),
        flatten=nn.Flatten(),
        fc=QuantLinear(20, 3, bias=False, weight_quant=weights()),
    )
    return (1, 8, 8), nn.Sequential(layers)


def mixed_widths() -> Design:
    """W8 A2, W2 A8 signed, W3 A3 per channel, W8 per channel; biases; strides 1 and 2; 2x7x7 pixels."""
    layers = OrderedDict(
        scale=PixelScale(),
        quant=levels(7),
        conv1=conv(2, 3, bits=8, bias=True),
        act1=activation(bits=2),
        conv2=conv(3, 5, bits=2, per_channel=True, stride=2, bias=True),
        bn2=norm(5),
        act2=activation("tanh", bits=8),
        conv3=conv(5, 4, size=2, bits=3, per_channel=True, padding=0),
        bn3=norm(4),
        act3=activation(bits=3),
        flatten=nn.Flatten(),
        fc=QuantLinear(36, 4, bias=True, weight_quant=weights(8, per_channel=True)),
    )
    return (2, 7, 7), nn.Sequential(layers)


def odd_widths() -> Design:
    """W5 A6, W6 A7 signed, W7 A5 per channel: the widths that nobody takes; 2x6x6 pixels."""
    layers = OrderedDict(
        scale=PixelScale(),
        quant=levels(5, signed=True),
        conv1=conv(2, 4, bits=5),
        bn1=norm(4),
        act1=activation(bits=6),
        conv2=conv(4, 3, bits=6, stride=2),
        bn2=norm(3),
        act2=activation("tanh", bits=7),
        flatten=nn.Flatten(),
        fc1=QuantLinear(27, 6, bias=True, weight_quant=weights(7, per_channel=True)),
        act3=activation(bits=5),
        fc2=QuantLinear(6, 3, bias=False, weight_quant=weights(5)),
    )
    return (2, 6, 6), nn.Sequential(layers)


class Top1(nn.Module):
    """The index of the greatest score."""

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores, shape (n, classes), to indices, shape (n, 1)."""
        return torch.argmax(scores, dim=1, keepdim=True)


def top1() -> Design:
    """A dense network that answers with the index of the greatest of 5 scores; 12 pixels."""
    layers = OrderedDict(
        flatten=nn.Flatten(),
        scale=PixelScale(),
        quant=levels(),
        fc1=QuantLinear(12, 6, bias=False, weight_quant=weights()),
        bn1=with_both_signs(nn.BatchNorm1d(6)),
        act1=activation(),
        fc2=QuantLinear(6, 5, bias=False, weight_quant=weights()),
        top=Top1(),
    )
    return (1, 3, 4), nn.Sequential(layers)


DESIGNS: dict[str, Callable[[], Design]] = {
    "residual": residual,
    "unet": unet,
    "unet_sigmoid": partial(unet, "sigmoid"),
    "unet_hardsigmoid": partial(unet, "hardsigmoid"),
    "unet_upsample": partial(unet, "relu", transposed=False),
    "depthwise": depthwise,
    "mixed_widths": mixed_widths,
    "odd_widths": odd_widths,
    "top1": top1,
}


def build(design: Design, path: Path, seed: int = 0) -> SmallNetwork:
    """The network with random parameters drawn from `seed`, calibrated on random pixels, as QONNX at `path`."""
    input_shape, network = design
    torch.manual_seed(seed)
    _randomise(network)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # images are so small that threads only wait for one another
    with torch.no_grad():
        for _ in range(12):  # scales of activations come from what is seen first
            network.train()(torch.randint(0, 256, (16, *input_shape)).float())
    torch.set_num_threads(threads)
    network.eval()
    described = Network("zoo", "zoo", "random", input_shape, 8, 4, 4, lambda: network)
    save_model(to_qonnx(network, described), path)
    return SmallNetwork(path, input_shape, dict(_folded(network)))


def _pairs(network: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """(layer, batch norm) for each batch norm: it follows the layer defined last before it."""
    layer = None
    for module in network.modules():
        if isinstance(module, Mac):
            layer = module
        elif isinstance(module, Norm) and layer is not None:
            yield layer, module
            layer = None


def _columns(layer: nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    """A view of the layer's weights (or of something of their shape) with output channels first."""
    return tensor.transpose(0, 1) if isinstance(layer, QuantConvTranspose2d) else tensor


@torch.no_grad()
def _randomise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, Norm):
            sign = torch.where(torch.arange(len(module.weight)) % 2 == 0, 1.0, -1.0)
            module.weight.copy_(sign * (0.5 + torch.rand(len(module.weight))))
            module.bias.copy_(0.3 * torch.randn(len(module.bias)))
    norms = {id(layer): norm for layer, norm in _pairs(network)}
    for module in network.modules():
        if isinstance(module, Mac):
            _randomise_weights(module, norms.get(id(module)))


def _randomise_weights(layer: nn.Module, norm: nn.Module | None) -> None:
    """Random weights; the first of each channel is the lowest level, or the highest where gamma is negative."""
    random = torch.randn_like(layer.weight)
    columns = _columns(layer, random)
    negative = torch.zeros(len(columns), dtype=torch.bool) if norm is None else norm.weight < 0
    greatest = 1.25 * float(random.abs().max())
    columns.clamp_(min=-0.6 * greatest)  # far from the lowest level, at 2 bits too (-2 from -0.75 on)
    for channel, values in enumerate(columns):
        values[(0,) * values.dim()] = greatest if negative[channel] else -greatest
    layer.weight.copy_(random)
    if getattr(layer, "bias", None) is not None:
        layer.bias.copy_(0.2 * torch.randn_like(layer.bias))


def _folded(network: nn.Module) -> Iterator[tuple[str, np.ndarray]]:
    """(layer, integers), channels with a negative gamma negated: the oracle of sign folding and lowering."""
    norms = {id(layer): norm for layer, norm in _pairs(network)}
    for name, module in network.named_modules():
        if isinstance(module, Mac):
            integers = _columns(module, module.quant_weight().int()).numpy().astype(np.int64)
            lowest = -(2 ** (int(module.quant_weight().bit_width) - 1))
            assert integers.min() == lowest
            norm = norms.get(id(module))
            if norm is not None:
                sign = np.sign(norm.weight.detach().numpy()).astype(np.int64)
                assert -1 in sign and lowest not in integers[sign < 0]
                integers = integers * sign.reshape(-1, *[1] * (integers.ndim - 1))
            yield name, integers.swapaxes(0, 1) if isinstance(module, QuantConvTranspose2d) else integers
