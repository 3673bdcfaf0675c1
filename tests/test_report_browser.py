# SPDX-License-Identifier: Apache-2.0
"""Every page in headless Chromium: nothing on the console, nothing cut off, headings in order, all within reach."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from threading import Thread

import pytest
import report_run
from browser import SIZES, complaints, looked_at
from test_report_export import stored
from test_report_graph import hardware_graph
from test_report_rates import folder

from bitward import locks
from bitward.report import write_comparison, write_report
from bitward.report.live import LivePage

rated, networks = folder, stored


def hardware_page(rated: Path) -> Path:
    hardware_graph(rated / "build" / "hardened")
    return write_report(rated)


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_the_page_of_a_run_of_hardware(rated: Path, tmp_path: Path, width: int, scheme: str) -> None:
    assert complaints(looked_at(hardware_page(rated), tmp_path, width, scheme)) == {}


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_the_page_of_software_only_work(networks: list[Path], tmp_path: Path, width: int, scheme: str) -> None:
    assert complaints(looked_at(write_report(networks[0]), tmp_path, width, scheme)) == {}


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_the_page_that_compares(networks: list[Path], tmp_path: Path, width: int, scheme: str) -> None:
    report_run.write_run(tmp_path / "one")
    page = write_comparison([*networks, tmp_path / "one"], tmp_path / "page.html")
    assert complaints(looked_at(page, tmp_path, width, scheme)) == {}


@pytest.mark.parametrize(("width", "scheme"), SIZES[1:2])
def test_a_live_page_and_that_of_a_run_that_stopped(rated: Path, tmp_path: Path, width: int, scheme: str) -> None:
    (rated / "campaigns" / "msb-plain" / "result.json").unlink()
    held = locks.hold(rated)
    server = LivePage(rated)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        text = urllib.request.urlopen(server.url, timeout=60).read().decode()
    finally:
        server.shutdown()
        server.server_close()
        held.close()  # type: ignore[union-attr]
    assert 'http-equiv="refresh"' in text
    (tmp_path / "live.html").write_text(text)
    assert complaints(looked_at(tmp_path / "live.html", tmp_path, width, scheme)) == {}
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "summary.json").write_text("{}")
    assert complaints(looked_at(write_report(tmp_path / "empty"), tmp_path, width, scheme)) == {}


def test_the_browser_sees_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<html><title>x</title><style>:focus-visible { outline: none; }</style><h1>a</h1><h3>b</h3><img src='data:,'>"
        "<p style='width:900px'>wide</p><table><tr><td>1</td></tr></table><svg></svg><a href='#'>c</a>"
    )
    found = complaints(looked_at(page, tmp_path, 390, "light"))
    assert set(found) == {"overflow", "skipped", "speechless", "loose", "ringless", "cut", "page"}
