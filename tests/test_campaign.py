# SPDX-License-Identifier: Apache-2.0
"""Campaigns on the toy target: the table against a naive loop, kill -9, workers, restoring."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import psutil
import pytest
from rich.console import Console
from toy_target import FAULTS, GOLDEN, IMAGES, MANIFEST, ToyTarget, campaign, compute

import bitward
from bitward.campaign import Trial, TrialStore, run_campaign
from bitward.campaign import workers as workers_module
from bitward.campaign.code import code_sha256
from bitward.campaign.plan import digest
from bitward.campaign.progress import showing
from bitward.campaign.workers import from_workers
from bitward.errors import BoardError, ConfigError, StoreError, ToolError
from bitward.faults import Fault

TOY = Path(__file__).with_name("toy_target.py")
LABELS = np.array([0, 1, 2, 0, 1])


def run(directory, toy=None, factory=ToyTarget, **options):
    toy = toy or campaign()
    with TrialStore.open(directory, toy.spec()) as store:
        return run_campaign(toy, factory, store, **options), store.read()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The table of one run that nobody disturbed."""
    return run(tmp_path_factory.mktemp("undisturbed"))[1]


def same(table, other):
    """Whether two tables say the same, but for the time it took."""
    return table.drop_columns(["seconds"]).equals(other.drop_columns(["seconds"]))


class Mapped(ToyTarget):
    """The toy, answering with a map of 2x2 pixels, each of which has remainders of the toy's scores."""

    def infer(self, images):
        return pixel_maps(np.asarray(super().infer(images)))


def pixel_maps(scores):
    """(images, classes) scores as (images, classes, 2, 2)."""
    return np.stack([scores % modulus for modulus in (3, 5, 7, 11)], axis=-1).reshape(*scores.shape, 2, 2)


def test_a_map_of_classes_changes_with_any_of_its_pixels(tmp_path):
    _, table = run(tmp_path, campaign(), factory=Mapped)
    golden = pixel_maps(compute(GOLDEN, IMAGES)).argmax(axis=1)
    seen = set()
    for row, fault in zip(table.to_pylist(), FAULTS, strict=True):
        memories = {name: image.copy() for name, image in GOLDEN.items()}
        memories[fault.memory][fault.word, 0] ^= np.uint32(1 << fault.bit)
        found = pixel_maps(compute(memories, IMAGES)).argmax(axis=1)
        assert row["top1_changed"] == sum((a != b).any() for a, b in zip(found, golden, strict=True))
        assert row["top1_correct"] is None
        seen.add(row["top1_changed"])
    assert len(seen) > 1 and max(seen) <= len(IMAGES)


def test_the_table_is_that_of_a_naive_loop(tmp_path):
    result, table = run(tmp_path, campaign(labels=LABELS))
    rows = table.to_pylist()
    golden = compute(GOLDEN, IMAGES)
    assert [row["trial"] for row in rows] == list(range(len(FAULTS)))
    for row, fault in zip(rows, FAULTS, strict=True):
        memories = {name: image.copy() for name, image in GOLDEN.items()}
        memories[fault.memory][fault.word, 0] ^= np.uint32(1 << fault.bit)
        outputs = compute(memories, IMAGES)
        assert (row["memory"], row["word"], row["bit"]) == (fault.memory, fault.word, fault.bit)
        assert row["outputs_changed"] == sum((a != b).any() for a, b in zip(outputs, golden, strict=True))
        assert row["top1_changed"] == (outputs.argmax(1) != golden.argmax(1)).sum()
        assert row["top1_correct"] == (outputs.argmax(1) == LABELS).sum()
        assert row["outputs_sha256"] == digest(outputs)
        assert row["images"] == len(IMAGES)
    assert result.restored_golden and result.repaired == result.unrestored == ()
    assert (result.trials, result.golden_sha256) == (len(FAULTS), digest(golden))


def test_rows_say_what_the_manifest_makes_of_a_fault(undisturbed):
    for row in undisturbed.to_pylist():
        memory = MANIFEST.memory(row["memory"])
        places = memory.places(row["parameter"])[row["replica"], row["stored_bit"]]
        assert places.tolist() == [row["word"], row["bit"]]
        assert memory.scheme.origin(row["stored_bit"]) == (row["copy"], row["parameter_bit"])
        assert (row["layer"], row["role"], row["target"]) == (memory.layer, "weight", "toy")


def test_voted_bits_never_change_an_output_and_others_do(undisturbed):
    rows = undisturbed.to_pylist()
    voted = [r for r in rows if r["memory"] == "second" and r["parameter_bit"] == 3]
    assert {r["copy"] for r in voted} == {0, 1, 2}
    assert all(r["outputs_changed"] == 0 for r in voted)
    assert any(r["outputs_changed"] > 0 for r in rows if r["memory"] == "first" and r["parameter_bit"] == 3)


def test_a_dead_bit_is_a_row_without_parameter(tmp_path):
    wide = replace(MANIFEST.memories[0], hardware=replace(MANIFEST.memories[0].hardware, width=20))
    manifest = replace(MANIFEST, memories=(wide, MANIFEST.memories[1]))
    toy = campaign(manifest=manifest, faults=[Fault("first", 0, 3), Fault("first", 0, 17)])
    _, table = run(tmp_path, toy, type("WideTarget", (ToyTarget,), {"manifest": manifest}))
    live, dead = table.to_pylist()
    names = ("parameter", "replica", "stored_bit", "copy", "parameter_bit")
    assert None not in [live[name] for name in names]
    assert {dead[name] for name in names} == {None}
    assert dead["outputs_changed"] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_and_any_parts_give_the_same_table(tmp_path, undisturbed, workers):
    result, table = run(tmp_path, workers=workers, part_trials=7)
    assert same(table, undisturbed)
    assert result.restored_golden


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_in_mid_campaign_and_a_second_start_give_the_same_table(tmp_path, undisturbed, workers):
    command = [sys.executable, str(TOY), str(tmp_path / "store"), str(workers), "0.05"]
    found = set()
    for _ in range(2):
        process = subprocess.Popen(command, start_new_session=True)
        wait_for(lambda known=found: parts(tmp_path / "store") > known, process)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        wait_for(lambda group=process.pid: not alive(group))  # its workers notice, and end by themselves
        found = parts(tmp_path / "store")
    stored = TrialStore.load(tmp_path / "store").finished()
    assert 0 < len(stored) < len(FAULTS)
    result, table = run(tmp_path / "store")
    assert same(table, undisturbed)
    assert result.restored_golden
    assert found <= parts(tmp_path / "store")  # what was stored before was not run again


def parts(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("part-*.parquet")}


def alive(group: int) -> bool:
    """Whether a process of the group runs; one that ended and was not reaped does not."""
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def wait_for(condition, process=None, limit_s=60.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert process is None or process.poll() is None, "the campaign ended before it was killed"
        assert time.monotonic() < end
        time.sleep(0.01)


def test_ctrl_c_keeps_what_was_done(tmp_path, undisturbed):
    seen = []

    def interrupt(done, total, note):
        seen.append(done)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, factory=partial(ToyTarget, 0.1), progress=interrupt)
    assert TrialStore.load(tmp_path).finished() == set(range(seen[-1])) != set()
    assert same(run(tmp_path)[1], undisturbed)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_ctrl_c_while_a_part_is_written_keeps_it_all_the_same(tmp_path, undisturbed, monkeypatch, after):
    written, real = [], TrialStore.append

    def append(store: TrialStore, trials: Sequence[Trial]) -> None:
        written.append(len(trials))
        if len(written) == 1 and after:
            real(store, trials)
        if len(written) == 1:
            raise KeyboardInterrupt
        real(store, trials)

    monkeypatch.setattr(TrialStore, "append", append)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, part_trials=1)
    assert written == [written[0]] * 2
    assert TrialStore.load(tmp_path).finished() == set(range(written[0])) != set()
    assert same(run(tmp_path)[1], undisturbed)


def test_a_finished_campaign_opens_no_target_again(tmp_path):
    first, table = run(tmp_path)

    def never() -> ToyTarget:
        raise AssertionError("no target is needed")

    assert run(tmp_path, factory=never) == (first, table)


def test_a_campaign_killed_before_its_read_back_does_it_at_the_next_start(tmp_path):
    run(tmp_path)
    (tmp_path / "result.json").unlink()
    assert run(tmp_path)[0].restored_golden


@pytest.mark.parametrize("workers", [1, 2])
def test_a_memory_that_was_not_restored_is_told(tmp_path, workers):
    result, _ = run(tmp_path, factory=partial(ToyTarget, broken="sticky"), workers=workers)
    stuck = FAULTS[4]
    assert not result.restored_golden
    assert result.unrestored == (f"{stuck.memory}:{stuck.word}",)


def test_a_fault_left_by_a_killed_run_is_repaired_before_the_first_trial(tmp_path, undisturbed):
    left = FAULTS[3]
    result, table = run(tmp_path, factory=partial(ToyTarget, leftover=left))
    assert result.repaired == (f"{left.memory}:{left.word}",)
    assert same(table, undisturbed)


def test_a_target_that_is_wrong_without_faults_is_refused(tmp_path):
    toy = campaign(expected=compute(GOLDEN, IMAGES))
    sentence = r"^target toy must compute the expected outputs without faults, got 5 other images of 5: build "
    with pytest.raises(BoardError, match=sentence):
        run(tmp_path, toy, partial(ToyTarget, broken="wrong outputs"))
    assert run(tmp_path, toy)[0].restored_golden


def test_workers_whose_targets_differ_without_faults_are_refused(tmp_path):
    with pytest.raises(BoardError, match=r"^the workers' targets must agree without faults, got two outputs: use one "):
        run(tmp_path, factory=partial(ToyTarget, broken="differs"), workers=2)


def test_expected_outputs_of_another_shape_are_refused(tmp_path):
    with pytest.raises(BoardError, match=r"^target toy must compute the expected outputs .*, got another shape: "):
        run(tmp_path, campaign(expected=np.zeros((5, 2), int)))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_target_that_dies_is_one_sentence_and_its_trials_are_kept(tmp_path, workers, monkeypatch):
    monkeypatch.setattr(ToyTarget, "is_dead", False)
    with pytest.raises(BoardError, match=r"^the board must answer, got nothing: switch it on$"):
        run(tmp_path, factory=partial(ToyTarget, delay_s=0.05, broken="dies"), workers=workers)
    kept = TrialStore.load(tmp_path).read().to_pylist()
    assert kept and all(row["memory"] == "first" for row in kept if row["status"] == "done")
    assert sum(row["status"] == "failed" for row in kept) <= workers  # the one that killed it


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": IMAGES[:0]}, r"^a campaign's images must be at least 1, got none: raise the number of images$"),
        ({"images": IMAGES > 2}, r"^a campaign's images must be numbers, got bool: apply the manifest's io.pre first$"),
        ({"labels": LABELS[:2]}, r"^a campaign's labels must be as many as its 5 images, got 2: give both from one "),
        (
            {"golden": {"first": GOLDEN["first"]}},
            r"^the golden image of memory second must be of shape \(12, 1\), got ",
        ),
        (
            {"golden": {**GOLDEN, "first": GOLDEN["first"][:2]}},
            r"^the golden image of memory first must .* got \(2, 1\)",
        ),
    ],
)
def test_a_campaign_that_does_not_fit_is_refused(change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        campaign(**change)


def test_the_spec_tells_any_two_campaigns_apart():
    changed = {"labels": LABELS[:2], "expected": compute(GOLDEN, IMAGES[:2]), "parameters": {"seed": 4}}
    other = campaign(target="rtl", faults=FAULTS[:3], images=IMAGES[:2], **changed).spec()
    same = {key for key, value in campaign().spec().items() if other[key] == value}
    assert same == {
        "code_sha256", "design", "design_id", "manifest_sha256", "memories_sha256", "screen", "stopping", "timeout_s",
    }  # fmt: skip


def test_trials_of_other_code_are_not_continued(tmp_path, monkeypatch):
    run(tmp_path)
    monkeypatch.setattr("bitward.campaign.plan.code_sha256", lambda: "other")
    sentence = (
        rf"^the trials in .* must be continued as they were begun, got code_sha256 = \"other\", was \"{code_sha256()}\""
    )
    with pytest.raises(StoreError, match=sentence):
        TrialStore.open(tmp_path, campaign().spec())
    assert campaign(parameters={"code_sha256": "mine"}).spec()["code_sha256"] == "mine"


def test_the_codes_digest_is_of_what_computes_trials(tmp_path, monkeypatch):
    package = tmp_path / "bitward"
    for name in ("engine/a.py", "cli/b.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("1")
    monkeypatch.setattr(bitward, "__file__", str(package / "__init__.py"))
    digests = []
    for name in (None, "cli/b.py", "engine/a.py"):
        if name:
            (package / name).write_text("2")
        digests.append(code_sha256.__wrapped__())
    assert digests[0] == digests[1] != digests[2]


def test_a_worker_that_is_killed_is_one_sentence():
    with pytest.raises(ToolError, match=r"^a worker process must end after its last trial, got exit code -9: "):
        list(from_workers(kill_oneself, [0.0, 60.0]))


def kill_oneself(after_s, told):
    time.sleep(after_s)
    yield "on"
    os.kill(os.getpid(), signal.SIGKILL)


def ignore_the_end(connection):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection.send("on")
    time.sleep(60)


def test_a_worker_that_does_not_end_when_told_is_killed(monkeypatch):
    monkeypatch.setattr(workers_module, "END_S", 0.2)
    connection, process = workers_module.started(ignore_the_end)
    assert connection.recv() == "on"
    workers_module.end([process])
    assert not process.is_alive() and process.exitcode == -signal.SIGKILL


def test_progress_counts_trials_and_their_rate():
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=140)
    with showing(console, "toy on rtl") as progress:
        progress(10, 40)
        time.sleep(0.01)
        progress(30, 40, "top1_changed 2 %")
    assert "top1_changed 2 %" in text.getvalue()
    assert "toy on rtl" in text.getvalue()
    assert "30/40" in text.getvalue()
    assert "trials/s" in text.getvalue()


def test_progress_goes_from_what_was_done_to_all(tmp_path):
    seen = []
    run(tmp_path, progress=lambda done, total, note: seen.append((done, total)))
    assert seen[0] == (0, len(FAULTS)) and seen[-1] == (len(FAULTS), len(FAULTS))
