# SPDX-License-Identifier: Apache-2.0
"""The benchmark of bit error rates: trials are timed and undone, and its split has the spread that it computes."""

from __future__ import annotations

import importlib.util
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from picture_folders import picture_folder

from bitward.engine.pytorch import TorchEngine
from bitward.faults import Ber, Faults
from bitward.statistics import Components, Costs, Split

TRUE = Components(faults=0.04**2, images=0.1**2, residual=0.2**2)


@pytest.fixture(scope="module")
def benchmark(repository):
    folder = repository / "benchmarks"
    sys.path.insert(0, str(folder))  # as python has it for a script
    spec = importlib.util.spec_from_file_location("ber", folder / "ber.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["ber"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(folder))


@pytest.fixture
def bench(benchmark):
    """A bench of 5,000 images whose losses have the components TRUE, whatever the network would say."""

    class Known(benchmark.Bench):
        def __init__(self) -> None:
            self.engine = benchmark.engine_of("small-int8", None, None, None)
            self.images = np.zeros((5000, 1))
            self.effect = np.random.default_rng(1).normal(0, TRUE.images**0.5, 5000)

        def losses(self, trial, chosen):
            noise = np.random.default_rng([len(trial), *(fault.word for fault in trial[:5])])
            of_set = noise.normal(0.05, TRUE.faults**0.5)
            return of_set + self.effect[chosen] + noise.normal(0, TRUE.residual**0.5, len(chosen))

        def costs(self, model, random):
            return Costs(repetition=0.02, image=0.001)

    return Known()


def given(**changes: object) -> SimpleNamespace:
    settings = {
        "seed": 1,
        "pilot_sets": 300,
        "pilot_images": 100,
        "half_width": 0.01,
        "check": 20,
        "usual_images": 5000,
    }
    return SimpleNamespace(**{**settings, **changes})


def test_trials_are_timed_and_undone(benchmark, tmp_path, capsys, monkeypatch):
    path = tmp_path / "sample.json"
    monkeypatch.setattr(
        sys, "argv", ["ber.py", "sample", "small-int8", "--rates", "1e-4", "1e-2", "--trials", "3", "--json", str(path)]
    )
    assert benchmark.main() == 0
    printed, found = capsys.readouterr().out, json.loads(path.read_text())
    assert (found["weights"], found["bits"]) == (33712, 269696)
    for row, expected in zip(found["rows"], (27, 2697), strict=True):
        mean, least, most = row["flips"]
        assert abs(mean - expected) < 5 * expected**0.5 and least <= mean <= most
        assert set(row["seconds"]) == set(row["wall"]) == {"draw", "write", "restore"}
        assert f"| {row['ber']:g} | {mean:,.0f} ({least:,} to {most:,}) |" in printed
    monkeypatch.setattr(sys, "argv", ["ber.py", "table", str(path)])
    assert benchmark.main() == 0 and capsys.readouterr().out.strip() == printed.strip()


@pytest.mark.parametrize("stuck", [None, 1])
def test_many_faults_are_in_the_memories_as_each_by_itself_would_be(bench, stuck):
    engine = bench.engine
    trial = Ber(engine.manifest, 3, ber=1e-3, stuck=stuck).trial(4)
    assert isinstance(trial, Faults) and len(trial) > 150
    golden = engine.images()
    engine.inject(trial)
    together = engine.images()
    engine.restore()
    engine.inject(tuple(trial))
    for name, image in engine.images().items():
        np.testing.assert_array_equal(image, together[name])
    engine.restore()
    changed = sum(np.bitwise_count(together[name] ^ golden[name]).sum() for name in golden)
    assert changed == len(trial) if stuck is None else 0 < changed < len(trial)
    assert all((image == golden[name]).all() for name, image in engine.images().items())


def test_a_mask_over_all_bits_hits_as_many(benchmark, bench):
    flips = benchmark.full_mask(bench.engine, 0.01)
    assert abs(flips - 2697) < 5 * 2697**0.5


def test_a_weight_that_is_not_restored_is_an_error(benchmark, bench, monkeypatch):
    monkeypatch.setattr(TorchEngine, "restore", lambda self: None)
    with pytest.raises(ValueError, match=r"^memory .* must be restored bit for bit, got other values$"):
        benchmark.sample(bench.engine, 1e-3, 1, 1)


def test_the_split_is_found_from_the_pilot_and_has_the_spread_it_computes(benchmark, bench):
    row = benchmark.split(bench, 1e-4, given())
    for name, true in (("faults", TRUE.faults), ("images", TRUE.images), ("residual", TRUE.residual)):
        assert row["components"][name] == pytest.approx(true, rel=0.45)
    plan, usual = row["plan"], row["usual"]
    assert usual["images"] == 5000 and plan["images"] < 100 and plan["half_width"] <= 0.01
    needed = row["needed"]
    assert needed["images"] == plan["images"] and needed["repetitions"] == pytest.approx(plan["repetitions"], rel=0.35)
    assert row["fewer_evaluations"] == usual["repetitions"] * 5000 / (needed["repetitions"] * plan["images"]) > 20
    true = 1.96**2 * (TRUE.faults + (TRUE.images + TRUE.residual) / 5000) / 0.01**2
    assert usual["repetitions"] == pytest.approx(true, rel=0.15)
    assert row["agrees"] and row["check"]["covered"] >= 16
    assert row["check"]["components"]["faults"] == pytest.approx(TRUE.faults, rel=0.1)
    assert row["check"]["components"]["residual"] == pytest.approx(TRUE.images + TRUE.residual, rel=0.1)


def test_a_split_computed_from_wrong_components_is_found_out(benchmark, bench):
    """Negative control: fault sets that were said not to differ."""
    model, random = Ber(bench.engine.manifest, 1, ber=1e-4), np.random.default_rng(1)
    wrong = Components(faults=0.0, images=TRUE.images, residual=TRUE.residual)
    plan = Split(30, 200, 0.01, 1.0)
    assert not benchmark.check(bench, model, plan, wrong, 20, random).agrees
    assert benchmark.check(bench, model, plan, TRUE, 20, random).agrees


def test_a_real_network_runs_from_pictures_to_the_table(benchmark, tmp_path, capsys, monkeypatch):
    classes = tuple(f"c{number}" for number in range(10))
    pictures = picture_folder(tmp_path / "pictures", classes, train=2, test=6, shape=(32, 32, 3))
    sizes = ["--half-width", "0.2", "--pilot-sets", "6", "--pilot-images", "12", "--check", "3", "--steps", "3"]
    sizes += ["--test-images", "40"]
    files = ["--data", str(pictures), "--json", str(tmp_path / "split.json")]
    options = ["split", "small-fp32", "--rates", "1e-4", *sizes, *files]
    monkeypatch.setattr(sys, "argv", ["ber.py", *options])
    ended = benchmark.main()
    found = json.loads((tmp_path / "split.json").read_text())
    assert ended == (0 if found["rows"][0]["agrees"] else 1)
    assert found["images"] == 40 and 0 <= found["accuracy"] <= 1
    assert found["rows"][0]["plan"]["repetitions"] >= 2
    assert "`small-fp32`: 33,712 weights, 1,078,784 stored bits" in capsys.readouterr().out


def test_without_a_check_nothing_is_said_to_be_measured(benchmark, bench):
    row = benchmark.split(bench, 1e-4, given(check=0))
    assert row["check"] is None and row["agrees"]
    facts = benchmark.split_facts(row)
    assert [facts[name] for name in benchmark.CHECKED] == ["not measured"] * 7


def test_a_split_without_pictures_is_refused(benchmark, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ber.py", "split", "small-int8"])
    with pytest.raises(SystemExit, match=r"^--data must name the pictures of CIFAR-10: an accuracy needs a trained"):
        benchmark.main()
