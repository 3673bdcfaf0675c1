# SPDX-License-Identifier: Apache-2.0
"""Every notebook runs from its first cell to its last, against the virtual board; what it is made of, by itself.

The code cells are executed as Python in one fresh namespace, without a Jupyter kernel; figures are drawn, not shown.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pytest
from bitward_runtime.notebook import Examples, accuracy, connect, examples, save_examples, shares_changed, streamed
from shared_runs import ROOT

from bitward import tools
from bitward.errors import BoardError, ManifestError
from bitward.faults import Fault, every_fault
from bitward.manifest import Manifest
from bitward.targets.engine import EngineTarget

matplotlib = pytest.importorskip("matplotlib", reason="notebooks draw: make setup installs matplotlib")
NOTEBOOKS = sorted((ROOT / "board" / "notebooks").glob("*.ipynb"))
pytestmark = pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def text(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def run(path: Path, **parameters: Any) -> dict[str, Any]:
    """The namespace after all code cells; `parameters` replace what the cell tagged so says."""
    matplotlib.use("Agg")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells(path)):
        if cell["cell_type"] == "code":
            exec(compile(text(cell), f"{path.name}:{number}", "exec"), namespace)
        if "parameters" in cell["metadata"].get("tags", ()):
            assert set(parameters) <= set(namespace)
            namespace.update(parameters)
    return namespace


def named(name: str) -> Path:
    return next(path for path in NOTEBOOKS if name in path.name)


@pytest.fixture
def figures() -> Iterator[Any]:
    from matplotlib import pyplot

    pyplot.close("all")
    yield pyplot.get_fignums
    pyplot.close("all")


def test_there_are_five():
    assert [path.stem for path in NOTEBOOKS] == [
        "1_load_and_run", "2_fps_and_power", "3_inject_and_plot", "4_scrub", "5_plain_and_hardened",
    ]  # fmt: skip


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_plain_python_without_outputs_and_says_what_is_simulated(path):
    found = cells(path)
    code = [cell for cell in found if cell["cell_type"] == "code"]
    assert len(found) <= 8 and "simulated" in text(found[0]) and "not yet run on hardware" in text(found[0])
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    for cell in code:
        ast.parse(text(cell), feature_version=(3, 10))
    parameters = [cell for cell in code if "parameters" in cell["metadata"].get("tags", ())]
    assert parameters == code[:1] and text(code[0]).startswith('HOST = "virtual"')


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_default_builds_are_those_of_make_demo(path):
    """Relative to the notebook, as Jupyter starts it."""
    namespace: dict[str, Any] = {}
    exec(text(next(cell for cell in cells(path) if cell["cell_type"] == "code")), namespace)
    wanted = {"BUILD": "hardened", "PLAIN": "plain"}
    for name in wanted.keys() & namespace.keys():
        found = (path.parent / namespace[name]).resolve()
        assert found == ROOT / "runs" / "digits" / "build" / wanted[name]


def test_load_and_run(mlp_run, capsys):
    found = run(named("load"), BUILD=mlp_run.build("hardened"))
    assert found["right"] > 0.9 and found["outputs"].shape[0] == 100
    out = capsys.readouterr().out
    assert "digits_mlp: " in out and "fc1.weight" in out and "Tmr(bits=4, voted=1)" in out


def test_fps_and_power(mlp_run, capsys, figures):
    measured = run(named("fps"), BUILD=mlp_run.build("hardened"))["measured"]
    assert measured.golden.is_identical and measured.source.is_simulated and measured.power is None
    out = capsys.readouterr().out
    assert "power: not measured: simulated board" in out and "22.68" in out
    assert figures()


def test_inject_and_plot(mlp_run, figures):
    found = run(named("inject"), BUILD=mlp_run.build("hardened"))
    assert set(found["shares"]) == {"fc1.weight", "fc2.weight", "fc3.weight"}
    for bits in found["shares"].values():
        assert sorted(bits) == list(range(6))
        assert all(bits[bit][0] == 0 for bit in (3, 4, 5))  # the voted bit and its copies
    assert any(changed for bits in found["shares"].values() for changed, _ in bits.values())
    assert figures()


def test_scrub(mlp_run, capsys, figures):
    found = run(named("scrub"), BUILD=mlp_run.build("hardened"))["found"]
    left = {name: points[-1][1] for name, points in found.items()}
    assert 0 < left["scrubbed"] < left["not scrubbed"]
    assert "scrubbed: " in capsys.readouterr().out and figures()


def test_plain_and_hardened(mlp_run, figures):
    found = run(named("plain"), BUILD=mlp_run.build("hardened"), PLAIN=mlp_run.build("plain"))["found"]
    assert found["hardened"] == 0 < found["plain"] and figures()


# ---- what they are made of -------------------------------------------------------------------------------------------


@pytest.fixture
def emulator(mlp_run) -> Iterator[tuple[Popen[bytes], int]]:
    command = [sys.executable, "-m", "bitward", "emulate", mlp_run.build("hardened"), "--port", "0"]
    process = tools.popen(command)
    ready = process.stdout.readline().decode()
    yield process, int(re.search(r"on 127\.0\.0\.1:(\d+), ctrl-C ends it$", ready)[1])
    process.kill()
    process.wait()


def test_an_address_is_used_as_virtual_is(mlp_run, emulator):
    build, digits = mlp_run.build("hardened"), examples(8)
    with connect(build, "127.0.0.1", emulator[1]) as board, EngineTarget(build) as engine:
        assert np.array_equal(board.infer(streamed(board, digits)), engine.infer(streamed(engine, digits)))


def test_examples_go_through_a_file(tmp_path):
    found = examples(20)
    save_examples(found, tmp_path / "digits.npz")
    again = examples(12, tmp_path / "digits.npz")
    assert np.array_equal(again.images, found.images[:12]) and np.array_equal(again.labels, found.labels[:12])
    with pytest.raises(BoardError, match=r"none\.npz must hold images and labels, got .*; write it by save_examples$"):
        examples(1, tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", images=found.images)
    with pytest.raises(BoardError, match=r"other\.npz must hold images and labels, got .*labels"):
        examples(1, tmp_path / "other.npz")


def test_what_only_a_host_has_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitward.datasets", None)
    with pytest.raises(
        BoardError, match=r"^bitward\.datasets must be there for this, got .*; install bitward's engine"
    ):
        examples(1)


def test_shares_are_counted_bit_by_bit_and_the_memories_are_golden_afterwards(mlp_run):
    """Against a count by hand, on the engine."""
    with EngineTarget(mlp_run.build("plain")) as engine:
        images = streamed(engine, examples(4))
        faults = list(every_fault(engine.manifest, "fc3.weight"))[::29]
        shares = shares_changed(engine, images, faults)["fc3.weight"]
        golden, by_hand = engine.infer(images), dict.fromkeys(range(4), (0, 0))
        for fault in faults:
            bit = int(engine.manifest.memory("fc3.weight").locate(fault.word, fault.bit).stored_bit)
            engine.inject(fault)
            is_changed = not np.array_equal(engine.infer(images), golden)
            engine.restore(fault)
            by_hand[bit] = (by_hand[bit][0] + is_changed, by_hand[bit][1] + 1)
        assert shares == by_hand and np.array_equal(engine.infer(images), golden)
        dead = next(
            Fault(memory.name, word, bit)
            for memory in engine.manifest.memories
            for word in range(memory.depth)
            for bit in range(memory.width)
            if not memory.live(word, bit)
        )
        with pytest.raises(ManifestError, match=r"^a fault must hit a bit that is read, got .*; take faults from "):
            shares_changed(engine, images, [dead])


def test_accuracy_and_streams_need_a_design_with_streams():
    software = Manifest("software", 0, "none", 0.0, ())

    class Nothing:
        manifest = software

    with pytest.raises(
        ManifestError, match=r"^design software must have streams, got a software-only manifest; build "
    ):
        streamed(Nothing(), Examples(np.zeros((1, 2)), np.zeros(1)))
    with pytest.raises(
        ManifestError, match=r"^design software must have streams, got a software-only manifest; build "
    ):
        accuracy(Nothing(), np.zeros((1, 2)), Examples(np.zeros((1, 2)), np.zeros(1)))
