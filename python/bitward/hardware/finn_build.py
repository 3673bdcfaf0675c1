# SPDX-License-Identifier: Apache-2.0
"""FINN's build configuration (DataflowBuildConfig as JSON or YAML) as options of `bitward build`.

Keys and defaults are those of finn-plus 1.6.1. What bitward has no choice of is left out with a sentence, what it
cannot build is refused, and a key that FINN has not is refused with the nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bitward.errors import ConfigError, nearest
from bitward.hardware.boards import board_kind
from bitward.hardware.finn_config import read_config

OPTION = "--finn-config"
FINN_CLOCK_NS = 10.0  # where the file does not say
# What a build leaves anyway; the others of FINN's output products need more.
LEFT = ("estimate_reports", "stitched_ip", "rtlsim_performance")
BITSTREAM = "make bitstream BOARD=kv260 with a flow makes it, where Vivado is (not yet run on hardware)"
PRODUCTS = {
    "bitfile": BITSTREAM,
    "deployment_package": BITSTREAM,
    "out_of_context_synth": "bitward resources DIR counts what Yosys synthesises",
    "pynq_driver": "the PYNQ client and bitward infer drive every build",
    "cpp_driver": "the PYNQ client and bitward infer drive every build",
}
# Keys whose other values change no result: what is so already, and what is said of the rest.
WITHOUT_CHOICE: dict[str, tuple[Any, str]] = {
    "standalone_thresholds": (True, "thresholds are always nodes of their own"),
    "minimize_bit_width": (True, "widths are always the least that hold all sums"),
    "auto_fifo_depths": (True, "queues are found by measuring in RTL; give depths in --folding"),
    "mvau_wwidth_max": (None, "bitward's own folding takes the fewest multipliers that meet target_fps"),
    "folding_two_pass_relaxation": (None, "bitward's own folding takes the fewest multipliers that meet target_fps"),
    "fifo_config_file": (None, "its depths are of FINN's graph; queues are found by measuring in RTL"),
    "auto_fifo_strategy": (None, "queues are found by measuring in RTL"),
    "steps": (None, "bitward's build has its own steps"),
    "start_step": (None, "bitward's build has its own steps"),
    "stop_step": (None, "bitward's build has its own steps"),
    "inject_steps_before": ({}, "bitward's build has its own steps"),
    "inject_steps_after": ({}, "bitward's build has its own steps"),
    "verify_steps": (None, "a flow compares RTL with QONNX in its stage verify"),
}


@dataclass
class FinnBuild:
    """Options of `bitward build` by their parameters' names, and a sentence each for what is left out."""

    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_build(path: Path) -> FinnBuild:
    """What FINN's build configuration in the file asks `bitward build` for.

    Paths of folding and specialisation go from the file's own folder, output_dir and model_path from the one you are
    in, as FINN has it. Raises OutputError or ConfigError.
    """
    config = read_config(path, OPTION)
    known = _keys()
    for key in config:
        if key not in known:
            raise ConfigError(
                f"{OPTION} must have only keys that FINN has, got {key!r} in {path}; {nearest(key, known)}"
            )
    build = FinnBuild({"clk_mhz": _clk_mhz(config.get("synth_clk_period_ns", FINN_CLOCK_NS), path)})
    rest: list[str] = []
    for key, value in config.items():
        if key in _TAKEN:
            option, convert = _TAKEN[key]
            if value is not None:
                build.options[option] = convert(value, path)
        elif not _is_said(build, key, value) and key != "synth_clk_period_ns":
            rest.append(key)
    if rest:
        build.notes.append(f"{', '.join(rest)} left out: bitward has no such choice")
    _check_board(config, path)
    return build


def _keys() -> list[str]:
    from finn.builder.build_dataflow_config import DataflowBuildConfig

    return [each.name for each in fields(DataflowBuildConfig)]


def _clk_mhz(period_ns: Any, path: Path) -> float:
    if not isinstance(period_ns, (int, float)) or isinstance(period_ns, bool) or period_ns <= 0:
        raise ConfigError(f"synth_clk_period_ns must be a number above 0, got {period_ns!r} in {path}.")
    return 1000.0 / period_ns


def _rate(value: Any, path: Path) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ConfigError(f"target_fps must be a number, got {value!r} in {path}.")
    return float(value)


def _beside(value: Any, path: Path) -> str:
    return str(path.parent / str(value))


# FINN's key: the option of bitward build, and how its value is made.
_TAKEN: dict[str, tuple[str, Callable[[Any, Path], Any]]] = {
    "model_path": ("model", lambda value, path: str(value)),
    "output_dir": ("out", lambda value, path: str(value)),
    "target_fps": ("target_fps", _rate),
    "folding_config_file": ("folding", _beside),
    "specialize_layers_config_file": ("specialize", _beside),
    "board": ("board", lambda value, path: board_kind(str(value))),
    "fpga_part": ("board", lambda value, path: board_kind(str(value))),
}


def _check_board(config: Mapping[str, Any], path: Path) -> None:
    board, part = config.get("board"), config.get("fpga_part")
    if board and part and board_kind(str(board)) != board_kind(str(part)):
        raise ConfigError(f"fpga_part must be that of the board, got {part} with {board} in {path}: leave one out.")


def _is_said(build: FinnBuild, key: str, value: Any) -> bool:
    """Whether the key is one that something particular is said of, or that is so already."""
    if key == "shell_flow_type":
        if value not in (None, "vivado_zynq"):
            raise ConfigError(f"shell_flow_type must be vivado_zynq, got {value!r}: bitward builds for a Zynq's PL.")
    elif key == "generate_outputs":
        _say_products(build, value)
    elif key in WITHOUT_CHOICE:
        already, why = WITHOUT_CHOICE[key]
        if value is not None and value != already:
            build.notes.append(f"{key} left out: {why}")
    else:
        return False
    return True


def _say_products(build: FinnBuild, products: Any) -> None:
    """Nothing is simulated where estimates are all that is asked for."""
    if not isinstance(products, list) or not set(products) <= {*LEFT, *PRODUCTS}:
        raise ConfigError(f"generate_outputs must be a list of {', '.join([*LEFT, *PRODUCTS])}, got {products!r}.")
    build.notes += [f"{each} left out: {PRODUCTS[each]}" for each in products if each in PRODUCTS]
    if products == ["estimate_reports"]:
        build.options["simulate"] = False
