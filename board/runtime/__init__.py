# SPDX-License-Identifier: Apache-2.0
"""What runs on or beside a board: the PYNQ.remote server, and the agent that drives a board with the stock PYNQ client.

Python 3.10, numpy and grpcio only; `agent` and `client` also need pynq 4.0 and so run in `.venv-board`.

    build environment (.venv)          client environment (.venv-board)       board, or `bitward emulate`
    agent_client.AgentClient  <-pipe->  agent > client.PynqBoard > pynq  <-gRPC->  server > a backend.Backend
"""
