"""The check of a running scheduler's address before any work; it does not import Dask."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from wsipsm.errors import UsageError, one_line

_SCHEMES = ("tcp", "tls", "ws", "wss")
_DEFAULT_PORT = 8786
_CONNECT_S = 15.0


def check_address(address: str, timeout_s: float = _CONNECT_S) -> None:
    """Make sure that something listens at an address.

    Parameters
    ----------
    address
        Address of the scheduler, as the user gave it.
    timeout_s
        Seconds that a connection may take.

    Raises
    ------
    UsageError
        When scheme, host or port are wrong, the name is unknown, or nothing listens; the message says which.
    """
    host, port = _read(address)
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise refusal(address, f"no host of the name {host[:100]} is known ({reason_of(error)})") from error
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except OSError as error:
        raise refusal(address, f"nothing listens there ({reason_of(error)})") from error


def refusal(address: str, found: str) -> UsageError:
    """Make the error that says why an address cannot be used, and what is needed."""
    return UsageError(
        f"--scheduler {address[:200]}: {found}; the address of a running one is needed, e.g. tcp://host:8786. Start "
        "one with 'dask scheduler', or leave the flag out to work on this machine."
    )


def reason_of(error: BaseException) -> str:
    """Return the message of an error on one line, at most 200 characters; the name of its class without a message."""
    return one_line(getattr(error, "strerror", None) or error)[:200] or type(error).__name__


def _read(address: str) -> tuple[str, int]:
    """Split an address into host and port."""
    scheme = address.partition("://")[0].lower() if "://" in address else "tcp"
    if scheme not in _SCHEMES:
        raise refusal(address, f"a scheduler cannot be reached by {scheme[:40]}://")
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        host, port = parts.hostname, parts.port or _DEFAULT_PORT
    except ValueError as error:
        raise refusal(address, f"its host and port cannot be read ({reason_of(error)})") from error
    if not host:
        raise refusal(address, "it names no host")
    return host, port
