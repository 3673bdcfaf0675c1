# SPDX-License-Identifier: Apache-2.0
"""What steps of a network do, and how a change of one channel goes through them.

A rule computes a step for whole tensors (`run`). Where it can, it also computes what a fault in the step's own
parameters changes (`enter`), and what a change of one channel of its input makes of its output (`follow`), without
touching the channels that stay as they are. Where it cannot, it says so by None, and the engine computes whole tensors.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from bitward.memory import Role


@dataclass(frozen=True)
class Change:
    """Values of some rows (pairs of a trial and an image) that differ from the golden ones.

    With `channel`, shape (rows,), only that channel of each row does: `values` are (rows, 1, *spatial), or (rows,
    elements of the channel) behind a Flatten. Without, `values` are whole: (rows, *shape).
    """

    values: Tensor
    channel: Tensor | None = None

    def of(self, rows: Tensor | slice) -> Change:
        """The change of these rows alone."""
        return Change(self.values[rows], None if self.channel is None else self.channel[rows])


@dataclass(frozen=True)
class Hit:
    """One parameter that a trial changed: flat index `index` of the step's tensor of that role."""

    role: Role
    index: int
    golden: float
    value: float


class Rule:
    """A step that is computed as a whole."""

    @abstractmethod
    def run(self, *inputs: Tensor) -> Tensor:
        """The step's output, with its parameters as they are now."""

    def prepare(self) -> None:
        """What `run_golden` computes with is ready: parameters are golden now."""

    def run_golden(self, *inputs: Tensor) -> Tensor:
        """The step's output, with golden parameters, as quickly as can be."""
        return self.run(*inputs)

    def enter(self, inputs: Sequence[Tensor], output: Tensor, hits: Sequence[Hit]) -> Change | None:
        """What each hit, by itself, makes of one channel of the output: (hits * images) rows, hit by hit.

        `inputs` and `output` are golden, of all images. None where a whole channel is not all that a hit can change.
        """
        return None

    def follow(self, changes: Sequence[Change | None], golden: Callable[[int], Tensor], output: Tensor,
               images: Tensor) -> Change | None:  # fmt: skip
        """What a change of one channel makes of the output; None where it must be computed as a whole.

        `changes` are those of the inputs (None: golden), `golden` gives an input of all images, `output` is golden, of
        all images; `images` are those of the rows.
        """
        return None


class Whole(Rule):
    """Any function of tensors."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function

    def run(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class Channelwise(Whole):
    """A function that treats each channel by itself, and all alike: activations, pooling, upsampling, dropout."""

    def follow(self, changes: Sequence[Change | None], golden: Callable[[int], Tensor], output: Tensor,
               images: Tensor) -> Change | None:  # fmt: skip
        (change,) = changes
        if change is None or change.channel is None:
            return None
        return replace(change, values=self.function(change.values))


class Flatten(Rule):
    """(n, channels, *spatial) to (n, features)."""

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0].flatten(1)

    def follow(self, changes: Sequence[Change | None], golden: Callable[[int], Tensor], output: Tensor,
               images: Tensor) -> Change | None:  # fmt: skip
        (change,) = changes
        if change is None or change.channel is None:
            return None
        return replace(change, values=change.values.flatten(1))


class Add(Rule):
    """The sum of two tensors of one shape."""

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0] + inputs[1]

    def follow(self, changes: Sequence[Change | None], golden: Callable[[int], Tensor], output: Tensor,
               images: Tensor) -> Change | None:  # fmt: skip
        left, right = changes
        one = left or right
        if one is None or one.channel is None or golden(0).shape != golden(1).shape:
            return None
        if left is not None and right is not None:
            if left.channel is None or right.channel is None or not torch.equal(left.channel, right.channel):
                return None
            return replace(left, values=left.values + right.values)
        other = channel_of(golden(1 if right is None else 0), images, one)
        return replace(one, values=one.values + other if right is None else other + one.values)


class Concat(Rule):
    """Channels of one tensor behind those of another."""

    def run(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, 1)

    def follow(self, changes: Sequence[Change | None], golden: Callable[[int], Tensor], output: Tensor,
               images: Tensor) -> Change | None:  # fmt: skip
        found = [place for place, change in enumerate(changes) if change is not None]
        change = changes[found[0]]
        if len(found) > 1 or change is None or change.channel is None or output.ndim == 2:
            return None
        return replace(change, channel=change.channel + sum(golden(place).shape[1] for place in range(found[0])))


class Norm(Rule):
    """Batch normalization with the statistics of training."""

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

    def follow(self, changes: Sequence[Change | None], golden: Callable[[int], Tensor], output: Tensor,
               images: Tensor) -> Change | None:  # fmt: skip
        (change,) = changes
        if change is None or change.channel is None:
            return None
        of = self._parameters()
        factor = of["gamma"] / torch.sqrt(of["variance"] + self.module.eps)
        offset = of["beta"] - of["mean"] * factor
        shape = (-1, *[1] * (change.values.ndim - 1))
        values = torch.addcmul(offset[change.channel].view(shape), change.values, factor[change.channel].view(shape))
        return replace(change, values=values)

    def enter(self, inputs: Sequence[Tensor], output: Tensor, hits: Sequence[Hit]) -> Change:
        channels = torch.tensor([hit.index for hit in hits], device=output.device)
        chosen = {name: values[channels].clone() for name, values in self._parameters().items()}
        for place, hit in enumerate(hits):
            chosen[hit.role][place] = hit.value
        images = len(output)
        rows = {name: values.repeat_interleave(images) for name, values in chosen.items()}
        taken = inputs[0][:, channels].transpose(0, 1).reshape(len(hits) * images, 1, *output.shape[2:])
        return Change(self._each(taken, rows), channels.repeat_interleave(images))

    def _each(self, values: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Rows of one channel each, with each its own parameters: the rows stand where channels do."""
        flat = values.reshape(1, len(values), -1)
        return self._with(flat, rows).reshape(values.shape)


class Convolution(Rule):
    """A two-dimensional convolution, or a dense layer as one of single pixels."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.is_dense = isinstance(module, nn.Linear)
        self.groups: int = 1 if self.is_dense else self.module.groups
        self._golden: Tensor = self.module.weight

    def prepare(self) -> None:
        weight = self.module.weight.detach()
        self._golden = weight if self.is_dense else weight.contiguous(memory_format=torch.channels_last)

    def run_golden(self, *inputs: Tensor) -> Tensor:
        if self.is_dense:
            return F.linear(inputs[0], self._golden, self.module.bias)
        return self._convolve(inputs[0], self._golden, self.module.bias, self.groups)

    def run(self, *inputs: Tensor) -> Tensor:
        if self.is_dense:
            return F.linear(inputs[0], self.module.weight, self.module.bias)
        return self._convolve(inputs[0], self.module.weight, self.module.bias, self.groups)

    def _convolve(self, values: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        module = self.module
        if module.padding_mode != "zeros":
            values, padding = F.pad(values, module._reversed_padding_repeated_twice, module.padding_mode), 0
        else:
            padding = module.padding
        return F.conv2d(values, weight, bias, module.stride, padding, module.dilation, groups)

    @property
    def _weight(self) -> Tensor:
        weight: Tensor = self.module.weight.detach()
        return weight[:, :, None, None] if self.is_dense else weight

    def enter(self, inputs: Sequence[Tensor], output: Tensor, hits: Sequence[Hit]) -> Change | None:
        if output.ndim != (2 if self.is_dense else 4):
            return None
        weight = self._weight
        per_filter = weight[0].numel()
        device = output.device
        is_bias = [hit.role == "bias" for hit in hits]
        flat = torch.tensor([0 if bias else hit.index for bias, hit in zip(is_bias, hits, strict=True)], device=device)
        channels = torch.tensor(
            [hit.index if bias else hit.index // per_filter for bias, hit in zip(is_bias, hits, strict=True)],
            device=device,
        )
        steps = torch.tensor([hit.value - hit.golden for hit in hits], dtype=output.dtype, device=device)
        taps = self._taps(inputs[0], output, flat % per_filter, channels)  # (images, hits, *spatial)
        ones = torch.tensor(is_bias, device=device)
        if ones.any():
            taps[:, ones] = 1.0
        shape = (1, len(hits), *[1] * (taps.ndim - 2))
        values = torch.addcmul(output[:, channels], taps, steps.reshape(shape))
        rows = values.transpose(0, 1).reshape(len(hits) * len(output), 1, *output.shape[2:])
        return Change(rows, channels.repeat_interleave(len(output)))

    def _taps(self, taken: Tensor, output: Tensor, place: Tensor, channels: Tensor) -> Tensor:
        """For each hit: the input that its weight is multiplied with, at every place of the output."""
        if self.is_dense:
            return taken[:, place]
        module = self.module
        height, width = module.kernel_size
        of_group = self._weight.shape[1]
        source = place // (height * width)
        if self.groups > 1:
            source = source + channels // (len(self._weight) // self.groups) * of_group
        row, column = place // width % height, place % width
        if isinstance(module.padding, str) or module.padding_mode != "zeros":
            padded = F.pad(taken, module._reversed_padding_repeated_twice,
                           "constant" if module.padding_mode == "zeros" else module.padding_mode)  # fmt: skip
        else:
            padded = F.pad(taken, (module.padding[1], module.padding[1], module.padding[0], module.padding[0]))
        windows = padded.unfold(2, module.dilation[0] * (height - 1) + 1, module.stride[0])
        windows = windows.unfold(3, module.dilation[1] * (width - 1) + 1, module.stride[1])
        # (images, inputs, rows, columns, kernel rows, kernel columns): a view
        return windows.permute(1, 4, 5, 0, 2, 3)[
            source, row * module.dilation[0], column * module.dilation[1]
        ].transpose(0, 1)

    def follow(self, changes: Sequence[Change | None], golden: Callable[[int], Tensor], output: Tensor,
               images: Tensor) -> Change | None:  # fmt: skip
        (change,) = changes
        if change is None or change.channel is None or output.ndim != (2 if self.is_dense else 4):
            return None
        if not torch.isfinite(change.values).all():
            return None
        difference = change.values - channel_of(golden(0), images, change)
        if self.groups > 1:
            return self._within_group(difference, change.channel, output, images)
        result = output[images]
        for channel, rows in _by_channel(change.channel):
            if self.is_dense:
                each = difference.shape[1]
                weight = self._golden[:, channel * each : (channel + 1) * each]
                result[rows] += F.linear(difference[rows], weight)
            else:
                weight = self._golden[:, channel : channel + 1].contiguous(memory_format=torch.channels_last)
                result[rows] += self._convolve(difference[rows], weight, None, 1)
        return Change(result)

    def _within_group(self, difference: Tensor, channel: Tensor, output: Tensor, images: Tensor) -> Change | None:
        """A depthwise convolution leaves a change in its channel."""
        weight = self._weight
        if weight.shape[1] != 1 or len(weight) != self.groups:
            return None
        flat = difference.transpose(0, 1)  # rows stand where channels do
        step = self._convolve(flat, weight[channel], None, len(channel)).transpose(0, 1)
        return Change(output[images, channel][:, None] + step, channel)


class TransposedConvolution(Rule):
    """A two-dimensional transposed convolution of one group."""

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

    def follow(self, changes: Sequence[Change | None], golden: Callable[[int], Tensor], output: Tensor,
               images: Tensor) -> Change | None:  # fmt: skip
        (change,) = changes
        if change is None or change.channel is None or not torch.isfinite(change.values).all():
            return None
        difference = change.values - channel_of(golden(0), images, change)
        weight, result = self.module.weight.detach(), output[images]
        for channel, rows in _by_channel(change.channel):
            result[rows] += self._convolve(difference[rows], weight[channel : channel + 1], None)
        return Change(result)


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


def differing(values: Tensor, golden: Tensor) -> Tensor:
    """By row: does any value differ? NaN differs from everything."""
    unequal = values != golden
    if unequal.ndim == 4:
        unequal = unequal.permute(0, 2, 3, 1)  # as it lies in memory
    return unequal.reshape(len(unequal), -1).any(dim=1)


def channel_of(golden: Tensor, images: Tensor, change: Change) -> Tensor:
    """The golden values of the channel that each row changes, in the shape of the change's values."""
    values = change.values
    if golden.ndim == 2 and values.ndim == 2:
        return golden.reshape(len(golden), -1, values.shape[1])[images, change.channel]
    return golden[images, change.channel][:, None]


def whole(golden: Tensor, images: Tensor, change: Change | None) -> Tensor:
    """The whole values of the rows: golden ones, in which the changed channel is."""
    if change is not None and change.channel is None:
        return change.values
    values = golden[images]
    if change is not None:
        rows = torch.arange(len(images), device=values.device)
        if values.ndim == 2 and change.values.ndim == 2:
            values.reshape(len(values), -1, change.values.shape[1])[rows, change.channel] = change.values
        else:
            values[rows, change.channel] = change.values[:, 0]
    return values
