# SPDX-License-Identifier: Apache-2.0
"""How a float network is stored: format, scaling, scheme and voted bits of its weights, also layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from bitward.errors import ConfigError, nearest
from bitward.explore.scale import Scale
from bitward.formats import (
    Q2_5,
    Q2_5_AS_WRITTEN,
    Beyond,
    BFloat16,
    Fixed,
    Float16,
    Float32,
    Format,
    ShortBFloat16,
    ShortFloat16,
    ShortFloat32,
)
from bitward.schemes import Plain, Scheme, Secded, Tmr

if TYPE_CHECKING:
    import torch

    from bitward.engine.pytorch import Choose, Storage
    from bitward.memory import Role

SchemeName = Literal["plain", "tmr", "secded"]
FormatName = Literal[
    "affine", "symmetric", "float32", "float16", "bfloat16", "short_float32", "short_float16", "short_bfloat16", "q2.5",
    "q2.5_as_written", "fixed",
]  # fmt: skip
Per = Literal["tensor", "channel"]
BASELINE_BITS = 8  # the unprotected network of so many bits is what memory is compared with, as in FORTUNE
MOST_BITS = 16  # of an integer weight
BEYOND_SAID: dict[Beyond, str] = {
    "keep": "",
    "clamp": "with outliers clamped",
    "apart": "with outliers apart",
    "apart_tmr": "with outliers apart in triplicate",
}
FEW_LAYERS = 3  # that a design's name can tell


@dataclass(frozen=True)
class Real:
    """A format that the range of the weights does not decide: its name, its widths, how it is made."""

    name: str
    widths: range
    make: Callable[[int], Format]


def _only(name: str, form: Format) -> Real:
    return Real(name, range(form.bits, form.bits + 1), lambda bits: form)


REALS: dict[str, Real] = {
    "float32": _only("FP32", Float32()),
    "float16": _only("FP16", Float16()),
    "bfloat16": _only("BF16", BFloat16()),
    "short_float32": _only("FP32 short of a bit", ShortFloat32()),
    "short_float16": _only("FP16 short of a bit", ShortFloat16()),
    "short_bfloat16": _only("BF16 short of a bit", ShortBFloat16()),
    "q2.5": _only("Q2.5", Q2_5),
    "q2.5_as_written": _only("Q2.5 as written", Q2_5_AS_WRITTEN),
    "fixed": Real("{bits}-bit fixed", range(2, MOST_BITS + 1), lambda bits: Fixed(bits, bits - 2)),
}
"""Fixed point of 8 bits is Q2.5: two integer bits, the sign among them, whatever the width. The short ones leave out
the bit that is 0 within (-2, 2), the most significant one of the exponent."""


def widths_of(name: FormatName) -> range:
    """The bits that a weight of the format may have."""
    return REALS[name].widths if name in REALS else range(2, MOST_BITS + 1)


def default_bits(name: FormatName) -> int:
    """The bits of a weight where none are given: the format's only ones, or 8.

    >>> default_bits("float16"), default_bits("fixed")
    (16, 8)
    """
    widths = widths_of(name)
    return BASELINE_BITS if BASELINE_BITS in widths else widths[0]


def rule_of(widths: range) -> str:
    """Widths as an error tells them."""
    return f"{widths[0]}" if len(widths) == 1 else f"{widths[0]} to {widths[-1]}"


@dataclass(frozen=True)
class Point:
    """One point of the design space: weights of `bits` bits, plain, with `voted` top bits three times, or SEC-DED.

    SEC-DED is over each weight by itself: a weight and its check bits are one word (in hardware a beat of many weights
    shares check bits, which costs less).

    >>> [str(point) for point in (Point(8), Point(3, "tmr", 1), Point(4, "tmr", 4), Point(5, "secded"))]
    ['8-bit', 'P-3-bit', 'TMR-4-bit', 'SECDED-5-bit']
    """

    bits: int
    scheme: SchemeName = "plain"
    voted: int = 0

    def __post_init__(self) -> None:
        if self.scheme not in get_args(SchemeName):
            raise ConfigError(
                f"a point's scheme must be a known one, got {self.scheme!r}; "
                f"{nearest(self.scheme, get_args(SchemeName))}"
            )
        least, most = (1, self.bits) if self.scheme == "tmr" else (0, 0)
        if not least <= self.voted <= most:
            rule = f"{least} to {most}" if most else "0"
            raise ConfigError(
                f"voted must be {rule} with the scheme {self.scheme} and {self.bits} bits, got {self.voted}: it is how "
                "many top bits are stored three times"
            )

    def __str__(self) -> str:
        """The paper's names where it has one: 8-bit, P-3-bit."""
        return f"{self.mark}{self.bits}-bit"

    @property
    def mark(self) -> str:
        """What stands before a width in a name: how the words are protected."""
        if self.scheme == "tmr":
            return "P-" if self.voted == 1 else "TMR-" if self.voted == self.bits else f"P{self.voted}-"
        return "SECDED-" if self.scheme == "secded" else ""

    def with_bits(self, bits: int) -> Point:
        """The same protection of words of `bits` bits; full TMR stays full, and no more bits are voted than there are.

        >>> str(Point(4, "tmr", 4).with_bits(3)), str(Point(3, "tmr", 1).with_bits(2))
        ('TMR-3-bit', 'P-2-bit')
        """
        is_full = self.scheme == "tmr" and self.voted == self.bits
        return replace(self, bits=bits, voted=bits if is_full else min(self.voted, bits))

    def of(self, bits: int) -> Scheme:
        """The scheme of words of `bits` bits."""
        if self.scheme == "tmr":
            return Tmr(bits, self.voted)
        return Secded(bits, 1) if self.scheme == "secded" else Plain(bits)

    def beside(self, bits: int) -> Scheme:
        """The scheme of words of another width that are stored beside them, protected alike."""
        return self.with_bits(bits).of(bits)

    @property
    def stored_bits(self) -> int:
        """Bits that a weight takes in memory, copies and check bits included."""
        return self.of(self.bits).stored_bits


@dataclass(frozen=True)
class Design:
    """How a network's parameters are stored: weights (and `biases` if asked) as the point says, the rest in float32.

    `layers` names those stored otherwise, (layer, point) each. "affine" is FORTUNE's equations 1 to 5; "symmetric" is
    signed, what FINN stores; the others are `REALS`, whose weights `scale` makes larger before they are stored, and of
    which those beyond the format's bounds are stored as they are, clamped, or apart (`beyond`). A
    `bitward.engine.pytorch.Choose` that goes to other processes.
    """

    point: Point
    format: FormatName = "affine"
    per: Per = "tensor"
    biases: bool = False
    layers: tuple[tuple[str, Point], ...] = ()
    scale: Scale = field(default_factory=Scale)
    beyond: Beyond = "keep"

    def __post_init__(self) -> None:
        widths = widths_of(self.format)
        for point in (self.point, *(each for _, each in self.layers)):
            if point.bits not in widths:
                raise ConfigError(
                    f"bits must be {rule_of(widths)} in the format {self.format}, got {point.bits}: choose others"
                )
        if self.biases and self.format == "symmetric":
            raise ConfigError("biases must be false in the format symmetric, got true: take affine or float32")
        if self.layers and self.scale.divide == "logits":
            raise ConfigError(f"layers must have one width where logits are divided, got {self.layers[0][0]} apart")
        wrong = self._not_for_it()
        if wrong is not None:
            raise ConfigError(f"{wrong} in the format {self.format}: {self._why}")

    def _not_for_it(self) -> str | None:
        """What the format has no use for."""
        if self.format in REALS:
            return "per must be tensor, got channel" if self.per == "channel" else None
        if self.scale.by != "none":
            return f"scale.by must be none, got {self.scale.by}"
        return None if self.beyond == "keep" else f"beyond must be keep, got {self.beyond}"

    @property
    def _why(self) -> str:
        if self.format in REALS:
            return "it has no scale of its own; scale by channel for one"
        return "the weights' range is that of its integers already, which is weight scaling"

    @property
    def real(self) -> Format | None:
        """The format of the whole network's weights, where it is none of integers."""
        return REALS[self.format].make(self.point.bits) if self.format in REALS else None

    def __call__(self, name: str, role: Role, tensor: torch.Tensor) -> Storage | None:
        """How the tensor of that name and role is stored; None: it is no memory."""
        from bitward.engine.pytorch import as_affine, as_integers

        point = dict(self.layers).get(name.rpartition(".")[0], self.point)
        roles: tuple[Role, ...] = ("weight", "bias") if self.biases else ("weight",)
        per_channel = self.per == "channel"
        if self.format == "affine":
            return as_affine(point.bits, per_channel, point.of, roles)(name, role, tensor)
        if self.format == "symmetric":
            return as_integers(point.bits, per_channel, point.of)(name, role, tensor)
        return self._real_storage(point, roles)(name, role, tensor)

    def _real_storage(self, point: Point, roles: tuple[Role, ...]) -> Choose:
        """How tensors are stored in a format of `REALS`."""
        from bitward.engine.pytorch import as_format

        form = REALS[self.format].make(point.bits)
        is_scaled = self.scale.by != "none" and self.scale.divide == "weights"
        choose = self.scale.scaling.choose(form, point.of, roles) if is_scaled else as_format(form, point.of, roles)

        def chosen(name: str, role: Role, tensor: torch.Tensor) -> Storage | None:
            storage = choose(name, role, tensor)
            return None if storage is None else replace(storage, beyond=self.beyond, list_scheme=point.beside)

        return chosen

    def of(self, point: Point) -> str:
        """The name of words of that point in the format."""
        return f"{point.mark}{REALS[self.format].name.format(bits=point.bits)}" if self.format in REALS else str(point)

    def __str__(self) -> str:
        said = BEYOND_SAID[self.beyond]
        whole = " ".join(part for part in (self.of(self.point), str(self.scale), said) if part)
        if len(self.layers) > FEW_LAYERS:
            return f"{whole}, {len(self.layers)} layers otherwise"
        return ", ".join([whole, *(f"{layer} {self.of(point)}" for layer, point in self.layers)])

    def to_dict(self) -> dict[str, Any]:
        """What tells designs apart, as JSON values."""
        return {**asdict(self), "layers": {layer: asdict(point) for layer, point in self.layers}}
