# SPDX-License-Identifier: Apache-2.0
"""What a search found, a file a point: it goes on where kill -9 stopped it, and other limits ask no point again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bitward.campaign.store import fingerprint
from bitward.errors import StoreError
from bitward.explore.evaluate import Vulnerability
from bitward.explore.search import Evaluation
from bitward.tools import atomic_write, output_directory


class Ledger:
    """Evaluations in a folder, each a JSON file named after its point and the fingerprint of all that decides it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.fresh = 0  # evaluations that were made and not found

    def evaluate(self, name: str, facts: Mapping[str, Any], make: Callable[[], Evaluation]) -> Evaluation:
        """The evaluation that the facts describe: as it is kept, or made and then kept.

        StoreError for a file that is damaged.
        """
        plain = re.sub(r"[^\w.-]+", "_", name)
        path = output_directory(self._folder) / f"{plain}-{fingerprint(facts)[:12]}.json"
        if path.is_file():
            return _read(path)
        made = make()
        self.fresh += 1
        found = made.vulnerability
        content = {**asdict(made), "vulnerability": None if found is None else found.to_dict(), "facts": dict(facts)}
        atomic_write(path, json.dumps(content, indent=1) + "\n")
        return made


def _read(path: Path) -> Evaluation:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        stored.pop("facts")
        found = stored.pop("vulnerability")
        return Evaluation(**stored, vulnerability=None if found is None else Vulnerability.from_dict(found))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path} must be an evaluation that bitward wrote, got {type(error).__name__}: delete it to make it again"
        ) from error
