"""What Dask holds back when the clock is set back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import distributed.batched
import pytest
from distributed import Client, LocalCluster
from distributed.batched import BatchedSend

from wsipsm.executors import stalled

HOUR_S = 3600.0
FAR_LONGER_S = 0.2
"""Than Dask collects."""


class Clock:
    """The wall clock that Dask and Tornado read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = time.time
        self.shift_s = 0.0
        monkeypatch.setattr(time, "time", self)
        monkeypatch.setattr(distributed.batched, "time", self)

    def __call__(self) -> float:
        return self._real() + self.shift_s


class Wire:
    """Takes what a stream sends; while it takes the first message, the clock is set back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.sent: list[int] = []

    async def write(self, payload: Sequence[int], **_: object) -> int:
        if not self.sent:
            self._clock.shift_s = -HOUR_S
        self.sent += payload
        return 1

    def closed(self) -> bool:
        return False


@pytest.mark.parametrize("then_s", [-HOUR_S, 0.0], ids=["back", "back and forth"])
@pytest.mark.parametrize("name", ["scheduler_comm", "batched_stream", "stream_comms", "client_comms"])
def test_what_is_held_back_is_sent(monkeypatch: pytest.MonkeyPatch, name: str, then_s: float) -> None:
    clock = Clock(monkeypatch)
    wire = Wire(clock)

    async def hold_and_send() -> None:
        stream: Any = BatchedSend(interval="10ms")  # type: ignore[no-untyped-call]
        stream.start(wire)
        stream.send(1)
        await asyncio.sleep(FAR_LONGER_S)
        stream.send(2)
        await asyncio.sleep(FAR_LONGER_S)
        clock.shift_s = then_s
        stream.send(3)
        await asyncio.sleep(FAR_LONGER_S)
        assert wire.sent == [1], "Dask held nothing back: this module is needed no more"
        streams = {"there": stream} if name.endswith("comms") else stream
        stalled._send_now_and_then(SimpleNamespace(status="running", **{name: streams}))
        await asyncio.sleep(FAR_LONGER_S)
        assert wire.sent == [1, 2, 3]
        stream.send(4)
        await asyncio.sleep(FAR_LONGER_S)
        stream.please_stop = True

    asyncio.run(hold_and_send())
    assert wire.sent == [1, 2, 3, 4]


def test_every_process_of_a_cluster_keeps_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    """Client, scheduler and worker; the servers once, however many clients ask."""
    looked: list[str] = []
    monkeypatch.setattr(stalled, "_EVERY_S", 0.02)
    monkeypatch.setattr(stalled, "_streams", lambda owner: looked.append(type(owner).__name__) or ())
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,  # type: ignore[no-untyped-call]
        Client(cluster, set_as_default=False) as client,  # type: ignore[no-untyped-call]
    ):
        stalled.keep_sending(client)
        stalled.keep_sending(client)
        for _ in range(2):
            client.submit(stalled.keep_worker_sending, pure=False).result()
        looked.clear()
        time.sleep(1)
    n_looks = {owner: looked.count(owner) for owner in ("Client", "Scheduler", "Worker")}
    assert sum(n_looks.values()) == len(looked)
    assert 0 < max(n_looks["Scheduler"], n_looks["Worker"]) < 0.75 * n_looks["Client"], "servers once, the client twice"
    ended = len(looked)
    time.sleep(0.2)
    assert len(looked) == ended, "of what is closed there is nothing to send"
