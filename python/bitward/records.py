# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses to and from plain JSON values, strictly: unknown keys, missing keys and wrong types are refused.

`Kind` is the root of a family whose members are told apart by name in JSON (`{"name": "tmr", "bits": 4, ...}`): a new
member is one class, and defining it registers it.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from abc import ABC
from typing import Any, ClassVar, TypeVar

from bitward.errors import BitwardError, ManifestError, nearest

Record = TypeVar("Record")
Family = TypeVar("Family", bound="Kind")


class Kind(ABC):
    """A member of a named family. `class Scheme(Kind)` founds one; `class Tmr(Scheme, kind="tmr")` joins it."""

    name: ClassVar[str]
    kinds: ClassVar[dict[str, type[Kind]]]
    refusal: ClassVar[type[BitwardError]] = ManifestError

    def __init_subclass__(cls, kind: str | None = None, **options: Any) -> None:  # Python 3.10's ABC takes `name`
        super().__init_subclass__(**options)
        if Kind in cls.__bases__:
            cls.kinds = {}
        elif kind is not None:  # without one it is only a base for others
            cls.name = kind
            cls.kinds[kind] = cls

    def to_dict(self) -> dict[str, Any]:
        """The member as a JSON object: its name, then its fields."""
        return {"name": self.name, **_plain_fields(self)}

    @classmethod
    def from_dict(cls: type[Family], data: Any, where: str = "") -> Family:
        """The member that `to_dict` wrote; an unknown name or key is refused with the nearest match."""
        where = where or cls.__name__.lower()
        if not isinstance(data, dict) or "name" not in data:
            raise cls.refusal(f"{where} must be an object with a 'name', got {data!r}; {nearest('', cls.kinds)}")
        fields = dict(data)
        name = fields.pop("name")
        if not isinstance(name, str) or name not in cls.kinds:
            raise cls.refusal(f"{where}.name must be a known name, got {name!r}; {nearest(name, cls.kinds)}")
        return typing.cast(Family, read_record(cls.kinds[name], fields, where, cls.refusal))


def to_plain(value: Any) -> Any:
    """A record, or anything inside one, as JSON values: objects, lists, numbers, strings, null."""
    if isinstance(value, Kind):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain_fields(value)
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    return value


def _plain_fields(record: Any) -> dict[str, Any]:
    return {field.name: to_plain(getattr(record, field.name)) for field in dataclasses.fields(record)}


def read_record(cls: type[Record], data: Any, where: str, refusal: type[BitwardError] = ManifestError) -> Record:
    """A `cls` from a JSON object, every field checked against its annotation; `refusal` names the place."""
    if not isinstance(data, dict):
        raise refusal(f"{where} must be an object, got {data!r}; see bitward.manifest for its keys")
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls))}
    for key in data:
        if key not in fields:
            raise refusal(f"{where} must have known keys only, got {key!r}; {nearest(key, fields)}")
    for name, field in fields.items():
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in data and not optional:
            raise refusal(f"{where} must have the key {name!r}, got {sorted(data)}; add it or write the file again")
    hints = typing.get_type_hints(cls)
    return cls(**{key: _read(hints[key], value, f"{where}.{key}", refusal) for key, value in data.items()})


def _read(hint: Any, value: Any, where: str, refusal: type[BitwardError]) -> Any:
    """`value` as the annotation `hint` wants it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):  # the only union in records is "X or nothing"
        return None if value is None else _read(arguments[0], value, where, refusal)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_read(arguments[0], item, f"{where}[{at}]", refusal) for at, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {str(key): _read(arguments[1], item, f"{where}.{key}", refusal) for key, item in value.items()}
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise refusal(f"{where} must be one of {list(arguments)}, got {value!r}; {nearest(value, arguments)}")
    if origin is None and isinstance(hint, type) and issubclass(hint, Kind):  # in Python 3.10 tuple[int] is a type
        return hint.from_dict(value, where)
    if dataclasses.is_dataclass(hint):
        return read_record(typing.cast(type, hint), value, where, refusal)
    return _read_scalar(hint, value, where, refusal)


def _read_scalar(hint: Any, value: Any, where: str, refusal: type[BitwardError]) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    kind = typing.get_origin(hint) or hint
    if kind is hint and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise refusal(f"{where} must be of type {kind.__name__}, got {value!r}; correct it or write the file again")
