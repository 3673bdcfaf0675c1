# SPDX-License-Identifier: Apache-2.0
"""And-inverter graphs: what Yosys makes of a module, evaluated on arrays of inputs, composed, and proven by ABC."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitward.errors import ToolError
from bitward.tools import run

Patterns = NDArray[np.bool_]
"""Values of signals, one row a signal, one column a case."""


@dataclass(frozen=True)
class Aig:
    """A graph of two-input ANDs. A literal is twice the number of a variable, plus 1 where it is inverted; 0 is false.

    Inputs and outputs are literals by name, in the file's order; gates (left, right) make the variables behind them.
    """

    inputs: dict[str, int]
    outputs: dict[str, int]
    gates: tuple[tuple[int, int], ...]

    @classmethod
    def read(cls, text: str) -> Aig:
        """The graph in an ASCII AIGER file with symbols, without latches, as Yosys writes it; ToolError otherwise."""
        lines = text.splitlines()
        header = re.match(r"aag (\d+) (\d+) 0 (\d+) (\d+)$", lines[0] if lines else "")
        if header is None:
            raise ToolError(f"Yosys must write an AIGER file without latches, got {lines[:1]}: check the module.")
        last, ins, outs, ands = map(int, header.groups())
        names = dict(re.findall(r"^([io]\d+) (.+)$", text, re.MULTILINE))
        body = lines[1:]
        gates = [tuple(map(int, line.split())) for line in body[ins + outs : ins + outs + ands]]
        in_order = [2 * (at + 1) for at in range(ins + ands)]
        if [int(line) for line in body[:ins]] + [gate[0] for gate in gates] != in_order or len(names) != ins + outs:
            raise ToolError(f"an AIGER file must name its {ins + outs} ports and count in order, got {lines[0]}.")
        return cls(
            {names[f"i{at}"]: int(body[at]) for at in range(ins)},
            {names[f"o{at}"]: int(body[ins + at]) for at in range(outs)},
            tuple((left, right) for _, left, right in gates),
        )

    def evaluate(self, values: Mapping[str, Patterns], cases: int) -> dict[str, Patterns]:
        """Every output in every case; inputs that are not given are 0."""
        signals: list[Patterns] = [np.zeros(cases, bool)]
        signals += [np.broadcast_to(values.get(name, signals[0]), cases) for name in self.inputs]
        for left, right in self.gates:
            signals.append((signals[left >> 1] ^ bool(left & 1)) & (signals[right >> 1] ^ bool(right & 1)))
        return {name: signals[literal >> 1] ^ bool(literal & 1) for name, literal in self.outputs.items()}


class Composer:
    """A graph in the making: instances of others, with outputs that shall be false."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self.gates: list[tuple[int, int]] = []
        self.bad: list[int] = []

    def land(self, left: int, right: int) -> int:
        """The literal of `left` and `right`."""
        self.gates.append((left, right))
        return 2 * (self.inputs + len(self.gates))

    def differ(self, left: int, right: int) -> int:
        """The literal of `left` exclusive-or `right`."""
        return self.land(self.land(left, right) ^ 1, self.land(left ^ 1, right ^ 1) ^ 1)

    def instance(self, part: Aig, inputs: Sequence[int]) -> dict[str, int]:
        """The outputs of a copy of `part` whose inputs, in its order, are these literals."""
        literals = [0, *inputs]
        for left, right in part.gates:
            literals.append(self.land(literals[left >> 1] ^ left & 1, literals[right >> 1] ^ right & 1))
        return {name: literals[literal >> 1] ^ literal & 1 for name, literal in part.outputs.items()}

    def is_never_bad(self, folder: Path) -> bool:
        """Whether ABC shows that no output in `bad` can be true; False says only that it did not."""
        self._write(folder / "miter.aig")
        abc("read_aiger miter.aig; strash; fraig; write_aiger swept.aig", folder)
        header, *body = (folder / "swept.aig").read_bytes().split(b"\n")
        return header.split()[5] == b"0" and body[: len(self.bad)] == [b"0"] * len(self.bad)

    def _write(self, path: Path) -> None:
        """The graph as a binary AIGER file."""
        last = self.inputs + len(self.gates)
        head = f"aig {last} {self.inputs} 0 {len(self.bad)} {len(self.gates)}\n"
        octets = bytearray((head + "".join(f"{literal}\n" for literal in self.bad)).encode())
        for at, (left, right) in enumerate(self.gates):
            own, low, high = 2 * (self.inputs + 1 + at), min(left, right), max(left, right)
            for delta in (own - high, high - low):
                while delta >= 128:
                    octets.append(delta & 127 | 128)
                    delta >>= 7
                octets.append(delta)
        path.write_bytes(octets)


def abc(script: str, folder: Path, timeout_s: float = 900.0) -> str:
    """What Yosys' ABC says to the script, run in the folder. ToolError when it is missing, fails or takes too long."""
    spec = find_spec("pyosys")
    roots = [Path(root) for root in (spec.submodule_search_locations or ())] if spec else []
    found = next((root / "yosys-abc" for root in roots if (root / "yosys-abc").is_file()), None)
    if found is None:
        raise ToolError("this environment must hold the PyPI package pyosys (Yosys 0.70), got none: run make setup.")
    return run([found, "-c", script], cwd=folder, log=(folder / "abc.log").resolve(), timeout_s=timeout_s).stdout
