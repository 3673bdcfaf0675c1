# SPDX-License-Identifier: Apache-2.0
"""Why the server refuses a call: each a BoardError with one sentence, and a gRPC status of its own (`guard.STATUS`).

BoardError
├── backend.AddressError   no register, window or buffer is there
├── RequestError           the message is none, or asks for what cannot be
├── LimitError             more words, bytes or calls than one may have
├── LeaseError             the board is another's, or the lease has ended
├── LateError              the caller's deadline passed before the board was free
└── TokenError             the token is missing or wrong
"""

from __future__ import annotations

from bitward.errors import BoardError


class RequestError(BoardError):
    """A message cannot be read, or asks for something that cannot be."""


class LimitError(BoardError):
    """A call has more words, bytes or company than the server allows."""


class LeaseError(BoardError):
    """The board is held by another, or the caller's lease has ended."""


class LateError(BoardError):
    """The caller's deadline passed, or the caller left, before the board was free; nothing was done."""


class TokenError(BoardError):
    """A call to a server that demands a token has none, or a wrong one."""
