# SPDX-License-Identifier: Apache-2.0
"""How commands are told a flow or a model: the path of a file, or the name of one that comes with bitward."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import click

from bitward.errors import ToolError
from bitward.tools import resource

if TYPE_CHECKING:
    from bitward.flow.spec import Flow

SHIPPED = click.option("--shipped", is_flag=True, help="Begin from the network's model that comes with bitward, "
                       "instead of training it; the folder is NAME-shipped.")  # fmt: skip


class _Shipped(click.ParamType):
    """A path; where there is no such file, a name stands for the file in `folder` with `suffix`."""

    folder: ClassVar[str]
    suffix: ClassVar[str]

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The file, which need not be there: whoever reads it says so."""
        path = Path(str(value))
        if path.is_file() or path.suffix or path.is_absolute():
            return path
        try:
            return resource(f"{self.folder}/{path}{self.suffix}")
        except ToolError:
            return path

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list:
        """Files, and the names of shipped ones."""
        from click.shell_completion import CompletionItem

        shipped = resource(self.folder)
        names = sorted(str(file.relative_to(shipped).with_suffix("")) for file in shipped.rglob(f"*{self.suffix}"))
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return [*found, CompletionItem(incomplete, type="file")]


class FlowFile(_Shipped):
    """A flow: "digits" or "fortune/vgg11-p3" where there is no such file."""

    name, folder, suffix = "flow", "flows", ".yaml"


class ModelFile(_Shipped):
    """A QONNX model: "digits_cnn" where there is no such file."""

    name, folder, suffix = "model", "onnx_models", ".onnx"


def hardware_flow(path: Path, shipped: bool) -> Flow:
    """The flow at the path, `shipped`: from its network's model that comes with bitward. UsageError: a software one."""
    from bitward.flow import load_flow
    from bitward.flow.kinds import is_sensitivity, is_software
    from bitward.flow.spec import from_shipped

    if shipped and (is_sensitivity(path) or is_software(path)):
        raise click.UsageError("--shipped goes with flows of networks that become hardware: run it without")
    loaded = load_flow(path)
    return from_shipped(loaded) if shipped else loaded
