# SPDX-License-Identifier: Apache-2.0
"""Registries without lists: every module of a package is an entry, named after its file; add one by adding a file."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from bitward.errors import ConfigError, nearest


@dataclass(frozen=True)
class Registry:
    """The modules of `package` whose names have no leading underscore; `noun` is what error messages call an entry."""

    package: str
    noun: str

    def names(self) -> tuple[str, ...]:
        """The entries' names, sorted; no entry is imported (torch and scikit-learn stay unloaded)."""
        path = import_module(self.package).__path__
        return tuple(sorted(found.name for found in pkgutil.iter_modules(path) if not found.name.startswith("_")))

    def module(self, name: str) -> ModuleType:
        """The entry's module; ConfigError names the nearest entry when there is none called `name`."""
        if name not in self.names():
            raise ConfigError(f"{self.noun} must be a known name, got '{name}'; {nearest(name, self.names())}")
        return import_module(f"{self.package}.{name}")
