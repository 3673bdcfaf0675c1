# SPDX-License-Identifier: Apache-2.0
"""Inject single-bit faults into a flow's build, on engine, RTL or board."""

from __future__ import annotations

from pathlib import Path

import click

from bitward.cli import session
from bitward.cli.train import DATA


@click.command()
@click.argument("flow", type=click.Path(path_type=Path))
@click.option("--on", type=click.Choice(["engine", "rtl", "board"]), default="engine", show_default=True,
              help="Software prediction, RTL simulation, or a board.")  # fmt: skip
@click.option("--side", type=click.Choice(["plain", "hardened"]), default="hardened", show_default=True,
              help="Which of the flow's builds.")  # fmt: skip
@click.option("--per-stratum", type=click.IntRange(1), help="Faults per memory and bit (default: the flow's).")
@click.option("--images", type=click.IntRange(1), help="Test images per fault (default: the flow's).")
@click.option("--seed", type=click.IntRange(0), help="Seed of the draw (default: the flow's).")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes (engine and rtl).")
@click.option("--host", help="Board to use; without it a virtual board is started.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=7967, show_default=True, help="Port of the board's server."
)
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"), show_default=True,
              help="Folder of all runs; this one's is in it by its name.")  # fmt: skip
@DATA
@click.option("--restart", is_flag=True, help="Move trials of a campaign with other settings aside and begin anew.")
def command(
    flow: Path, on: str, side: str, per_stratum: int | None, images: int | None, seed: int | None, workers: int,
    host: str | None, port: int, runs: Path, data: Path | None, restart: bool,
) -> None:  # fmt: skip
    """Inject faults into weights and thresholds of FLOW's build, stratified by memory and bit; builds it if need be.

    The same seed gives the same faults on every target. After each fault the memory is restored, and at the end it is
    read back against the golden image. Trials survive kill -9: start again to go on.
    """
    from bitward.flow import load_flow, prepare
    from bitward.flow.attack import Place, single_bit_stratified
    from bitward.flow.stages import attack_with, campaign_parts

    spec = load_flow(flow)
    changes = {"per_stratum": per_stratum, "images": images, "seed": seed}
    settings = spec.inject.model_copy(update={name: value for name, value in changes.items() if value is not None})
    spec = spec.model_copy(update={"inject": settings})
    console = session().console
    run = prepare(spec, runs, console, to="build", data=data)
    manifest, _golden = campaign_parts(run, side)  # type: ignore[arg-type]
    faults = single_bit_stratified(manifest, settings.per_stratum, settings.seed)
    place = Place(on, run.build(side), host, port)  # type: ignore[arg-type]
    workers = 1 if on == "board" else workers
    found = attack_with(run, f"inject-{side}-{on}", place, faults, settings.images, workers, restart)
    console.print(
        f"{found['faults']} faults: {found['changed']} changed an output, {found['top1_changed']} a decision; "
        f"memories restored: {'yes' if found['restored_golden'] else 'NO'}"
    )
    click.echo(run.campaign(f"inject-{side}-{on}"))
