# SPDX-License-Identifier: Apache-2.0
"""Download a published dataset, checked by its sums."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from bitward.cli import session

SECTION = "From a network to hardware"
KEPT = "what was fetched is kept: the same command goes on from there"


@click.command()
@click.argument("name")
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False),
              help="Folder for its files, to be given as --data later.  [default: NAME below BITWARD_DATA, or below "
              "bitward's cache, where it is found again]")  # fmt: skip
def command(name: str, folder: Path | None) -> None:
    """Download the dataset NAME (cifar10 or fashion_mnist) from its authors, and print the paths of its files.

    Every file is checked by the sum that its authors published; what is there already is not fetched again, and a
    download that was cut off goes on.

    \b
    Example:
      bitward data cifar10
    """
    from bitward.datasets import download_folder, published_files
    from bitward.datasets._download import download

    files = published_files(name)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=session().console, transient=True) as progress:
        for file in files:
            task = progress.add_task(file.name, total=None)
            path = download(file, folder or download_folder(name), partial(_tell, progress, task))
            click.echo(path)


def _tell(progress: Progress, task: TaskID, done: int, total: int | None) -> None:
    progress.update(task, completed=done, total=total)
