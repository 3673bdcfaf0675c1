# SPDX-License-Identifier: Apache-2.0
"""The root command: finds its subcommands as files, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import ast
import difflib
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import click
from click.shell_completion import shell_complete
from rich.console import Console

from bitward import __version__
from bitward.cli._ending import Ending
from bitward.cli._options import with_metavars
from bitward.errors import BitwardError
from bitward.tools import COMPLETION_VARIABLE, completion_wanted, disk_sentence

FOLDER = Path(__file__).parent
FILE_COLUMNS = 240  # of output to a file or a pipe, which nobody wants cut to a terminal's width
FAILED = 1  # click's own 2 is for usage errors
SECTIONS = ("First steps", "From a network to hardware", "Faults", "Boards")


@dataclass(frozen=True)
class Session:
    """What the root options mean to every command: where progress goes (nowhere when quiet)."""

    console: Console
    quiet: bool


def session() -> Session:
    """The session of the command that is running."""
    return click.get_current_context().find_object(Session) or Session(Console(), quiet=False)


@cache
def _source(name: str) -> ast.Module:
    """A command's file, read without importing it."""
    return ast.parse((FOLDER / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8"))


def _summary(name: str) -> str:
    """The first line of a command file's docstring."""
    return (ast.get_docstring(_source(name)) or "").partition("\n")[0]


def _constant(name: str, wanted: str) -> str:
    """The text that a command's file gives to SECTION or KEPT; "" where it gives none."""
    for node in _source(name).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == wanted:
            return str(ast.literal_eval(node.value))
    return ""


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
        return with_metavars(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but an unknown command names the nearest ones, and `help COMMAND` is `COMMAND --help`."""
        if ctx.resilient_parsing and args[0] not in self.list_commands(ctx):  # a shell completes: nothing is said to it
            return None, None, []
        if args[0] == "help":
            args = [*args[1:2], "--help"]
        if args == ["--help"]:
            click.echo(ctx.get_help())
            ctx.exit()
        name = args[0]
        if name not in (known := self.list_commands(ctx)) and not name.startswith("-"):
            near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
            step = f"did you mean {' or '.join(near)}?" if near else "bitward --help lists them"
            raise click.UsageError(f"the command must be one of bitward's, got {name}: {step}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by what a person wants, each with its file's first line."""
        names = self.list_commands(ctx)
        column = max(map(len, names))
        for section in SECTIONS:
            rows = [(f"{name:<{column}}", _summary(name)) for name in names if _constant(name, "SECTION") == section]
            if rows:
                with formatter.section(section):
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
@click.version_option(__version__, message="bitward %(version)s")
@click.pass_context
def root(ctx: click.Context, debug: bool, quiet: bool) -> None:
    """Quantized networks for FPGAs: hardened against flips in their parameter memories, and attacked to prove it.

    \b
    Begin with:
      bitward doctor        what this machine can do
      bitward run digits    a whole experiment; ends with runs/digits/report.html
      bitward help COMMAND  all about a command
    """
    console = Console(quiet=quiet)
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    ctx.obj = Session(console, quiet)


def _sentence(error: BaseException) -> str | None:
    """What a person is told about an error that is not a bug; None for a bug."""
    if isinstance(error, BitwardError):
        return str(error)
    return disk_sentence(error) if isinstance(error, OSError) else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 ctrl-C, 143 SIGTERM."""
    if arguments is None and (wanted := completion_wanted()):
        return shell_complete(root, {}, "bitward", COMPLETION_VARIABLE, wanted)
    given = list(sys.argv[1:] if arguments is None else arguments)
    ctx: click.Context | None = None
    with Ending() as ending:
        try:
            ctx = root.make_context("bitward", given)
            with ctx:
                root.invoke(ctx)
            return 0
        except click.exceptions.Exit as stop:
            return stop.exit_code
        except click.ClickException as error:
            return _refuse(error)
        except (KeyboardInterrupt, click.Abort) as error:
            return _interrupted(error, ctx, ending)
        except BrokenPipeError:  # `bitward ... | head`: the reader has what it wanted
            sys.stdout = None
            return FAILED
        except Exception as error:  # noqa: BLE001  the one place where every error ends
            if ending.told:  # raised by what was cut off
                return _interrupted(error, ctx, ending)
            return _report(error, debug=_is_debug(ctx))


def _is_debug(ctx: click.Context | None) -> bool:
    return ctx is not None and bool(ctx.params["debug"])


def _refuse(error: click.ClickException) -> int:
    """Wrong usage in one sentence; without any argument, the help."""
    where = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.exceptions.NoArgsIsHelpError) or where is None:
        error.show()
    else:
        said = " ".join(error.format_message().split())
        print(f"bitward: {said} ({where.command_path} --help says more)", file=sys.stderr)
    return error.exit_code


def _interrupted(error: BaseException, ctx: click.Context | None, ending: Ending) -> int:
    """What is kept, and how to go on: where the command's file says so, in KEPT."""
    ending.heard()
    if _is_debug(ctx):
        traceback.print_exception(error)
    name = ctx.invoked_subcommand if ctx is not None else None
    kept = _constant(name, "KEPT") if name else ""
    print(f"bitward: interrupted{': ' + kept if kept else ''}", file=sys.stderr)
    return ending.exit_code


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
