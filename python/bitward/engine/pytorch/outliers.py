# SPDX-License-Identifier: Apache-2.0
"""Values that a format has no room for, kept apart: where each lies, and the value itself in single precision.

A tensor so stored is three memories: its own, which holds the nearest bound in an outlier's place; a list of places,
unsigned integers as wide as the tensor needs; and the values that belong there. Reading puts the values over the
tensor, in the list's order. An upset of a place moves a value: the old place falls back to the bound, the new one is
overwritten, and a place behind the tensor's end is none. (Weight-scaling paper, section IV.A, which takes the list for
lossless; here its bits are memory like all others.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from bitward.engine.pytorch.storage import Indices, Storage, StoredTensor, Values
from bitward.formats import Float32, Format, UInt
from bitward.memory import Memory, Role
from bitward.schemes import Tmr


class CoveredTensor(StoredTensor):
    """The memory of a tensor whose outliers lie in `lists`: two memories, or none where there are no outliers."""

    def __init__(self, memory: Memory, tensor: torch.Tensor, storage: Storage) -> None:
        self._under: dict[int, float] = {}  # golden values of the places that a value was ever put over
        super().__init__(memory, tensor, storage)
        self._covered = self.apart
        self.lists: tuple[OutlierList, ...] = ()
        if len(self.apart):
            values = self._flat[torch.from_numpy(self.apart)].cpu()
            self._under = dict(zip(self.apart.tolist(), values.tolist(), strict=True))
            place = UInt(max(1, (memory.parameters - 1).bit_length()))
            self.lists = (
                OutlierList(self, "places", place, torch.from_numpy(self.apart).double(), storage),
                OutlierList(self, "values", Float32(), values, storage),
            )

    def hit(self, words: Indices, bits: Indices, kinds: Sequence[str]) -> tuple[Values, Values]:
        golden, values = super().hit(words, bits, kinds)
        is_under = np.isin(words, self.apart)
        return golden, np.where(is_under, golden, values)

    def restore(self, words: Sequence[int] | None = None) -> None:
        super().restore(words)
        self.cover()

    def cover(self) -> None:
        """The tensor holds what its memory says, and over it what the lists say now."""
        if not self.lists:
            return
        off = self._covered
        if len(off):
            self._set(off, self._found(self._now(off), off))
        places, values = (each.tensor.numpy() for each in self.lists)
        found = {int(place): value for place, value in zip(places, values, strict=True)}  # the last one counts
        on = np.array([place for place in found if place < self.memory.parameters], dtype=np.int64)
        fresh = [place for place in on.tolist() if place not in self._under]
        self._under.update(zip(fresh, self._of(np.array(fresh, dtype=np.int64)).tolist(), strict=True))
        self._set(on, np.array([found[place] for place in on.tolist()], dtype=np.float32))
        self._covered = on

    def moved(self) -> tuple[Indices, Values, Values]:
        """As `changes`, of every place that a value is put over, or should be."""
        words = np.union1d(self.apart, self._covered)
        golden = self._of(words).astype(np.float32)
        now = self._flat[torch.from_numpy(words)].cpu().numpy()
        differs = golden != now
        return words[differs], golden[differs], now[differs]

    def _set(self, words: Indices, values: Values) -> None:
        self._flat[torch.from_numpy(words)] = torch.from_numpy(values).to(self._flat.device)

    def _of(self, words: Indices) -> npt.NDArray[np.float64]:
        values = super()._of(words)
        for place in np.flatnonzero(np.isin(words, list(self._under))) if self._under else ():
            values[place] = self._under[int(words[place])]
        return values

    def _found(self, stored: npt.NDArray[np.uint8], words: Indices) -> Values:
        """What the tensor's own memory says, in an outlier's place as well."""
        values = super()._found(stored, words)
        is_under = np.isin(words, self.apart)
        return np.where(is_under, self._values(self._read(stored), words), values) if is_under.any() else values

    def _put(self, words: Indices, stored: npt.NDArray[np.uint8]) -> None:
        super()._put(words, stored)
        self.cover()


class OutlierList(StoredTensor):
    """One of a covered tensor's lists; its faults change that tensor."""

    def __init__(self, owner: CoveredTensor, name: str, form: Format, held: torch.Tensor, storage: Storage) -> None:
        of = owner.memory
        named = f"{of.name}.outliers.{name}"
        scheme = Tmr(form.bits, form.bits) if storage.beyond == "apart_tmr" else storage.list_scheme(form.bits)
        memory = Memory(named, of.layer, named, "outlier", (len(held),), form, scheme)
        super().__init__(memory, held, Storage(form, scheme))
        self._owner = owner

    @property
    def role(self) -> Role:
        return self._owner.role

    def changes(self) -> tuple[Indices, Values, Values]:
        return self._owner.moved()

    def restore(self, words: Sequence[int] | None = None) -> None:
        super().restore(words)
        self._owner.cover()

    def _put(self, words: Indices, stored: npt.NDArray[np.uint8]) -> None:
        super()._put(words, stored)
        self._owner.cover()
