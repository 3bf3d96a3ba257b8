"""Lines of a training's progress."""

from __future__ import annotations

import io

from wsipsm.cli.steps import PLAIN_PERIOD_S, PlainSteps, open_steps


def test_lines_come_now_and_then_and_at_the_end() -> None:
    stream, now = io.StringIO(), [0.0]
    steps = PlainSteps(stream, lambda: now[0])
    for step in range(5):
        steps("pretext", step, 5, 1 / (step + 1))
        now[0] += PLAIN_PERIOD_S / 2
    assert stream.getvalue().splitlines() == [
        "pretext: step 1 of 5, loss 1",
        "pretext: step 3 of 5, loss 0.3333",
        "pretext: step 5 of 5, loss 0.2",
    ]


def test_silence() -> None:
    with open_steps(True) as tell:
        tell("pretext", 0, 1, 0.0)
