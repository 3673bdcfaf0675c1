# SPDX-License-Identifier: Apache-2.0
"""The hardware operators that the engine runs: one file each, which registers itself. A new one is one file here."""

import pkgutil
from importlib import import_module

from bitward.engine.ops._op import OPS, Attributes, Ends, Op, StoredOp, Unary

__all__ = ["OPS", "Attributes", "Ends", "Op", "StoredOp", "Unary"]

for _found in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_found.name}")
