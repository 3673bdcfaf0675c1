# SPDX-License-Identifier: Apache-2.0
"""Every error that bitward raises on purpose; the command line prints its one sentence and exits with 1.

    BitwardError
    ├── ConfigError      a flow, a flag or an argument asks for something that cannot be
    ├── ModelError       an ONNX/QONNX model cannot be used
    ├── FormatError      values, words, formats, schemes or layouts out of range
    ├── ManifestError    a manifest, or a place in one, is wrong
    ├── ToolError        an external tool is missing or failed
    ├── BoardError       a board, its overlay or a bus access failed
    │   └── LostBoardError   it does not come back: nothing more can be asked of it
    ├── StoreError       a campaign store is damaged or belongs to something else
    │   └── OtherCampaignError   it holds another campaign, whole
    └── OutputError      a file could not be written

A message reads "<where> must be <rule>, got <value>", then the next step.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BitwardError(Exception):
    """Something asked of bitward cannot be done; the message is one sentence and the next step."""


class ConfigError(BitwardError):
    """A flow, a flag or an argument asks for something that cannot be."""


class ModelError(BitwardError):
    """An ONNX or QONNX model cannot be used."""


class FormatError(BitwardError):
    """Values, words, formats, schemes or layouts are out of range."""


class ManifestError(BitwardError):
    """A manifest, or a place in one, is wrong."""


class ToolError(BitwardError):
    """An external tool is missing or failed."""


class BoardError(BitwardError):
    """A board, its overlay or a bus access failed."""


class LostBoardError(BoardError):
    """A board does not come back, so what it was asked says nothing of a fault: it is set aside."""


class StoreError(BitwardError):
    """A campaign store is damaged or belongs to something else."""


class OtherCampaignError(StoreError):
    """A campaign store holds a campaign of other parameters."""


class OutputError(BitwardError):
    """A file could not be written."""


def nearest(value: object, choices: Iterable[str]) -> str:
    """The sentence that points from a wrong name to the right one.

    >>> nearest("widht", ["width", "depth"])
    "did you mean 'width'?"
    >>> nearest("colour", ["width", "depth"])
    "known are 'depth', 'width'."
    """
    names = sorted(choices)
    close = difflib.get_close_matches(str(value), names, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known are {', '.join(repr(name) for name in names)}." if names else "none are known."


def nearest_of_these(value: object, choices: Iterable[str]) -> str:
    """As `nearest`, for a sentence that has the choices already.

    >>> nearest_of_these("widht", ["width", "depth"])
    "did you mean 'width'?"
    >>> nearest_of_these("colour", ["width", "depth"])
    'take one of these'
    """
    close = difflib.get_close_matches(str(value), sorted(choices), n=1)
    return f"did you mean '{close[0]}'?" if close else "take one of these"


def reason_of(error: Exception) -> str:
    """Why a file could not be read, without what Python adds to it.

    >>> reason_of(FileNotFoundError(2, "No such file or directory", "x.npy"))
    'No such file or directory'
    >>> reason_of(ValueError("no numbers"))
    'no numbers'
    """
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
