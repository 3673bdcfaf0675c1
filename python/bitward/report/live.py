# SPDX-License-Identifier: Apache-2.0
"""Campaigns while they run: how far each is, what it found so far; and a run's page on loopback, as it is now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock

import pyarrow.compute as pc

from bitward.campaign import TrialStore
from bitward.campaign.query import has_changed, has_failed, is_left_out
from bitward.errors import BitwardError, ConfigError
from bitward.locks import is_held
from bitward.report.load import load_run
from bitward.report.page import page_of
from bitward.report.templates import template
from bitward.statistics import Interval, exact

LOOPBACK = "127.0.0.1"
EVERY_S = 2.0
MAIN = '<main id="content">'  # of every kind of page
REFRESH_S = 5
REFRESH = f'<meta http-equiv="refresh" content="{REFRESH_S}">'


@dataclass(frozen=True)
class Progress:
    """A campaign: trials done of those `planned` (None: without end), and how many changed a top-1 answer.

    `changed` is the exact interval of that share of the trials run; None before the first. `ended` says how it ended,
    "" where it has not, and then `is_running` whether a process is at work on it. Trials that failed count as changed,
    those that a screen left out are in no share.
    """

    name: str
    done: int
    planned: int | None
    failed: int
    critical: int
    changed: Interval | None
    ended: str
    is_running: bool

    @property
    def state(self) -> str:
        """How it ended, or whether it goes on, in words."""
        return self.ended or ("goes on" if self.is_running else "stopped; the same command goes on from here")


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
    counts = (has_failed(table), has_changed(table, "top1_changed"), is_left_out(table))
    failed, critical, left_out = (int(pc.sum(each).as_py() or 0) for each in counts)
    run = len(table) - left_out
    planned = store.spec.get("faults")
    return Progress(
        folder.name,
        len(table),
        planned if isinstance(planned, int) else None,
        failed,
        critical,
        exact(critical, run) if run else None,
        "" if result is None else str(result.get("ended", "ended")),
        is_held(folder),
    )


def watched(folder: Path, every_s: float = EVERY_S) -> Iterator[list[Progress]]:
    """What all campaigns of the folder are at, again and again, until no process is at work on the run or on one."""
    while True:
        is_used = is_held(folder)  # before looking: what ends meanwhile is looked at once more
        found = [progress_of(path) for path in campaigns_below(folder)]
        yield found
        if not is_used and not any(each.is_running for each in found):
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
        self._is_watched, self._last = False, Event()
        super().__init__((LOOPBACK, port), _Handler)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{LOOPBACK}:{self.server_address[1]}/"

    def page(self) -> str:
        """The page, at most `EVERY_S` old; it comes again by itself while a process is at work on the run."""
        with self._lock:
            if not self._text or time.monotonic() - self._made > EVERY_S:
                self._text, self._made = self._rendered(), time.monotonic()
            self._is_watched = True
            if REFRESH not in self._text:
                self._last.set()
            return self._text

    def see_off(self) -> None:
        """Whoever has the page open has got its last state: it is not asked for again."""
        if self._is_watched:
            self._last.wait(EVERY_S + 2 * REFRESH_S)

    def _rendered(self) -> str:
        with TemporaryDirectory() as drawn_in:  # whoever watches a run writes nothing into it
            text = page_of(load_run(self.folder), Path(drawn_in))
        is_used = is_held(self.folder)
        left = [each for each in map(progress_of, campaigns_below(self.folder)) if not each.ended]
        if is_used or any(each.is_running for each in left):
            return text.replace("<head>", f"<head>\n{REFRESH}", 1).replace(MAIN, f"{MAIN}\n{_strip(left, True)}", 1)
        return text.replace(MAIN, f"{MAIN}\n{_strip(left, False)}", 1) if left else text


def _strip(left: list[Progress], comes_again: bool) -> str:
    """What stands above all: campaigns that have not ended, how far they are and what they found so far."""
    return template("live.html").render(campaigns=left, comes_again=comes_again, every_s=REFRESH_S)


class _Handler(BaseHTTPRequestHandler):
    """GET / and nothing else."""

    server: LivePage

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server asks for
        """The page, or 404."""
        if self.path != "/":
            self.send_error(404)
            return
        try:
            self._send(200, "html", self.server.page())
        except BitwardError as error:  # a store that is being written, or a folder that went away
            self._send(503, "plain", str(error))

    def _send(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"text/{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status != 200:
            self.send_header("Refresh", str(REFRESH_S))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as http.server names it
        """Nothing: the terminal shows campaigns."""
