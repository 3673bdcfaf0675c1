# SPDX-License-Identifier: Apache-2.0
"""An elaborated design cut into its nodes: each a text of RTLIL that is equal wherever the hardware is equal.

Yosys elaborates the top once; what each instance of it is made of is then a unit of its own, with inputs that the top
ties to constants tied inside, and outputs that nobody reads left out. Nodes of equal text are synthesised once, and a
unit's sha256 finds its counts again in later runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

NODE = "node"  # what the module of a unit's top is called

_MODULE = re.compile(r"^module \\(\S+)\n(.*?)^end$", re.MULTILINE | re.DOTALL)
_ATTRIBUTES = re.compile(r"^ *attribute \\(?:src|hdlname|top|X_INTERFACE_\w+) .*\n", re.MULTILINE)
_HEADS = re.compile(r"((?:^attribute .*\n)*)^module \\(\S+)\n", re.MULTILINE)
_NAMED = re.compile(r"^(module \\(\S+)|  cell \\(\S+)(?= ))", re.MULTILINE)
_CELL = re.compile(r"^  cell \\(\S+) \\(\S+)\n((?:    .*\n)*)  end$", re.MULTILINE)
_CONNECT = re.compile(r"^    connect \\(\S+) (.*)$", re.MULTILINE)
_PORT = re.compile(r"^(  wire(?: [a-z]+(?: \d+)?)*?) (input|output) \d+( \\(\S+))$", re.MULTILINE)
_NUMBERED = re.compile(r"(\$[^\s$]\S*\$)(\d+)")  # names that Yosys made; it counts through the whole design
_CONSTANT = re.compile(r"(?:\d+'[01x-]+|\d+)$")


@dataclass(frozen=True)
class Unit:
    """One node of the top: its instance's name, its module's, and its RTLIL, whose top module is `NODE`."""

    name: str
    module: str
    text: str

    @property
    def digest(self) -> str:
        """sha256 of the text: equal for equal hardware."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def top(self) -> str:
        """What its top module is called in `distinct`."""
        return f"{NODE}~{self.digest[:16]}"

    @property
    def distinct(self) -> str:
        """The text with module names that no other unit has: several can stand in one design."""
        own = {name for attributes, name in _HEADS.findall(self.text) if r"\blackbox 1" not in attributes}

        def renamed(match: re.Match[str]) -> str:
            return f"{match[1]}~{self.digest[:16]}" if (match[2] or match[3]) in own else match[0]

        return _NAMED.sub(renamed, self.text)


def cut(design: str, top: str) -> list[Unit]:
    """The units of an RTLIL design, one for each instance of the module `top`, in its order.

    Instances are called i_NAME. Equal nodes have equal texts: places in source files and paths in the hierarchy are
    left out.
    """
    text = _ATTRIBUTES.sub("", design)
    heads = {name: attributes for attributes, name in _HEADS.findall(text)}
    modules = {name: heads[name] + f"module \\{name}\n{body}end\n" for name, body in _MODULE.findall(text)}
    return [_unit(modules, *found) for found in _CELL.findall(modules[top])]


def _unit(modules: Mapping[str, str], module: str, instance: str, connections: str) -> Unit:
    own = _closure(modules, module)
    path = module.partition("$")[2]
    parts = [_trimmed(modules[module], dict(_CONNECT.findall(connections))), *(modules[name] for name in own[1:])]
    text = "\n".join(parts).replace(f"\\{module}\n", f"\\{NODE}\n")
    if path:
        text = text.replace(f"${path}.", f"${NODE}.")
    numbers: dict[str, int] = {}
    text = _NUMBERED.sub(lambda found: f"{found[1]}{numbers.setdefault(found[2], len(numbers))}", text)
    return Unit(instance.removeprefix("i_"), module.partition("$")[0], text)


def _closure(modules: Mapping[str, str], module: str) -> list[str]:
    """The module and all modules in it, each once."""
    found = [module]
    for name in found:
        found += [
            cell
            for cell in dict.fromkeys(re.findall(r"^  cell \\(\S+) ", modules[name], re.MULTILINE))
            if cell in modules and cell not in found
        ]
    return found


def _trimmed(text: str, connections: Mapping[str, str]) -> str:
    """The module without the outputs that nobody reads, with constant inputs tied inside."""
    tied: list[str] = []

    def port(match: re.Match[str]) -> str:
        wire, direction, name = match[1], match[2], match[4]
        signal = connections.get(name)
        if direction == "output" and signal is None:
            return f"{wire}{match[3]}"
        if direction == "input" and signal is not None and _CONSTANT.match(signal):
            tied.append(f"  connect \\{name} {signal}\n")
            return f"{wire}{match[3]}"
        return match[0]

    text = _PORT.sub(port, text)
    return text.removesuffix("end\n") + "".join(tied) + "end\n"
