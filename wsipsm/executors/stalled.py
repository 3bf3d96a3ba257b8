"""Messages that Dask holds back when a clock is set back.

Dask collects messages for some milliseconds, until a time by the wall clock. If that clock is set back in between, it
reaches this time hours or days later. Until then the messages wait, on a client, a scheduler or a worker
(https://github.com/dask/distributed/issues/4528), and the run would neither go on nor end. So each of the three checks
now and then, by a monotonic clock, and sends the messages that wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from distributed import get_worker

_EVERY_S = 5.0
_NAME = "wsipsm-stalled"
_OVER = ("closing", "closed", "failed")


def keep_sending(client: Any) -> None:
    """Make a client and its scheduler send the messages that they hold back, until they are closed.

    A scheduler that lacks this module is left as it is.
    """
    client.loop.add_callback(_send_now_and_then, client)
    with suppress(Exception):  # this is only a safeguard; any fault of the scheduler shows when tasks are submitted
        client.run_on_scheduler(_keep_scheduler_sending)


def keep_worker_sending() -> None:
    """Keep the worker that the calling task runs on sending in the same way."""
    _keep_server_sending(get_worker())


def _keep_scheduler_sending(dask_scheduler: Any) -> None:
    """Keep the scheduler sending; Dask passes the scheduler by this argument's name."""
    _keep_server_sending(dask_scheduler)


def _keep_server_sending(server: Any) -> None:
    if _NAME not in server.extensions:
        server.extensions[_NAME] = _send_now_and_then
        server.loop.add_callback(_send_now_and_then, server)


def _send_now_and_then(owner: Any) -> None:
    """Send the messages that a client, scheduler or worker holds back, again and again, from its own event loop."""
    if getattr(owner.status, "name", owner.status) in _OVER:
        return
    for stream in _streams(owner):
        # Messages are sent even if their time seems near: when the clock was set back and then forward again, the
        # timer is still late.
        if stream.next_deadline is not None:
            stream.next_deadline = None
            stream.waker.set()
    asyncio.get_running_loop().call_later(_EVERY_S, _send_now_and_then, owner)


def _streams(owner: Any) -> Iterator[Any]:
    """Find Dask's ``BatchedSend`` streams by their attributes' names in a client, a worker and a scheduler."""
    for name in ("scheduler_comm", "batched_stream"):
        if (stream := getattr(owner, name, None)) is not None:
            yield stream
    for name in ("stream_comms", "client_comms"):
        yield from getattr(owner, name, {}).values()
