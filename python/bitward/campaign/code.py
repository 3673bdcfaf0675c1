# SPDX-License-Identifier: Apache-2.0
"""The code that trials depend on, as one digest: trials of two versions of it are not mixed in one store."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import bitward

SHOWS_ONLY = ("cli", "report", "flow", "doctor.py", "__main__.py")  # none of these computes a trial


@cache
def code_sha256() -> str:
    """sha256 over the names and contents of bitward's source files, but for those that only show or order things."""
    package = Path(bitward.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package)
        if name.parts[0] not in SHOWS_ONLY:
            digest.update(str(name).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
