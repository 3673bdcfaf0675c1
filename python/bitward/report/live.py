# SPDX-License-Identifier: Apache-2.0
"""Campaigns while they run: how far each is, what it found so far; and a run's page on loopback, as it is now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

import pyarrow.compute as pc

from bitward.campaign import TrialStore
from bitward.errors import BitwardError, ConfigError
from bitward.report.load import has_changed, load_run
from bitward.report.page import render
from bitward.statistics import Interval, exact

LOOPBACK = "127.0.0.1"
EVERY_S = 2.0
REFRESH = '<meta http-equiv="refresh" content="5">'


@dataclass(frozen=True)
class Progress:
    """A campaign: trials done of those `planned` (None: without end), and how many changed a top-1 answer.

    `changed` is the exact interval of that share; None before the first trial. `ended` says how it ended, "" while it
    goes on. Trials that failed count as changed.
    """

    name: str
    done: int
    planned: int | None
    failed: int
    critical: int
    changed: Interval | None
    ended: str


def campaigns_below(folder: Path) -> list[Path]:
    """The folders of campaigns: `folder` itself, or those in a run's `campaigns` that were not moved aside to NAME.old.

    ConfigError where there is none.
    """
    if (folder / "spec.json").is_file():
        return [folder]
    found = sorted(path.parent for path in (folder / "campaigns").rglob("spec.json"))
    found = [path for path in found if not path.suffix.startswith(".old")]
    if not found and not (folder / "summary.json").is_file():
        raise ConfigError(f"{folder} must be a run's or a campaign's folder, got one without trials: name another")
    return found


def progress_of(folder: Path) -> Progress:
    """The campaign as it is now; StoreError where it is damaged."""
    store = TrialStore.load(folder)
    table, result = store.read(), store.result()
    failed = int(pc.sum(pc.not_equal(table["status"], "done")).as_py() or 0)
    critical = int(pc.sum(has_changed(table["top1_changed"])).as_py() or 0)
    planned = store.spec.get("faults")
    return Progress(
        folder.name,
        len(table),
        planned if isinstance(planned, int) else None,
        failed,
        critical,
        exact(critical, len(table)) if len(table) else None,
        "" if result is None else str(result.get("ended", "ended")),
    )


def watched(folder: Path, every_s: float = EVERY_S) -> Iterator[list[Progress]]:
    """What all campaigns of the folder are at, again and again, until all have ended."""
    while True:
        found = [progress_of(path) for path in campaigns_below(folder)]
        yield found
        if found and all(each.ended for each in found):
            return
        time.sleep(every_s)


class LivePage(ThreadingHTTPServer):
    """Serves the page of a run's folder, as `bitward report` writes it, made anew when asked; on loopback alone."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        """ConfigError where the folder is no run's. Port 0 is any that is free: see `url`."""
        load_run(folder)
        self.folder = folder
        self._lock, self._made, self._text = Lock(), 0.0, ""
        super().__init__((LOOPBACK, port), _Handler)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{LOOPBACK}:{self.server_address[1]}/"

    def page(self) -> str:
        """The page, at most `EVERY_S` old; it comes again by itself while a campaign goes on."""
        with self._lock:
            if not self._text or time.monotonic() - self._made > EVERY_S:
                self._text, self._made = self._rendered(), time.monotonic()
            return self._text

    def _rendered(self) -> str:
        text = render(load_run(self.folder))
        open_ = [path for path in campaigns_below(self.folder) if not (path / "result.json").is_file()]
        return text.replace("<head>", f"<head>\n{REFRESH}", 1) if open_ else text


class _Handler(BaseHTTPRequestHandler):
    """GET / and nothing else."""

    server: LivePage

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server asks for
        """The page, or 404."""
        if self.path != "/":
            self.send_error(404)
            return
        try:
            body = self.server.page().encode()
        except BitwardError as error:  # a store that is being written, or a folder that went away
            self.send_error(503, explain=str(error))
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as http.server names it
        """Nothing: the terminal shows campaigns."""
