# SPDX-License-Identifier: Apache-2.0
"""Searches of quantized networks: every point is hardware, and the answer is a flow and a build as they are."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from picture_folders import picture_folder

from bitward.cli import main
from bitward.datasets import load_dataset
from bitward.engine.pytorch import store
from bitward.errors import ConfigError
from bitward.explore.buildable import buildable, chip_bits
from bitward.explore.design import Point
from bitward.explore.evaluate import Bench, Rules
from bitward.explore.family import Member, members
from bitward.flow import load_flow
from bitward.flow.family_search import build_line
from bitward.flow.kinds import is_software
from bitward.flow.software_spec import load_software_flow
from bitward.flow.verify import run_qonnx
from bitward.manifest import Manifest
from bitward.networks import find_network
from bitward.schemes import Tmr

MODELS = Path(__file__).resolve().parents[2] / "onnx_models"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
EXPLORE = {"bits": [2, 8], "schemes": ["plain", "msb", "tmr"], "ber": 5e-3, "accuracy_floor": 0.9, "trials": 6,
           "vulnerability_ceiling": 0.1, "images": 40, "mode": "exhaustive"}  # fmt: skip


def flow(folder: Path, network: str = "digits_cnn", **explore) -> Path:
    path = folder / "searched.yaml"
    told = {"network": network, "model": str(MODELS / f"{network}.onnx"), "explore": {**EXPLORE, **explore}}
    path.write_text(yaml.safe_dump(told))
    return path


def test_a_family_is_known_by_its_weights_bits():
    assert {bits: each.name for bits, each in members("vgg_cifar").items()} == {
        2: "vgg_cifar_w2", 3: "vgg_cifar_w3", 4: "vgg_cifar", 8: "vgg_cifar_w8",
    }  # fmt: skip
    assert list(members("vgg_cifar_w3")) == [2, 3, 4, 8]
    assert {bits: each.name for bits, each in members("digits_cnn").items()} == {4: "digits_cnn"}


def test_a_member_computes_what_its_graph_does(tmp_path):
    data = load_dataset("digits")
    member = Member(find_network("digits_cnn"), MODELS / "digits_cnn.onnx")
    subject, choose = member.subject(Point(4, "tmr", 1), data)
    bench = Bench(subject, choose, {"point": "P-4-bit"}, tmp_path, Rules(2, 8))
    outputs = run_qonnx(member.model, data.test_images)
    assert bench.accuracy == (outputs.argmax(axis=1) == data.test_labels).mean() > 0.9
    weights = [memory for memory in bench.manifest.memories if memory.role == "weight"]
    assert {memory.scheme for memory in weights} == {Tmr(4, 1)}
    assert buildable(bench.manifest, bench.bits.stored_bits, True)[0]
    assert buildable(bench.manifest, chip_bits() + 1, True) == (False, "24.2 Mb do not fit the K26's 24.2 Mb")


def test_a_member_of_another_width_is_refused():
    member = Member(find_network("digits_cnn"), MODELS / "digits_cnn.onnx")
    with pytest.raises(ConfigError, match=r"^.*digits_cnn.onnx must have weights of 3 bits, .*, got \[4\]: name the"):
        member.parts(Point(3))


def test_every_member_of_the_vgg_family_is_a_point():
    for bits, network in members("vgg_cifar").items():
        made, choose = Member(network, MODELS / f"{network.name}.onnx").parts(Point(bits, "tmr", 1))
        manifest, _ = store(made, choose)
        weights = [memory for memory in manifest.memories if memory.role == "weight"]
        assert {memory.scheme for memory in weights} == {Tmr(bits, 1)} and len(weights) == 7


def test_the_answer_is_a_flow_of_hardware(tmp_path, capsys):
    assert main(["explore", str(flow(tmp_path)), "--runs", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    folder = tmp_path / "runs" / "searched" / "explore"
    found = json.loads((folder / "search.json").read_text())
    assert {row["name"] for row in found["points"]} == {"4-bit", "P-4-bit", "TMR-4-bit"}
    assert all(row["is_buildable"] and "quantized activations" in row["reason"] for row in found["points"])
    assert any("that is weight scaling already, and its axis has one value here" in each for each in found["said"])
    (best,) = (row for row in found["points"] if row["is_recommended"])
    told = load_flow(folder / "recommended.yaml")
    assert told.network == "digits_cnn" and told.model == MODELS / "digits_cnn.onnx" and told.explore is None
    protect = {"4-bit": "none", "P-4-bit": "msb --voted 1", "TMR-4-bit": "tmr"}[best["name"]]
    assert f"--protect {protect} --target-fps 100000" in " ".join(out.split())


@pytest.mark.parametrize(
    ("point", "asked"),
    [(Point(4), ("none", None)), (Point(4, "tmr", 2), ("msb", 2)), (Point(4, "tmr", 4), ("tmr", None))],
    ids=str,
)
def test_the_line_to_build_an_answer_asks_for_its_protection(point, asked, tmp_path, monkeypatch):
    member = Member(find_network("digits_cnn"), MODELS / "digits_cnn.onnx")
    line = build_line(load_flow(flow(tmp_path)), member, point, tmp_path)
    seen = []

    def stop(model, out, options, **_):
        seen.append((model, out, options.protect, options.voted if options.protect == "msb" else None))
        raise ConfigError("enough seen")

    monkeypatch.setattr("bitward.hardware.build.build", stop)
    assert main(line.split()[1:]) == 1
    assert seen == [(MODELS / "digits_cnn.onnx", tmp_path / "build", *asked)]


def test_a_member_without_a_file_is_trained_and_exported(tmp_path, monkeypatch):
    trained = []

    def train(network, **told):
        trained.append((network, told))
        return network

    def export(done, folder, data):
        return Path(shutil.copy(MODELS / f"{done}.onnx", folder))

    monkeypatch.setattr("bitward.train.train_network", train)
    monkeypatch.setattr("bitward.train.export_network", export)
    path = flow(tmp_path, schemes=["plain"], images=4, vulnerability_ceiling=0.9)
    told = yaml.safe_load(path.read_text())
    del told["model"]
    path.write_text(yaml.safe_dump({**told, "train": {"seeds": [7, 8]}}))
    assert main(["-q", "explore", str(path), "--runs", str(tmp_path / "runs")]) == 0
    folder = tmp_path / "runs" / "searched"
    assert trained == [("digits_cnn", {"seeds": (7,), "cache": folder / "train", "data": None})], "one seed, by rule"
    assert load_flow(folder / "explore" / "recommended.yaml").model == folder / "explore" / "models" / "digits_cnn.onnx"


@pytest.mark.slow
def test_the_answer_is_built_as_it_is_printed(tmp_path, capsys):
    """The command line that the search prints builds RTL whose memories are stored as the answer says."""
    section = {"schemes": ["msb"], "vulnerability_ceiling": 0.9}
    assert main(["explore", str(flow(tmp_path, **section)), "--runs", str(tmp_path / "runs")]) == 0
    line = " ".join(capsys.readouterr().out.split()).partition("to build it: bitward ")[2].partition(" Whole space")[0]
    assert main(["-q", *line.split()]) == 0
    manifest = Manifest.load(tmp_path / "runs" / "searched" / "explore" / "build" / "manifest.json")
    assert {memory.scheme for memory in manifest.memories if memory.role == "weight"} == {Tmr(4, 1)}


def test_pictures_go_through_every_width(tmp_path):
    """The family's own widths are halved and searched, on pictures that say nothing: nothing is feasible."""
    pictures = picture_folder(tmp_path / "pictures", CLASSES, train=1, test=1, shape=(32, 32, 3))
    path = flow(tmp_path, "vgg_cifar", schemes=["plain"], trials=2, images=4, accuracy_floor=0.99)
    assert main(["-q", "explore", str(path), "--runs", str(tmp_path / "runs"), "--data", str(pictures)]) == 0
    found = json.loads((tmp_path / "runs" / "searched" / "explore" / "search.json").read_text())
    assert sorted(row["name"] for row in found["points"]) == ["2-bit", "3-bit", "4-bit", "8-bit"]
    assert found["recommended"] is None


def test_the_searches_of_the_repository_load(repository):
    paths = sorted((repository / "flows" / "explore").glob("*.yaml"))
    assert len(paths) >= 4
    for path in paths:
        told = load_software_flow(path) if is_software(path) else load_flow(path)
        assert told.explore is not None
        if not is_software(path):
            files = [told.model.parent / f"{each.name}.onnx" for each in members(told.network).values()]
            assert all(file.is_file() for file in files)


REFUSED = {
    r"explore must have the schemes plain, msb and tmr and no per_layer .*, got secded": {"schemes": ["secded"]},
    r"explore must have the schemes plain, msb and tmr and no per_layer .*, got per_layer": {"per_layer": True},
    r"explore must have no formats, no safe_exponents and the scaling none for a quantized network, got layer: its ":
        {"scaling": ["none", "layer"]},
    r"explore must have no formats, no safe_exponents and the scaling none .*, got formats: ": {"formats": ["fixed"]},
    r"explore must have no formats, no safe_exponents .*, got safe_exponents: ": {"safe_exponents": True},
    r"explore.bits must leave a member of the family of digits_cnn, whose weights have \[4\] bits, got \[5, 8\]":
        {"bits": [5, 8]},
    r"explore.models.digits_cnn must be a QONNX file, got .*none.onnx, which is none":
        {"models": {"digits_cnn": "none.onnx"}},
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_searched_is_refused(tmp_path, capsys, message):
    path = flow(tmp_path, **REFUSED[message])  # its model is there: the one that is named is not replaced by it
    assert main(["-q", "explore", str(path), "--runs", str(tmp_path / "runs")]) == 1
    assert re.match(f"bitward: {message}", capsys.readouterr().err)
