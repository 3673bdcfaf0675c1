# SPDX-License-Identifier: Apache-2.0
"""The stages of a flow, in order. Each is a function from the run's folder and spec to what it found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitward.campaign import CampaignResult
from bitward.campaign.progress import showing
from bitward.faults import Ber, Fault, FaultModel
from bitward.flow import attack, rates
from bitward.flow.attack import On, Place
from bitward.flow.boards import connections_of, places_of
from bitward.flow.cache import code_digest
from bitward.flow.measure import measure_run, places_to_measure
from bitward.flow.rules import Rules, model_of, rules_of
from bitward.flow.run import Run
from bitward.flow.spec import SIDES, Flow, Side
from bitward.flow.told import say
from bitward.manifest import Manifest
from bitward.tools import atomic_write, cores, output_directory

Result = dict[str, Any]
AGREEING: tuple[On, ...] = ("engine", "rtl", "board")  # the targets that get the same faults


@dataclass(frozen=True)
class Stage:
    """A step of a flow: what it does, what it is told (sections of the flow), what it reads, what it leaves."""

    name: str
    work: Callable[[Run], Result]
    settings: tuple[str, ...]
    inputs: Callable[[Run], Iterable[Path]]
    outputs: Callable[[Run], Iterable[Path]]
    is_asked: Callable[[Flow], bool] = lambda flow: True


def _train(run: Run) -> Result:
    from bitward.train import train_network

    if run.flow.model is not None:
        return {}
    with run.bars() as progress:
        done = train_network(
            run.flow.network,
            seeds=run.flow.train.seeds,
            cache=output_directory(run.folder / "train"),
            data=run.data,
            progress=progress,
        )
    accuracies = [result.accuracy for result in done.results]
    return {"seeds": list(run.flow.train.seeds), "accuracy_by_seed": accuracies, "mean": float(np.mean(accuracies))}


def _export(run: Run) -> Result:
    from bitward.train import export_network, train_network

    output_directory(run.plain_model.parent)
    if run.flow.model is not None:
        atomic_write(run.plain_model, run.flow.model.read_bytes())
        return {"model": run.plain_model.name, "imported": run.flow.model.name}
    done = train_network(run.flow.network, seeds=run.flow.train.seeds, cache=run.folder / "train", data=run.data)
    export_network(done, run.plain_model.parent, run.data)
    return {"model": run.plain_model.name, "accuracy": done.exported.accuracy, "seed": done.exported.seed}


def _harden(run: Run) -> Result:
    from bitward.rewrites import harden_model

    section = run.flow.harden
    done = harden_model(
        run.plain_model, run.hardened_model, voted=section.voted, layers=section.layers, bias=section.bias
    )
    return {
        "schemes": {layer: scheme.to_dict() for layer, scheme in done.schemes.items()},
        "bias_schemes": {layer: scheme.to_dict() for layer, scheme in done.bias_schemes.items()},
        "rounded_biases": done.rounded_biases,
        "without_bias": done.without_bias,
        "folded_signs": done.folded_signs,
        "saturated_weights": done.saturated_weights,
    }


def build_options(flow: Flow, protect: str) -> Any:
    """What `bitward build` is told for a side of the flow."""
    from bitward.hardware.declare import BuildOptions

    section = flow.build
    return BuildOptions(
        protect=protect,  # type: ignore[arg-type]
        bias="none" if protect == "none" else "model",
        bias_as="threshold" if protect == "none" else flow.harden.bias_as,
        target_fps=section.target_fps,
        clk_mhz=section.clk_mhz,
        board=section.board,
        folding=section.folding,
        ram_style=section.ram_style,
    )


def _build(run: Run) -> Result:
    from bitward.hardware.build import build

    result: Result = {}
    folding = run.flow.build.folding
    for side in SIDES:
        options = replace(build_options(run.flow, "none" if side == "plain" else "model"), folding=folding)
        with run.console.status(f"  build {side}") as status:
            title = f"  build {side}: "
            manifest = build(
                run.model(side),
                run.build(side),
                options,
                name=run.flow.network,
                progress=lambda step, status=status, title=title: status.update(title + step),  # type: ignore[misc]
            )
        result[side] = {"design_id": f"0x{manifest.design_id:08x}"}
        record = json.loads((run.build(side) / "build.json").read_text())
        for note in record["notes"]:
            say(run.console, f"  build {side}: {note}")
        if run.flow.harden.bias_as == "threshold":  # twins of the same nodes: one folding, queues of the same depths
            folding = record["folding"]
    return result


def build_overlay(run: Run, board: str, clk_mhz: float) -> Result:
    """The hardened design is built for a board, at a clock that it has."""
    from bitward.hardware.build import build

    options = replace(build_options(run.flow, "model"), board=board, clk_mhz=clk_mhz)
    with run.console.status(f"  build for {board}"):
        manifest = build(run.hardened_model, run.overlay(board), options, name=run.flow.network)
    return {"design_id": f"0x{manifest.design_id:08x}"}


def _resources(run: Run) -> Result:
    """Yosys' counts of both builds at once; where it fails, of each by itself."""
    from bitward.errors import ToolError
    from bitward.hardware.resources import resources_of

    try:
        with showing(run.console, "  synthesise with Yosys", "nodes") as progress:
            return dict(zip(SIDES, resources_of([run.build(side) for side in SIDES], progress), strict=True))
    except ToolError:  # what was counted is kept
        return {side: _resources_of(run, side) for side in SIDES}


def _resources_of(run: Run, side: Side) -> Any:
    """Yosys' counts of a build; "not measured", and why on the console, where Yosys fails: the run goes on without."""
    from bitward.errors import ToolError
    from bitward.hardware.resources import resources

    try:
        return resources(run.build(side))
    except ToolError as error:
        say(run.console, f"  resources of {side}: not measured: {error}")
        return "not measured"


def _verify(run: Run) -> Result:
    from bitward.flow.verify import run_qonnx, verify_build

    data = run.dataset()
    images = data.test_images[: run.flow.verify.images]
    result: Result = {"images": len(images)}
    equal = np.ones(len(images), dtype=bool)
    for side in SIDES:
        with showing(run.console, f"  QONNX, {side}") as progress:
            expected = run_qonnx(run.model(side), images, progress)
        with run.console.status(f"  RTL, {side}, {len(images)} images, without and with stalls"):
            found = verify_build(run.build(side), images, expected, run.flow.verify.stall)
        equal &= np.array(found.pop("equal_mask"))
        result[side] = {**found, "accuracy": _accuracy(expected, data.test_labels[: len(images)], data.ignore)}
    result["equal"] = int(equal.sum())
    return result


def _accuracy(outputs: NDArray[Any], labels: NDArray[Any], ignore: int | None) -> float:
    right = outputs.argmax(axis=1) == labels
    return float(np.mean(right if ignore is None else right[labels != ignore]))


def campaign_parts(run: Run, side: Side) -> tuple[Manifest, dict[str, NDArray[np.uint32]]]:
    """The manifest and golden images of a side."""
    from bitward.engine.images import load_images

    return Manifest.load(run.build(side) / "manifest.json"), load_images(run.build(side) / "memories.npz")


def attack_with(
    run: Run, name: str, place: Place, faults: FaultModel | Sequence[Fault], images: int, workers: int = 1,
    restart: bool = True, rules: Rules = attack.NO_RULES, more_boards: Sequence[Place] = (),
) -> Result:  # fmt: skip
    """The campaign `name` is done; its trials and what they changed in short."""
    data = run.dataset()
    labels = data.test_labels[:images] if data.labelled == "image" else None  # a campaign counts whole images
    with showing(run.console, f"  {name}") as progress:
        ended = attack.run(
            place, faults, data.test_images[:images], labels, run.campaign(name),
            _identity(run, place), workers, progress, restart, rules, more_boards,
        )  # fmt: skip
    return found_in(run.campaign(name), ended)


def found_in(folder: Path, ended: CampaignResult) -> Result:
    """What the trials of a campaign that has ended changed, in short."""
    from bitward.campaign import TrialStore
    from bitward.campaign.query import flips, has_changed, method_text, model_text

    kept = TrialStore.load(folder)
    table = kept.read()
    return {
        "faults": len(table),
        "model": model_text(kept.spec["model"]),
        "flips": str(flips(table) or "no trials"),
        "changed": sum(has_changed(table, "outputs_changed").to_pylist()),
        "top1_changed": sum(has_changed(table, "top1_changed").to_pylist()),
        "failed": ended.failed,
        "ended": ended.ended,
        "interval": None if ended.interval is None else asdict(ended.interval),
        "method": None if ended.interval is None else method_text(kept.spec),
        "restored_golden": ended.restored_golden,
        "repaired": list(ended.repaired),
        "retried": ended.retried,
        "boards": dict(ended.boards),
        "set_aside": list(ended.set_aside),
    }


def _identity(run: Run, place: Place) -> dict[str, Any]:
    """What tells a campaign from others: trials of other RTL or other code are not continued."""
    from bitward.hardware.overlay import content_sha256

    return {
        "flow": run.flow.name,
        "seed": run.flow.inject.seed,
        "build_sha256": content_sha256(place.build),
        "code_sha256": code_digest(),
    }


def _inject(run: Run) -> Result:
    settings, result = run.flow.inject, {}
    for side in SIDES:
        manifest, golden = campaign_parts(run, side)
        if settings.msb:
            faults = attack.msb_faults(manifest, run.flow.harden.voted)
            place = Place("rtl", run.build(side))
            result[f"msb-{side}"] = attack_with(run, f"msb-{side}", place, faults, settings.images, cores())
        strata = attack.single_bit_stratified(manifest, settings.per_stratum, settings.seed)
        place = Place("engine", run.build(side))
        result[f"strata-{side}"] = attack_with(run, f"strata-{side}", place, strata, settings.strata_images, cores())
        if side in _asked_sides(run):
            model = model_of(settings, manifest)
            rules, images = rules_of(settings, model), settings.strata_images
            result[f"model-{side}"] = attack_with(run, f"model-{side}", place, model, images, cores(), rules=rules)
    result |= _rates(run)
    manifest, golden = campaign_parts(run, "hardened")
    count = min(settings.agree_faults, manifest.population)
    agreed = attack.agreement_faults(manifest, golden, count, settings.seed)
    boards = places_of(run, settings.board, "hardened", connections_of(settings))
    for on in AGREEING:
        place, *more = boards if on == "board" else (Place(on, run.build("hardened")),)
        result[f"agree-{on}"] = attack_with(run, f"agree-{on}", place, agreed, settings.images, more_boards=more)
    result["agree"] = _compare(run, AGREEING)
    return result


def _rates(run: Run) -> Result:
    """The campaigns of the rates that the flow asks for, and under "ber" what each build lost at each of them."""
    settings, result = run.flow.inject, {}
    if settings.bers is None:
        return {}
    data, trials, images = run.dataset(), settings.ber_trials, settings.ber_images
    lost: Result = {}
    for side in SIDES:
        place, (manifest, _) = Place("engine", run.build(side)), campaign_parts(run, side)
        right, workers = rates.without_faults(place, data, images, trials)
        lost[side] = {"right": right, "images": min(images, len(data.test_images)), "points": {}}
        for ber in settings.bers:
            name, model = rates.campaign_name(side, ber), Ber(manifest, settings.seed, ber=ber)
            result[name] = attack_with(run, name, place, model, images, workers, rules=Rules(trials))
            lost[side]["points"][f"{ber:g}"] = rates.point(run.campaign(name), ber, right)
    return {**result, "ber": lost}


def _asked_sides(run: Run) -> tuple[Side, ...]:
    """The builds that get the campaign of the flow's own fault model; a recorded list goes into the hardened alone."""
    settings = run.flow.inject
    if not settings.asks_for_more:
        return ()
    return ("hardened",) if settings.model == "replay" else SIDES


def _compare(run: Run, targets: Sequence[On]) -> Result:
    """On how many faults do all targets give the same integer outputs for every image?"""
    from bitward.campaign import TrialStore

    columns = ["memory", "word", "bit", "outputs_sha256"]
    trials = [TrialStore.load(run.campaign(f"agree-{on}")).read().select(columns).to_pylist() for on in targets]
    return {
        "targets": list(targets),
        "compared": len(trials[0]),
        "equal": sum(all(trial == same[0] for trial in same) for same in zip(*trials, strict=True)),
    }


def _models(run: Run) -> list[Path]:
    return [run.model(side) for side in SIDES]


def _builds(run: Run) -> list[Path]:
    """All that a build's results depend on: a manifest stays the same when only RTL or initial contents change."""
    parts = ("manifest.json", "memories.npz", "hardware.onnx", "rtl")
    return [run.build(side) / part for side in SIDES for part in parts]


def _attacked(run: Run) -> list[Path]:
    """The builds, and the recorded faults if the flow names some."""
    recorded = run.flow.inject.faults_from
    return [*_builds(run), *([] if recorded is None else [recorded])]


def _trials(run: Run) -> list[Path]:
    names = [f"strata-{side}" for side in SIDES] + [f"agree-{on}" for on in AGREEING]
    names += [f"msb-{side}" for side in SIDES] if run.flow.inject.msb else []
    names += [f"model-{side}" for side in _asked_sides(run)]
    names += [rates.campaign_name(side, ber) for side in SIDES for ber in run.flow.inject.bers or ()]
    return [run.campaign(name) / "result.json" for name in names]


def _nothing(run: Run) -> list[Path]:
    return []


def _measurable(run: Run) -> list[Path]:
    """What is measured, as far as it is there."""
    places = places_to_measure(run, run.flow.measure).values() if run.flow.measure else ()
    return [place.build / part for place in places for part in ("manifest.json", "memories.npz", "rtl")]


def _measured(run: Run) -> list[Path]:
    places = places_to_measure(run, run.flow.measure) if run.flow.measure else {}
    return [run.measured(side) for side in places]


def _imported(run: Run) -> list[Path]:
    return [] if run.flow.model is None else [run.flow.model]


STAGES: tuple[Stage, ...] = (
    Stage("train", _train, ("network", "train"), _imported, _nothing),
    Stage("export", _export, ("network", "train"), _imported, lambda run: [run.plain_model]),
    Stage("harden", _harden, ("harden",), lambda run: [run.plain_model], lambda run: [run.hardened_model]),
    Stage("build", _build, ("build", "harden"), _models, _builds),
    Stage("verify", _verify, ("network", "dataset", "verify"), lambda run: [*_models(run), *_builds(run)], _nothing),
    Stage("resources", _resources, (), lambda run: [run.build(side) / "rtl" for side in SIDES], _nothing),
    Stage("measure", measure_run, ("measure",), _measurable, _measured, lambda flow: flow.measure is not None),
    Stage("inject", _inject, ("network", "dataset", "inject", "harden"), _attacked, _trials),
)
STAGE_NAMES = (*(stage.name for stage in STAGES), "report")


def overlay_stage(board: str, clk_mhz: float) -> Stage:
    """The stage that builds the hardened design for a board, at a clock that it has."""
    return Stage(
        f"overlay-{board}",
        lambda run: build_overlay(run, board, clk_mhz),
        ("build", "harden"),
        lambda run: [run.hardened_model],
        lambda run: [run.overlay(board) / "manifest.json", run.overlay(board) / "rtl"],
    )


def clear(run: Run, stage: Stage) -> None:
    """What the stage left is gone, so that it starts from nothing."""
    if stage.name == "train":
        shutil.rmtree(run.folder / "train", ignore_errors=True)
    if stage.name == "inject":
        shutil.rmtree(run.folder / "campaigns", ignore_errors=True)
    if stage.name == "measure":
        shutil.rmtree(run.folder / "measured", ignore_errors=True)
