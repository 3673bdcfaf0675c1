# SPDX-License-Identifier: Apache-2.0
"""How commands are told a flow: the path of a YAML file, or the name of one that comes with bitward."""

from __future__ import annotations

from pathlib import Path

import click

from bitward.errors import ToolError
from bitward.tools import resource


class FlowFile(click.ParamType):
    """A path; where there is no such file, a name as "digits" or "fortune/vgg11-p3" stands for the shipped flow."""

    name = "flow"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The file, which need not be there: whoever reads it says so."""
        path = Path(str(value))
        if path.is_file() or path.suffix or path.is_absolute():
            return path
        try:
            return resource(f"flows/{path}.yaml")
        except ToolError:
            return path

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list:
        """Files, and the names of shipped flows."""
        from click.shell_completion import CompletionItem

        shipped = resource("flows")
        names = sorted(str(file.relative_to(shipped).with_suffix("")) for file in shipped.rglob("*.yaml"))
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return [*found, CompletionItem(incomplete, type="file")]
