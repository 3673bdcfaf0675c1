# SPDX-License-Identifier: Apache-2.0
"""The search of a quantized network's family: every point is hardware as it is, and the answer is handed to a build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from bitward.datasets import Dataset, load_dataset
from bitward.errors import ConfigError
from bitward.explore.design import Point
from bitward.explore.evaluate import Bench
from bitward.explore.family import Member, members
from bitward.explore.search import Evaluation
from bitward.flow.explorer import Explorer, finish, section_of
from bitward.flow.spec import Flow
from bitward.networks import Network
from bitward.tools import output_directory

SCALED = (
    "A quantized network's weights are integers whose scale comes from the range of the weights, as max|W| / 127 does: "
    "that is weight scaling already, and its axis has one value here."
)


def explore_family(flow: Flow, runs: Path, console: Console, data: Path | None) -> dict[str, Any]:
    """Members of the family of the flow's network x how their weights are stored, from their QONNX files."""
    section = section_of(flow, flow.name)
    if "secded" in section.schemes or section.per_layer:
        what = "secded" if "secded" in section.schemes else "per_layer"
        raise ConfigError(
            f"explore must have the schemes plain, msb and tmr and no per_layer for a quantized network, got {what}: "
            "a row's code goes with the folding, and widths with the training"
        )
    if section.formats or section.safe_exponents or set(section.scaling) - {"none"}:
        what = "formats" if section.formats else "safe_exponents" if section.safe_exponents else section.scaling[-1]
        raise ConfigError(
            "explore must have no formats, no safe_exponents and the scaling none for a quantized network, got "
            f"{what}: its weights are integers, whose scale is weight scaling already"
        )
    folder = output_directory(runs / flow.name / "explore")
    explorer = Explorer(folder, console, section, "cpu", has_quantized_activations=True)
    known = members(flow.network)
    chosen = {bits: each for bits, each in known.items() if section.bits[0] <= bits <= section.bits[1]}
    if not chosen:
        raise ConfigError(
            f"explore.bits must leave a member of the family of {flow.network}, whose weights have {list(known)} bits, "
            f"got {list(section.bits)}: widen the range"
        )
    source = load_dataset(flow.dataset or known[max(known)].dataset, data)
    files = {bits: _file(flow, network, folder, data) for bits, network in chosen.items()}
    made = {bits: Member(network, files[bits]) for bits, network in chosen.items()}
    done, count = explorer.searched(
        list(made), explorer.ways, lambda point: _evaluated(explorer, made[point.bits], point, source)
    )
    answer = done.answer
    told = None if answer is None else _flow_of(flow, made[answer.bits], answer)
    summary = finish(explorer, flow, source.name, done.evaluations, answer, count, told, (SCALED,))
    if answer is not None:
        console.print(f"to build it: {build_line(flow, made[answer.bits], answer, folder)}", soft_wrap=True)
    return summary


def _file(flow: Flow, network: Network, folder: Path, data: Path | None) -> Path:
    """The member's QONNX: named by the flow, beside the flow's model, or else trained and exported."""
    from bitward.train import export_network, train_network

    named = flow.explore.models.get(network.name) if flow.explore else None
    if named is not None and not named.is_file():
        raise ConfigError(f"explore.models.{network.name} must be a QONNX file, got {named}, which is none")
    beside = flow.model.parent / f"{network.name}.onnx" if flow.model else None
    for path in (named, flow.model if flow.network == network.name else None, beside):
        if path is not None and path.is_file():
            return path
    models = output_directory(folder / "models")
    done = train_network(network.name, seeds=flow.train.seeds[:1], cache=folder.parent / "train", data=data)
    return export_network(done, models, data)


def _evaluated(explorer: Explorer, member: Member, point: Point, data: Dataset) -> Evaluation:
    subject, choose = member.subject(point, data)
    told = {"network": member.network.name, "point": str(point)}
    return explorer.judge(Bench(subject, choose, told, explorer.trials, explorer.rules), str(point))


def _flow_of(flow: Flow, member: Member, point: Point) -> dict[str, Any]:
    """The flow of the answer, as YAML has it; a plain one is the plain build of a flow that hardens MSBs beside it."""
    told = flow.model_dump(mode="json", exclude={"explore"}, exclude_defaults=True)
    told["name"] = f"{flow.name}-recommended"
    told["network"], told["model"] = member.network.name, str(member.model.resolve())
    told["harden"] = {**told.get("harden", {}), "voted": max(1, point.voted)}
    return told


def build_line(flow: Flow, member: Member, point: Point, folder: Path) -> str:
    """The command line that builds the answer."""
    protect = "none" if point.scheme == "plain" else f"msb --voted {point.voted}"
    if point.voted == point.bits:
        protect = "tmr"
    section = flow.build
    return (
        f"bitward build {member.model.resolve()} --protect {protect} --target-fps {section.target_fps:g} "
        f"--clk-mhz {section.clk_mhz:g} --board {section.board} --out {folder / 'build'}"
    )
