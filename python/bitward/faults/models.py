# SPDX-License-Identifier: Apache-2.0
"""All fault models by their names on the command line, in flows and in stores. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from bitward.errors import FormatError, nearest
from bitward.faults.ber import Ber
from bitward.faults.burst import Burst
from bitward.faults.exact import Exact
from bitward.faults.layers import Layers
from bitward.faults.model import FaultModel, Sampler
from bitward.faults.single import Single
from bitward.faults.uniform import Uniform
from bitward.manifest import Manifest

SAMPLERS: dict[str, type[Sampler]] = {model.name: model for model in (Single, Uniform, Layers, Exact, Ber, Burst)}


def fault_model(manifest: Manifest, given: Mapping[str, Any]) -> FaultModel:
    """The model that `to_dict` described, or a person: "model", and its parameters, those that are None left out.

    FormatError names a model or a parameter that is not there, with what was meant. A recorded list cannot be made
    again from its description: take `Replay`.
    """
    wanted = {name: value for name, value in given.items() if value is not None}
    name = wanted.pop("model", None)
    if name not in SAMPLERS:
        raise FormatError(
            f"a fault model must be one of {', '.join(SAMPLERS)}, got {name!r}; {nearest(name, SAMPLERS)}"
        )
    kind = SAMPLERS[name]
    parameters = [field.name for field in fields(kind) if field.name != "manifest"]
    for key in wanted:
        if key not in parameters:
            fitting = [other for other, model in SAMPLERS.items() if key in (field.name for field in fields(model))]
            step = f"it belongs to {' and '.join(fitting)}" if fitting else nearest(key, parameters)
            raise FormatError(f"the fault model {name} must have only {', '.join(parameters)}, got {key}; {step}")
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in wanted.items()}
    return kind(manifest, **plain)
