# SPDX-License-Identifier: Apache-2.0
"""The report's graph: every memory in its layer, every stream a lane from the layer it leaves to the one it enters."""

from __future__ import annotations

import json
import random
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from report_run import manifest, write_run
from test_report import Page

from bitward.formats import Int
from bitward.manifest import Memory
from bitward.report import write_report
from bitward.report.graph import Held, Layer, draw, lanes, layers_of
from bitward.schemes import Plain, Secded, Tmr


def node(kind: str, number: int, inputs: list[str], outputs: list[str], **folding: int) -> onnx.NodeProto:
    return helper.make_node(f"{kind}_rtl", inputs, outputs, name=f"{kind}_rtl_{number}", domain="hw", **folding)


def hardware_graph(build: Path) -> None:
    """images -> conv (weights, thresholds) -> fork -> pool -> concatenation with the other branch -> fc -> answers."""
    nodes = [
        node("StreamingFIFO", 0, ["in"], ["a"]),
        node("ConvolutionInputGenerator", 0, ["a"], ["b"], SIMD=2),
        node("StoredMVAU", 0, ["b", "conv.weight"], ["c"], PE=4, SIMD=9),
        node("StreamingDataWidthConverter", 0, ["c"], ["d"]),
        node("StoredThresholding", 0, ["d", "conv.threshold"], ["e"], PE=2),
        node("DuplicateStreams", 0, ["e"], ["f", "g"]),
        node("Pool", 0, ["f"], ["h"], PE=2),
        node("StreamingConcat", 0, ["h", "g"], ["i"]),
        node("StoredMVAU", 1, ["i", "fc.weight"], ["out"], PE=2, SIMD=2),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("in", "out")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:])), str(build / "hardware.onnx"))
    (build / "report").mkdir()
    cycles = {"MVAU_rtl_0": 1200, "Thresholding_rtl_0": 64, "Pool_hls_0": 32, "MVAU_rtl_1": 8}
    (build / "report" / "estimate_layer_cycles.json").write_text(json.dumps(cycles))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_run(tmp_path / "run")
    hardware_graph(tmp_path / "run" / "build" / "hardened")
    return tmp_path / "run"


def test_a_layer_has_its_memories_its_folding_and_its_slowest_units_cycles(folder: Path) -> None:
    found = layers_of(folder / "build" / "hardened", manifest("hardened"))
    assert [(layer.name, layer.sources) for layer in found] == [
        ("images", ()), ("conv", (0,)), ("pooling 1", (1,)), ("concatenation 1", (2, 1)), ("fc", (3,)),
        ("answers", (4,)),
    ]  # fmt: skip
    conv, fc = found[1], found[4]
    assert [held.memory.name for held in conv.memories] == ["conv.weight", "conv.threshold"]
    assert (conv.folding, conv.cycles, conv.kinds) == (["PE 4, SIMD 9", "PE 2"], 1200, ["matrix unit", "thresholds"])
    assert (fc.cycles, found[2].cycles, found[3].cycles) == (8, 32, None)
    assert [layer.state for layer in found] == ["none", "partly", "none", "none", "partly", "none"]
    plain = layers_of(folder / "build" / "hardened", manifest("plain"))
    assert [layer.state for layer in plain] == ["none", "open", "none", "none", "open", "none"]


@pytest.mark.parametrize(
    ("scheme", "masked", "state", "says"),
    [
        (Plain(4), 0, "open", "4-bit words"),
        (Tmr(4, 1), 3 * 24, "partly", "4-bit words, top bit three times"),
        (Tmr(4, 2), 6 * 24, "partly", "4-bit words, top 2 bits three times"),
        (Tmr(4, 4), 12 * 24, "protected", "4-bit words, every bit three times"),
        (Secded(4, 1), 24 * (4 + 4), "protected", "4-bit words, 4 check bits a row"),
    ],
    ids=str,
)
def test_a_memory_says_how_much_of_it_is_protected(scheme, masked: int, state: str, says: str) -> None:
    held = Held(Memory("m", "l", "t", "weight", (6, 4), Int(4), scheme))
    assert (held.masked, held.state, held.scheme) == (masked, state, says)
    assert held.bits >= held.masked


@pytest.mark.parametrize("seed", range(30))
def test_every_stream_is_one_unbroken_lane(seed: int) -> None:
    """Followed row by row, by what each row draws alone; no lane is drawn twice in a row."""
    random_ = random.Random(seed)
    layers = [Layer("images", [], ())]
    for row in range(1, 25):
        others = random_.sample(range(row), min(row, random_.choice((0, 0, 1, 2))))
        layers.append(Layer(str(row), [], tuple(dict.fromkeys([row - 1, *others]))))
    found = lanes(layers)
    for line in found:
        assert not set(line.by) & {line.lane, *line.enter, *line.leave}
        assert len(set(line.leave)) == len(line.leave)
    edges = [(source, row) for row, layer in enumerate(layers) for source in layer.sources]
    followed = set()
    for start, line in enumerate(found):
        for lane in line.leave:
            end = start + 1
            while lane in found[end].by:
                end += 1
            assert lane in found[end].enter
            followed.add((start, end))
    assert followed == set(edges) and sum(len(line.leave) for line in found) == len(edges)


def test_a_chain_is_one_lane_and_a_skip_connection_a_second() -> None:
    chain = [Layer(str(row), [], (row - 1,) if row else ()) for row in range(4)]
    assert {line.lane for line in lanes(chain)} == {0} and not any(line.by for line in lanes(chain))
    skipped = [*chain[:3], Layer("join", [], (2, 0))]
    assert [line.by for line in lanes(skipped)] == [(), (1,), (1,), ()]
    assert [row.reads for row in draw(skipped)] == ["", "", "", "2 and 0"]


def test_the_page_tells_protection_by_shape_and_in_words(folder: Path) -> None:
    html = write_report(folder).read_text(encoding="utf-8")
    text = Page(html).text
    assert "Where protection sits" in text and "Reads pooling 1 and conv." in text
    assert "4-bit words, top bit three times; 144 live bits, 72 protected." in text
    assert "10-bit words; 150 live bits, not protected." in text and "1,200 cycles" in text
    graph = html[html.index('<ol class="graph"') : html.index("</ol>")]
    assert (
        graph.count('<li class="') == 6
        and graph.count('<rect class="half"') == 2
        and graph.count('class="none" cx') == 4
    )


def test_without_a_hardware_graph_the_section_says_so(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    text = Page(write_report(tmp_path / "run").read_text(encoding="utf-8")).text
    assert "Not measured. No build left a hardware.onnx: the run stopped before it." in text
