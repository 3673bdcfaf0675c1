# SPDX-License-Identifier: Apache-2.0
"""FINN's configuration files of nodes, as they are: folding and specialisation, by the design's own names of nodes.

FINN numbers the nodes of a kind in its graph's order (MVAU_rtl_0, MVAU_rtl_1), each back end from 0; here a kind has
one back end. What a file says that bitward decides itself is left out with a sentence, or refused; nothing is dropped
in silence. The forms are those of finn-plus 1.6.1 (finn.transformation.general.ApplyConfig).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bitward.errors import ConfigError, OutputError, nearest
from bitward.hardware.fifos import QUEUE
from bitward.hardware.finn_attributes import CHOSEN, OF_MEMORIES, Said, finn_name, kind_of, said_of
from bitward.hardware.specialise import in_order

DEFAULTS = "Defaults"  # FINN's key for all nodes of a kind
POOLED = "StreamingMaxPool"  # FINN's pooling without a window generator
GENERATOR = "ConvolutionInputGenerator"
OWN_QUEUE_KEYS = {"depth", "between"}  # of bitward's own form; FINN's has ram_style, impl_style ... too
# Kinds that FINN had, or puts around a design, beside those that it registers.
OTHER_KINDS = ("AddStreams", "ChannelwiseOp", "DownSampler", "IODMA", "StreamingEltwise", POOLED, "TLastMarker")
_NUMBERED = re.compile(r"([A-Za-z]\w*?)(_rtl|_hls)?_(\d+)")

SHOWN = 6  # names in a note

Config = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class HardwareNode:
    """A node of the specialised graph: FINN's kind of it, the memory it holds, the layer it is the unit of ("": none).

    `attributes` are the names of those it has, `choices` the values, ascending, that those of its folding can have;
    `is_pooled` is True for a window generator in front of pooling.
    """

    name: str
    kind: str
    attributes: frozenset[str]
    layer: str = ""
    memory: str = ""
    is_pooled: bool = False
    choices: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def users_name(self) -> str:
        """What users call it."""
        return self.layer or self.memory or self.name


@dataclass
class Translated:
    """A configuration by the design's own node names.

    `names` maps a name of FINN's in the file to what users call the node; `called` a node to the name that errors tell;
    `notes` are a sentence each for what was left out; `queues` are depths in bitward's own form.
    """

    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    queues: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_config(path: Path, option: str) -> dict[str, Any]:
    """The mapping in a JSON or YAML file that was given as `option`. OutputError or ConfigError where there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise OutputError(f"{option} must be a readable JSON or YAML file, got {path}: {reason}.") from error
    try:
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise ConfigError(f"{option} must be {kind}, got {path}: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        given = "nothing" if found is None else f"a {type(found).__name__}"
        raise ConfigError(f"{option} must map names to values, got {given} in {path}.")
    return found


def hardware_nodes(model: Any, units: Mapping[str, Any]) -> list[HardwareNode]:
    """The nodes of a specialised graph in the order in which FINN numbers them.

    `units` are the folding.Choices of nodes with memories, by node name.
    """
    from qonnx.custom_op.registry import getCustomOp

    found = []
    for node in in_order(model):
        op, unit = getCustomOp(node), units.get(node.name)
        consumer = model.find_consumer(node.output[0])
        found.append(
            HardwareNode(
                node.name,
                kind_of(node.op_type),
                frozenset(op.get_nodeattr_types()),
                unit.layer if unit else "",
                unit.memory if unit else "",
                consumer is not None and consumer.op_type == "Pool_rtl",
                unit.values if unit else {},
            )
        )
    return found


def translate(config: Config, nodes: Sequence[HardwareNode], where: str = "folding") -> Translated:
    """What a configuration in FINN's form, bitward's own, or both asks of the design.

    Raises ConfigError, by the file's own names, for a node that neither the design nor FINN has, for an attribute given
    twice, and for what bitward cannot build (units in HLS, weights that come from outside).
    """
    return _Translation(config, nodes, where).result()


def check_specialisation(done: Translated) -> None:
    """FINN's specialize_layers_config_file, translated, asks for nothing but RTL. Raises ConfigError where it does."""
    for name, values in done.overrides.items():
        raise ConfigError(
            f"specialize of {done.called.get(name, name)} must give preferred_impl_style alone, got "
            f"{next(iter(values))!r}: that belongs into --folding."
        )


def queue_depths(config: Config) -> dict[str, int]:
    """The depths of queues that a configuration gives in bitward's own form."""
    return {name: int(values["depth"]) for name, values in config.items() if _is_own_queue(name, values)}


def _is_own_queue(name: str, values: Any) -> bool:
    if not name.startswith(QUEUE):
        return False
    return not isinstance(values, Mapping) or not values or set(values) <= OWN_QUEUE_KEYS


class _Translation:
    """One file against one design."""

    def __init__(self, config: Config, nodes: Sequence[HardwareNode], where: str) -> None:
        self.config, self.nodes, self.where = config, nodes, where
        self.by_user = {each.layer: each for each in nodes if each.layer}
        self.by_user |= {each.memory: each for each in nodes if each.memory}
        self.by_name = {each.name: each for each in nodes}
        self.known = finn_kinds()
        self.done = Translated()
        self.left_out: dict[tuple[str, str], list[str]] = {}  # (what, why): nodes

    def result(self) -> Translated:
        """The translation, once."""
        for node in self.nodes:
            for key, value in self._defaults(node):
                self._give(node, key, value, f"{DEFAULTS} for {node.kind}")
        given: dict[str, set[str]] = {}
        for name, values in self.config.items():
            if name == DEFAULTS:
                continue
            if _is_own_queue(name, values):
                self.done.queues[name] = values
            elif (found := self._find(name)) is not None:
                self._entry(name, found, values, given.setdefault(found.name, set()))
        for (what, why), names in self.left_out.items():
            shown = names if len(names) <= SHOWN else [*names[: SHOWN - 1], f"{len(names) - SHOWN + 1} more"]
            self.done.notes.append(f"{what} of {', '.join(shown)} left out: {why}")
        return self.done

    def _entry(self, name: str, node: HardwareNode, values: Any, given: set[str]) -> None:
        if not isinstance(values, Mapping):
            raise ConfigError(f'{self.where} of {name} must map attributes to values, as {{"PE": 2}}, got {values!r}.')
        is_finns = name not in self.by_user and name != node.name
        if is_finns and (node.memory or name.rsplit("_", 1)[1] != node.name.rsplit("_", 1)[1]):
            self.done.names[name] = node.users_name
        said = name if name in (node.layer, node.memory, node.name) else f"{node.users_name} ({name})"
        self.done.called[node.name] = said
        for key, value in values.items():
            before = self.done.overrides.get(node.name, {}).get(key, value)
            if key in given and before != value:
                raise ConfigError(
                    f"{self.where} of {said} must give {key} once, got {before!r} and {value!r}: the file has two "
                    "names for one node."
                )
            given.add(key)
            self._give(node, key, value, name)

    def _give(self, node: HardwareNode, key: str, value: Any, name: str) -> None:
        """The attribute is taken, left out with a sentence, or refused; those of memories are for nodes with one."""
        if key in OF_MEMORIES and not node.memory:
            return
        said, why = said_of(node.kind, key, value)
        if said is Said.REFUSED:
            called = self.done.called.get(node.name, name)
            raise ConfigError(f"{self.where} of {called}: {key} must not be {value!r}, got it: {why}.")
        if said is Said.LEFT_OUT:
            self._leave(f"{key} {json.dumps(value)}", why, name)
        elif said is Said.TAKEN:
            is_users = name in self.by_user or name == node.name
            if key in CHOSEN and key not in node.attributes and not is_users:
                self._leave(f"{key} {json.dumps(value)}", f"here a {node.kind} has none", name)
            else:
                taken = value if is_users else self._near(node, key, value, name)
                self.done.overrides.setdefault(node.name, {})[key] = taken

    def _near(self, node: HardwareNode, key: str, value: Any, name: str) -> Any:
        """The value; where FINN has it but it would cut pixels in two, the next that is as fast, which is said.

        The index map of a memory gives each row whole pixels or equal parts of one (bitward.indexmap).
        """
        allowed = node.choices.get(key, ())
        if not allowed or type(value) is not int or value < 1 or value in allowed or allowed[-1] % value:
            return value
        taken = min(each for each in allowed if each > value)
        self.done.notes.append(f"{key} {value} of {name} is {taken} here: a row holds whole pixels or parts of one")
        return taken

    def _leave(self, what: str, why: str, name: str) -> None:
        names = self.left_out.setdefault((what, why), [])
        if name not in names:
            names.append(name)

    def _defaults(self, node: HardwareNode) -> Iterator[tuple[str, Any]]:
        """What the file says for all nodes of the kind, as attribute: [value, operators or "all", value, ...]."""
        defaults = self.config.get(DEFAULTS) or {}
        if not isinstance(defaults, Mapping):
            raise ConfigError(f"{DEFAULTS} must map attributes to [value, operators], got {defaults!r}.")
        for key, pairs in defaults.items():
            if not isinstance(pairs, list) or not pairs or len(pairs) % 2:
                raise ConfigError(
                    f'{DEFAULTS} for {key} must be [value, operators or "all"], as [2, ["MVAU_rtl"]], got {pairs!r}.'
                )
            asked = [value for value, on in zip(pairs[::2], pairs[1::2], strict=True) if self._is_for(node, key, on)]
            if any(value != asked[0] for value in asked):
                raise ConfigError(
                    f"{DEFAULTS} for {key} must give {node.kind} one value, got {asked}: RTL and HLS are one kind here."
                )
            if asked and (key not in CHOSEN or key in node.attributes):
                yield key, asked[0]

    def _is_for(self, node: HardwareNode, key: str, on: Any) -> bool:
        if on == "all":
            return True
        kinds = [re.sub(r"_(rtl|hls)$", "", str(each)) for each in ([on] if isinstance(on, str) else on)]
        ours = {each.kind for each in self.nodes}
        for kind in kinds:
            if kind not in self.known | ours:
                raise ConfigError(
                    f"{DEFAULTS} for {key} must name operators that FINN has, got {kind!r}; "
                    f"{nearest(kind, self.known | ours)}"
                )
        return node.kind in kinds

    def _find(self, name: str) -> HardwareNode | None:
        """The node that is meant; None where FINN has such a node and this design none (said)."""
        if name in self.by_user:
            return self.by_user[name]
        match = _NUMBERED.fullmatch(name)
        kind = match[1] if match else ""
        if match and kind == "StreamingFIFO":
            self._leave("depths", "queues of FINN's graph; here they are found by measuring in RTL", name)
            return None
        if match and (same := self._of_kind(kind)):
            number = self._number(kind, name, int(match[3]), len(same))
            if number < len(same):
                return same[number]
        elif name in self.by_name:
            return self.by_name[name]
        elif match and kind in self.known:
            self._leave("what was given", f"the design has no {kind}", name)
            return None
        raise ConfigError(
            f"{self.where} must name a layer or node ({', '.join([*self.by_user, *self.by_name])}), got {name!r}; "
            f"{nearest(name, [*self.by_user, *self.by_name, *self._finn_names()])}"
        )

    def _of_kind(self, kind: str) -> list[HardwareNode]:
        """The design's nodes that FINN numbers as that kind, in order."""
        same = [each for each in self.nodes if each.kind == kind]
        if kind == GENERATOR and any(name.startswith(POOLED) for name in self.config):
            same = [each for each in same if not each.is_pooled]
        return same

    def _number(self, kind: str, name: str, number: int, count: int) -> int:
        """Which of the kind's nodes it is: its number, or where RTL and HLS nodes are mixed its place in the file."""
        of_kind = [each for each in self.config if (match := _NUMBERED.fullmatch(each)) and match[1] == kind]
        if len({match[2] for each in of_kind if (match := _NUMBERED.fullmatch(each))}) == 1:
            return number
        if len(of_kind) != count:
            raise ConfigError(
                f"{self.where} must name all {count} {kind} nodes where some are _rtl and some _hls, which FINN "
                f"numbers apart, got {len(of_kind)}: name layers instead ({', '.join(self.by_user)})."
            )
        return of_kind.index(name)

    def _finn_names(self) -> Iterator[str]:
        return (finn_name(node.name) for node in self.nodes)


def finn_kinds() -> set[str]:
    """FINN's operators, abstract names, as the installed FINN registers them; and those that it had."""
    from finn.custom_op.fpgadataflow import custom_op

    return {*custom_op, *OTHER_KINDS}
