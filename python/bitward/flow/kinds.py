# SPDX-License-Identifier: Apache-2.0
"""Which kind of flow a YAML file holds."""

from __future__ import annotations

from pathlib import Path

from bitward.classic import classic_names, find_classic
from bitward.flow.reading import read_yaml


def is_software(path: Path) -> bool:
    """Whether the flow is of a classic float network, and so software-only; ConfigError for what is no YAML."""
    return read_yaml(path).get("network") in classic_names()


def is_sensitivity(path: Path) -> bool:
    """Whether the flow is of a classic float network that labels pixels; ConfigError for what is no YAML."""
    network = read_yaml(path).get("network")
    return network in classic_names() and find_classic(str(network)).labelled == "pixel"
