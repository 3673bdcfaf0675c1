# SPDX-License-Identifier: Apache-2.0
"""Boards' clocks, against every product of two 6-bit dividers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitward.errors import ConfigError
from bitward.hardware import boards
from bitward.hardware.boards import load_board
from bitward.hardware.clocks import CLOCK_TOLERANCE, clock_divisors, pl_clock
from bitward.tools import resource

KV260 = load_board("kv260")
GIVEN = sorted({1000 / (first * second) for first in range(1, 64) for second in range(1, 64)})


@given(st.floats(0.26, 1500))
def test_the_clock_is_the_nearest_not_above_that_two_dividers_give(asked):
    clock = pl_clock(KV260, asked)
    limits = (asked / (1 - CLOCK_TOLERANCE * (1 + sign * 1e-6)) for sign in (-1, 1))  # rounding may decide at the limit
    least, most = (max(mhz for mhz in GIVEN if mhz <= limit) for limit in limits)
    assert least * (1 - 1e-12) <= clock.mhz <= most * (1 + 1e-12)
    assert clock.mhz <= asked * (1 + 2 * CLOCK_TOLERANCE)
    first, second = clock.divisors
    assert 1 <= second <= first <= 63 or (first, second) == (1, 1)
    assert clock.mhz == pytest.approx(1000 / (first * second), rel=1e-12)


@pytest.mark.parametrize(
    ("asked", "mhz", "divisors"),
    [(200, 200, (5, 1)), (250, 250, (4, 1)), (300, 250, (4, 1)), (333.333, 1000 / 3, (3, 1)), (187.5, 1000 / 6, (6, 1)),
     (10, 10, (50, 2)), (2000, 1000, (1, 1)), (14.9, 1000 / 68, (34, 2))],
)  # fmt: skip
def test_known_clocks(asked, mhz, divisors):
    clock = pl_clock(KV260, asked)
    assert (clock.mhz, clock.divisors) == (mhz, divisors)
    assert clock.is_as_asked == (abs(mhz - asked) < 0.01)


def test_another_clock_than_asked_for_is_said():
    assert pl_clock(KV260, 300).sentence == (
        "PL clock: 300 MHz asked for, 250 MHz given, the nearest not above it (1000 MHz / 4)"
    )


@pytest.mark.parametrize("asked", [0.25, 0, -1, float("nan")])
def test_a_clock_below_the_slowest_is_refused(asked):
    with pytest.raises(ConfigError, match=r"^clk_mhz must be at least 0\.252 on the KV260 \(1000 MHz / 3969\), got "):
        pl_clock(KV260, asked)


@pytest.mark.parametrize("divisor", [0, 67, 63 * 63 + 1])
def test_a_divisor_that_two_dividers_do_not_give_is_refused(divisor):
    with pytest.raises(ConfigError, match=r"^a PL clock's divisor must be a product of two numbers of 1 to 63, got "):
        clock_divisors(divisor)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("part:", "parts:", "part: Field required"),
        ("lut: ", "luts: ", r"resources\.luts\.\[key\]: Input should be 'lut', 'ff', 'bram36', 'uram' or 'dsp'"),
        (
            "pl_clock_source_mhz: ",
            "pl_clock_source_mhz: fast #",
            "pl_clock_source_mhz: Input should be a valid number, .*",
        ),
    ],
)
def test_a_board_file_with_a_mistake_is_refused_by_the_place_of_it(old, new, says, tmp_path, monkeypatch):
    text = resource("board/kv260/board.yaml").read_text()
    assert text.count(old) == 1
    (tmp_path / "board" / "mine").mkdir(parents=True)
    (tmp_path / "board" / "mine" / "board.yaml").write_text(text.replace(old, new))
    monkeypatch.setattr(boards, "resource", lambda path: tmp_path / path)
    assert boards.board_names() == ["mine"]
    with pytest.raises(ConfigError, match=rf"^board/mine/board\.yaml: {says}; compare board/kv260/board\.yaml\.$"):
        load_board("mine")
