# SPDX-License-Identifier: Apache-2.0
"""How a float network is stored: bits, scheme and voted bits of its weights, layer by layer where layers differ."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from bitward.errors import ConfigError, nearest
from bitward.formats import Float32
from bitward.schemes import Plain, Scheme, Secded, Tmr

if TYPE_CHECKING:
    import torch

    from bitward.engine.pytorch import Storage
    from bitward.memory import Role

SchemeName = Literal["plain", "tmr", "secded"]
FormatName = Literal["affine", "symmetric", "float32"]
Per = Literal["tensor", "channel"]
BASELINE_BITS = 8  # the unprotected network of so many bits is what memory is compared with, as in FORTUNE
MOST_BITS = 16  # of an integer weight
FEW_LAYERS = 3  # that a design's name can tell


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
        if self.scheme == "tmr":
            mark = "P-" if self.voted == 1 else "TMR-" if self.voted == self.bits else f"P{self.voted}-"
        else:
            mark = "SECDED-" if self.scheme == "secded" else ""
        return f"{mark}{self.bits}-bit"

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

    @property
    def stored_bits(self) -> int:
        """Bits that a weight takes in memory, copies and check bits included."""
        return self.of(self.bits).stored_bits


@dataclass(frozen=True)
class Design:
    """How a network's parameters are stored: weights (and `biases` if asked) as the point says, the rest in float32.

    `layers` names those stored otherwise, (layer, point) each. "affine" is FORTUNE's equations 1 to 5; "symmetric" is
    signed, what FINN stores; "float32" has 32 bits. A `bitward.engine.pytorch.Choose` that goes to other processes.
    """

    point: Point
    format: FormatName = "affine"
    per: Per = "tensor"
    biases: bool = False
    layers: tuple[tuple[str, Point], ...] = ()

    def __post_init__(self) -> None:
        for point in (self.point, *(each for _, each in self.layers)):
            wanted = (32, 32) if self.format == "float32" else (2, MOST_BITS)
            if not wanted[0] <= point.bits <= wanted[1]:
                rule = "32" if self.format == "float32" else f"2 to {MOST_BITS}"
                raise ConfigError(f"bits must be {rule} in the format {self.format}, got {point.bits}: choose others")
        if self.biases and self.format == "symmetric":
            raise ConfigError("biases must be false in the format symmetric, got true: take affine or float32")

    def __call__(self, name: str, role: Role, tensor: torch.Tensor) -> Storage | None:
        """How the tensor of that name and role is stored; None: it is no memory."""
        from bitward.engine.pytorch import as_affine, as_format, as_integers

        point = dict(self.layers).get(name.rpartition(".")[0], self.point)
        roles: tuple[Role, ...] = ("weight", "bias") if self.biases else ("weight",)
        per_channel = self.per == "channel"
        if self.format == "affine":
            return as_affine(point.bits, per_channel, point.of, roles)(name, role, tensor)
        if self.format == "symmetric":
            return as_integers(point.bits, per_channel, point.of)(name, role, tensor)
        return as_format(Float32(), point.of, roles)(name, role, tensor)

    def __str__(self) -> str:
        if len(self.layers) > FEW_LAYERS:
            return f"{self.point}, {len(self.layers)} layers otherwise"
        return ", ".join([str(self.point), *(f"{layer} {point}" for layer, point in self.layers)])

    def to_dict(self) -> dict[str, Any]:
        """What tells designs apart, as JSON values."""
        return {**asdict(self), "layers": {layer: asdict(point) for layer, point in self.layers}}
