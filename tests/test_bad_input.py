# SPDX-License-Identifier: Apache-2.0
"""Wrong input to every command: one sentence, an exit code, no traceback, and not a file is made, changed or lost."""

from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from shared_runs import ROOT

from bitward.cli import main
from bitward.cli._main import root

FLOWS = {
    "tab": "network: digits_mlp\n\ttrain: {seeds: [0]}\n",
    "list": "- network\n- digits\n",
    "text": "hello\n",
    "nothing": "",
    "open": "network: [\n",
    "twice": "network: digits_mlp\nnetwork: digits_cnn\n",
    "key": "netwrok: digits_cnn\n",
    "number-key": "network: digits_mlp\n3: 4\n",
    "network": "network: digits_cnx\n",
    "no-network": "network:\n",
    "seeds": "network: digits_mlp\ntrain: {seeds: many}\n",
    "no-seeds": "network: digits_mlp\ntrain: {seeds: []}\n",
    "half-seed": "network: digits_mlp\ntrain: {seeds: [0.5]}\n",
    "list-for-map": "network: digits_mlp\ninject: [1, 2]\n",
    "nothing-for-map": "network: digits_mlp\ntrain:\n",
    "range": "network: digits_mlp\nharden: {voted: 99}\n",
    "board": "network: digits_mlp\nbuild: {board: zcu104}\n",
    "name": "network: digits_mlp\nname: ../x\n",
    "no-model": "network: own\nmodel: there_is_none.onnx\n",
    "garbage-model": "network: own\nmodel: garbage.onnx\ndataset: digits\n",
    "cut-model": "network: own\nmodel: cut.onnx\ndataset: digits\n",
    "dataset": "network: own\nmodel: good.onnx\ndataset: digitz\n",
    "float": "network: vgg11_bn\ndataset: cifar10\nbers: 3\n",
    "pixels": "network: hsi_unet3_relu\nsensitvity: 3\n",
    "searched": "network: digits_mlp\nexplore: {floor: 3}\n",
    "good": "network: digits_mlp\ntrain: {seeds: [0]}\n",
}
MODULE = "def three():\n    return 3\ndef asks(x):\n    return x\ndef fails():\n    raise RuntimeError('mine')\n"
BAD_MODELS = ("nonesuch.onnx", "folder", "empty.onnx", "garbage.onnx", "cut.onnx")
BAD_FLOWS = [name for name in FLOWS if name != "good"]
LINES = {
    "run": [
        *(f"{name}.yaml" for name in BAD_FLOWS), "", "nonesuch", "digtis", "nonesuch.yaml", "folder", "good.onnx",
        "good.yaml --to nonesuch", "good.yaml --to measure", "good.yaml --force traim", "good.yaml --runs a-file",
        "good.yaml --data nonesuch", "good.yaml more", "good.yaml --too train",
    ],
    "bitstream": ["", "nonesuch", "tab.yaml", "folder", "good.yaml --board zcu", "good.yaml --clk-mhz -5"],
    "build": [
        *(f"{model} --out o" for model in BAD_MODELS), "", "good.onnx", "good.onnx --out a-file",
        "good.onnx --out o --board zcu104", "good.onnx --out o --target-fps 0", "good.onnx --out o --target-fps nan",
        "good.onnx --out o --clk-mhz 100000", "good.onnx --out o --voted 3", "good.onnx --out o --protect all",
        "good.onnx --out o --protect msb --voted 5", "good.onnx --out o --folding nonesuch.json",
        "good.onnx --out o --folding folder", "good.onnx --out o --folding empty.onnx",
    ],
    "check": [*BAD_MODELS, "", "good.onnx --board zcu", "good.onnx --target-fps -1", "good.onnx --clk-mhz -3",
              "good.onnx --json folder", "good.onnx --json nonesuch/x.json"],
    "harden": [*(f"{model} o.onnx" for model in BAD_MODELS), "", "good.onnx", "good.onnx folder",
               "good.onnx o.onnx --voted 9", "good.onnx o.onnx --voted 0", "good.onnx o.onnx --layer con1"],
    "data": ["", "cifar", "digits", "cifar10 --to a-file", "cifar10 --two x"],
    "doctor": ["--port 0", "--port x", "--hots y", "more", "--json no"],
    "emulate": ["", "nonesuch", "folder", "a-file", "folder --port 99999", "folder --host 0.0.0.0",
                "folder --tls-cert a-file"],
    "explore": ["", "nonesuch", "good.yaml", "searched.yaml", "tab.yaml", "folder", "good.yaml --runs a-file"],
    "export": ["", "nonesuch", "digits_cn", "resnet18", "digits_cnn --seeds a,b", "digits_cnn --seeds -1",
               "digits_cnn --seeds ''", "digits_cnn --out a-file", "digits_cnn --data nonesuch"],
    "import": [
        "", "folder", "nonesuch.py:f", "mod.py:nonesuch --dataset digits", "mod.py:three --dataset digits",
        "mod.py:asks --dataset digits", "mod.py:fails --dataset digits", "broken.py:f --dataset digits",
        "mod.py:three", "mod.py:three --dataset digits --bits 9", "mod.py:three --dataset digits --mean x",
        "nonesuch:f --dataset digits", "garbage.onnx", "empty.onnx", "nonesuch.onnx", "good.onnx --dataset nonesuch",
        "good.onnx --input FOO", "good.onnx --name ../x", "good.onnx --out a-file",
    ],
    "infer": ["", "nonesuch good.npy o.npy", "folder good.npy o.npy", "folder nonesuch.npy o.npy",
              "folder garbage.npy o.npy", "folder empty.npy o.npy", "folder folder o.npy", "folder good.npy folder",
              "folder good.npy o.npy --on cloud", "folder good.npy o.npy --host 127.0.0.1:x"],
    "inject": ["", "nonesuch", "tab.yaml", "good.yaml --model foo", "good.yaml --ber 2", "good.yaml --on torch",
               "good.yaml --model replay --faults-from nonesuch", "good.yaml --workers 0", "good.yaml --runs a-file"],
    "measure": ["", "nonesuch", "folder", "a-file", "folder --images 0", "folder --on cloud", "folder --host x:0"],
    "report": ["", "nonesuch", "folder", "a-file", "folder nonesuch", "folder --csv x", "folder --out folder"],
    "resources": ["", "nonesuch", "folder", "a-file", "folder --json folder", "folder --compared"],
    "scrub": ["", "nonesuch", "folder", "folder --no-load", "folder --passes 0", "folder --every -1", "a-file"],
    "train": ["", "nonesuch", "digits_cn", "digits_cnn --width 2", "digits_cnn --seeds 1.5", "digits_cnn --seeds -1",
              "resnet18", "resnet18 --dataset nonesuch", "resnet18 --dataset cifar10 --weights nonesuch",
              "digits_mlp --cache a-file", "digits_mlp --data nonesuch", "resnet8_cifar --data no.tar.gz"],
    "trials": ["", "nonesuch", "folder", "a-file", "folder --replay -1", "folder --replay 1", "folder --on cloud"],
    "watch": ["", "nonesuch", "folder --once", "a-file --once", "folder --port 99999"],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as people give them by mistake, and some good ones."""
    at = tmp_path_factory.mktemp("bad")
    model = (ROOT / "onnx_models" / "digits_cnn.onnx").read_bytes()
    files = {
        "good.onnx": model, "cut.onnx": model[: len(model) // 2], "empty.onnx": b"", "a-file": b"x", "no.tar.gz": b"x",
        "garbage.onnx": bytes(range(256)) * 7, "garbage.npy": b"\x93NUMPYxxxx", "empty.npy": b"",
        "mod.py": MODULE.encode(), "broken.py": b"def f(:\n",
    }  # fmt: skip
    for name, content in files.items():
        (at / name).write_bytes(content)
    for name, text in FLOWS.items():
        (at / f"{name}.yaml").write_text(text)
    np.save(at / "good.npy", np.zeros((2, 64)))
    (at / "folder").mkdir()
    return at


def everything(folder: Path) -> dict[str, str]:
    """What is in a folder, by path; contents as sums."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


@pytest.mark.parametrize(("command", "line"), [(command, line) for command, lines in LINES.items() for line in lines])
def test_wrong_input_is_one_sentence_and_costs_nothing(folder, monkeypatch, capsys, command, line):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
    monkeypatch.delenv("BITWARD_DATA", raising=False)
    before = everything(folder)
    assert main([command, *shlex.split(line)]) in (1, 2)
    said = capsys.readouterr().err
    assert said.startswith("bitward: ") and said.count("\n") == 1, said
    for ugly in ("Traceback", "internal error", "Errno", "NoneType", "<class"):
        assert ugly not in said
    assert everything(folder) == before


def test_the_table_is_of_every_command_and_has_five_or_more_lines_for_each():
    assert set(LINES) == set(root.list_commands(click.Context(root)))
    assert min(map(len, LINES.values())) >= 5


def test_good_input_is_not_refused(folder, monkeypatch, capsys):
    """Negative control: the same folder, nothing wrong."""
    monkeypatch.chdir(folder)
    assert main(["check", "good.onnx"]) == 0
    assert "every layer can be hardened and built" in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_one_sentence(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    tmp_path.chmod(0o500)
    assert main(["run", "good.yaml", "--runs", str(tmp_path / "runs")]) == 1
    assert capsys.readouterr().err.endswith("got Permission denied: change its permissions, or choose another path\n")
