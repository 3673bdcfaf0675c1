# SPDX-License-Identifier: Apache-2.0
"""`bitward explore FLOW`: the space of a flow's `explore` section is searched, and the answer written as a flow.

runs/NAME/explore/ holds points/ (what was found of each), search.json (all of it), report.html (table, plot and
recommendation) and recommended.yaml, a flow that `bitward run` takes as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from bitward.flow.cache import locked
from bitward.flow.explorer import section_of
from bitward.flow.family_search import explore_family
from bitward.flow.kinds import is_software
from bitward.flow.software_search import explore_software
from bitward.flow.software_spec import load_software_flow
from bitward.flow.spec import load_flow
from bitward.tools import output_directory


def explore_flow(path: Path, runs: Path, console: Console, data: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """The flow's space is searched; the folder of the search, and what it found. A search that was killed goes on."""
    flow: Any = load_software_flow(path) if is_software(path) else load_flow(path)
    section_of(flow, str(path))
    folder = output_directory(runs / flow.name)
    with locked(folder):
        explore = explore_software if is_software(path) else explore_family
        return output_directory(folder / "explore"), explore(flow, runs, console, data)
