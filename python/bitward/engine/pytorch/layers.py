# SPDX-License-Identifier: Apache-2.0
"""The steps that have parameters: convolutions, dense layers, batch normalization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from bitward.engine.pytorch.changes import Arrival, Change, Hit, add_golden, channel_of, is_all_images
from bitward.engine.pytorch.rules import Rule


class Norm(Rule):
    """Batch normalization with the statistics of training."""

    is_continuous = True
    makes_own_tensor = True
    roles = ("gamma", "beta", "mean", "variance")

    def __init__(self, module: Any) -> None:
        self.module = module

    def run(self, *inputs: Tensor) -> Tensor:
        return self._with(inputs[0], self._parameters())

    def _parameters(self) -> dict[str, Tensor]:
        module = self.module
        ones = torch.ones_like(module.running_mean)
        gamma = ones if module.weight is None else module.weight.detach()
        beta = torch.zeros_like(ones) if module.bias is None else module.bias.detach()
        return {"gamma": gamma, "beta": beta, "mean": module.running_mean, "variance": module.running_var}

    def _with(self, values: Tensor, of: Mapping[str, Tensor]) -> Tensor:
        return F.batch_norm(values, of["mean"], of["variance"], of["gamma"], of["beta"], False, 0.0, self.module.eps)

    def line(self) -> tuple[Tensor, Tensor]:
        """(factor, offset) by channel of the line that the parameters draw now."""
        of = self._parameters()
        factor = of["gamma"] / torch.sqrt(of["variance"] + self.module.eps)
        return factor, of["beta"] - of["mean"] * factor

    def follow(self, arrival: Arrival) -> Change | None:
        ((_, change),) = arrival.found
        if change.channel is None:
            return None
        factor, offset = self.line()
        shape = (-1, *[1] * (change.values.ndim - 1))
        values = torch.addcmul(offset[change.channel].view(shape), change.values, factor[change.channel].view(shape))
        return replace(change, values=values)

    def enter(self, inputs: Sequence[Tensor], output: Tensor, hits: Sequence[Hit]) -> Change:
        channels = torch.tensor([hit.index for hit in hits], device=output.device)
        return self.enter_channels(inputs[0][:, channels], hits)

    def enter_channels(self, taken: Tensor, hits: Sequence[Hit]) -> Change:
        """As `enter`; `taken` are golden inputs, of each hit's channel alone: (images, hits, *spatial)."""
        channels = torch.tensor([hit.index for hit in hits], device=taken.device)
        chosen = {name: values[channels].clone() for name, values in self._parameters().items()}
        for place, hit in enumerate(hits):
            chosen[hit.role][place] = hit.value
        images = len(taken)
        rows = {name: values.repeat_interleave(images) for name, values in chosen.items()}
        values = taken.transpose(0, 1).reshape(len(hits) * images, 1, *taken.shape[2:])
        flat = values.reshape(1, len(values), -1)  # rows stand where channels do
        return Change(self._with(flat, rows).reshape(values.shape), channels.repeat_interleave(images))


FEW_OUTPUTS = 32  # of a dense layer: the product is computed the other way round


class Convolution(Rule):
    """A two-dimensional convolution, or a dense layer as one of single pixels; perhaps with the Norm behind it.

    A convolution and the batch normalization of what it gives are one step: golden weights and biases are folded, so
    its output is that of the Norm, and a step of a weight counts as often as the Norm's factor says.
    """

    is_continuous = True
    makes_own_tensor = True

    def __init__(self, module: Any, norm: Norm | None = None, flattens: bool = False) -> None:
        """With `flattens` a dense layer takes the images that a Flatten would have given it flat."""
        self.module, self.norm, self.flattens = module, norm, flattens
        self.is_dense = isinstance(module, nn.Linear)
        self.groups: int = 1 if self.is_dense else self.module.groups
        self._factor: Tensor | None = None
        self._golden: Tensor = self.module.weight
        self._golden_bias: Tensor | None = self.module.bias
        self._scratch: Tensor | None = None
        self._by_input: Tensor = self.module.weight
        self._by_place: Tensor | None = None

    def prepare(self) -> None:
        weight, bias = self.module.weight.detach(), self.module.bias
        if self.norm is not None:
            self._factor, offset = self.norm.line()
            weight = weight * self._factor.view(-1, *[1] * (weight.ndim - 1))
            bias = offset if bias is None else torch.addcmul(offset, bias.detach(), self._factor)
        self._golden = weight if self.is_dense else weight.contiguous(memory_format=torch.channels_last)
        self._golden_bias, self._by_place = bias, None
        if not self.is_dense and self.groups == 1:
            inputs, outputs = weight.shape[1], len(weight)
            self._by_input = weight.permute(1, 2, 3, 0).reshape(inputs, -1, outputs).contiguous()

    def unscaled(self, change: Change) -> Tensor:
        if self._factor is None:
            return change.values
        factor = self._factor[None] if change.channel is None else self._factor[change.channel][:, None]
        return change.values / factor.reshape(*factor.shape, *[1] * (change.values.ndim - 2))

    def run_golden(self, *inputs: Tensor) -> Tensor:
        if self.is_dense:
            return self._dense(inputs[0])
        return self._convolve(inputs[0], self._golden, self._golden_bias, self.groups)

    def _dense(self, values: Tensor) -> Tensor:
        """The golden dense layer; of images it takes places in the order in which they lie in memory."""
        weight, bias = self._golden, self._golden_bias
        if self.flattens and values.ndim == 4:
            if self._by_place is None:
                of_images = weight.view(len(weight), *values.shape[1:])
                self._by_place = of_images.permute(0, 2, 3, 1).reshape(weight.shape)
            values, weight = values.permute(0, 2, 3, 1).reshape(len(values), -1), self._by_place
        if len(weight) > FEW_OUTPUTS or bias is None or values.ndim != 2:
            return F.linear(values, weight, bias)
        return torch.addmm(bias[:, None], weight, values.t()).t()

    def run(self, *inputs: Tensor) -> Tensor:
        output = self._run_alone(inputs[0])
        return output if self.norm is None else self.norm.run(output)

    def _run_alone(self, values: Tensor) -> Tensor:
        if self.is_dense:
            return F.linear(self._flat(values), self.module.weight, self.module.bias)
        return self._convolve(values, self.module.weight, self.module.bias, self.groups)

    def _flat(self, values: Tensor) -> Tensor:
        return values.flatten(1) if self.flattens else values

    def _convolve(self, values: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        module = self.module
        if module.padding_mode != "zeros":
            values, padding = F.pad(values, module._reversed_padding_repeated_twice, module.padding_mode), 0
        else:
            padding = module.padding
        return F.conv2d(values, weight, bias, module.stride, padding, module.dilation, groups)

    def enter(self, inputs: Sequence[Tensor], output: Tensor, hits: Sequence[Hit]) -> Change | None:
        if output.ndim != (2 if self.is_dense else 4):
            return None
        if self.norm is not None and hits[0].role in Norm.roles:
            channels = [hit.index for hit in hits]
            return self.norm.enter_channels(self._channels(inputs[0], channels), hits)
        is_bias = hits[0].role == "bias"
        flat = torch.tensor([hit.index for hit in hits], device=output.device)
        per_filter = self.module.weight[0].numel()
        channel = flat if is_bias else flat // per_filter
        steps = torch.tensor([hit.value - hit.golden for hit in hits], dtype=output.dtype, device=output.device)
        steps = (steps if self._factor is None else steps * self._factor[channel]).reshape(
            1, len(hits), *[1] * (output.ndim - 2)
        )
        golden = output[:, channel]
        if is_bias:
            values = golden + steps
        else:
            values = torch.addcmul(golden, self._taps(inputs[0], flat % per_filter, channel), steps)
        rows = values.transpose(0, 1).reshape(len(hits) * len(output), 1, *output.shape[2:])
        return Change(rows, channel.repeat_interleave(len(output)))

    def _channels(self, taken: Tensor, channels: list[int]) -> Tensor:
        """These channels of what the convolution alone gives, (images, channels, *spatial)."""
        if self.groups > 1:
            return self._run_alone(taken)[:, channels]
        weight = self.module.weight.detach()[channels]
        bias = None if self.module.bias is None else self.module.bias.detach()[channels]
        return F.linear(self._flat(taken), weight, bias) if self.is_dense else self._convolve(taken, weight, bias, 1)

    def _taps(self, taken: Tensor, place: Tensor, channels: Tensor) -> Tensor:
        """For each hit: the input that its weight is multiplied with, at every place of the output."""
        if self.is_dense:
            return self._flat(taken)[:, place]
        module = self.module
        height, width = module.kernel_size
        source = place // (height * width)
        if self.groups > 1:
            source = source + channels // (len(module.weight) // self.groups) * module.weight.shape[1]
        row, column = place // width % height, place % width
        windows = self._padded(taken).unfold(2, module.dilation[0] * (height - 1) + 1, module.stride[0])
        windows = windows.unfold(3, module.dilation[1] * (width - 1) + 1, module.stride[1])
        # (images, inputs, rows, columns, kernel rows, kernel columns): a view
        return windows.permute(1, 4, 5, 0, 2, 3)[
            source, row * module.dilation[0], column * module.dilation[1]
        ].transpose(0, 1)

    def follow(self, arrival: Arrival) -> Change | None:
        ((_, change),) = arrival.found
        if change.channel is None:
            return None
        output, images = arrival.output(), arrival.images
        if output.ndim != (2 if self.is_dense else 4) or not torch.isfinite(change.values).all():
            return None
        difference = change.values - channel_of(arrival.golden(0), images, change)
        if self.groups > 1:
            return self._within_group(difference, change.channel, output, images)
        result = self._room(len(images), output)
        parts = _by_channel(change.channel)
        if self.is_dense:
            difference = difference.flatten(1)
            each = difference.shape[1]
            for channel, rows in parts:
                result[rows] = torch.mm(difference[rows], self._golden[:, channel * each : (channel + 1) * each].t())
            return Change(add_golden(result, output, images))
        columns = self._columns(difference, output)
        for channel, rows in parts:
            if isinstance(rows, slice):
                self._add_product(columns[rows], channel, output, images[rows], result[rows])
            else:
                part = torch.empty_like(result[rows], memory_format=torch.channels_last)
                result[rows] = self._add_product(columns[rows], channel, output, images[rows], part)
        return Change(result)

    def _padded(self, taken: Tensor) -> Tensor:
        module = self.module
        if isinstance(module.padding, str) or module.padding_mode != "zeros":
            mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
            return F.pad(taken, module._reversed_padding_repeated_twice, mode)
        rows, columns = module.padding
        return F.pad(taken, (columns, columns, rows, rows))

    def _columns(self, taken: Tensor, output: Tensor) -> Tensor:
        """What each place of the output takes of one input channel, (rows, places of the output, taps)."""
        module = self.module
        padded = self._padded(taken)[:, 0]
        height, width = output.shape[2:]
        views = []
        for row in range(module.kernel_size[0]):
            for column in range(module.kernel_size[1]):
                top, left = row * module.dilation[0], column * module.dilation[1]
                down = padded[:, top : top + (height - 1) * module.stride[0] + 1 : module.stride[0]]
                views.append(down[:, :, left : left + (width - 1) * module.stride[1] + 1 : module.stride[1]])
        return torch.stack(views, -1).reshape(len(taken), height * width, len(views))

    def _add_product(self, columns: Tensor, channel: int, output: Tensor, images: Tensor, out: Tensor) -> Tensor:
        """Golden outputs of the images plus what the columns of one input channel make of them, in `out`."""
        weight = self._by_input[channel]
        count = len(output)
        is_whole = is_all_images(images, count)
        at_once = count if is_whole else len(images)
        for start in range(0, len(images), at_once):
            rows = slice(start, start + at_once)
            golden = output if is_whole else output[images]
            product = columns[rows].reshape(-1, len(weight))
            torch.addmm(_by_place(golden), product, weight, out=_by_place(out[rows]))
        return out

    def _room(self, rows: int, output: Tensor) -> Tensor:
        """Where `follow` puts so many rows: the same memory each time, as whoever had it last is through."""
        if self._scratch is None or len(self._scratch) < rows:
            order = torch.contiguous_format if output.ndim == 2 else torch.channels_last
            shape = (rows, *output.shape[1:])
            self._scratch = torch.empty(shape, dtype=output.dtype, device=output.device, memory_format=order)
        return self._scratch[:rows]

    def _within_group(self, difference: Tensor, channel: Tensor, output: Tensor, images: Tensor) -> Change | None:
        """A depthwise convolution leaves a change in its channel."""
        weight = self._golden
        if weight.shape[1] != 1 or len(weight) != self.groups:
            return None
        flat = difference.transpose(0, 1)  # rows stand where channels do
        step = self._convolve(flat, weight[channel], None, len(channel)).transpose(0, 1)
        return Change(output[images, channel][:, None] + step, channel)


class TransposedConvolution(Rule):
    """A two-dimensional transposed convolution of one group."""

    is_continuous = True
    makes_own_tensor = True

    def __init__(self, module: Any) -> None:
        self.module = module

    def run(self, *inputs: Tensor) -> Tensor:
        return self._convolve(inputs[0], self.module.weight, self.module.bias)

    def _convolve(self, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        module = self.module
        return F.conv_transpose2d(
            values, weight, bias, module.stride, module.padding, module.output_padding, 1, module.dilation
        )

    def enter(self, inputs: Sequence[Tensor], output: Tensor, hits: Sequence[Hit]) -> Change:
        weight = self.module.weight.detach()
        rows, channels = [], []
        for hit in hits:
            step = hit.value - hit.golden
            if hit.role == "bias":
                channel, change = hit.index, torch.full_like(output[:, :1], step)
            else:
                source, channel, *tap = (int(each) for each in np.unravel_index(hit.index, tuple(weight.shape)))
                one = torch.zeros_like(weight[:1, :1])
                one[0, 0, tap[0], tap[1]] = step
                change = self._convolve(inputs[0][:, source : source + 1], one, None)
            rows.append(output[:, channel : channel + 1] + change)
            channels.append(channel)
        return Change(torch.cat(rows), torch.tensor(channels, device=output.device).repeat_interleave(len(output)))

    def follow(self, arrival: Arrival) -> Change | None:
        ((_, change),) = arrival.found
        if change.channel is None or not torch.isfinite(change.values).all():
            return None
        difference = change.values - channel_of(arrival.golden(0), arrival.images, change)
        weight, result = self.module.weight.detach(), arrival.output()[arrival.images]
        for channel, rows in _by_channel(change.channel):
            result[rows] += self._convolve(difference[rows], weight[channel : channel + 1], None)
        return Change(result)


def _by_place(values: Tensor) -> Tensor:
    """(rows, channels, h, w) as a matrix of places and channels: a view, where channels lie innermost."""
    return values.permute(0, 2, 3, 1).reshape(-1, values.shape[1])


def _by_channel(channel: Tensor) -> list[tuple[int, Tensor | slice]]:
    """(channel, its rows) of every channel; a slice where they stand together."""
    found, counts = torch.unique_consecutive(channel, return_counts=True)
    if len(torch.unique(found)) == len(found):
        ends = counts.cumsum(0).tolist()
        return [
            (one, slice(end - count, end))
            for one, count, end in zip(found.tolist(), counts.tolist(), ends, strict=True)
        ]
    return [(one, torch.nonzero(channel == one)[:, 0]) for one in torch.unique(channel).tolist()]
