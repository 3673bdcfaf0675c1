# SPDX-License-Identifier: Apache-2.0
"""Scripts of benchmarks/ as modules, found as python finds them for a script."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


@contextmanager
def imported(repository: Path, name: str) -> Iterator[ModuleType]:
    """The script of that name; those that it imports lie beside it."""
    folder = str(repository / "benchmarks")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(folder)
