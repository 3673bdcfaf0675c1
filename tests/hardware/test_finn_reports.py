# SPDX-License-Identifier: Apache-2.0
"""DIR/report: FINN's file names and keys, bitward's figures; and the folding in it, which both take back."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import small_networks
from small_networks import SmallNetwork, export

from bitward.hardware.build import MEASURED_IMAGES, build
from bitward.hardware.declare import BuildOptions, declare
from bitward.hardware.finn_reports import Stopwatch
from bitward.hardware.finn_session import finn_session
from bitward.hardware.lowering import lower
from bitward.manifest import Manifest

RESOURCES = {"BRAM_18K", "BRAM_efficiency", "LUT", "URAM", "URAM_efficiency", "DSP"}
NAMES = {"auto_folding_config.json", "estimate_layer_cycles.json", "estimate_layer_resources.json", "fifo_sizing.json",
         "estimate_network_performance.json", "rtlsim_performance.json", "time_per_step.json"}  # fmt: skip


def report(folder: Path, name: str) -> Any:
    return json.loads((folder / "report" / name).read_text())


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> SmallNetwork:
    return export(small_networks.two_convolutions(), tmp_path_factory.mktemp("network") / "model.onnx", seed=1)


@pytest.fixture(scope="module")
def built(network: SmallNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "build"
    build(network.path, folder, BuildOptions("msb", target_fps=1_000_000, clk_mhz=250, fifos="safe"))
    return folder


def test_the_files_are_finns(built: Path) -> None:
    """As the installed FINN's build steps spell them."""
    spec = find_spec("finn.builder")
    assert spec is not None and spec.submodule_search_locations
    steps = "".join(path.read_text() for path in Path(spec.submodule_search_locations[0]).glob("build_dataflow*.py"))
    assert {path.name for path in (built / "report").iterdir()} == NAMES
    assert all(f'"{name}"' in steps for name in NAMES)
    performance = report(built, "estimate_network_performance.json")
    assert all(f'"{key}"' in steps for key in performance if key.startswith("estimated_"))
    assert all(f'"{key}"' in steps for key in report(built, "fifo_sizing.json"))


def test_cycles_are_those_of_build_json(built: Path) -> None:
    record = json.loads((built / "build.json").read_text())
    cycles, pace = report(built, "estimate_layer_cycles.json"), record["pace"]
    assert {"MVAU_rtl_0", "MVAU_rtl_1", "MVAU_rtl_2", "ConvolutionInputGenerator_rtl_0"} <= set(cycles)
    assert not any(name.startswith(("Stored", "StreamingFIFO")) for name in cycles)
    performance = report(built, "estimate_network_performance.json")
    assert set(performance) == {"critical_path_cycles", "max_cycles", "max_cycles_node_name",
                                "estimated_throughput_fps", "estimated_latency_ns"}  # fmt: skip
    assert performance["max_cycles"] == max(cycles.values()) == pace["bound"]
    assert cycles[performance["max_cycles_node_name"]] == pace["bound"]
    assert performance["critical_path_cycles"] == sum(cycles.values())  # a chain: one path
    assert performance["estimated_throughput_fps"] == pytest.approx(250e6 / pace["bound"])
    assert performance["estimated_latency_ns"] == pytest.approx(4 * sum(cycles.values()))


def test_what_was_simulated_is_what_build_json_says(built: Path) -> None:
    measured = json.loads((built / "build.json").read_text())["cycles"]
    (found,) = report(built, "rtlsim_performance.json")
    steady, latency = measured["steady_per_image"], measured["latency"]
    assert found == {
        "name": "MVAU_rtl_2", "cycles": measured["stream"], "samples": MEASURED_IMAGES, "intervals": [steady],
        "latency_cycles": [latency], "throughput_fps": 250e6 / steady,
    }  # fmt: skip
    assert found["cycles"] == pytest.approx(latency + (MEASURED_IMAGES - 1) * steady, rel=0.1)


def test_resources_are_the_estimates_of_build_json_without_queues(built: Path) -> None:
    resources = report(built, "estimate_layer_resources.json")
    total = resources.pop("total")
    assert all(set(each) == RESOURCES for each in [total, *resources.values()])
    for key in ("BRAM_18K", "DSP", "URAM"):
        assert total[key] == sum(each[key] for each in resources.values())
    record = json.loads((built / "build.json").read_text())["estimated_resources"]
    assert (total["DSP"], total["URAM"]) == (record["dsp"], record["uram"])
    assert 0 < total["LUT"] < record["lut"] and total["BRAM_18K"] / 2 <= record["bram36"]
    memories = {memory.layer: memory for memory in Manifest.load(built / "manifest.json").memories
                if memory.role == "weight"}  # fmt: skip
    bits = memories["conv1"].depth * memories["conv1"].width
    ram = resources["MVAU_rtl_0"]
    assert ram["BRAM_efficiency"] == pytest.approx(bits / (ram["BRAM_18K"] * 18 * 1024))
    assert 0 < total["BRAM_efficiency"] < 1


def test_queues_and_time_are_said(built: Path) -> None:
    queues, record = report(built, "fifo_sizing.json"), json.loads((built / "build.json").read_text())
    depths = {name: each["depth"] for name, each in record["folding"].items() if name.startswith("StreamingFIFO")}
    assert queues["fifo_depths"] == depths and len(depths) > 8
    assert queues["total_fifo_size_kiB"] == sum(queues["fifo_sizes"].values()) / 8192
    seconds = report(built, "time_per_step.json")
    total = seconds.pop("total_build_time")
    assert list(seconds)[:2] == ["step_lowering", "step_writing_rtl"] and "step_measuring_cycles_in_rtl" in seconds
    assert total == pytest.approx(sum(seconds.values()), abs=0.1)
    assert total == pytest.approx(record["wall_s"], abs=1 + 0.05 * total)


def test_the_folding_is_taken_back_and_folds_the_same(network: SmallNetwork, built: Path, tmp_path: Path) -> None:
    """A build from report/auto_folding_config.json is the same build but for queues, which are found anew."""
    config = report(built, "auto_folding_config.json")
    assert config["Defaults"] == {} and config["MVAU_rtl_1"].keys() == {"PE", "SIMD", "ram_style"}
    build(network.path, tmp_path / "again", BuildOptions("msb", target_fps=10, folding=config, simulate=False))

    def units(folder: Path) -> dict[str, Any]:
        folding = json.loads((folder / "build.json").read_text())["folding"]
        return {name: values for name, values in folding.items() if not name.startswith("StreamingFIFO")}

    assert units(tmp_path / "again") == units(built)
    build(network.path, tmp_path / "other", BuildOptions("msb", target_fps=10, simulate=False))
    assert units(tmp_path / "other") != units(built)  # the control: it is the file that makes them equal
    notes = json.loads((tmp_path / "again" / "build.json").read_text())["notes"]
    assert len(notes) == 1 and "MVAU_rtl_1 is conv2" in notes[0]


def test_finn_takes_the_folding_back(network: SmallNetwork, built: Path, tmp_path: Path) -> None:
    """Its own ApplyConfig sets every attribute on its own nodes of those names: it raises where a node has none."""
    from finn.transformation.general import ApplyConfig
    from qonnx.custom_op.registry import getCustomOp

    config = report(built, "auto_folding_config.json")
    with finn_session(tmp_path / "finn"):
        model = lower(declare(network.path, BuildOptions("none"))[0]).model
        numbers: dict[str, int] = {}
        for node in model.graph.node:
            kind = node.op_type
            number = numbers[kind] = numbers.get(kind, -1) + 1
            end = next(end for end in ("rtl", "hls") if f"{kind}_{end}_{number}" in config)
            node.op_type, node.domain = f"{kind}_{end}", f"finn.custom_op.fpgadataflow.{end}"
            node.name = f"{kind}_{end}_{number}"
        model = model.transform(ApplyConfig(config))
        ops = {node.name: getCustomOp(node) for node in model.graph.node}
        assert set(ops) == set(config) - {"Defaults"}
        for name, op in ops.items():
            assert type(op).__module__.startswith("finn.")
            assert {key: op.get_nodeattr(key) for key in config[name]} == config[name]


def test_without_simulation_nothing_is_called_simulated(network: SmallNetwork, tmp_path: Path) -> None:
    build(network.path, tmp_path / "build", BuildOptions("none", simulate=False))
    assert {path.name for path in (tmp_path / "build" / "report").iterdir()} == NAMES - {"rtlsim_performance.json"}


def test_a_step_lasts_until_the_next_and_says_on_the_way_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 4.0, 10.0, 10.0])
    monkeypatch.setattr("bitward.hardware.finn_reports.time.monotonic", lambda: next(times))
    said: list[str] = []
    clock = Stopwatch(said.append)
    for step in ("lowering", "writing RTL", "queues: 2 of 7", "lowering"):
        clock(step)
    assert clock.seconds() == {"step_lowering": 3.0, "step_writing_rtl": 6.0, "total_build_time": 9.0}
    assert said == ["lowering", "writing RTL", "queues: 2 of 7", "lowering"]
