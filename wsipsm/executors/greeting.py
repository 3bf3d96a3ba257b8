"""A quick check that a Dask scheduler listens at an address, since Dask's client would retry for a long time."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from distributed.comm.core import connect
from distributed.security import Security

from wsipsm.executors.scheduler_address import check_address, reason_of, refusal


def check_scheduler(address: str, timeout_s: float) -> None:
    """Make sure that a Dask scheduler answers at an address.

    Parameters
    ----------
    address
        Address of the scheduler, as the user gave it.
    timeout_s
        Seconds that opening the connection may take; the exchange that follows may take as long again.

    Raises
    ------
    UsageError
        When the address, or what listens there, cannot be used; the message says why.
    """
    check_address(address, timeout_s)
    try:
        asyncio.run(_greet(address if "://" in address else f"tcp://{address}", timeout_s))
    except (OSError, RuntimeError, ValueError, TypeError, EOFError, asyncio.CancelledError) as error:
        why = _why(address, error, timeout_s)
        raise refusal(address, f"what listens there is no scheduler that can be used ({why})") from error


async def _greet(address: str, timeout_s: float) -> None:
    """Check the listener's identity, over a connection such as Dask's client would open."""
    security: Any = Security()  # type: ignore[no-untyped-call]  # reads the keys from Dask's configuration
    async with asyncio.timeout(timeout_s):
        comm: Any = await connect(address, timeout=timeout_s, **security.get_connection_args("client"))  # type: ignore[no-untyped-call]
        try:
            await comm.write({"op": "identity", "reply": True})
            answer = await comm.read()
        finally:
            comm.abort()
    if not isinstance(answer, dict) or answer.get("type") != "Scheduler":
        raise ValueError("its answer is not a scheduler's")


def _why(address: str, error: BaseException, timeout_s: float) -> str:
    """Find the reason in an error's chain of causes that helps the user most."""
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    for one in chain:
        if isinstance(one, ssl.SSLError):
            return f"{reason_of(one)}; do the TLS keys fit?"
    if any(isinstance(one, TypeError) for one in chain):
        return f"no keys are configured here for {address.partition('://')[0]}://"
    if isinstance(error, TimeoutError) and not str(error):
        return f"no answer of a scheduler within {timeout_s:g} s"
    return reason_of(chain[-1])
