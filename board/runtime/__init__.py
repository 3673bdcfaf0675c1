# SPDX-License-Identifier: Apache-2.0
"""What runs on or beside a board: its server, and two ways to reach it.

Python 3.10, numpy and grpcio only; `agent` and `client` also need pynq 4.0 and so run in `.venv-board`. `kria`, which
is a KV260 for `serve`, needs the board's own pynq 3.0.1.

    build environment (.venv)          client environment (.venv-board)       board, or `bitward emulate`
    extension_client.ExtensionClient  <------------------------------gRPC->  server > guard > extension > Backend
    agent_client.AgentClient  <-pipe->  agent > client.PynqBoard > pynq  <-gRPC->  server > guard > remote > Backend
"""
