# SPDX-License-Identifier: Apache-2.0
"""Commands on real builds, and every kind of bad input: one clear sentence, exit code 1, nothing lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import small_networks
from onnx import TensorProto, helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.general import SortGraph
from small_networks import SmallNetwork, export

from bitward.cli import main
from bitward.datasets import load_dataset
from bitward.errors import ConfigError
from bitward.flow.verify import run_qonnx
from bitward.hardware.declare import BuildOptions
from bitward.manifest import Manifest

COMMAND = [sys.executable, "-m", "bitward"]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """`refused(sentence, *arguments)`: exit code 1 and that one sentence on stderr, no traceback."""

    def check(sentence: str, *arguments: object) -> None:
        capsys.readouterr()
        assert main(["--quiet", *map(str, arguments)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("bitward: ") and len(err.splitlines()) == 1, err
        assert "internal error" not in err
        assert re.match(sentence, err.removeprefix("bitward: ")), err

    return check


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> SmallNetwork:
    return export(small_networks.dense(), tmp_path_factory.mktemp("dense") / "dense.onnx", seed=5)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """24 test images of the digits, as the ONNX graph takes them."""
    path = tmp_path / "images.npy"
    np.save(path, load_dataset("digits").test_images[:24])
    return path


# ---- what they do --------------------------------------------------------------------------------------------------


def test_infer_gives_the_same_on_engine_rtl_and_board_and_what_the_graph_gives(digits_run, images, tmp_path):
    build = digits_run.build("hardened")
    results = {}
    for on in ("engine", "rtl", "board"):
        assert main(["-q", "infer", str(build), str(images), str(tmp_path / f"{on}.npy"), "--on", on]) == 0
        results[on] = np.load(tmp_path / f"{on}.npy")
    assert np.array_equal(results["engine"], results["rtl"])
    assert np.array_equal(results["engine"], results["board"])
    expected = run_qonnx(build / "source.onnx", np.load(images))
    assert results["rtl"].shape == expected.shape
    np.testing.assert_allclose(results["rtl"], expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def emulated(mlp_run) -> Iterator[tuple[subprocess.Popen, int]]:
    """A virtual board with the hardened MLP, started by the command, and its port."""
    command = [*COMMAND, "emulate", str(mlp_run.build("hardened")), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert "simulated, no hardware" in line
        yield process, int(re.search(r":(\d+), ctrl-C ends it", line)[1])
        process.kill()


def test_emulate_serves_boards_to_others_until_ctrl_c(emulated, mlp_run, images, tmp_path):
    process, port = emulated
    at = ["--on", "board", "--host", "127.0.0.1", "--port", str(port)]
    build = str(mlp_run.build("hardened"))
    for name in ("first", "second"):  # a client leaves, another one comes
        assert main(["-q", "infer", build, str(images), str(tmp_path / f"{name}.npy"), *at]) == 0
    assert np.array_equal(np.load(tmp_path / "first.npy"), np.load(tmp_path / "second.npy"))
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert (process.wait(20), process.stderr.read()) == (0, "")


def test_harden_and_build_and_infer_by_hand(dense, tmp_path, capsys):
    hardened, out = tmp_path / "hardened.onnx", tmp_path / "build"
    assert main(["harden", str(dense.path), str(hardened), "--voted", "2"]) == 0
    assert "fc1              4 bits stored in 8, 2 voted" in capsys.readouterr().out
    assert main(["build", str(hardened), "--target-fps", "1e6", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "cycles per image, latency" in printed and printed.splitlines()[-1] == str(out)
    np.save(tmp_path / "in.npy", dense.images(5))
    assert main(["infer", str(out), str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]) == 0
    expected = run_qonnx(dense.path, dense.images(5))
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-4, atol=1e-4)


# ---- models that cannot be used ------------------------------------------------------------------------------------


def edited(dense: SmallNetwork, path: Path, edit: Callable[[ModelWrapper], None]) -> Path:
    model = ModelWrapper(str(dense.path))
    edit(model)
    model.save(str(path))
    return path


def insert_after_first_layer(model: ModelWrapper, op_type: str, name: str, **attributes: object) -> None:
    """A node between the first batch norm and what reads it."""
    norm = model.get_nodes_by_op_type("BatchNormalization")[0]
    tensor = norm.output[0]
    reader = model.find_consumers(tensor)[0]
    model.graph.node.append(helper.make_node(op_type, [tensor], [f"{name}_out"], name=name, **attributes))
    model.set_tensor_shape(f"{name}_out", model.get_tensor_shape(tensor))
    reader.input[0] = f"{name}_out"
    model.model.CopyFrom(model.transform(SortGraph()).model)


def set_bits(model: ModelWrapper, signed: int) -> None:
    for node in model.graph.node:
        if node.op_type == "Quant" and model.get_initializer(node.input[0]) is not None:
            getCustomOp(node).set_nodeattr("signed", signed)


def test_a_file_that_is_no_onnx_is_refused(refused, tmp_path):
    (tmp_path / "notes.onnx").write_text("these are my notes\n")
    for command in (
        ["build", tmp_path / "notes.onnx", "--out", tmp_path / "out"],
        ["harden", tmp_path / "notes.onnx", "x"],
    ):
        refused(".*notes.onnx must be an ONNX model, got a file that is none: export one with bitward export", *command)
    refused(".*none.onnx must be a readable ONNX file, got No such file", "build", tmp_path / "none.onnx", "--out", "x")
    assert not (tmp_path / "out").exists()


def test_an_onnx_without_nodes_or_quantized_weights_is_refused(refused, tmp_path):
    tensor = helper.make_tensor_value_info
    ends = [tensor("x", TensorProto.FLOAT, [1, 4])], [tensor("y", TensorProto.FLOAT, [1, 4])]
    onnx.save(helper.make_model(helper.make_graph([], "empty", *ends)), tmp_path / "empty.onnx")
    refused(".*empty.onnx must be an ONNX model with nodes, got none", "build", tmp_path / "empty.onnx", "--out", "x")
    relu = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="act")], "relu", *ends))
    onnx.save(relu, tmp_path / "relu.onnx")
    sentence = "the model must have layers with quantized weights to be hardened, got none"
    refused(sentence, "harden", tmp_path / "relu.onnx", tmp_path / "out.onnx")
    refused(sentence, "build", tmp_path / "relu.onnx", "--protect", "msb", "--out", tmp_path / "out")
    refused(".*must ", "build", tmp_path / "relu.onnx", "--protect", "none", "--out", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.onnx", "relu.onnx"]


def test_float_weights_are_refused_and_the_layer_named(refused, dense, tmp_path):
    def unquantize(model: ModelWrapper) -> None:
        quantizer = model.find_producer(next(n for n in model.graph.node if n.op_type in ("MatMul", "Gemm")).input[1])
        reader = model.find_consumers(quantizer.output[0])[0]
        reader.input[1] = quantizer.input[0]
        model.graph.node.remove(quantizer)

    model = edited(dense, tmp_path / "float.onnx", unquantize)
    refused("layer 'fc1' must have weights behind a Quant node, got none", "build", model, "--out", tmp_path / "out")


def test_a_node_without_rtl_is_named_with_its_op(refused, dense, tmp_path):
    model = edited(dense, tmp_path / "softmax.onnx", lambda m: insert_after_first_layer(m, "Softmax", "squash"))
    refused(r"node squash \(Softmax\) has no RTL: ", "build", model, "--out", tmp_path / "out")


def test_an_exported_instance_norm_is_named_with_its_op(refused, tmp_path):
    def normalised():
        from brevitas.nn import QuantConv2d, QuantIdentity
        from torch import nn

        shape, network = small_networks.convolutional()
        network.pool = nn.Sequential(nn.InstanceNorm2d(4), nn.MaxPool2d(2))
        assert isinstance(network.conv, QuantConv2d) and isinstance(network.quant, QuantIdentity)
        return shape, network

    model = export(normalised(), tmp_path / "norm.onnx", seed=1)
    refused(r"node \S+ \(InstanceNormalization\) has no RTL: ", "build", model.path, "--out", tmp_path / "out")


def test_an_input_that_is_not_integer_is_refused(refused, dense, tmp_path):
    def forget(model: ModelWrapper) -> None:
        model.set_tensor_datatype(model.graph.input[0].name, DataType["FLOAT32"])

    model = edited(dense, tmp_path / "float_input.onnx", forget)
    refused("input .* must have an integer FINN datatype, got FLOAT32", "build", model, "--out", tmp_path / "out")


def test_unsigned_weights_are_refused(refused, dense, tmp_path):
    model = edited(dense, tmp_path / "unsigned.onnx", lambda m: set_bits(m, signed=0))
    refused("layer 'fc1' must have signed weights .*got unsigned ones", "build", model, "--out", tmp_path / "out")


# ---- options that make no sense ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", ["0", "-5", "1e12", "nan", "inf"])
def test_a_target_that_cannot_be_met_is_refused(refused, dense, tmp_path, fps):
    refused("target_fps must be above 0 and at most one image a clock cycle .200000000., got", "build", dense.path,
            "--target-fps", fps, "--out", tmp_path / "out")  # fmt: skip


@pytest.mark.parametrize(
    ("folding", "sentence"),
    [
        ({"fc1": {"PE": 4}}, "folding of fc1: PE must be one of 1, 2, 3, 6, got 4"),
        ({"fc1": {"SIMD": 0}}, "folding of fc1: SIMD must be one of 1, 2, 3, 4, 6, 12, got 0"),
        ({"fc3": {"PE": 1}}, "folding must name a layer or node .*, got 'fc3'; did you mean 'fc"),
        ({"fc1": {"PEE": 1}}, "folding of fc1 must set what its node lets choose, got 'PEE'; did you mean 'PE'"),
        ({"fc1": {"PE": "eight"}}, "folding of fc1: PE must be of type int, got 'eight'"),
        ({"fc1": 7}, "folding of fc1 must map attributes to values, .*got 7"),
        ([1, 2], "--folding must map names to values, got a list in"),
    ],
)
def test_a_folding_that_cannot_be_is_refused(refused, dense, tmp_path, folding, sentence):
    path = tmp_path / "folding.json"
    path.write_text(json.dumps(folding))
    refused(sentence, "build", dense.path, "--folding", path, "--out", tmp_path / "out")


def test_a_folding_file_must_be_json_and_there(refused, dense, tmp_path):
    (tmp_path / "folding.json").write_text("PE: 8")
    refused("--folding must be JSON, got", "build", dense.path, "--folding", tmp_path / "folding.json", "--out", "x")
    refused("--folding must be a readable JSON or YAML file, got .*: No such file", "build", dense.path, "--folding",
            tmp_path / "none.json", "--out", tmp_path / "out")  # fmt: skip


@pytest.mark.parametrize("protect", ["model", "none", "tmr"])
def test_votes_without_a_voter_that_counts_them_are_refused(refused, dense, tmp_path, protect):
    refused(f"--voted must go with --protect msb, got 2 with {protect}: name msb, or leave it out", "build", dense.path,
            "--protect", protect, "--voted", "2", "--out", tmp_path / "out")  # fmt: skip


def test_saturation_is_the_builders_to_allow(dense, tmp_path, monkeypatch):
    seen: list[bool] = []

    def stop(model: Path, out: Path, options: BuildOptions, **_: object) -> None:
        seen.append(options.saturate_signs)
        raise ConfigError("enough seen")

    monkeypatch.setattr("bitward.hardware.build.build", stop)
    for flags in ([], ["--saturate"]):
        assert main(["build", str(dense.path), "--out", str(tmp_path / "out"), *flags]) == 1
    assert seen == [False, True]


def test_an_unknown_board_names_the_nearest(refused, dense, tmp_path):
    refused("board must be one of kv260, virtual .or KV260_SOM for kv260, xck26-sfvc784-2LV-c for kv260., got 'kv206'. "
            "did you mean 'kv260'", "build", dense.path, "--board", "kv206", "--out", tmp_path / "out")  # fmt: skip


# ---- flows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "network: digits_cnn\ntrian: {}\n",
            ".*: the flow must have only the keys .*, got 'trian'; did you mean 'train'",
        ),
        (
            "network: digits_cnn\nbuild: {target_fsp: 1}\n",
            ".*: build must have .*got 'target_fsp'; did you mean 'target_fps'",
        ),
        ("network: digits_cnn\nbuild: {target_fps: 0}\n", ".*: build.target_fps must be greater than 0, got 0; see"),
        ("network: digits_cnm\n", ".*digits_cnm.*did you mean 'digits_cnn'"),
        ("train: {}\n", ".*: network must be given, got nothing"),
        ("- a\n- b\n", "the flow .* must hold keys and values, got a list"),
        ("network: [\n", "the flow .* must be YAML, got a mistake at line 2"),
        (
            "network: digits_mlp\nname: ../outside\n",
            ".*: name must begin with a letter or digit and .*, got '../outside'; see",
        ),
    ],
)
@pytest.mark.parametrize("command", ["run", "inject"])
def test_a_flow_with_a_mistake_is_refused_before_anything_runs(refused, tmp_path, command, text, sentence):
    flow = tmp_path / "flow.yaml"
    flow.write_text(text)
    refused(sentence, command, flow, "--runs", tmp_path / "runs")
    assert not (tmp_path / "runs" / "flow" / "train").exists()


def test_a_flow_that_is_not_there_and_a_stage_that_is_not_one(refused, mlp_run, tmp_path):
    refused("the flow .*none.yaml must be a readable YAML file, got No such file", "run", tmp_path / "none.yaml")
    refused("a stage must be one of train, .*, got 'bulid'; did you mean 'build'", "run", mlp_run.flow, "--to", "bulid",
            "--runs", tmp_path)  # fmt: skip


def test_debug_shows_a_traceback_and_the_sentence(capsys, tmp_path):
    (tmp_path / "flow.yaml").write_text("netwrok: digits_cnn\n")
    assert main(["run", str(tmp_path / "flow.yaml"), "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and "did you mean 'network'" in err.splitlines()[-1]


# ---- arrays --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (b"no array", ".*in.npy must be an .npy file of numbers, got .*"),
        (None, ".*in.npy must be an .npy file of numbers, got No such file or directory: numpy.save writes one"),
        (np.array([{"a": 1}], dtype=object), ".*in.npy must be an .npy file of numbers, got Object arrays"),
        (np.array([["a", "b"]]), "inputs must be images along axis 0, got <U1"),
        (np.float32(3.0), r"inputs must be images along axis 0, got float32 of shape \(\)"),
        (np.full((2, 1, 8, 8), 0.5, np.float32), r"inputs must be whole numbers \(UINT8\), got fractions in"),
        (np.full((2, 1, 8, 8), 256, np.float32), "images must be UINT8.*, got 256"),
        (np.full((2, 1, 8, 8), np.nan, np.float32), r"inputs must be whole numbers \(UINT8\), got"),
        (np.zeros((2, 1, 9, 9), np.float32), r"images must be of a shape that \S+ at .*, got .2, "),
    ],
    ids=["text", "missing", "objects", "strings", "scalar", "fractions", "range", "nan", "shape"],
)
@pytest.mark.parametrize("on", ["engine", "rtl"])
def test_arrays_that_are_no_images_are_refused(refused, mlp_run, tmp_path, array, sentence, on):
    path = tmp_path / "in.npy"
    if isinstance(array, bytes):
        path.write_bytes(array)
    elif array is not None:
        np.save(path, array, allow_pickle=True)
    refused(sentence, "infer", mlp_run.build("hardened"), path, tmp_path / "out.npy", "--on", on)
    assert not (tmp_path / "out.npy").exists()


def test_a_build_without_an_overlay_is_refused_by_boards(refused, mlp_run, images, tmp_path):
    build = tmp_path / "build"
    shutil.copytree(mlp_run.build("hardened"), build, ignore=shutil.ignore_patterns("overlay"))
    refused(".*build/overlay must hold one .bit, got 0; run bitward build", "infer", build, images,
            tmp_path / "out.npy", "--on", "board")  # fmt: skip


def test_a_folder_that_is_no_build_is_refused(refused, images, tmp_path):
    for on in ("engine", "rtl", "board"):
        refused(
            ".*manifest.json must be a manifest, got No such file or directory: name a folder",
            "infer", tmp_path, images, "out.npy", "--on", on,
        )  # fmt: skip
    refused(".*overlay must hold one .bit, got 0; run bitward build", "emulate", tmp_path, "--port", "0")


# ---- boards --------------------------------------------------------------------------------------------------------


def test_a_manifest_of_another_overlay_is_refused_by_the_identification_register(refused, mlp_run, images, tmp_path):
    build = Path(shutil.copytree(mlp_run.build("hardened"), tmp_path / "build"))
    manifest = Manifest.load(build / "manifest.json")
    replace(manifest, design_id=0x12345678).save(build / "manifest.json")
    refused(f".*libmodel.so must simulate the manifest's design 0x12345678, got 0x{manifest.design_id:08x}: ", "infer",
            build, images, tmp_path / "out.npy", "--on", "rtl")  # fmt: skip
    assert not (tmp_path / "out.npy").exists()


def test_an_overlay_that_the_virtual_board_does_not_emulate_is_refused(refused, emulated, mlp_run, images, tmp_path):
    _, port = emulated
    refused("this virtual board emulates the overlay of build|.*must ", "infer", mlp_run.build("plain"), images,
            tmp_path / "out.npy", "--on", "board", "--host", "127.0.0.1", "--port", port)  # fmt: skip


def test_a_board_that_is_not_there_is_one_sentence(refused, mlp_run, images, tmp_path, monkeypatch):
    monkeypatch.setattr("bitward.targets.board.OPENED_WITHIN_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    refused(f"the board at 127.0.0.1:{port} must answer, got no connection; is its server", "infer",
            mlp_run.build("hardened"), images, tmp_path / "out.npy", "--on", "board", "--host", "127.0.0.1",
            "--port", port)  # fmt: skip


def test_a_port_that_is_taken_is_one_sentence(refused, emulated, mlp_run):
    _, port = emulated
    refused(f".*{port}", "emulate", mlp_run.build("hardened"), "--port", port)


# ---- disks ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`disk(options)` mounts a small disk of its own; needs root."""
    mounts: list[Path] = []

    def mount(options: str) -> Path:
        at = tmp_path / f"disk{len(mounts)}"
        at.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", at], capture_output=True)
        if done.returncode:
            pytest.skip("needs root, to mount a small disk")
        mounts.append(at)
        return at

    yield mount
    for at in mounts:
        subprocess.run(["umount", "-l", at], check=True)


def fill(folder: Path, keep: int = 0) -> None:
    """No more than about `keep` bytes are left."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    (folder / "ballast").write_bytes(bytes(free - keep))


FULL = ".* must be on a disk with space left, got No space left on device: free some"
READ_ONLY = ".* must be writable, got Read-only file system: choose a folder that is not mounted read-only"


def test_a_full_disk_is_one_sentence_and_an_earlier_build_survives(refused, disk, dense, mlp_run, images):
    full = disk("size=8m")
    shutil.copytree(mlp_run.build("plain"), full / "build")
    before = {path: path.read_bytes() for path in (full / "build").rglob("*") if path.is_file()}
    fill(full, keep=64 << 10)
    refused(FULL, "build", dense.path, "--out", full / "build")
    assert {path: path.read_bytes() for path in (full / "build").rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in full.iterdir()) == ["ballast", "build"]
    (full / "ballast").unlink()
    fill(full)
    refused(FULL, "infer", mlp_run.build("plain"), images, full / "out.npy", "--on", "engine")
    refused(FULL, "harden", dense.path, full / "hardened.onnx")
    refused(FULL, "run", mlp_run.flow, "--to", "harden", "--runs", full)


def test_a_read_only_disk_is_one_sentence(refused, disk, dense, mlp_run, images):
    locked = disk("size=1m,ro")
    refused(READ_ONLY, "build", dense.path, "--out", locked / "build")
    refused(READ_ONLY, "infer", mlp_run.build("plain"), images, locked / "out.npy", "--on", "engine")
    refused(READ_ONLY, "harden", dense.path, locked / "hardened.onnx")
    refused(READ_ONLY, "run", mlp_run.flow, "--runs", locked)
    refused(READ_ONLY, "inject", mlp_run.flow, "--runs", locked)


def test_an_output_below_a_file_is_refused(refused, dense, tmp_path):
    (tmp_path / "file").write_text("here")
    refused(".*file.* must be ", "build", dense.path, "--out", tmp_path / "file" / "build")
    assert (tmp_path / "file").read_text() == "here"


def test_the_current_folder_is_no_place_to_build(refused, dense, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    refused("out must be another folder than the one you are in, got .: name", "build", dense.path, "--out", ".")
