# SPDX-License-Identifier: Apache-2.0
"""Scrub a build's memories: read, vote, write back."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bitward_runtime.scrub import Pass


@click.command()
@click.argument("build_dir", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--on", type=click.Choice(["engine", "rtl", "board"]), default="board", show_default=True,
              help="Software prediction, RTL simulation, or a board.")  # fmt: skip
@click.option("--host", help="Board to use; without it a virtual board is started.")
@click.option("--port", type=click.IntRange(1, 65535), default=7967, show_default=True,
              help="Port of the board's server.")  # fmt: skip
@click.option("--every", "every_s", type=click.FloatRange(0), default=0.0, show_default=True, metavar="SECONDS",
              help="Begin a pass so often.")  # fmt: skip
@click.option("--passes", type=click.IntRange(1), default=1, show_default=True, help="Passes in all.")
@click.option("--upsets", type=click.IntRange(0), default=0, show_default=True,
              help="Before each pass, flip so many stored bits at random; at the end all are golden.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of these upsets.")
def command(
    build_dir: Path, on: str, host: str | None, port: int, every_s: float, passes: int, upsets: int, seed: int
) -> None:
    """Scrub the memories of the build in DIR that have redundancy, pass by pass, and count what was corrected.

    A pass reads every row, decodes it, encodes it again and writes it back where that differs; rows known to be wrong
    beyond correction are counted and left. Opening a board loads its overlay, so all begin without an upset: with
    --every and many --passes the board stays held and is kept clean; --upsets makes upsets, uniform over the stored
    bits of the memories that are scrubbed. Scrubbing a KV260 has not yet run on hardware.
    """
    from bitward_runtime.scrub import has_redundancy, scrub
    from bitward_runtime.upsets import Upsets

    from bitward.flow.attack import Place

    with Place(on, build_dir, host, port).target() as target:  # type: ignore[arg-type]
        redundant = [memory for memory in target.manifest.memories if has_redundancy(memory)]
        made = Upsets(target, redundant, seed) if upsets and redundant else None
        try:
            done = scrub(target, passes, every_s, before=partial(made.strike, upsets) if made else None, each=_tell)
            if made:
                click.echo(f"upsets: {made.count} made, {made.left()} stored bits still differ; golden again now")
        finally:
            if made:
                made.restore()
    for memory in done[-1].memories:
        click.echo(f"{memory.memory}: {memory.rows} rows")
    mean = sum(each.seconds for each in done) / len(done)
    click.echo(f"{len(done)} passes, {mean:.4f} s each on average{'' if on == 'board' else ', of ' + on}")


def _tell(number: int, done: Pass) -> None:
    found = done.total
    click.echo(
        f"pass {number}: {found.corrected} words corrected ({found.bits} bits in {found.written} rows), "
        f"{found.detected} detected only, {found.rows} rows in {done.seconds:.4f} s"
    )
