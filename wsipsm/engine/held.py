"""Messages that Dask holds back when a clock is set back.

Dask collects messages for some milliseconds, until a time by the wall clock. Set back in between, that clock reaches it
hours or days later, and what was collected waits until then, on a client, a scheduler or a worker
(https://github.com/dask/distributed/issues/4528): the run would neither go on nor end.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

_ANSWER_S = 5.0


def send_held(client: Any) -> None:
    """Send what is held back, by a client, its scheduler and their workers, and do nothing to what is not.

    Whoever does not answer within seconds is left for the next time.
    """
    send = _sender()
    client.loop.add_callback(send, client)
    # Dask's own parts are called by name; other versions of it may lack them.
    with suppress(OSError, TimeoutError, RuntimeError, ValueError, AttributeError, TypeError):
        client.run_on_scheduler(send, callback_timeout=_ANSWER_S)
        client.run(send, on_error="return", callback_timeout=_ANSWER_S)


def _sender() -> Callable[[Any], None]:
    """Give what sends what a client, scheduler or worker holds back, called where its messages are sent.

    It has no name of its own, so it travels whole: a scheduler needs no wsipsm. Dask gives the one that it runs on
    by the argument's name.
    """

    def send(dask_worker: Any) -> None:
        import time

        one = [getattr(dask_worker, name, None) for name in ("scheduler_comm", "batched_stream")]
        many = [getattr(dask_worker, name, {}).values() for name in ("stream_comms", "client_comms")]
        for stream in [*one, *(stream for streams in many for stream in streams)]:
            # Dask collects for 10 ms at most.
            if stream is not None and (stream.next_deadline or 0) - time.time() > 1:
                stream.next_deadline = None
                stream.waker.set()

    return send
