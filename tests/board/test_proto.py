# SPDX-License-Identifier: Apache-2.0
"""Our messages are the ones pynq 4.0's stubs speak; the checked-in code is what protoc makes of our .proto files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bitward_runtime.proto import generate

from bitward import tools

SHAPE = """
import importlib, json, sys
shape = {}
for name in ("mmio", "buffer", "remote_device"):
    file = importlib.import_module(sys.argv[1] + "." + name + "_pb2").DESCRIPTOR
    shape[file.package] = {
        "messages": {
            message.full_name: sorted((f.number, f.name, f.type, f.label) for f in message.fields)
            for message in file.message_types_by_name.values()
        },
        "services": {
            service.full_name: {
                m.name: (m.input_type.full_name, m.output_type.full_name, m.client_streaming, m.server_streaming)
                for m in service.methods
            }
            for service in file.services_by_name.values()
        },
    }
print(json.dumps(shape))
"""


def test_same_messages_and_services_as_pynq(board_python: Path):
    def shape(package: str) -> object:
        return json.loads(tools.run([board_python, "-W", "ignore", "-c", SHAPE, package]).stdout.splitlines()[-1])

    assert shape("bitward_runtime.proto") == shape("pynq.remote")


def test_checked_in_code_is_what_protoc_makes(board_python: Path, tmp_path: Path):
    tools.run([board_python, "-m", "bitward_runtime.proto.generate", tmp_path])
    for name in generate.NAMES:
        made = (tmp_path / f"{name}_pb2.py").read_text()
        assert (generate.HERE / f"{name}_pb2.py").read_text() == made, "run python -m bitward_runtime.proto.generate"


def test_a_proto_that_protoc_refuses_is_named(board_python: Path, tmp_path: Path):
    for name in generate.NAMES:
        (tmp_path / f"{name}.proto").write_text("syntax = 'none';")
    code = (
        "import sys; from pathlib import Path; from bitward_runtime.proto import generate; "
        "generate.HERE = Path(sys.argv[1]); generate.generate(generate.HERE)"
    )
    with pytest.raises(tools.ToolError, match=r"must end with exit code 0, got exit code 1"):
        tools.run([board_python, "-c", code, tmp_path])
