# SPDX-License-Identifier: Apache-2.0
"""A tensor of a torch network as a memory: stored in a format, under a scheme, and hit there.

A memory holds one parameter a word, in C order. Its tensor in the network holds what is read from it, in place: a fault
changes the entries that it hits and nothing else, and no copy of the network is ever made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bitward.errors import ManifestError
from bitward.formats import Beyond, Float32, Format, Int, UInt
from bitward.manifest import Memory
from bitward.memory import Role
from bitward.schemes import Plain, Scheme
from bitward.words import Words, from_bits, from_ints, to_bits, to_ints

Indices = npt.NDArray[np.int64]
Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Storage:
    """How a tensor is stored: words of `format`, under `scheme`; a word's value is what the format says of it, times
    `scale`, plus `offset` (both broadcast over the tensor).

    What the format would say beyond its `bounds` is stored as it has it ("keep": integers and fixed point saturate), as
    the nearest bound ("clamp"), or so with the value itself in a list beside it ("apart": `outliers.OutlierList`;
    "apart_tmr": the list under full TMR, whatever `list_scheme` is).
    """

    format: Format
    scheme: Scheme
    scale: npt.NDArray[np.float64] | None = None
    offset: npt.NDArray[np.float64] | None = None
    beyond: Beyond = "keep"
    list_scheme: Callable[[int], Scheme] = Plain  # of the words of such a list, made for their bits


Choose = Callable[[str, Role, torch.Tensor], "Storage | None"]
"""How the tensor of that name and role is stored; None: it is no memory, and stays as it is."""


def as_float32(name: str, role: Role, tensor: torch.Tensor) -> Storage:
    """Every parameter in single precision, as torch keeps it, unprotected."""
    return Storage(Float32(), Plain(32))


def as_format(made: Format, scheme: Callable[[int], Scheme] = Plain, roles: Sequence[Role] | None = None) -> Choose:
    """Parameters of those roles (all for None) in one format; `scheme` is made for its bits."""

    def choose(name: str, role: Role, tensor: torch.Tensor) -> Storage | None:
        return Storage(made, scheme(made.bits)) if roles is None or role in roles else None

    return choose


def as_integers(bits: int, per_channel: bool = False, scheme: Callable[[int], Scheme] = Plain) -> Choose:
    """Weights as symmetric integers of `bits` bits, the largest at full scale, by tensor or by output channel.

    The other parameters are in single precision and no memories.
    """

    def choose(name: str, role: Role, tensor: torch.Tensor) -> Storage | None:
        if role != "weight":
            return None
        values = tensor.detach().abs().double()
        largest = values.amax(dim=tuple(range(1, values.ndim)), keepdim=True) if per_channel else values.max()
        scale = (largest / (2 ** (bits - 1) - 1)).clamp_min(torch.finfo(torch.float32).tiny).cpu().numpy()
        return Storage(Int(bits), scheme(bits), scale)

    return choose


def as_affine(
    bits: int, per_channel: bool = False, scheme: Callable[[int], Scheme] = Plain, roles: Sequence[Role] = ("weight",)
) -> Choose:
    """Parameters of those roles as unsigned integers of `bits` bits: 0 is the least value, 2^bits - 1 the largest.

    By tensor, or by output channel; biases always by tensor. Equations 1 to 5 of FORTUNE: the zero point need be no
    integer, so the least value is kept as it is. A tensor of one value alone has scale 1. The others are in single
    precision and no memories.
    """

    def choose(name: str, role: Role, tensor: torch.Tensor) -> Storage | None:
        if role not in roles:
            return None
        values = tensor.detach().double()
        axes = tuple(range(1, values.ndim)) if per_channel and values.ndim > 1 else tuple(range(values.ndim))
        least, most = values.amin(dim=axes, keepdim=True), values.amax(dim=axes, keepdim=True)
        scale = (most - least) / (2**bits - 1)
        scale = torch.where(scale > torch.finfo(torch.float32).tiny, scale, torch.ones_like(scale))
        return Storage(UInt(bits), scheme(bits), scale.cpu().numpy(), least.cpu().numpy())

    return choose


class StoredTensor:
    """One memory of a network, and the tensor that holds what is read from it."""

    def __init__(self, memory: Memory, tensor: torch.Tensor, storage: Storage) -> None:
        """The tensor holds the nearest values that the storage has."""
        self.memory, self.tensor = memory, tensor
        self._flat = tensor.detach().view(-1)
        self._dtype: Any = np.float64 if tensor.dtype is torch.float64 else np.float32  # places of outliers are long
        self._scale, self._offset = (_spread(each, memory.shape) for each in (storage.scale, storage.offset))
        self._bounds = None if storage.beyond == "keep" else memory.format.bounds
        self._bits: dict[int, npt.NDArray[np.uint8]] = {}  # stored bits of the words that were written, by word
        self._golden: dict[int, float] = {}  # of the same words: what the tensor held
        self._is_single = isinstance(memory.format, Float32)
        beyond = self._beyond()
        self.apart = beyond if storage.beyond in ("apart", "apart_tmr") else beyond[:0]
        read = self._rounded(beyond)
        if len(read):
            values = self._values(self._plain(self._of(read), read), read)
            self._flat[torch.from_numpy(read)] = torch.from_numpy(values).to(self._flat.device)

    def _beyond(self) -> Indices:
        """The words whose value is beyond the format's bounds, where these count."""
        if self._bounds is None:
            return np.zeros(0, np.int64)
        every = np.arange(self.memory.parameters)
        said = self._said(self._of(every), every)
        return np.flatnonzero((said < self._bounds[0]) | (said > self._bounds[1]))

    def _rounded(self, beyond: Indices) -> Indices:
        """The words whose value the tensor gets from them; in single precision it stays as it is where it can be."""
        every = beyond if self._is_single else np.arange(self.memory.parameters)
        return np.setdiff1d(every, self.apart) if len(self.apart) else every

    @property
    def role(self) -> Role:
        """Of the parameters that faults in the memory change."""
        return self.memory.role

    @property
    def faulty(self) -> Indices:
        """The words that are not golden, ascending."""
        return np.array(sorted(self._bits), dtype=np.int64)

    def read(self, word: int) -> int:
        """The stored word as it is now."""
        bits = self._bits.get(word)
        stored = self._stored(np.array([word]))[0] if bits is None else bits
        return to_ints(from_bits(stored[None]), self.memory.width)[0]

    def golden(self, word: int) -> int:
        """The stored word without faults."""
        return to_ints(from_bits(self._stored(np.array([word]))), self.memory.width)[0]

    def write(self, word: int, value: int) -> None:
        """The word is stored so; the tensor holds what is read from it."""
        stored = from_ints(f"a word of memory {self.memory.name}", [value], self.memory.width)
        self._put(np.array([word]), to_bits(stored, self.memory.width))

    def inject(self, words: Indices, bits: Indices, kinds: Sequence[str]) -> None:
        """Stored bits `bits` of `words`, one each, are flipped or stuck."""
        rows, at = np.unique(words, return_inverse=True)
        stored = self._now(rows)
        flipped = np.array([kind == "flip" for kind in kinds])
        np.bitwise_xor.at(stored, (at[flipped], bits[flipped]), np.uint8(1))
        for kind, value in (("stuck0", 0), ("stuck1", 1)):
            stuck = np.array([each == kind for each in kinds])
            stored[at[stuck], bits[stuck]] = value
        self._put(rows, stored)

    def hit(self, words: Indices, bits: Indices, kinds: Sequence[str]) -> tuple[Values, Values]:
        """(golden values, values read) of `words`, each hit by itself in one bit; nothing is written."""
        stored = self._stored(words)
        rows = np.arange(len(words))
        held = stored[rows, bits]
        is_one = np.array([kind == "stuck1" for kind in kinds])
        stored[rows, bits] = np.where([kind == "flip" for kind in kinds], 1 - held, is_one)
        golden = self._flat[torch.from_numpy(words)].cpu().numpy()
        return golden, self._found(stored, words)

    def changes(self) -> tuple[Indices, Values, Values]:
        """(flat indices, golden values, values now) of the entries whose value is not golden."""
        words = self.faulty
        golden = np.array([self._golden[int(word)] for word in words], dtype=np.float32)
        now = self._flat[torch.from_numpy(words)].cpu().numpy()
        differs = golden != now
        return words[differs], golden[differs], now[differs]

    def image(self) -> npt.NDArray[np.uint32]:
        """The stored words as they are now, shape (depth, segments), lowest segment first."""
        every = np.arange(self.memory.parameters)
        octets = np.packbits(self._stored(every), axis=1, bitorder="little")
        image = np.zeros((self.memory.depth, 4 * self.memory.segments), np.uint8)
        image[:, : octets.shape[1]] = octets
        for word, bits in self._bits.items():
            image[word] = 0
            held = np.packbits(bits, bitorder="little")
            image[word, : len(held)] = held
        return image.view("<u4").astype(np.uint32)

    def restore(self, words: Sequence[int] | None = None) -> None:
        """Those words, or all, are golden again."""
        chosen = [word for word in (list(self._bits) if words is None else words) if word in self._bits]
        if chosen:
            values = torch.tensor([self._golden[word] for word in chosen], dtype=self._flat.dtype)
            self._flat[torch.tensor(chosen)] = values.to(self._flat.device)
        for word in chosen:
            del self._bits[word], self._golden[word]

    def _of(self, words: Indices) -> npt.NDArray[np.float64]:
        """Golden values of the tensor."""
        values = self._flat[torch.from_numpy(words)].double().cpu().numpy()
        for place in np.flatnonzero(np.isin(words, list(self._golden))) if self._golden else ():
            values[place] = self._golden[int(words[place])]
        return np.asarray(values)

    def said(self) -> npt.NDArray[np.float64]:
        """What the format says of every golden word: values before scale and offset."""
        every = np.arange(self.memory.parameters)
        return np.asarray(self.memory.format.decode(self._plain(self._of(every), every)), dtype=np.float64)

    def _said(self, values: npt.NDArray[np.float64], words: Indices) -> npt.NDArray[np.float64]:
        """What a format without bounds would say of such values."""
        values = values if self._offset is None else values - self._offset[words]
        return values if self._scale is None else values / self._scale[words]

    def _plain(self, values: npt.NDArray[np.float64], words: Indices) -> Words:
        said = self._said(values, words)
        return self.memory.format.encode(said if self._bounds is None else said.clip(*self._bounds))

    def _values(self, plain: Words, words: Indices) -> npt.NDArray[np.float32]:
        values = self.memory.format.decode(plain)
        with np.errstate(over="ignore", invalid="ignore"):  # upsets make infinities and NaN of floating-point words
            values = values if self._scale is None else values * self._scale[words]
            return np.asarray(values if self._offset is None else values + self._offset[words], dtype=self._dtype)

    def _stored(self, words: Indices) -> npt.NDArray[np.uint8]:
        """Golden stored bits, shape (words, width)."""
        return self.memory.scheme.to_beats(self._plain(self._of(words), words)[:, None])

    def _read(self, stored: npt.NDArray[np.uint8]) -> Words:
        """The plain words that are read from stored bits, shape (words, width)."""
        return self.memory.scheme.from_beats(stored).words[:, 0]

    def _found(self, stored: npt.NDArray[np.uint8], words: Indices) -> Values:
        """The values that are read from stored bits of the words; golden words have their golden values.

        In single precision with a scale a tensor's values are those that were stored: storing and reading round.
        """
        plain = self._read(stored)
        values = self._values(plain, words)
        if self._is_single and self._scale is not None:
            golden = self._of(words)
            is_golden = plain == self._plain(golden, words)
            values[is_golden] = golden[is_golden]
        return values

    def _now(self, words: Indices) -> npt.NDArray[np.uint8]:
        stored = self._stored(words)
        for place, word in enumerate(words.tolist()) if self._bits else ():
            if word in self._bits:
                stored[place] = self._bits[word]
        return stored

    def _put(self, words: Indices, stored: npt.NDArray[np.uint8]) -> None:
        at = torch.from_numpy(words)
        fresh = [word for word in words.tolist() if word not in self._golden]
        self._golden.update(zip(fresh, self._of(np.array(fresh, dtype=np.int64)).tolist(), strict=True))
        self._bits.update(zip(words.tolist(), stored, strict=True))
        values = self._found(stored, words)
        self._flat[at] = torch.from_numpy(values).to(self._flat.device)


def _spread(values: npt.NDArray[np.float64] | None, shape: tuple[int, ...]) -> npt.NDArray[np.float64] | None:
    """By parameter, in C order."""
    return None if values is None else np.ascontiguousarray(np.broadcast_to(values, shape)).reshape(-1)


def check_place(memory: Memory, words: Indices, bits: Indices) -> None:
    """Every word and bit is one of the memory's; ManifestError otherwise."""
    for what, array, count in (("word", words, memory.depth), ("bit", bits, memory.width)):
        if array.size and not (0 <= array.min() and array.max() < count):
            wrong = array.min() if array.min() < 0 else array.max()
            raise ManifestError(
                f"{what} must be 0 to {count - 1} in memory {memory.name}, got {wrong}; take faults from bitward.faults"
            )
