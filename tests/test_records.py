# SPDX-License-Identifier: Apache-2.0
"""Records are read strictly: each wrong JSON value is named with its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from bitward.errors import FormatError, ManifestError, nearest
from bitward.records import Kind, read_record, to_plain


class Shape(Kind):
    refusal: ClassVar[type[FormatError]] = FormatError


@dataclass(frozen=True)
class Square(Shape, kind="square"):
    side: int


@dataclass(frozen=True)
class Drawing:
    title: str
    shapes: tuple[Shape, ...]
    ink: Literal["black", "blue"] = "black"
    scale: float = 1.0
    inner: Drawing | None = None
    marks: dict[str, int] | None = None
    framed: bool = False


FULL = Drawing("a", (Square(1), Square(2)), "blue", 0.5, Drawing("b", ()), {"x": 1}, True)


def test_a_record_comes_back_equal():
    assert read_record(Drawing, to_plain(FULL), "drawing") == FULL


def test_whole_numbers_may_stand_for_floats():
    assert read_record(Drawing, {"title": "a", "shapes": [], "scale": 2}, "drawing").scale == 2.0


def test_a_new_kind_is_one_class():
    @dataclass(frozen=True)
    class Circle(Shape, kind="circle"):
        radius: int

    try:
        assert Shape.from_dict({"name": "circle", "radius": 3}) == Circle(3)
    finally:
        del Shape.kinds["circle"]


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"titel": "b"}, ManifestError, r"^drawing must have known keys only, got 'titel'; did you mean 'title'\?$"),
        ({"title": 3}, ManifestError, r"^drawing\.title must be of type str, got 3;"),
        ({"framed": 1}, ManifestError, r"^drawing\.framed must be of type bool, got 1;"),
        ({"scale": True}, ManifestError, r"^drawing\.scale must be of type float, got True;"),
        ({"shapes": {}}, ManifestError, r"^drawing\.shapes must be of type tuple, got \{\};"),
        ({"marks": {"x": "1"}}, ManifestError, r"^drawing\.marks\.x must be of type int, got '1';"),
        ({"ink": "blu"}, ManifestError, r"^drawing\.ink must be one of \['black', 'blue'\], got 'blu'; did you mean"),
        ({"inner": 1}, ManifestError, r"^drawing\.inner must be an object, got 1;"),
        ({"inner": {}}, ManifestError, r"^drawing\.inner must have the key 'title', got \[\];"),
        ({"shapes": [1]}, FormatError, r"^drawing\.shapes\[0\] must be an object with a 'name', got 1; known are"),
        (
            {"shapes": [{"name": "sqare"}]},
            FormatError,
            r"^drawing\.shapes\[0\]\.name must be a known name, got 'sqare'",
        ),
        ({"shapes": [{"name": "square"}]}, FormatError, r"^drawing\.shapes\[0\] must have the key 'side', got \[\];"),
    ],
)
def test_refusals(change, error, match):
    with pytest.raises(error, match=match):
        read_record(Drawing, {**to_plain(FULL), **change}, "drawing")


def test_nearest_without_choices():
    assert nearest("x", []) == "none are known."
