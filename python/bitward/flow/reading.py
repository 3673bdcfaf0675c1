# SPDX-License-Identifier: Apache-2.0
"""A flow's YAML becomes typed keys and values, or one sentence that says where it is wrong and what was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from bitward.errors import ConfigError, nearest_of_these
from bitward.tools import resource

Kind = TypeVar("Kind", bound=BaseModel)
SEE = "see flows/digits.yaml"
IN_YAML = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}


class Section(BaseModel):
    """Keys of a flow; unknown ones are refused, and nothing changes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Loader(yaml.SafeLoader):
    """YAML, whose keys may stand once in a section: of two, one would be left out without a word."""


def _section(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value} for the second time", problem_mark=key.start_mark)
            seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _section)


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys and values of a flow's YAML file, `name` among them; ConfigError where there are none."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)  # noqa: S506  a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise ConfigError(f"the flow {path} must be a readable YAML file, got {reason}: {_step(path)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"the flow {path} must be YAML, got {_mistake(error)}: {SEE}") from error
    if not isinstance(data, dict):
        found = "nothing" if data is None else IN_YAML.get(type(data), type(data).__name__)
        raise ConfigError(f"the flow {path} must hold keys and values, got {found}: {SEE}")
    data.setdefault("name", re.sub(r"^[^A-Za-z0-9]+|[^\w.-]+", "-", path.stem).lstrip("-") or "flow")
    return data


def _step(path: Path) -> str:
    """What to do about a flow that cannot be read: where a shipped one has nearly its name, that one."""
    folder = resource("flows")
    names = [str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml")]
    if path.is_absolute() or path.suffix or not (close := difflib.get_close_matches(str(path), names, n=1)):
        return SEE
    return f"did you mean {close[0]}, which comes with bitward?"


def _mistake(error: yaml.YAMLError) -> str:
    """What is wrong with a file that is no YAML, and at which line."""
    mark, problem = getattr(error, "problem_mark", None), str(getattr(error, "problem", None) or "")
    if "'\\t'" in problem:
        problem = "a tab, where YAML takes spaces"
    return f"a mistake at line {mark.line + 1}, {problem}" if mark is not None else "a character that no text has"


def validated(model: type[Kind], data: dict[str, Any], path: Path) -> Kind:
    """The data as a flow of that kind; ConfigError says what is wrong with them."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_sentence(error, model)}") from error


RULES = {
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "string_type": "a text",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "path_type": "a path",
}
"""What a value must be, in a reader's words, by pydantic's name of what is wrong with it."""


def _sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing wrong, where it is, and what was meant."""
    mistakes = error.errors()
    first = next((mistake for mistake in mistakes if mistake["type"] == "extra_forbidden"), mistakes[0])
    place = [str(part) for part in first["loc"]]
    if first["type"] in ("extra_forbidden", "invalid_key"):
        known = _fields(model, place[:-1])
        where = ".".join(place[:-1]) or "the flow"
        wrong = place[-1]
        return f"{where} must have only the keys {', '.join(known)}, got {wrong!r}; {nearest_of_these(wrong, known)}"
    if first["type"] == "missing":
        return f"{'.'.join(place)} must be given, got nothing; {SEE}"
    if first["type"] == "too_short":
        return f"{'.'.join(place)} must have at least one item, got {_shown(first['input'])}; {SEE}"
    rule = first["msg"].replace("Input should", "must").replace("Value error, ", "")
    if first["type"] in RULES:
        rule = f"must be {RULES[first['type']]}"
    return f"{'.'.join(place)} {rule}, got {_shown(first['input'])}; {SEE}"


def _shown(value: object) -> str:
    """A value as the YAML has it."""
    return "nothing" if value is None else repr(value)


def _fields(model: type[BaseModel], place: list[str]) -> list[str]:
    section = model
    for part in place:
        kind = section.model_fields[part].annotation
        kinds = (kind, *get_args(kind))  # a section, or one or none
        section = next(each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel))
    return list(section.model_fields)
