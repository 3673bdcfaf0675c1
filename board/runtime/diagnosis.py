# SPDX-License-Identifier: Apache-2.0
"""Why a server that is there cannot be spoken to: TLS on one side only, or a certificate that nobody vouches for.

gRPC says of all of these that the server is unavailable. A handshake of our own, with which nothing is sent that
matters (no token), says which it is.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from bitward.errors import BoardError

from .connection import Connection
from .security import read

PROBE_S = 2.0


def trusted(certificate: Path) -> bytes:
    """The content of a PEM file of certificates to trust; BoardError where it is none."""
    content = read(certificate)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise BoardError(
            f"{certificate} must hold the certificate of the board's server or of its authority, in PEM, got a file "
            "that does not; name the right one by --tls-ca"
        ) from error
    return content


def why_not(where: str, at: Connection) -> BoardError | None:
    """What keeps client and server apart although the server is there; None where that is not known."""
    if at.host is None:
        return None
    if at.credentials is None:
        if _handshake(at.host, at.port, None) is not None:
            return None
        return BoardError(
            f"{where} must be spoken to over TLS, got a client without; give its certificate and the token "
            "(--tls-ca, --token-file)"
        )
    failed = _handshake(at.host, at.port, at.credentials.certificate)
    if isinstance(failed, ssl.SSLCertVerificationError):
        return BoardError(
            f"{where} must show a certificate that {at.credentials.certificate} vouches for, got another "
            f"({failed.verify_message}); name the right one by --tls-ca, and the host as the certificate has it"
        )
    if isinstance(failed, (ssl.SSLError, ConnectionResetError)):
        return BoardError(
            f"{where} must serve TLS to be given a token, got a server without; leave --tls-ca and --token-file out "
            "(an ssh tunnel keeps the connection private), or start the server with TLS"
        )
    return None


def _handshake(host: str, port: int, certificate: Path | None) -> OSError | None:
    """None where a TLS handshake succeeds, the certificate checked where there is one to check it by; else why not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if certificate is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context.load_verify_locations(certificate)
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection((host, port), PROBE_S) as plain:
            with context.wrap_socket(plain, server_hostname=host):
                return None
    except OSError as error:  # ssl's are OSErrors too
        return error
