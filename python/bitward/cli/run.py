# SPDX-License-Identifier: Apache-2.0
"""Run a flow: train, export, harden, build, verify, inject, report."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from bitward.cli import session
from bitward.cli._flow import SHIPPED, FlowFile, hardware_flow
from bitward.cli.train import DATA

SECTION = "First steps"
KEPT = "finished stages and trials are kept: the same command goes on from there"


@click.command()
@click.argument("flow", type=FlowFile())
@click.option("--to", metavar="STAGE", help="Stop after this stage.")
@click.option("--force", metavar="STAGE", help="Run this stage and what follows it, though nothing changed.")
@SHIPPED
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"), show_default=True,
              help="Folder of all runs; this one's is in it by its name.")  # fmt: skip
@DATA
def command(flow: Path, to: str | None, force: str | None, shipped: bool, runs: Path, data: Path | None) -> None:
    """Run the experiment of the YAML file FLOW; stages that nothing changed for are not run again.

    Leaves runs/NAME/ with summary.json and report.html. An interrupted run goes on where it stopped. A flow of a
    classic float network (vgg11_bn, resnet18 ...) is software-only: train, quantize, attack, report. One of a network
    that labels pixels (hsi_unet3_relu ...) tells what upsets of its parameters do: train, analyse, report.

    Faults of another model are injected too where FLOW has, for example, inject: {model: ber, ber: 1.0e-5}. All options
    of bitward inject that say which faults, and when to stop, are keys there.

    \b
    Examples:
      bitward run digits
      bitward run flows/digits-mlp.yaml --to build
    """
    from bitward.flow import run_flow
    from bitward.flow.kinds import is_sensitivity, is_software
    from bitward.flow.told import say

    console = session().console
    if not shipped and is_sensitivity(flow):
        _run_sensitivity(flow, runs, to, force, data)
        return
    if not shipped and is_software(flow):
        _run_software(flow, runs, to, force, data)
        return
    folder, summary = run_flow(hardware_flow(flow, shipped), runs, console, to, force, data)
    msb = summary["msb_faults"]
    if isinstance(msb, dict):
        say(
            console,
            f"MSB faults: {msb['changed_plain']} of {msb['injected_plain']} changed an output of the plain design, "
            f"{msb['changed_hardened']} of {msb['injected']} (copies included) of the hardened one",
        )
    if to not in (None, "report"):
        click.echo(folder / "summary.json")
        return
    for line in _next(flow, shipped, folder, runs):
        say(console, line)
    click.echo(folder / "report.html")


def _next(flow: Path, shipped: bool, folder: Path, runs: Path) -> list[str]:
    """What to look at after a first run; the report's path follows."""
    path, named = quote(str(folder)), quote(str(flow)) + (" --shipped" if shipped else "")
    where = "" if runs == Path("runs") else f" --runs {quote(str(runs))}"
    return [
        "",
        "to go on:",
        f"  bitward trials {path}/campaigns/strata-plain    the faults of a campaign, by memory and bit",
        f"  bitward inject {named} --on rtl{where}    more faults, drawn as you say",
        f"  bitward emulate {path}/build/hardened    a virtual KV260, for any PYNQ client",
        "and the report, in a browser:",
    ]


def _run_software(flow: Path, runs: Path, to: str | None, force: str | None, data: Path | None) -> None:
    """A flow of a float network has run; what it found is told in a line a rate."""
    from bitward.explore.seeds import over_seeds
    from bitward.explore.text import points
    from bitward.flow.software import run_software
    from bitward.flow.software_spec import load_software_flow

    console = session().console
    folder, summary = run_software(load_software_flow(flow), runs, console, to, force, data)
    for (spread, ber), found in over_seeds(summary.get("vulnerability", [])).items():
        flips = found["rows"][0]["flips"][0]
        console.print(
            f"{summary['stored_as']}, software-only, {ber:g} over {spread} ({flips:,.1f} flips a trial): "
            f"{points(found['drop'])} points lost [{points(found['low'])}, {points(found['high'])}]",
            soft_wrap=True,
            markup=False,
        )
    click.echo(folder / "report.html" if to in (None, "report") else folder)


def _run_sensitivity(flow: Path, runs: Path, to: str | None, force: str | None, data: Path | None) -> None:
    """A flow of a network that labels pixels has run; what it found is told in a line a seed."""
    from bitward.explore.text import with_interval
    from bitward.flow.sensitivity import run_sensitivity
    from bitward.flow.sensitivity_spec import load_sensitivity_flow
    from bitward.statistics import Interval

    console = session().console
    folder, summary = run_sensitivity(load_sensitivity_flow(flow), runs, console, to, force, data)
    for found in summary.get("seeds", []):
        console.print(
            f"{summary['stored_as']}, software-only, seed {found['seed']}: "
            f"{with_interval(Interval(**found['mean']))} % of pixels change by one flip, "
            f"mean over parameter sets and bits ({found['faults']:,} faults)",
            soft_wrap=True,
            markup=False,
        )
    click.echo(folder / "report.html" if to in (None, "report") else folder)
