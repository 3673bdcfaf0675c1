# SPDX-License-Identifier: Apache-2.0
"""Flows: the YAML and its mistakes, and stages that run exactly when what they rest on changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
import yaml
from picture_folders import picture_folder
from rich.console import Console
from toy_target import FAULTS, ToyTarget, campaign, stumbles

from bitward import flow as flow_module
from bitward.campaign import TrialStore, run_campaign
from bitward.errors import ConfigError, ToolError
from bitward.flow import STAGE_NAMES, Flow, load_flow, run_flow
from bitward.flow import cache as cache_module
from bitward.flow import stages as stages_module
from bitward.flow.cache import StageRecord, digest_files, locked, stage_key
from bitward.flow.run import Run
from bitward.flow.stages import STAGES, Stage, clear, found_in
from bitward.flow.verify import equal_images
from bitward.networks import network_names

SPEC = {"name": "toy", "network": "digits_mlp"}


# ---- the YAML ------------------------------------------------------------------------------------------------------


def written(folder: Path, text: str) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(text)
    return path


def test_a_flow_needs_its_network_alone_and_is_named_after_its_file(tmp_path):
    flow = load_flow(written(tmp_path, "network: digits_cnn\n"))
    assert (flow.name, flow.network, flow.harden.voted, flow.train.seeds) == (
        "experiment",
        "digits_cnn",
        1,
        (0, 1, 2, 3, 4),
    )
    assert flow == Flow.model_validate(flow.model_dump(mode="json"))


def test_the_flows_of_the_repository_load(repository):
    paths = sorted((repository / "flows").glob("*.yaml"))
    assert len(paths) >= 2
    for path in paths:
        flow = load_flow(path)
        assert flow.name == path.stem and flow.network in network_names()
        assert flow.model is None or flow.model.parent.resolve() == repository / "onnx_models"


MEAN = "network: a\ninject: {metric: top1_change_rate, method: beta-binomial}"
MISTAKES = {
    "netwrok: digits_cnn": "the flow must have only the keys name, network, .*, got 'netwrok'; did you mean 'network'",
    "network: a\n3: 4": "the flow must have only the keys name, .*, got '3'; take one of these$",
    "network: a\ntrain: {seeds: many}": "train.seeds must be a list, got 'many'; see",
    "network: a\ntrain:\n": "train must be keys and values, got nothing; see",
    "network: a\nbuild: {clk_mzh: 1}": "build must have only the keys .*, got 'clk_mzh'; did you mean 'clk_mhz'",
    "network: a\ninject: {sed: 1}": "inject must have only the keys .*, seed, .*, got 'sed'; did you mean 'seed'",
    "train: {seeds: [1]}": "network must be given, got nothing; see flows/digits.yaml",
    "network: a\ntrain: {seeds: []}": r"train.seeds .*, got \[\]; see",
    "network: a\nharden: {voted: 0}": "harden.voted must be greater than or equal to 1, got 0; see",
    "network: a\nbuild: {ram_style: blok}": "build.ram_style must be 'block', .*, got 'blok'; see",
    "network: a\nbuild: 7": "build must be .*, got 7; see",
    "network: a\nverify: {stall: 1.0}": "verify.stall must be less than 1, got 1.0; see",
    "network: a\nname: a/b": "name must begin with a letter or digit and have only .*, got 'a/b'; see",
    "network: a\ninject: {flips: 3}": "inject.flips must go with inject.model layers or exact, not single, got 3; see",
    "network: a\ninject: {model: exact, ber: 0.1}": "inject.ber must go with inject.model ber, not exact, got 0.1; see",
    "network: a\ninject: {model: ber, burst: 2}": "inject.burst must go with inject.model burst, not ber, got 2; see",
    "network: a\ninject: {model: ber, ber: 0}": "inject.ber must be greater than 0, got 0; see",
    "network: a\ninject: {model: bre}": "inject.model must be 'single', .* or 'replay', got 'bre'; see",
    "network: a\ninject: {margin: 0.1}": "inject.margin must go with .*uniform, .* or burst, not single, got",
    "network: a\ninject: {model: ber, faults_from: x}": "inject.faults_from must go with .* replay, not ber, got",
    "network: a\ninject: {model: replay, bits: [1]}": r"inject.bits must go with .*, not replay, got \[1\]; see",
    "network: a\ninject: {model: burst, bits: [1]}": r"inject.bits must go with .*, not burst, got \[1\]; see",
    "network: a\ninject: {model: replay, stuck: 1}": "inject.stuck must go with .*, not replay, got 1; see",
    "network: a\ninject: {stuck: 2}": "inject.stuck must be 0 or 1, got 2; see",
    MEAN: "inject.method must be betting or empirical-bernstein for the mean top1_change_rate, got 'beta-bin.*'; see",
    "network: a\ninject: {bers: [0.1, 2]}": "inject.bers.1 must be less than or equal to 1, got 2; see",
    "network: a\ninject: {bers: []}": r"inject.bers must have at least one item, got \[\]; see",
    "network: a\ninject: {bers: [0.1, 0.01]}": "inject.bers must be rising rates that differ in six digits, got",
    "network: a\ninject: {bers: [0.1, 0.10000001]}": "inject.bers must be rising rates that differ in six digits, got",
    "network: a\nbuild: {folding: {conv1: 8}}": "build.folding.conv1 must be .*, got 8; see",
}


GOOD = {
    "{}": False,
    "{per_stratum: 3, seed: 2, images: 4, msb: false}": False,
    "{bers: [1e-4, 1e-3], ber_trials: 7, ber_images: 9}": False,
    "{model: uniform}": True,
    "{model: ber, ber: 1e-4, trials: 10, margin: 0.1, audit: 0.1, timeout_s: 5}": True,
    "{model: exact, flips: 3, stuck: 0, bits: [1, 2], memories: [fc1.weight]}": True,
    "{model: layers, flips: 2}": True,
    "{model: burst, burst: 3, metric: top1_change_rate, method: betting}": True,
    "{model: replay, faults_from: faults.txt}": True,
    "{bits: [3]}": True,
    "{stuck: 0}": True,
}


@pytest.mark.parametrize("text", GOOD)
def test_every_fault_model_can_be_asked_for(tmp_path, text):
    """Everything `bitward inject` takes; what every run does anyway is no campaign more."""
    found = load_flow(written(tmp_path, f"network: a\ninject: {text}")).inject
    assert found.asks_for_more == GOOD[text]
    assert found.ber in (None, 1e-4) and found.faults_from in (None, tmp_path / "faults.txt")


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told_with_its_place(tmp_path, text):
    with pytest.raises(ConfigError, match=f"^.*experiment.yaml: {MISTAKES[text]}"):
        load_flow(written(tmp_path, text))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "must be a readable YAML file, got No such file or directory: see flows/digits.yaml"),
        (b"\xff\xfe\x00", "must be a readable YAML file, got no text: see"),
        (b"a: [1,", "must be YAML, got a mistake at line 1, expected the node content, but found '<stream end>': see"),
        (b"", "must hold keys and values, got nothing: see"),
        (b"a: 1\na: 2", "must be YAML, got a mistake at line 2, a for the second time: see"),
        (b"a:\n\tb: 1", "must be YAML, got a mistake at line 2, a tab, where YAML takes spaces: see"),
        (b"a: \0", "must be YAML, got a character that no text has: see"),
        (b"text", "must hold keys and values, got a text: see"),
    ],
)
def test_a_file_that_is_no_flow_is_refused(tmp_path, content, sentence):
    path = tmp_path / "flow.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^the flow .*flow.yaml {sentence}"):
        load_flow(path)


# ---- a model from a file -------------------------------------------------------------------------------------------


def imported(folder: Path, repository: Path, **changes: object) -> Flow:
    """A flow that begins from a copy of a shipped model in `folder`."""
    shutil.copy(repository / "onnx_models" / "digits_mlp.onnx", folder / "mine.onnx")
    settings = {"network": "digits_mlp", "model": "mine.onnx", **changes}
    return load_flow(written(folder, yaml.safe_dump(settings)))


def test_a_flow_from_a_model_trains_nothing(tmp_path, repository):
    flow = imported(tmp_path, repository)
    assert flow.model == tmp_path / "mine.onnx"  # wherever the command is typed
    folder, summary = run_flow(flow, tmp_path / "runs", Console(file=StringIO()), to="export")
    source = repository / "onnx_models" / "digits_mlp.onnx"
    assert (folder / "models" / "digits_mlp.onnx").read_bytes() == source.read_bytes()
    assert not (folder / "train").exists()
    assert summary["accuracy"] == summary["accuracy_seeds"] == "not measured" and summary["seeds"]["train"] == []


def test_another_file_under_the_models_name_is_taken_anew(tmp_path, repository):
    flow, console = imported(tmp_path, repository), Console(file=StringIO())
    run_flow(flow, tmp_path / "runs", console, to="export")
    shutil.copy(repository / "onnx_models" / "digits_cnn.onnx", tmp_path / "mine.onnx")
    folder, _ = run_flow(flow, tmp_path / "runs", console, to="export")
    assert (folder / "models" / "digits_mlp.onnx").read_bytes() == (tmp_path / "mine.onnx").read_bytes()


def test_a_foreign_network_names_its_dataset(tmp_path, repository):
    flow = imported(tmp_path, repository, network="somebodys", dataset="digits")
    _, summary = run_flow(flow, tmp_path / "runs", Console(file=StringIO()), to="export")
    assert (summary["network"], summary["dataset"]) == ("somebodys", "digits")
    with pytest.raises(ConfigError, match=r"^network must be a known name, got 'somebodys'"):
        run_flow(imported(tmp_path, repository, network="somebodys"), tmp_path / "runs", Console(file=StringIO()))


def test_a_model_that_is_not_there_is_said_before_anything_is_made(tmp_path):
    flow = load_flow(written(tmp_path, "network: digits_mlp\nmodel: none.onnx\n"))
    with pytest.raises(
        ConfigError, match=r"^model must be a QONNX file, got .*/none\.onnx, which is none: give its path"
    ):
        run_flow(flow, tmp_path / "runs", Console(file=StringIO()))
    assert not (tmp_path / "runs").exists()


def test_pictures_given_by_path_reach_the_dataset(tmp_path, repository):
    flow = imported(tmp_path, repository, dataset="images")
    pictures = picture_folder(tmp_path / "pictures")
    run = Run(flow, tmp_path / "runs", Console(file=StringIO()), pictures)
    assert run.dataset().classes == 2 and run.dataset().name == "images"


# ---- keys and records ----------------------------------------------------------------------------------------------


def test_a_digest_sees_names_contents_and_folders(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.py").write_text("1")
    first = digest_files([tmp_path / "a"])
    (tmp_path / "a" / "one.pyc").write_text("compiled")
    assert digest_files([tmp_path / "a"]) == first
    (tmp_path / "a" / "one.py").write_text("2")
    second = digest_files([tmp_path / "a"])
    (tmp_path / "a" / "one.py").rename(tmp_path / "a" / "two.py")
    assert len({first, second, digest_files([tmp_path / "a"])}) == 3


def test_a_key_sees_settings_inputs_and_code(tmp_path, monkeypatch):
    path = tmp_path / "input"
    path.write_text("x")
    keys = [stage_key({"seed": 1}, [path]), stage_key({"seed": 2}, [path])]
    with monkeypatch.context() as other:
        other.setattr(cache_module, "code_digest", lambda: "other code")
        keys.append(stage_key({"seed": 1}, [path]))
    path.write_text("y")
    keys.append(stage_key({"seed": 1}, [path]))
    assert len(set(keys)) == 4
    path.write_text("x")
    assert stage_key({"seed": 1}, [path]) == keys[0]


@pytest.mark.parametrize(
    "part", ["python/bitward/schemes/tmr.py", "python/bitward/flow/stages.py", "hls/rtl/bitward_voter.sv"]
)
def test_the_code_is_all_that_computes(monkeypatch, repository, part):
    seen: list[Path] = []
    monkeypatch.setattr(cache_module, "digest_files", lambda paths: seen.extend(paths) or "")
    cache_module.code_digest.__wrapped__()
    assert any((repository / part).is_relative_to(path) for path in seen)
    assert not any(path.name in ("cli", "report") for path in seen)


def test_a_folder_is_one_processs_at_a_time(tmp_path):
    with locked(tmp_path), pytest.raises(ConfigError, match="^the run .* must be used by one process at a time"):
        with locked(tmp_path):
            pass


def test_a_damaged_record_only_costs_time(tmp_path):
    record = StageRecord(tmp_path)
    record.keep("train", "key", 1.234, {"mean": 0.98})
    assert StageRecord(tmp_path).result("train", "key") == {"mean": 0.98}
    assert StageRecord(tmp_path).result("train", "other key") is None
    assert StageRecord(tmp_path).wall_s("train") == 1.23
    (tmp_path / "stages.json").write_text('{"train": ')
    assert not StageRecord(tmp_path).has("train")


# ---- stages --------------------------------------------------------------------------------------------------------


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """`ran(**changes)` runs a flow of two toy stages and says which of them ran; `code` stands for their source."""
    log: list[str] = []
    code = {"first": "1", "second": "1"}

    def stage(name: str, sections: tuple[str, ...], before: str | None) -> Stage:
        def work(run: Run) -> dict:
            if code[name] == "broken":
                raise ToolError("no such tool")
            log.append(name)
            read = (run.folder / before).read_text() if before else ""
            (run.folder / name).write_text(f"{read}{name}({run.flow.model_dump()[sections[0]]}, {code[name]})")
            return {"ran": code[name] if code[name] == "not measured" else len(log)}

        inputs = (lambda run: [run.folder / before]) if before else (lambda run: [])
        return Stage(name, work, sections, inputs, lambda run: [run.folder / name])

    monkeypatch.setattr(cache_module, "code_digest", lambda: repr(code).replace("broken", "1"))
    monkeypatch.setattr(
        flow_module, "STAGES", (stage("first", ("train",), None), stage("second", ("inject",), "first"))
    )
    monkeypatch.setattr(flow_module, "STAGE_NAMES", ("first", "second", "report"))
    monkeypatch.setattr(flow_module, "summarise", lambda run, results, wall_s: {"results": results, "wall_s": wall_s})

    def run(to: str = "second", force: str | None = None, broken: str = "", **sections: object) -> list[str]:
        log.clear()
        for name in code:
            code[name] = sections.pop(name, code[name])  # type: ignore[assignment]
        flow = Flow.model_validate({**SPEC, **sections})
        _, run.summary = run_flow(flow, tmp_path, Console(file=StringIO()), to=to, force=force)  # type: ignore[attr-defined]
        return list(log)

    return run


def test_stages_run_once(ran):
    assert ran() == ["first", "second"]
    assert ran() == []


def test_a_setting_reruns_its_stage_and_what_reads_its_output(ran):
    ran()
    assert ran(inject={"seed": 2}) == ["second"]
    assert ran(inject={"seed": 2}, train={"seeds": [7]}) == ["first", "second"]
    assert ran(inject={"seed": 2}, train={"seeds": [7]}, build={"clk_mhz": 100}) == []


def test_changed_code_reruns_everything(ran):
    ran()
    assert ran(second="2") == ["first", "second"]
    assert ran() == []


def test_a_summary_has_no_result_of_other_settings(ran):
    ran()
    assert set(ran.summary["results"]) == {"first", "second"}
    ran(to="first", inject={"seed": 9})
    assert set(ran.summary["results"]) == {"first"}
    ran(to="first")
    assert set(ran.summary["results"]) == {"first", "second"}


def test_what_was_not_measured_is_tried_again(ran):
    ran(second="not measured")
    assert ran(second="not measured") == ["second"]
    assert ran(second="not measured") == ["second"]


def test_bars_are_there_where_somebody_watches_and_leave_nothing(tmp_path):
    for is_terminal in (False, True):
        said = StringIO()
        run = Run(Flow.model_validate(SPEC), tmp_path, Console(file=said, force_terminal=is_terminal, width=100))
        with run.bars() as bars:
            assert (bars is not None) == is_terminal
            if bars is not None:
                task = bars.add_task("seed 3", total=4)
                bars.advance(task, 3)
                bars.refresh()
        assert ("seed 3" in said.getvalue() and "3/4" in said.getvalue()) == is_terminal
        assert not is_terminal or said.getvalue().endswith("\x1b[2K"), "the line is erased"


def test_a_trial_that_failed_counts_as_one_that_changed_everything(tmp_path):
    toy = campaign(faults=FAULTS)
    with TrialStore.open(tmp_path / "toy", toy.spec()) as store:
        ended = run_campaign(toy, partial(ToyTarget, broken="stumbles"), store)
        rows = store.trials()
    failed = sum(stumbles(fault) for fault in FAULTS)
    found = found_in(tmp_path / "toy", ended)
    assert (found["faults"], found["failed"]) == (len(FAULTS), failed) and failed
    assert found["changed"] == failed + sum(row.outputs_changed > 0 for row in rows if row.status == "done")
    assert found["top1_changed"] == failed + sum(row.top1_changed > 0 for row in rows if row.status == "done")


PORTS = "(input logic clk, input logic a, output logic y)"
RIGHT = (
    f"module leaf {PORTS}; always_ff @(posedge clk) y <= a; endmodule\n"
    f"module bitward_top {PORTS}; leaf i_leaf (.*); endmodule"
)
BAD = "module bitward_top (input logic a); \\nothing[/x] i_x (.a); endmodule"


def test_where_yosys_fails_it_is_told_and_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    said = StringIO()
    run = Run(Flow.model_validate(SPEC), tmp_path, Console(file=said))
    for side, text in (("plain", BAD), ("hardened", RIGHT)):
        rtl = run.build(side) / "rtl"
        rtl.mkdir(parents=True)
        (rtl / "bitward_top.sv").write_text(text + "\n")
        (rtl / "files.f").write_text("bitward_top.sv\n")
    (work,) = (stage.work for stage in STAGES if stage.name == "resources")
    found = work(run)
    assert found["plain"] == "not measured" and found["hardened"]["total"]["ff"] == 1
    (line,) = (line for line in said.getvalue().splitlines() if "not measured" in line)
    said_of = "  resources of plain: not measured: Yosys must end without an error, "
    assert line.startswith(said_of) and "nothing[/x]" in line and str(run.build("plain") / "synthesis.log") in line


def test_a_lost_or_changed_output_is_made_again(ran, tmp_path):
    ran()
    (tmp_path / "toy" / "second").unlink()
    assert ran() == ["second"]
    (tmp_path / "toy" / "first").write_text("edited by hand")
    assert ran() == ["second"]  # what reads it runs; that it was edited is not the first stage's to know


def test_force_and_to_choose_stages(ran):
    assert ran(to="first") == ["first"]
    assert ran() == ["second"]
    assert ran(force="first") == ["first", "second"]
    assert ran(force="second") == ["second"]


def test_a_failing_stage_keeps_what_ran_before_it(ran):
    with pytest.raises(ToolError, match="^no such tool"):
        ran(second="broken")
    assert ran(second="1") == ["second"]


@pytest.mark.parametrize("option", ["to", "force"])
def test_a_stage_that_is_not_one_is_refused_before_anything_is_made(tmp_path, option):
    flow = Flow.model_validate(SPEC)
    with pytest.raises(
        ConfigError, match=f"^a stage must be one of {', '.join(STAGE_NAMES)}, got 'reprot'; did you mean"
    ):
        run_flow(flow, tmp_path, Console(file=StringIO()), **{option: "reprot"})
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_is_not_one_is_refused_before_anything_is_made(tmp_path):
    flow = Flow.model_validate({"name": "toy", "network": "digits_cmm"})
    with pytest.raises(ConfigError, match="digits_cmm"):
        run_flow(flow, tmp_path, Console(file=StringIO()))
    assert list(tmp_path.iterdir()) == []


def test_forcing_train_and_inject_starts_them_from_nothing(tmp_path):
    run = Run(Flow.model_validate(SPEC), tmp_path, Console(file=StringIO()))
    for name in ("train", "campaigns", "build"):
        (tmp_path / name).mkdir()
    for stage in STAGES:
        clear(run, stage)
    assert [path.name for path in tmp_path.iterdir()] == ["build"]


def test_results_rest_on_the_rtl_and_the_memories_and_not_on_the_manifest_alone(tmp_path):
    """A changed voter leaves the manifest as it is: the build's RTL must be an input of what is measured on it."""
    run = Run(Flow.model_validate(SPEC), tmp_path, Console(file=StringIO()))
    for side in ("plain", "hardened"):
        (run.build(side) / "rtl").mkdir(parents=True)
        for name in ("manifest.json", "memories.npz", "hardware.onnx", "rtl/bitward_voter.sv"):
            (run.build(side) / name).write_text("as built")
        run.model(side).parent.mkdir(exist_ok=True)
        run.model(side).write_text("model")
    readers = [stage for stage in STAGES if stage.name in ("verify", "inject")]
    assert len(readers) == 2
    for changed in ("manifest.json", "memories.npz", "hardware.onnx", "rtl/bitward_voter.sv"):
        before = [stage_key({}, stage.inputs(run)) for stage in readers]
        (run.build("hardened") / changed).write_text("changed")
        assert all(a != b for a, b in zip(before, [stage_key({}, s.inputs(run)) for s in readers], strict=True))


def test_a_campaign_is_told_from_one_on_other_rtl_or_by_other_code(mlp_run, monkeypatch):
    run = Run(load_flow(mlp_run.flow), mlp_run.folder, Console(file=StringIO()))
    plain, hardened = (
        stages_module._identity(run, stages_module.Place("rtl", run.build(s))) for s in ("plain", "hardened")
    )
    assert plain["build_sha256"] != hardened["build_sha256"] and plain["code_sha256"] == hardened["code_sha256"]
    monkeypatch.setattr(stages_module, "code_digest", lambda: "other code")
    other = stages_module._identity(run, stages_module.Place("rtl", run.build("plain")))
    assert other["code_sha256"] != plain["code_sha256"]


def test_images_are_equal_only_where_every_output_is_the_integer_behind_the_float():
    import numpy as np

    post = ({"op": "Mul", "value": 0.5},)
    integers = np.array([[4, 6], [4, 6], [4, 6]])
    expected = np.array([[2.0, 3.0], [2.004, 3.0], [2.0, 3.5]])
    assert equal_images(integers, expected, post).tolist() == [True, True, False]
    assert equal_images(integers, expected + 0.006, post).tolist() == [False, False, False]


def test_pixels_that_nobody_labelled_do_not_count_in_the_accuracy():
    import numpy as np

    scores = np.zeros((1, 3, 1, 4))
    scores[0, [1, 2, 2, 1], 0, [0, 1, 2, 3]] = 1  # classes 1, 2, 2, 1
    labels = np.array([[[1, 1, 2, 0]]])
    assert stages_module._accuracy(scores, labels, ignore=0) == 2 / 3
    assert stages_module._accuracy(scores, labels, ignore=None) == 1 / 2


def test_the_summary_says_what_was_not_measured(tmp_path):
    from bitward.flow.summary import NOT_MEASURED, summarise

    run = Run(Flow.model_validate(SPEC), tmp_path, Console(file=StringIO()))
    summary = summarise(run, {}, {})
    for key in ("accuracy", "images", "rtl_equal_images", "weight_memory_bits", "msb_faults", "targets_agree",
                "restored_golden"):  # fmt: skip
        assert summary[key] == NOT_MEASURED
    assert summary["latency_cycles"] == {"plain": NOT_MEASURED, "hardened": NOT_MEASURED}
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
