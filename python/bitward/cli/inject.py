# SPDX-License-Identifier: Apache-2.0
"""Inject faults into a flow's build, on engine, RTL or board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitward.cli import session
from bitward.cli._board import BoardKind, board_options
from bitward.cli._flow import SHIPPED, FlowFile, hardware_flow
from bitward.cli._options import Titled, titled
from bitward.cli.train import DATA
from bitward.errors import ConfigError

if TYPE_CHECKING:
    from bitward_runtime.connection import Connection

    from bitward.flow.spec import Inject

SECTION = "Faults"
KEPT = "finished trials are kept: the same command goes on from there"

MODELS = ("single", "uniform", "layers", "exact", "ber", "burst", "replay")
METRICS = ("top1_changed", "outputs_changed", "top1_change_rate")
# Options that no flow has.
HERE = ("workers", "on", "side", "connections", "runs", "data", "restart", "scheduler", "shipped")

FAULTS = (
    click.option("--model", type=click.Choice(MODELS), help="How faults are drawn (default: the flow's, or single)."),
    click.option("--per-stratum", type=click.IntRange(1), help="single: faults per memory and bit."),
    click.option("--flips", type=click.IntRange(1), help="exact, layers: distinct bits per trial."),
    click.option("--ber", type=click.FloatRange(0, 1, min_open=True), help="ber: flips per stored bit."),
    click.option("--burst", type=click.IntRange(1), help="burst: adjacent bits of a row."),
    click.option("--faults-from", metavar="PATH", type=click.Path(exists=True, path_type=Path),
                 help="replay: a campaign's folder, or a text file of faults such as conv1:3:17, a trial a line."),
    click.option("--stuck", type=click.Choice(["0", "1"]), help="Bits stick at this value instead of being inverted."),
    click.option("--memory", "memories", multiple=True, help="Into this memory only; may be given again."),
    click.option("--bit", "bits", multiple=True, type=click.IntRange(0),
                 help="Into this bit of stored words only; may be given again."),
    click.option("--seed", type=click.IntRange(0), help="Seed of the draw."),
)  # fmt: skip
RULES = (
    click.option("--trials", type=click.IntRange(1), help="Trials at most (default: the sample for 2.5 points, 95 %)."),
    click.option("--margin", type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
                 help="Stop when the interval is this narrow to each side: 0.01 is one point."),
    click.option("--confidence", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Of that interval."),
    click.option("--metric", type=click.Choice(METRICS), help="What that interval is of."),
    click.option("--audit", type=click.FloatRange(0, 1, min_open=True),
                 help="Leave out trials that a first-order bound says cannot matter, but for this share."),
    click.option("--timeout", "timeout_s", type=click.FloatRange(0, min_open=True),
                 help="Seconds after which a trial is given up, its process ended if need be; trials go one by one."),
    click.option("--images", type=click.IntRange(1), help="Test images per trial."),
)  # fmt: skip


@click.command(cls=Titled)
@click.argument("flow", type=FlowFile())
@click.option("--on", type=click.Choice(["engine", "rtl", "board", "torch"]), default="engine", show_default=True,
              help="Software prediction, RTL simulation, a board; torch for a flow of a float network.")  # fmt: skip
@click.option("--side", type=click.Choice(["plain", "hardened"]), default="hardened", show_default=True,
              help="Which of the flow's builds.")  # fmt: skip
@titled("Which faults", *FAULTS)
@titled("How many, and when to stop", *RULES)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes (engine and rtl).")
@click.option("--scheduler", metavar="local|tcp://...", help="Work on Dask: here, or on the cluster at this address.")
@click.option("--board", type=BoardKind(), metavar="KIND",
              help="Kind of the boards (default: virtual); a real one loads what make bitstream left.")  # fmt: skip
@board_options(many=True)
@SHIPPED
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"), show_default=True,
              help="Folder of all runs; this one's is in it by its name.")  # fmt: skip
@DATA
@click.option("--restart", is_flag=True, help="Move trials of a campaign with other settings aside and begin anew.")
def command(flow: Path, **given: Any) -> None:
    """Inject faults into weights and thresholds of FLOW's build, as --model draws them; builds it if need be.

    What is not given here is as the flow has it. The same seed gives the same faults on every target. After each trial
    the memory is restored, and at the end it is read back against the golden image. Trials survive kill -9: start again
    to go on. `bitward trials` looks at them.

    Several boards (--host A --host B) share the trials. A trial that a board fails is run once more; failing again is
    its outcome. A board that is lost, or needs that too often, is set aside, and the others do what it left. On a KV260
    this has not yet run.

    \b
    Examples:
      bitward inject digits --on rtl
      bitward inject digits --model ber --ber 1e-4 --margin 0.02 --workers 2
    """
    from bitward.flow import prepare
    from bitward.flow.attack import Place
    from bitward.flow.boards import connections_of, places_of
    from bitward.flow.kinds import is_software
    from bitward.flow.rules import model_of, rules_of
    from bitward.flow.stages import attack_with
    from bitward.manifest import Manifest

    here = {name: given.pop(name) for name in HERE}
    if not here["shipped"] and is_software(flow):
        _inject_software(flow, given, here)
        return
    if here["on"] == "torch":
        raise ConfigError(f"--on torch must go with a flow of a float network, got {flow}: take engine, rtl or board")
    spec = hardware_flow(flow, here["shipped"])
    settings = _changed(spec.inject, given)
    spec = spec.model_copy(update={"inject": settings})
    side, on = here["side"], here["on"]
    if on == "board" and here["scheduler"]:
        raise ConfigError("--scheduler must go with engine or rtl, got board: a board answers to one process alone")
    run = prepare(spec, here["runs"], session().console, to="build", data=here["data"])
    connections: tuple[Connection, ...] = here["connections"]
    if connections[0].host is None:
        connections = connections_of(settings)
    places: tuple[Place, ...] = (Place(on, run.build(side)),)
    if on == "board":
        places = places_of(run, settings.board, side, connections)
    model = model_of(settings, Manifest.load(places[0].build / "manifest.json"))
    rules = rules_of(settings, model, here["scheduler"])
    name = f"inject-{side}-{on}" if settings.model == "single" else f"inject-{settings.model}-{side}-{on}"
    workers = 1 if on == "board" else here["workers"]
    place, *more = places
    found = attack_with(run, name, place, model, settings.images, workers, here["restart"], rules, more)
    _tell(found, settings)
    click.echo(run.campaign(name))


def _inject_software(flow: Path, given: dict[str, Any], here: dict[str, Any]) -> None:
    """The campaign on a flow of a float network, of which there is no other target than torch."""
    from bitward.flow.software_inject import Where, defaults_of, inject_software
    from bitward.flow.software_spec import load_software_flow

    if here["on"] in ("rtl", "board"):
        raise ConfigError(f"--on must be torch for a float network, of which no hardware is built, got {here['on']}")
    spec = load_software_flow(flow)
    settings = _changed(defaults_of(spec), given)
    where = Where(here["runs"], here["data"], here["workers"], here["scheduler"], here["restart"])
    folder, found = inject_software(spec, settings, where, session().console)
    session().console.print("software-only: a float network in PyTorch, its weights as they are read from stored words")
    _tell(found, settings)
    click.echo(folder)


def _tell(found: dict[str, Any], settings: Inject) -> None:
    """What the campaign found, in a line or two."""
    from bitward.campaign.query import boards_text

    console = session().console
    if settings.model != "single":
        console.print(f"{found['model']}; {found['flips']}", markup=False, soft_wrap=True)
    console.print(
        f"{found['faults']} {'faults' if settings.model == 'single' else 'trials'}: {found['changed']} changed an "
        f"output, {found['top1_changed']} a decision, {found['failed']} failed"
        f"{' (and count as both)' if found['failed'] else ''}; memories restored: "
        f"{'yes' if found['restored_golden'] else 'NO'}",
        soft_wrap=True,
    )
    if said := boards_text(found):
        console.print(said, markup=False, soft_wrap=True)
    if found["interval"]:
        at = {name: f"{100 * value:.3g} %" for name, value in found["interval"].items()}
        console.print(
            f"{settings.metric}: {at['estimate']} \\[{at['low']}, {at['high']}], {found['method']}; {found['ended']}",
            soft_wrap=True,
        )


def _changed(settings: Inject, given: dict[str, Any]) -> Inject:
    """The flow's settings with what the command line gives; what the flow says of another model is left out."""
    from bitward.flow.spec import BELONGS

    changes = {name: value for name, value in given.items() if value not in (None, ())}
    if "stuck" in changes:
        changes["stuck"] = int(changes["stuck"])
    model = changes.get("model", settings.model)
    others = [name for name, models in BELONGS.items() if model not in models]
    return settings.model_copy(update={**dict.fromkeys(others), **changes})
