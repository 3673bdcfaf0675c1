# SPDX-License-Identifier: Apache-2.0
"""Flows of float networks: the YAML and its mistakes, run and killed and run again, attacked by hand, searched."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_classic
import torch
import yaml

from bitward.campaign import TrialStore, verdicts_sha256
from bitward.cli import main
from bitward.errors import ConfigError
from bitward.explore.seeds import over_seeds
from bitward.flow.kinds import is_software
from bitward.flow.software_spec import load_software_flow

FLOW = {
    "network": "alexnet", "width": tiny_classic.WIDTH, "dataset": "digits", "weights": "weights.pt",
    "quantize": {"bits": 4, "per": "channel"}, "harden": {"scheme": "tmr", "voted": 1},
    "inject": {"bers": [1e-4, 3e-3], "trials": 8, "images": 48},
}  # fmt: skip
EXPLORE = {"bits": [3, 6], "schemes": ["plain", "msb"], "ber": 3e-3, "accuracy_floor": 0.7, "trials": 8, "images": 48}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where weights lie."""
    made = tmp_path_factory.mktemp("flows")
    tiny_classic.weights(made / "weights.pt")
    return made


def written(folder: Path, stem: str, /, **changes) -> Path:
    path = folder / f"{stem}.yaml"
    path.write_text(yaml.safe_dump({**FLOW, **changes}))
    return path


@pytest.fixture(scope="module")
def run(folder) -> Path:
    """A flow that has run to its end."""
    assert main(["-q", "run", str(written(folder, "whole")), "--runs", str(folder / "runs")]) == 0
    return folder / "runs" / "whole"


def summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def trials(run: Path) -> dict[str, str]:
    stores = sorted((run / "campaigns" / "seed0").glob("*/spec.json"))
    return {path.parent.name: verdicts_sha256(TrialStore.load(path.parent).read()) for path in stores}


def test_a_run_says_what_it_found_and_that_it_is_software_only(run):
    found = summary(run)
    assert found["kind"] == "software-only" and found["stored_as"] == "P-4-bit"
    memory = found["memory"]
    assert memory["stored_bits"] == 6 * memory["parameters"] and memory["of_8_bit"] == 0.75
    assert found["float_accuracy"]["0"] > 0.8 and found["accuracy"]["0"] > 0.7
    rows = found["vulnerability"]
    assert [(row["rate"]["spread"], row["rate"]["ber"]) for row in rows] == [
        ("bits", 1e-4), ("bits", 3e-3), ("layers", 1e-4), ("layers", 3e-3),
    ]  # fmt: skip
    for row in rows:
        assert row["drop"]["low"] <= row["drop"]["estimate"] <= row["drop"]["high"] and row["flips"][0] > 10
        assert row["rap"] == pytest.approx(row["drop"]["estimate"] * 0.75)
        index = memory["stored_bits"] ** 2 * 1.33e-13 * row["rate"]["ber"] * row["drop"]["estimate"]
        assert row["p_drop"] == pytest.approx(index)
    assert rows[3]["drop"]["estimate"] > rows[2]["drop"]["estimate"], "more flips take more"


def test_the_report_shows_every_rate_and_what_it_is_not(run):
    page = (run / "report.html").read_text()
    assert "software-only" in page and "P_drop is an index and no probability" in page
    assert page.count(" over bits, seed 0") == 2 and "as FORTUNE&#39;s released code does" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_nothing_is_run_twice(run, folder, monkeypatch):
    monkeypatch.setattr("bitward.engine.pytorch.TorchEngine.outcomes", lambda *_: pytest.fail("a trial was run again"))
    before = trials(run)
    assert len(before) == 4
    assert main(["-q", "run", str(folder / "whole.yaml"), "--runs", str(folder / "runs")]) == 0
    assert trials(run) == before
    assert main(["-q", "report", str(run)]) == 0


def test_a_run_killed_with_9_goes_on_and_finds_the_same(run, folder):
    flow = written(folder, "killed", inject=FLOW["inject"])
    command = [sys.executable, "-m", "bitward", "-q", "run", str(flow), "--runs", str(folder / "runs")]
    with subprocess.Popen(command) as process:
        results = folder / "runs" / "killed" / "campaigns" / "seed0"
        until = time.monotonic() + 120
        while not any(results.glob("*/result.json")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
    assert not (folder / "runs" / "killed" / "report.html").exists()
    assert subprocess.run(command, env=os.environ).returncode == 0
    killed = folder / "runs" / "killed"
    assert trials(killed) == trials(run)
    assert summary(killed)["vulnerability"] == summary(run)["vulnerability"]


def test_stages_stop_where_they_are_told(folder, capsys):
    flow = written(folder, "short")
    assert main(["-q", "run", str(flow), "--runs", str(folder / "runs"), "--to", "quantize"]) == 0
    found = summary(folder / "runs" / "short")
    assert "vulnerability" not in found and not (folder / "runs" / "short" / "report.html").exists()
    for option, name in (("--to", "build"), ("--force", "train")):
        capsys.readouterr()
        assert main(["-q", "run", str(flow), "--runs", str(folder / "runs"), option, name]) == 1
        assert f"{option} must be one of " in capsys.readouterr().err


def test_force_does_the_campaigns_again(folder):
    flow = written(folder, "forced", inject={**FLOW["inject"], "bers": [3e-3], "spread": ["bits"]})
    arguments = ["-q", "run", str(flow), "--runs", str(folder / "runs")]
    assert main(arguments) == 0
    (store,) = (folder / "runs" / "forced" / "campaigns" / "seed0").glob("*/")
    (store / "mark").touch()
    assert main(arguments) == 0 and (store / "mark").exists()
    accuracies = store.parent / "accuracies.json"
    accuracies.write_text(json.dumps(dict.fromkeys(json.loads(accuracies.read_text()), 0.125)))
    assert main([*arguments, "--force", "attack"]) == 0 and not (store / "mark").exists()
    assert summary(folder / "runs" / "forced")["accuracy"] == {"0": 0.125}, "it is kept by the stage before"
    (store / "mark").touch()
    assert main([*arguments, "--force", "quantize"]) == 0 and not (store / "mark").exists()
    assert summary(folder / "runs" / "forced")["accuracy"]["0"] > 0.5


def test_seeds_are_averaged_and_their_spread_is_the_interval():
    def row(seed, drop):
        return {"seed": seed, "rate": {"ber": 1e-4, "spread": "bits"},
                "drop": {"estimate": drop, "low": drop - 1, "high": drop + 1}, "flips": [1, 1, 1]}  # fmt: skip

    (one,) = over_seeds([row(0, 0.2)]).values()
    assert (one["drop"], one["low"], one["high"]) == (0.2, -0.8, 1.2)
    (three,) = over_seeds([row(0, 0.1), row(1, 0.2), row(2, 0.3)]).values()
    assert three["drop"] == pytest.approx(0.2) and three["low"] == pytest.approx(0.2 - 4.302653 * 0.1 / 3**0.5)


# ---- by hand -------------------------------------------------------------------------------------------------------


def test_inject_on_torch_does_one_campaign(run, folder, capsys):
    arguments = ["inject", str(folder / "whole.yaml"), "--runs", str(folder / "runs"), "--on", "torch"]
    assert main([*arguments, "--model", "ber", "--ber", "1e-3", "--trials", "5", "--images", "20"]) == 0
    out = capsys.readouterr().out
    assert "software-only" in out and "5 trials:" in out and "memories restored: yes" in out
    table = TrialStore.load(run / "campaigns" / "inject-ber-torch").read()
    assert (
        len(table) == 5 and set(table["images"].to_pylist()) == {20} and set(table["target"].to_pylist()) == {"torch"}
    )


def test_a_trial_is_run_again_on_torch(run, folder, capsys):
    arguments = ["inject", str(folder / "whole.yaml"), "--runs", str(folder / "runs"), "--on", "torch", "--restart"]
    assert main([*arguments, "--model", "ber", "--ber", "0.02", "--trials", "4", "--images", "30"]) == 0
    campaign = run / "campaigns" / "inject-ber-torch"
    rows = TrialStore.load(campaign).trials()
    number = max(rows, key=lambda row: row.top1_changed).trial
    assert rows[number].top1_changed > 0
    again = ["trials", str(campaign), "--replay", str(number), "--on", "torch", "--runs", str(folder / "runs")]
    capsys.readouterr()
    assert main([*again, "--flow", str(folder / "whole.yaml")]) == 0
    assert f"{rows[number].top1_changed} of 30 decisions changed, as recorded; outputs " in capsys.readouterr().out
    assert main(again) == 1
    assert "--flow must name the flow to run a trial again on torch, got nothing" in capsys.readouterr().err
    state = torch.load(folder / "weights.pt", weights_only=True)
    last = list(state)[-1]
    torch.save({**state, last: torch.eye(10)[0] * 1e9}, folder / "biased.pt")  # a bias, which is in no memory
    biased = written(folder, "biased", weights="biased.pt")
    assert main([*again, "--flow", str(biased)]) == 1
    assert re.search(
        rf"trial {number} \(.+\) must change as many decisions on torch as it did, got 0 for "
        rf"{rows[number].top1_changed} of 30: the network or its code is another one", capsys.readouterr().err,
    )  # fmt: skip
    other = written(folder, "other-bits", quantize={**FLOW["quantize"], "bits": 5})
    assert main([*again, "--flow", str(other)]) == 1
    assert "the flow other-bits must be the campaign's, got one of other memories" in capsys.readouterr().err


def test_inject_says_where_it_can_go(folder, repository, capsys):
    assert main(["inject", str(folder / "whole.yaml"), "--on", "rtl"]) == 1
    assert "--on must be torch for a float network, of which no hardware is built, got rtl" in capsys.readouterr().err
    assert main(["inject", str(repository / "flows" / "digits.yaml"), "--on", "torch"]) == 1
    assert "--on torch must go with a flow of a float network, got " in capsys.readouterr().err


# ---- weight scaling ------------------------------------------------------------------------------------------------

SCALED = {"quantize": {"format": "float16", "scale": {"t": 1.9999}}, "harden": {},
          "inject": {"bers": [1e-3], "spread": ["bits"], "trials": 4, "images": 48,
                     "safe_exponents": True}}  # fmt: skip


@pytest.fixture(scope="module")
def scaled(folder) -> Path:
    """A flow of half-precision weights, scaled, whose exponents are safe."""
    assert main(["-q", "run", str(written(folder, "scaled", **SCALED)), "--runs", str(folder / "runs")]) == 0
    return folder / "runs" / "scaled"


def test_scaled_weights_run_and_the_report_says_what_is_assumed(scaled):
    found = summary(scaled)
    assert found["stored_as"] == "FP16 scaled by layer, t = 1.9999"
    assert found["memory"]["stored_bits"] == 16 * found["memory"]["parameters"]
    (row,) = found["vulnerability"]
    assert row["rate"] == {"ber": 1e-3, "spread": "bits", "safe_exponents": True}
    assert row["flips"][0] == pytest.approx(15 * found["memory"]["parameters"] * 1e-3, rel=0.05), "15 bits of 16"
    assert found["accuracy"] == pytest.approx(found["float_accuracy"], abs=0.01)
    assert found["exponents_at_risk"] >= 8, "each layer's largest weight is rounded to 2"
    page = (scaled / "report.html").read_text()
    assert "No fault hits the most significant bit of a floating-point word" in page
    assert "Words whose exponents&#39; top bit is 1" in page and "0.001 over bits, exponents safe, seed 0" in page


def test_outliers_apart_are_told_and_counted_as_memory(folder):
    quantize = {"format": "float16", "scale": {"t": 4.0}, "beyond": "apart"}
    flow = written(folder, "apart", **{**SCALED, "quantize": quantize})
    assert main(["-q", "run", str(flow), "--runs", str(folder / "runs")]) == 0
    found = summary(folder / "runs" / "apart")
    assert found["stored_as"] == "FP16 scaled by layer, t = 4 with outliers apart" and found["apart"] >= 8
    memory = found["memory"]
    assert 33 * found["apart"] < memory["stored_bits"] - 16 * memory["parameters"] <= 56 * found["apart"]
    assert found["accuracy"] == pytest.approx(found["float_accuracy"], abs=0.01), "nothing is clamped"
    assert "Weights apart, each with its place" in (folder / "runs" / "apart" / "report.html").read_text()


def test_faults_by_hand_leave_safe_exponents_alone(scaled, folder, capsys):
    arguments = ["inject", str(folder / "scaled.yaml"), "--runs", str(folder / "runs"), "--on", "torch"]
    assert main([*arguments, "--model", "ber", "--ber", "0.05", "--trials", "2", "--images", "20"]) == 0
    assert "model ber, ber 0.05, safe_exponents True, seed 1" in capsys.readouterr().out
    assert main([*arguments, "--trials", "2"]) == 1
    said = "--model must be ber or layers for a flow whose inject.safe_exponents is true, got single: "
    assert said in capsys.readouterr().err


def test_a_search_over_formats_and_scalings(folder):
    """Both modes agree, integers have one scaling, half precision one width; the answer runs as it is."""
    section = {**EXPLORE, "vulnerability_ceiling": 0.15, "mode": "exhaustive", "bits": [5, 6], "trials": 6}
    section |= {"schemes": ["plain", "msb"], "formats": ["symmetric", "fixed", "float16"], "scaling": ["none", "layer"]}
    section |= {"safe_exponents": True}
    flow = written(folder, "axes", explore=section, quantize={}, harden={})
    assert main(["-q", "explore", str(flow), "--runs", str(folder / "runs")]) == 0
    made = folder / "runs" / "axes" / "explore"
    found = json.loads((made / "search.json").read_text())
    names = {row["name"] for row in found["points"]}
    protections = [""] + ["P-"]
    expected = {f"{mark}{bits}-bit{rest}" for mark in protections for bits in (5, 6)
                for rest in ("", " fixed", " fixed scaled by layer")}  # fmt: skip
    assert names == expected | {f"{mark}FP16{rest}" for mark in protections for rest in ("", " scaled by layer")}
    assert found["evaluations"]["space"] == len(names) == 16
    assert found["evaluations"]["same_answer"] and found["evaluations"]["by_halves"] <= 16
    (best,) = (row for row in found["points"] if row["is_recommended"])
    plain = {row["name"]: row for row in found["points"]}
    lost, kept = (plain[f"6-bit fixed{rest}"]["drop"]["estimate"] for rest in ("", " scaled by layer"))
    assert kept < lost - 0.1, "scaling is what fixed point needs"
    page = (made / "report.html").read_text()
    assert "that is scaling, an axis of one value there" in page and "No fault hits the most significant bit" in page
    told = load_software_flow(made / "recommended.yaml")
    assert str(told.design) == best["name"] and told.design.format == best["format"]
    assert (told.design.scale.by, told.design.point.scheme != "plain") == (best["scaling"], best["is_protected"])


# ---- the YAML ------------------------------------------------------------------------------------------------------

MISTAKES = {
    r"quantize must have only the keys format, bits, per, biases, layers, scale, beyond, got 'bit'; did":
        {"quantize": {"bit": 4}},
    r"voted must be 1 to 4 with the scheme tmr and 4 bits, got 5: ": {"harden": {"scheme": "tmr", "voted": 5}},
    r"inject.bers must be above 0 and at most 1 each; they are flips per stored bit, got \[0\]":
        {"inject": {"bers": [0]}},
    r"name must begin with a letter or digit ": {"name": "../x"},
    r"explore.bits must be two widths from 2 to 16, the lower one first, got \[6, 3\]":
        {"explore": {**EXPLORE, "vulnerability_ceiling": 0.1, "bits": [6, 3]}},
    r"explore.voted must be 1 or more each; plain is a scheme of its own, got \[0\]":
        {"explore": {**EXPLORE, "vulnerability_ceiling": 0.1, "voted": [0]}},
    r"quantize.scale must have only the keys by, t, divide, got 'factor'; ":
        {"quantize": {"format": "q2.5", "scale": {"factor": 2}}},
    r"scale.by must be layer or power_of_two where logits are divided, got channel: divide weights$":
        {"quantize": {"format": "q2.5", "scale": {"by": "channel", "divide": "logits"}}},
    r"bits must be 16 in the format bfloat16, got 8: choose others$": {"quantize": {"format": "bfloat16", "bits": 8}},
    r"explore.vulnerability_ceiling must be given, got nothing": {"explore": EXPLORE},
}  # fmt: skip


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_told_with_its_place(tmp_path, message):
    with pytest.raises(ConfigError, match=rf"^.*mistake.yaml: {message}"):
        load_software_flow(written(tmp_path, "mistake", **MISTAKES[message]))


def test_a_flow_is_software_by_its_network(tmp_path, repository):
    assert is_software(written(tmp_path, "one"))
    assert not is_software(repository / "flows" / "digits.yaml")


# ---- searches ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(folder) -> Path:
    """A whole space that was searched."""
    section = {**EXPLORE, "vulnerability_ceiling": 0.15, "mode": "exhaustive"}
    flow = written(folder, "space", explore=section)
    assert main(["-q", "explore", str(flow), "--runs", str(folder / "runs")]) == 0
    return folder / "runs" / "space" / "explore"


def test_a_search_ends_with_a_table_a_plot_and_a_flow(searched, folder):
    found = json.loads((searched / "search.json").read_text())
    assert len(found["points"]) == found["evaluations"]["space"] == 8
    assert found["evaluations"]["by_halves"] <= 8 and found["evaluations"]["same_answer"]
    (best,) = (row for row in found["points"] if row["is_recommended"])
    feasible = [row for row in found["points"] if row["is_feasible"]]
    assert best["stored_bits"] == min(row["stored_bits"] for row in feasible) and best["is_pareto"]
    assert found["reason"].startswith(f"{best['name']} stores the fewest bits of the points that keep 70.00% ")
    for row in found["points"]:
        assert row["is_feasible"] == (row["accuracy"] >= 0.7 and row["drop"]["high"] <= 0.15)
        assert not row["is_buildable"] and "activations are floating point" in row["reason"]
    page = (searched / "report.html").read_text()
    assert page.count('class="mark"') == 8 and page.count('class="ring"') == 1 and 'class="limit"' in page
    flow = load_software_flow(searched / "recommended.yaml")
    assert str(flow.design) == best["name"] and flow.weights == (folder / "weights.pt").resolve()


def test_what_is_recommended_runs_as_it_is(searched, folder):
    arguments = ["-q", "run", str(searched / "recommended.yaml"), "--runs", str(folder / "runs"), "--to", "quantize"]
    assert main(arguments) == 0
    found = json.loads((searched / "search.json").read_text())
    (best,) = (row for row in found["points"] if row["is_recommended"])
    assert summary(folder / "runs" / "space-recommended")["accuracy"]["0"] == best["accuracy"]


def test_a_search_remembers_and_asks_only_what_is_new(searched, folder, monkeypatch):
    """By halves over the same space: every point is known, other limits or not."""
    monkeypatch.setattr("bitward.engine.pytorch.TorchEngine.outcomes", lambda *_: pytest.fail("a trial was run again"))
    flow = written(folder, "space", explore={**EXPLORE, "vulnerability_ceiling": 0.2, "mode": "binary"})
    assert main(["-q", "explore", str(flow), "--runs", str(folder / "runs")]) == 0
    assert json.loads((searched / "search.json").read_text())["evaluations"]["evaluated"] < 8


def test_a_search_layer_by_layer_gives_a_flow_with_widths(folder, capsys):
    section = {**EXPLORE, "vulnerability_ceiling": 0.3, "per_layer": True, "bits": [3, 4], "schemes": ["plain"]}
    section |= {"accuracy_floor": 0.85, "trials": 4}
    flow = written(folder, "layers", explore=section)
    assert main(["explore", str(flow), "--runs", str(folder / "runs")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "points lost, " in line or "not attacked" in line]
    found = json.loads((folder / "runs" / "layers" / "explore" / "search.json").read_text())
    told = load_software_flow(folder / "runs" / "layers" / "explore" / "recommended.yaml")
    (best,) = (row for row in found["points"] if row["is_recommended"])
    assert str(told.design) == best["name"] and set(told.quantize.layers.values()) == {3}
    assert found["evaluations"]["by_layer"] > 1 and len(lines) == len(found["points"]), "each is told when it is known"
    assert f"Layer by layer: {found['evaluations']['by_layer']} more." in found["evaluations_text"]
    for row in found["points"]:
        verdict = "feasible" if row["is_feasible"] else "not feasible"
        assert sum(line.startswith(row["name"]) and line.endswith(f"bits: {verdict}") for line in lines), row["name"]
    assert best["stored_bits"] <= min(row["stored_bits"] for row in found["points"] if row["is_feasible"])


def test_a_search_that_finds_nothing_says_so(folder):
    flow = written(folder, "nothing", explore={**EXPLORE, "vulnerability_ceiling": 0.1, "accuracy_floor": 1.0})
    assert main(["-q", "explore", str(flow), "--runs", str(folder / "runs")]) == 0
    made = folder / "runs" / "nothing" / "explore"
    found = json.loads((made / "search.json").read_text())
    assert found["recommended"] is None and found["reason"].startswith("No point of those evaluated can keep 100.00% ")
    assert not (made / "recommended.yaml").exists() and (made / "report.html").is_file()
    assert found["evaluations"]["attacked"] == 0


def test_layers_of_one_width_are_told_and_divided_logits_refused(folder, capsys):
    section = {**EXPLORE, "vulnerability_ceiling": 0.9, "per_layer": True, "schemes": ["msb"], "voted": [6]}
    flow = written(folder, "one-width", explore=section, quantize={"format": "float16"}, harden={})
    assert main(["-q", "explore", str(flow), "--runs", str(folder / "runs")]) == 0
    found = json.loads((folder / "runs" / "one-width" / "explore" / "search.json").read_text())
    assert [row["name"] for row in found["points"]] == [found["recommended"]] == ["P6-FP16"]
    assert "Words of P6-FP16 have one width: layer by layer there was nothing to take away." in found["said"]
    assert "by_layer" not in found["evaluations"]
    flow = written(
        folder, "logits", explore=section, quantize={"format": "q2.5", "scale": {"divide": "logits"}}, harden={}
    )
    assert main(["-q", "explore", str(flow), "--runs", str(folder / "runs")]) == 1
    assert "explore.per_layer must be false where logits are divided, got true: " in capsys.readouterr().err


def test_a_flow_without_the_section_is_refused(folder, capsys):
    assert main(["explore", str(written(folder, "none")), "--runs", str(folder / "runs")]) == 1
    assert "must have a section explore to be searched, got none: " in capsys.readouterr().err
