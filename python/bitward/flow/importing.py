# SPDX-License-Identifier: Apache-2.0
"""`bitward import`: a network of the user's own, or a QONNX of anybody's, with a flow that takes it on from there."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitward.datasets import check_dataset, load_dataset
from bitward.errors import ConfigError, ModelError
from bitward.flow.spec import folder_name
from bitward.hardware.declare import BuildOptions
from bitward.hardware.survey import Survey, survey
from bitward.rewrites import load_model, save_model
from bitward.rewrites.layers import keep_names
from bitward.tools import atomic_write, output_directory

if TYPE_CHECKING:
    from bitward.train.own import Adopted
    from bitward.train.own_recipe import Own

RATES = (20_000.0, 5_000.0, 1_000.0, 200.0)  # images a second that a flow may be folded for: the first that fits


@dataclass(frozen=True)
class Imported:
    """The files that were written, and what a build of the model would be. `flow` is None where it cannot be built."""

    model: Path
    flow: Path | None
    survey: Survey
    target_fps: float


def import_torch(
    own: Own, out: Path, name: str, dataset: str, data: Path | None, tick: Callable[[], None] = lambda: None
) -> tuple[Imported, Adopted]:
    """NAME.onnx, NAME.md and, where hardware can be made of it, NAME.yaml are in `out`. Errors: see `adopt`.

    A training that was cut off goes on: until everything is written, its state is in `out`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Brevitas tells of libraries that nothing here needs
        from bitward.train.own import adopt

    images = load_dataset(dataset, data)
    adopted = adopt(own, images, _checked(name), tick, out)
    path = output_directory(out) / f"{name}.onnx"
    save_model(adopted.model, path)
    atomic_write(path.with_suffix(".md"), _card(name, own, adopted, images.name, path.read_bytes()))
    imported = _with_flow(path, name, dataset, images.by_path)
    for unfinished in out.glob(f"{name}-seed{own.seed}-*.unfinished"):  # of other settings too
        unfinished.unlink()
    return imported, adopted


def import_qonnx(source: Path, out: Path, name: str, dataset: str | None, pixels: str | None) -> Imported:
    """NAME.onnx, cleaned, its input of the integer type `pixels` where it has none, and its flow are in `out`."""
    from qonnx.core.datatype import DataType
    from qonnx.util.cleanup import cleanup_model

    if dataset is not None:
        check_dataset(dataset)
    model = load_model(source)
    keep_names(model)
    model = cleanup_model(model)
    tensor = model.graph.input[0].name
    if pixels is not None:
        if pixels not in ("UINT8", "INT8", "UINT4", "INT4", "UINT2", "UINT16", "INT16"):
            raise ConfigError(f"--input must be an integer type as UINT8 or INT8, got {pixels!r}: name what images are")
        model.set_tensor_datatype(tensor, DataType[pixels])
    elif not (kind := model.get_tensor_datatype(tensor)).is_integer():
        raise ModelError(
            f"input {tensor} of {source} must say which integers it takes, got {kind.name}: give --input UINT8 for raw "
            "pixels"
        )
    file = f"{_checked(name)}.onnx"
    path = output_directory(out) / file
    save_model(model, path)
    return _with_flow(path, name, dataset, by_path=True)


def _checked(name: str) -> str:
    try:
        return folder_name(name)
    except ValueError as error:
        raise ConfigError(f"the name {error}, got {name!r}: give --name") from error


def _with_flow(path: Path, name: str, dataset: str | None, by_path: bool) -> Imported:
    """The flow is folded for the first of `RATES` that fits a KV260."""
    found, rate = survey(path, BuildOptions(target_fps=RATES[0], board="kv260")), RATES[0]
    if found.estimate is None and not any(layer.problems for layer in found.layers):
        for rate in RATES[1:]:
            found = survey(path, BuildOptions(target_fps=rate, board="kv260"))
            if found.estimate is not None:
                break
    if found.estimate is None or dataset is None:
        return Imported(path, None, found, rate)
    flow = path.with_suffix(".yaml")
    atomic_write(flow, _flow_text(path, name, dataset, by_path, rate))
    return Imported(path, flow, found, rate)


def _flow_text(path: Path, name: str, dataset: str, by_path: bool, rate: float) -> str:
    given = " --data PATH" if by_path else ""
    return (
        f"# {name}, from its stored model; written by bitward import. bitward run {name}.yaml{given}\n"
        f"network: {name}\n"
        f"model: {path.name}\n"
        f"dataset: {dataset}\n"
        "harden: {voted: 1}                 # the MSB of every weight, three times, with a voter behind the memory\n"
        f"build: {{target_fps: {rate:g}, clk_mhz: 200, board: virtual}}\n"
        "verify: {images: 100}\n"
        "inject: {msb: false, images: 4, per_stratum: 16, strata_images: 16, agree_faults: 40}\n"
    )


def _card(name: str, own: Own, adopted: Adopted, dataset: str, data: bytes) -> str:
    rows: list[tuple[str, Any]] = [
        ("Name", f"`{name}`: {own.source}"),
        ("Dataset", dataset),
        ("Right on its test images", f"{adopted.accuracy:.2%}"),
    ]
    if adopted.float_accuracy is not None:
        rows.append(("Right as it came, in floats", f"{adopted.float_accuracy:.2%}"))
    rows += [
        ("Steps", "; ".join(adopted.steps)),
        ("File equals torch", f"{adopted.same:.2%} of decisions on {adopted.compared} test images"),
        ("sha256", f"`{hashlib.sha256(data).hexdigest()}`"),
    ]
    return "\n".join([f"# {name}", "", "| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows), ""])
