# SPDX-License-Identifier: Apache-2.0
"""The command `bitward`: one file here per command.

To add `bitward frob`, write `cli/frob.py`; nothing else changes. Its docstring's first line is the help in the list
(read without importing the file, so that `bitward --help` stays quick), and it has a click command named `command`:

    \"""Frob a model.\"""
    import click
    from bitward.cli import session

    SECTION = "From a network to hardware"         # what it stands under in bitward --help: one of _main.SECTIONS
    KEPT = "what is frobbed is kept: ..."          # what ctrl-C says, where anything is kept

    @click.command()
    @click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    def command(model: Path) -> None:
        \"""Frob MODEL until it is frobbed.

        \\b
        Example:
          bitward frob net.onnx
        \"""
        from bitward.rewrites import frob          # heavy imports go here

        frob(model)                                # BitwardError -> one sentence, exit code 1
        session().console.print(f"frobbed {model}")

A command may be a `click.Group`. Files that begin with an underscore are no commands; a dash in a name is an underscore
in the file's.
"""

from bitward.cli._main import Session, main, session

__all__ = ["Session", "main", "session"]
