# SPDX-License-Identifier: Apache-2.0
"""From a flow's `inject` section, and the command line, to fault models and rules."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner
from toy_target import MANIFEST, ToyTarget, campaign

from bitward.campaign import METRICS, Screen, TrialStore, run_campaign
from bitward.cli import inject
from bitward.errors import BitwardError, ConfigError, FormatError
from bitward.faults import SAMPLERS, Ber, Exact, Replay, Single, Uniform
from bitward.flow.rules import MOST, Rules, model_of, rules_of
from bitward.flow.spec import BELONGS, Inject, load_flow
from bitward.metrics import sample_size
from bitward.statistics import Stopping


def test_the_default_is_what_every_flow_had():
    model = model_of(Inject(), MANIFEST)
    assert model == Single(MANIFEST, 1, per_stratum=64)
    assert rules_of(Inject(), model) == Rules()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"model": "uniform", "bits": (1, 3)}, Uniform(MANIFEST, 1, bits=(1, 3))),
        ({"model": "ber", "ber": 0.01, "seed": 4, "memories": ("first",)}, Ber(MANIFEST, 4, ("first",), ber=0.01)),
        ({"model": "exact", "flips": 5, "stuck": 0}, Exact(MANIFEST, 1, stuck=0, flips=5)),
    ],
)
def test_settings_make_the_model_they_name(given, expected):
    assert model_of(Inject().model_copy(update=given), MANIFEST)  # as the command line gives them == expected


def test_faults_come_from_a_campaign_or_a_file(tmp_path):
    toy = campaign(faults=Ber(MANIFEST, 5, ber=0.02), trials=5)
    with TrialStore.open(tmp_path / "store", toy.spec()) as store:
        run_campaign(toy, ToyTarget, store)
    recorded = model_of(Inject(model="replay", faults_from=tmp_path / "store"), MANIFEST)
    assert isinstance(recorded, Replay) and recorded.list == tuple(toy.model.trial(number) for number in range(5))
    (tmp_path / "faults.txt").write_text("first:0:1 second:2:3=1\n")
    listed = model_of(Inject(model="replay", faults_from=tmp_path / "faults.txt"), MANIFEST)
    assert [len(trial) for trial in listed.list] == [2]


def test_a_path_in_a_flow_goes_from_the_flow(tmp_path):
    (tmp_path / "f.yaml").write_text("network: digits_mlp\ninject: {model: replay, faults_from: mine/faults.txt}\n")
    assert load_flow(tmp_path / "f.yaml").inject.faults_from == tmp_path / "mine" / "faults.txt"


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (
            {"model": "replay"},
            ConfigError,
            r"^faults_from must name a campaign's folder or a text file for the model rep",
        ),
        (
            {"model": "replay", "faults_from": Path("x"), "flips": 2},
            ConfigError,
            r"^flips must not be given with the model replay, got 2: the list says which faults there are$",
        ),
        (
            {"model": "uniform", "faults_from": Path("x")},
            ConfigError,
            r"^faults_from must go with the model replay, got x with uniform: leave it out$",
        ),
        (
            {"model": "uniform", "ber": 0.1},
            FormatError,
            r"^the fault model uniform must have only .*, got ber; it belongs",
        ),
        (
            {"model": "burst", "bits": (1,)},
            FormatError,
            r"^the fault model burst must have only seed, .*, got bits; it be",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(given, error, match):
    with pytest.raises(error, match=match):
        model_of(Inject().model_copy(update=given), MANIFEST)  # as the command line gives them


def test_rules_are_the_settings():
    model = Uniform(MANIFEST, 1)
    assert rules_of(Inject(trials=7, timeout_s=2.0, audit=0.1), model, "local") == Rules(
        7, Stopping("top1_changed", 0.025, method="fixed", least=7, most=7), Screen(0.1, 1), 2.0, "local"
    )
    rules = rules_of(Inject(model="uniform", margin=0.02, confidence=0.9), model)
    assert rules.stopping == Stopping("top1_changed", 0.02, 0.9, "beta-binomial", most=model.trials)
    assert rules.trials == model.trials
    rules = rules_of(Inject(model="ber", margin=0.02, metric="top1_change_rate", trials=500), Ber(MANIFEST))
    assert rules.stopping == Stopping("top1_change_rate", 0.02, method="betting", most=500)
    assert rules_of(Inject(model="ber", margin=0.02), Ber(MANIFEST)).trials == MOST
    rules = rules_of(Inject(metric="top1_change_rate", trials=500), Ber(MANIFEST))
    assert rules.stopping == Stopping("top1_change_rate", 0.025, method="betting", least=500, most=500)


def test_without_a_number_a_sample_is_leveugles():
    assert rules_of(Inject(), Ber(MANIFEST)).trials == sample_size(float("inf")) == 1537
    assert rules_of(Inject(), Uniform(MANIFEST)).trials == sample_size(MANIFEST.population) < MANIFEST.population


def test_the_command_and_the_flow_know_all_models_and_metrics():
    """Lists that the command line and the flow write out, so that neither imports the engine, are the real ones."""
    settings = Inject.model_fields
    models = settings["model"].annotation.__args__
    assert set(inject.MODELS) == set(models) == {*SAMPLERS, "replay"}
    assert set(inject.METRICS) == set(settings["metric"].annotation.__args__) == set(METRICS)


def test_a_key_belongs_to_the_models_that_take_it():
    for key in ("flips", "ber", "burst", "memories", "bits", "stuck"):
        takers = {name for name, model in SAMPLERS.items() if key in (field.name for field in fields(model))}
        assert set(BELONGS[key]) == takers
    assert set(BELONGS["margin"]) == {name for name, model in SAMPLERS.items() if model.is_sample}


def test_every_option_of_the_command_is_a_setting_or_of_the_place():
    shown = {option.name for option in inject.command.params if not getattr(option, "hidden", False)}
    settings = shown - set(inject.HERE) - {"flow", "host", "port"}
    assert settings <= set(Inject.model_fields) and "hosts" in Inject.model_fields
    text = CliRunner().invoke(inject.command, ["--help"]).output
    for name in (*inject.MODELS, "--faults-from", "--margin", "--scheduler", "--audit"):
        assert name in text


def test_a_wrong_setting_in_a_flow_is_named(tmp_path):
    (tmp_path / "f.yaml").write_text("network: digits_mlp\ninject: {ber: 2}\n")
    with pytest.raises(BitwardError, match=r"^.*f\.yaml: inject\.ber must be less than or equal to 1, got 2; see "):
        load_flow(tmp_path / "f.yaml")
