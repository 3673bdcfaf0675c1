# SPDX-License-Identifier: Apache-2.0
"""What steps of a network do, and how a change of one channel goes through them.

A rule computes a step for whole tensors (`run`). Where it can, it also computes what a fault in the step's own
parameters changes (`enter`), and what changes of its inputs make of its output (`follow`) at less than the price of
whole tensors. Where it cannot, it says so by None, and the engine computes whole tensors.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bitward.engine.pytorch.changes import Arrival, Change, Hit, add_golden, channel_of


class Rule:
    """A step that is computed as a whole."""

    is_continuous = False  # do small changes of the inputs make small changes of the output?
    makes_own_tensor = False  # is the output of `follow` never a view of another tensor?

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

        The hits are of one role. `inputs` and `output` are golden, of all images. None where a whole channel is not all
        that a hit can change.
        """
        return None

    def follow(self, arrival: Arrival) -> Change | None:
        """What changes of the inputs make of the output; None where it must be computed as a whole."""
        return None

    def unscaled(self, change: Change) -> Tensor:
        """The sums that the network computes on its way to a change of the output, but for offsets."""
        return change.values


class Whole(Rule):
    """Any function of tensors."""

    def __init__(self, function: Callable[..., Tensor], is_continuous: bool = False) -> None:
        self.function = function
        self.is_continuous = is_continuous

    def run(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class Channelwise(Whole):
    """A function that treats each channel by itself, and all alike: activations, pooling, upsampling, dropout."""

    def __init__(
        self,
        function: Callable[..., Tensor],
        is_continuous: bool = False,
        in_place: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """`in_place` is the same function, its result in the place of its input."""
        super().__init__(function, is_continuous)
        self.in_place = in_place

    def follow(self, arrival: Arrival) -> Change | None:
        ((_, change),) = arrival.found
        function = self.in_place if self.in_place is not None and arrival.is_spent[0] else self.function
        return replace(change, values=function(change.values))


class Activation(Channelwise):
    """A function of single values that never falls."""


class MaxPool(Channelwise):
    """The largest value of windows: it may change places with any Activation."""


class Flatten(Rule):
    """(n, channels, *spatial) to (n, features)."""

    is_continuous = True

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0].flatten(1)

    def follow(self, arrival: Arrival) -> Change | None:
        ((_, change),) = arrival.found
        return replace(change, values=change.values.flatten(1))


class Add(Rule):
    """The sum of two tensors of one shape."""

    is_continuous = True
    makes_own_tensor = True

    def run(self, *inputs: Tensor) -> Tensor:
        return inputs[0] + inputs[1]

    def follow(self, arrival: Arrival) -> Change | None:
        if arrival.golden(0).shape != arrival.golden(1).shape:
            return None
        (place, one), *more = arrival.found
        if more:
            return self._both(one, more[0][1], arrival)
        other = arrival.golden(1 - place)
        if one.channel is not None:
            return replace(one, values=one.values + channel_of(other, arrival.images, one))
        out = one.values if arrival.is_spent[place] else torch.empty_like(one.values)
        return replace(one, values=add_golden(one.values, other, arrival.images, out))

    def _both(self, left: Change, right: Change, arrival: Arrival) -> Change | None:
        if (left.channel is None) != (right.channel is None):
            return None
        if left.channel is not None and not torch.equal(left.channel, torch.as_tensor(right.channel)):
            return None
        if arrival.is_spent[0]:
            return replace(left, values=left.values.add_(right.values))
        return replace(left, values=left.values + right.values)


class Concat(Rule):
    """Channels of one tensor behind those of another."""

    is_continuous = True

    def run(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, 1)

    def follow(self, arrival: Arrival) -> Change | None:
        (place, change), *more = arrival.found
        if more or change.channel is None or arrival.golden(0).ndim == 2:
            return None
        before = sum(arrival.golden(each).shape[1] for each in range(place))
        return replace(change, channel=change.channel + before)
