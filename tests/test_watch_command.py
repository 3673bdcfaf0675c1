# SPDX-License-Identifier: Apache-2.0
"""`bitward watch`: campaigns while they go on, in a table and on the run's own page, served on loopback alone."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import report_run

from bitward import locks
from bitward.campaign import TrialStore
from bitward.cli import main
from bitward.errors import ConfigError
from bitward.report import live
from bitward.report.live import LOOPBACK, REFRESH, LivePage, campaigns_below, progress_of, watched
from bitward.statistics import exact


def _unfinished(folder: Path, rows: list, planned: int) -> TrialStore:
    store = TrialStore.open(folder, {"faults": planned, "design": folder.name})
    store.append(rows)
    return store


@pytest.fixture
def rows() -> list:
    return report_run.campaigns()["strata-plain"]


def test_progress_is_counted_from_the_trials(tmp_path: Path, rows: list) -> None:
    with _unfinished(tmp_path / "one", rows[:30], len(rows)) as store:
        found = progress_of(tmp_path / "one")
        critical = sum(trial.top1_changed > 0 for trial in rows[:30])
        assert (found.done, found.planned, found.critical, found.ended) == (30, len(rows), critical, "")
        assert found.changed == exact(critical, 30)
        store.append([replace(rows[30], status="failed", outputs_changed=None, top1_changed=None, top1_correct=None,
                              outputs_sha256=None)])  # fmt: skip
        again = progress_of(tmp_path / "one")
        assert (again.done, again.failed, again.critical) == (31, 1, critical + 1)


def test_trials_that_a_screen_left_out_changed_nothing_and_are_in_no_share(tmp_path: Path, rows: list) -> None:
    nothing = dict.fromkeys(("outputs_changed", "top1_changed", "top1_correct", "outputs_sha256"))
    left_out = [replace(row, path="screened", screened=True, **nothing) for row in rows[:10]]
    with _unfinished(tmp_path / "one", left_out, len(rows)) as store:
        found = progress_of(tmp_path / "one")
        assert (found.done, found.failed, found.critical, found.changed) == (10, 0, 0, None)
        store.append(rows[10:])
        found = progress_of(tmp_path / "one")
        critical = sum(trial.top1_changed > 0 for trial in rows[10:])
        assert (found.done, found.critical) == (len(rows), critical) and critical
        assert found.changed == exact(critical, len(rows) - 10)


def test_watching_ends_when_all_campaigns_have(tmp_path: Path, rows: list) -> None:
    with _unfinished(tmp_path / "campaigns" / "one", rows[:10], len(rows)) as store:
        seen = watched(tmp_path, every_s=0.01)
        assert [each.done for each in next(seen)] == [10]
        store.append(rows[10:])
        store.set_result({"restored_golden": True, "ended": "all trials done"})
        middle = next(seen)
    rest = [middle, *seen]
    assert list(watched(tmp_path))[-1] == rest[-1]  # at once
    assert rest[-1][0].done == len(rows) and rest[-1][0].ended == "all trials done"


def test_a_folder_without_campaigns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be a run's or a campaign's folder, got one without trials"):
        campaigns_below(tmp_path)


def _get(url: str) -> str:
    with urllib.request.urlopen(url) as response:
        text: str = response.read().decode()
        return text


def test_the_page_shows_trials_as_they_come_and_stops_when_they_have(
    tmp_path: Path, rows: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "EVERY_S", 0.0)
    report_run.write_run(tmp_path)
    more = tmp_path / "campaigns" / "model-plain"
    with LivePage(tmp_path) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        assert REFRESH not in _get(server.url)
        with _unfinished(more, rows[:20], len(rows)) as store:
            page = _get(server.url)
            critical = sum(trial.top1_changed > 0 for trial in rows[:20])
            said = f"<b>model-plain</b>: 20 of {len(rows):,} trials, {critical} changed a top-1 answer: "
            assert REFRESH in page and said in page and page.index(said) < page.index("<h1")
            store.append(rows[20:40])
        page = _get(server.url)  # the process was killed
        assert REFRESH not in page and "<b>model-plain</b> (stopped; the same command goes on from here): 40 of" in page
        held = locks.hold(tmp_path)
        assert held is not None and "No campaign at this moment" not in (page := _get(server.url)) and REFRESH in page
        with _unfinished(more, rows[40:], len(rows)) as store:
            store.set_result({"restored_golden": True})
        assert "No campaign at this moment" in _get(server.url)
        held.close()
        assert REFRESH not in (page := _get(server.url)) and "model-plain</b>" not in page
        with pytest.raises(urllib.error.HTTPError, match="404"):
            _get(server.url + "etc/passwd")
        server.shutdown()


def test_a_run_without_hardware_has_its_own_page_and_a_damaged_one_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "EVERY_S", 0.0)
    summary = {
        "kind": "software-only", "flow": "stored", "network": "vgg11_bn", "width": 0.5, "dataset": "cifar10",
        "stored_as": "UInt(8)", "float_accuracy": {"0": 0.81}, "accuracy": {"0": 0.8}, "test_images": 1000, "said": [],
        "memory": {"parameters": 10, "stored_bits": 80, "of_8_bit": 1.0}, "settings": {}, "versions": {}, "git": "",
        "device": "cpu",
    }  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with LivePage(tmp_path) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        assert "Accuracy lost under faults" in _get(server.url)
        (tmp_path / "summary.json").write_text("{")
        with pytest.raises(urllib.error.HTTPError, match="503") as refused:
            _get(server.url)
        assert "summary.json must be JSON that bitward wrote" in refused.value.read().decode()
        server.shutdown()


def test_an_open_page_gets_the_last_state_before_the_server_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "EVERY_S", 0.0)
    report_run.write_run(tmp_path)
    with LivePage(tmp_path) as server:
        server.see_off()  # nobody looks: at once
        Thread(target=server.serve_forever, daemon=True).start()
        with locks.hold(tmp_path):  # type: ignore[union-attr]
            assert REFRESH in _get(server.url)
        leaving = Thread(target=server.see_off)
        leaving.start()
        leaving.join(0.1)
        assert leaving.is_alive()
        assert REFRESH not in _get(server.url)
        leaving.join(10)
        assert not leaving.is_alive()
        server.shutdown()


def test_it_listens_on_loopback_alone(tmp_path: Path) -> None:
    report_run.write_run(tmp_path)
    with LivePage(tmp_path) as server:
        assert server.server_address[0] == LOOPBACK and server.url.startswith("http://127.0.0.1:")


def test_the_command_prints_a_table_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report_run.write_run(tmp_path)
    assert main(["watch", str(tmp_path), "--once"]) == 0
    said = capsys.readouterr().out
    assert "strata-plain" in said and "agree-board" in said
    assert main(["watch", str(tmp_path / "campaigns" / "msb-plain"), "--once"]) == 0
    assert "msb-plain" in capsys.readouterr().out
    assert main(["watch", str(tmp_path / "none"), "--once"]) == 1
    assert "must be a run's or a campaign's folder" in capsys.readouterr().err


def test_a_run_can_be_watched_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report_run.write_run(tmp_path)
    assert main(["watch", str(tmp_path), "--page"]) == 0
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")


def test_campaigns_that_were_moved_aside_are_not_watched(tmp_path: Path, rows: list) -> None:
    """`bitward inject --restart` leaves the one before as NAME.old, which an older bitward may have written."""
    for name in ("one", "one.old"):
        _unfinished(tmp_path / "campaigns" / name, rows[:2], 2).close()
    (tmp_path / "campaigns" / "one.old" / "spec.json").write_text('{"schema": 1}')
    assert campaigns_below(tmp_path) == [tmp_path / "campaigns" / "one"]
    assert campaigns_below(tmp_path / "campaigns" / "one.old") == [tmp_path / "campaigns" / "one.old"]
