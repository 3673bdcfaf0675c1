# SPDX-License-Identifier: Apache-2.0
"""Files of datasets as their authors published them: where they are, and the md5 sums that tell them from others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bitward.errors import ConfigError


@dataclass(frozen=True)
class Published:
    """One file on its authors' server."""

    name: str
    url: str
    md5: str

    def check(self, path: Path) -> None:
        """Nothing, where the file at `path` is that one; ConfigError names both sums where it is another."""
        check_sum(path, self.md5, hash_of(path))


def hash_of(path: Path) -> str:
    """The md5 sum of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def check_sum(where: Path | str, published: str, found: str) -> None:
    """Nothing, where both md5 sums are equal; ConfigError otherwise."""
    if found != published:
        raise ConfigError(
            f"{where} must have the published md5 sum {published}, got {found}: it is damaged or another file, get it "
            "again"
        )


def published_as(path: Path, files: Iterable[Published]) -> Published | None:
    """What a file says it is by its name; None where it has no published name."""
    return next((file for file in files if file.name == path.name), None)
