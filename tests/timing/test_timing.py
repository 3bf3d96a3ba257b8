"""Steps are summed by name, and kept one by one only where that is asked for."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Iterator

import pytest

from wsipsm.timing import Steps


def test_seconds_are_summed_by_name() -> None:
    steps = Steps()
    before = time.perf_counter()
    for name in ("read", "decode", "read"):
        with steps.timed(name):
            time.sleep(0.002)
    assert list(steps.seconds) == ["read", "decode"]
    assert steps.seconds["read"] >= 0.004
    assert sum(steps.seconds.values()) <= time.perf_counter() - before + 0.001
    assert steps.spans == []


def test_a_step_that_fails_is_timed() -> None:
    steps = Steps(keeps_spans=True)
    with pytest.raises(OSError, match="gone"), steps.timed("read"):
        raise OSError("gone")
    assert [span.name for span in steps.spans] == ["read"]


def test_spans_tell_when_and_where() -> None:
    steps = Steps(keeps_spans=True)
    before = time.time()
    with steps.timed("outer"), steps.timed("inner"):
        time.sleep(0.002)
    inner, outer = steps.spans
    assert before <= outer.started_s <= inner.started_s
    assert 0.002 <= inner.seconds <= outer.seconds
    assert (inner.track.process, inner.track.thread) == (os.getpid(), threading.get_native_id())
    assert pickle.loads(pickle.dumps(steps.spans)) == steps.spans  # they come from workers


def test_the_making_of_each_is_timed_and_not_its_use() -> None:
    def made() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.002)
            yield number

    steps = Steps()
    found = []
    for number in steps.each("make", made()):
        with steps.timed("use"):
            time.sleep(0.02)
        found.append(number)
    assert found == [0, 1, 2]
    assert steps.seconds["make"] >= 0.006
    assert steps.seconds["use"] >= 0.06
