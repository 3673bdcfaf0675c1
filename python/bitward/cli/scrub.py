# SPDX-License-Identifier: Apache-2.0
"""Scrub a build's memories: read, vote, write back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitward.cli._board import board_options
from bitward.cli._options import Titled
from bitward.errors import ConfigError

if TYPE_CHECKING:
    from bitward_runtime.connection import Connection
    from bitward_runtime.scrub import Pass

    from bitward.targets import Target

SECTION = "Boards"


@click.command(cls=Titled)
@click.argument("build_dir", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--on", type=click.Choice(["engine", "rtl", "board"]), default="board", show_default=True,
              help="Software prediction, RTL simulation, or a board.")  # fmt: skip
@board_options()
@click.option("--no-load", is_flag=True, help="Take the board as it is, upsets and all; needs --host.")
@click.option("--every", "every_s", type=click.FloatRange(0), default=0.0, show_default=True, metavar="SECONDS",
              help="Begin a pass so often.")  # fmt: skip
@click.option("--passes", type=click.IntRange(1), default=1, show_default=True, help="Passes in all.")
@click.option("--upsets", type=click.IntRange(0), default=0, show_default=True,
              help="Before each pass, flip so many stored bits at random; at the end all are golden.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of these upsets.")
def command(
    build_dir: Path, on: str, connection: Connection, no_load: bool, every_s: float, passes: int, upsets: int, seed: int
) -> None:
    """Scrub the memories of the build in DIR that have redundancy, pass by pass, and count what was corrected.

    A pass reads every row, decodes it, encodes it again and writes it back where that differs; rows known to be wrong
    beyond correction are counted and left. A board whose server has bitward's extension does all of that itself, by its
    own clock. Opening a board loads its overlay, so all begin without an upset, unless --no-load takes it as it is:
    with --every and many --passes the board stays held and is kept clean; --upsets makes upsets, uniform over the
    stored bits of the memories that are scrubbed. Scrubbing a KV260 has not yet run on hardware.

    \b
    Example:
      bitward scrub runs/digits/build/hardened --upsets 20 --passes 3
    """
    from bitward_runtime.scrub import has_redundancy, scrub
    from bitward_runtime.upsets import Upsets

    from bitward.flow.attack import Place

    place = Place(on, build_dir, connection.host, connection.port, connection.credentials)  # type: ignore[arg-type]
    if no_load and (on != "board" or connection.host is None):
        raise ConfigError(f"--no-load must go with a board's --host, got {on} without: nothing is loaded there yet")
    with _as_it_is(build_dir, connection) if no_load else place.target() as target:
        redundant = [memory for memory in target.manifest.memories if has_redundancy(memory)]
        made = Upsets(target, redundant, seed) if upsets and redundant else None
        try:
            done = scrub(target, passes, every_s, before=partial(made.strike, upsets) if made else None, each=_tell)
            if made:
                click.echo(f"upsets: {made.count} made, {made.left()} stored bits still differ; golden again now")
        finally:
            if made:
                made.restore()
    _tell_all(done, on)


def _as_it_is(build_dir: Path, connection: Connection) -> Target:
    from bitward.targets.board import BoardTarget

    return BoardTarget(build_dir, connection.host, connection.port, connection.credentials, load=False)


def _tell(number: int, done: Pass) -> None:
    found = done.total
    click.echo(
        f"pass {number}: {found.corrected} words corrected ({found.bits} bits in {found.written} rows), "
        f"{found.detected} detected only, {found.rows} rows in {done.seconds:.4f} s"
    )


def _tell_all(done: Sequence[Pass], on: str) -> None:
    """Memory by memory over all passes, and how long a pass took."""
    for of_one in zip(*(each.memories for each in done), strict=True):
        corrected, detected = (sum(getattr(each, name) for each in of_one) for name in ("corrected", "detected"))
        seconds = sum(each.seconds for each in of_one) / len(of_one)
        click.echo(
            f"{of_one[0].memory}: {of_one[0].rows} rows, {corrected} words corrected, {detected} detected only, "
            f"{seconds:.4f} s a pass"
        )
    mean = sum(each.seconds for each in done) / len(done)
    click.echo(f"{len(done)} passes, {mean:.4f} s each on average{'' if on == 'board' else ', of ' + on}")
