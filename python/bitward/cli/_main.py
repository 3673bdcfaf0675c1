# SPDX-License-Identifier: Apache-2.0
"""The root command: finds its subcommands as files, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import ast
import difflib
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import click
from rich.console import Console

from bitward.errors import BitwardError
from bitward.tools import disk_sentence

FOLDER = Path(__file__).parent
FAILED, INTERRUPTED = 1, 130  # click's own 2 is for usage errors


@dataclass(frozen=True)
class Session:
    """What the root options mean to every command: where progress goes (nowhere when quiet)."""

    console: Console
    quiet: bool


def session() -> Session:
    """The session of the command that is running."""
    return click.get_current_context().find_object(Session) or Session(Console(), quiet=False)


def _summary(file: Path) -> str:
    """The first line of a command file's docstring, without importing the file."""
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


class CommandFolder(click.Group):
    """A group whose subcommands are the files of `cli/`, imported only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name, sorted."""
        return sorted(file.stem.replace("_", "-") for file in FOLDER.glob("[!_]*.py"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported; None when no file has its name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"bitward.cli.{cmd_name.replace('-', '_')}").command
        command.name = cmd_name
        if not any(option.name == "debug" for option in command.params):
            command.params.append(_debug_option())
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but an unknown command names the nearest ones."""
        name = args[0]
        if name not in (known := self.list_commands(ctx)) and not name.startswith("-"):
            near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
            step = f"did you mean {' or '.join(near)}?" if near else "bitward --help lists them"
            raise click.UsageError(f"the command must be one of bitward's, got {name}: {step}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, each with its file's first line."""
        rows = [(name, _summary(FOLDER / f"{name.replace('-', '_')}.py")) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().params["debug"] = True


def _debug_option() -> click.Option:
    """--debug is understood after the command's name too, where people type it."""
    return click.Option(["--debug"], is_flag=True, hidden=True, expose_value=False, callback=_set_debug)


@click.group(cls=CommandFolder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option("-q", "--quiet", is_flag=True, help="Print results and errors only.")
@click.version_option(package_name="bitward", message="bitward %(version)s")
@click.pass_context
def root(ctx: click.Context, debug: bool, quiet: bool) -> None:
    """Quantized networks for FPGAs: hardened against flips in their parameter memories, and attacked to prove it."""
    ctx.obj = Session(Console(quiet=quiet), quiet)


def _sentence(error: BaseException) -> str | None:
    """What a person is told about an error that is not a bug; None for a bug."""
    if isinstance(error, BitwardError):
        return str(error)
    return disk_sentence(error) if isinstance(error, OSError) else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    ctx: click.Context | None = None
    try:
        ctx = root.make_context("bitward", given)
        with ctx:
            root.invoke(ctx)
        return 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print("bitward: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `bitward ... | head`: the reader has what it wanted
        sys.stdout = None
        return FAILED
    except Exception as error:  # noqa: BLE001  the one place where every error ends
        return _report(error, debug=ctx is not None and ctx.params["debug"])


def _report(error: Exception, debug: bool) -> int:
    sentence = _sentence(error)
    if debug:
        traceback.print_exception(error)
    elif sentence is None:
        print(
            f"bitward: internal error, {type(error).__name__}: {error} "
            "(a bug in bitward: bitward --debug shows where; please report it)",
            file=sys.stderr,
        )
    if sentence is not None:
        print(f"bitward: {sentence}", file=sys.stderr)
    return FAILED
