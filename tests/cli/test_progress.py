from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress, TextColumn

from wsipsm.cli.progress import BarProgress, PlainProgress, SlideCounts, open_listener
from wsipsm.events import (
    BlockDone,
    BlockFailed,
    BlockReport,
    CohortPlanned,
    Event,
    RunPlanned,
    SlideDone,
    SlideFailed,
    StageStarted,
)
from wsipsm.geometry import Box

SLIDE = "/slides/case [07].svs"


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def block(index: int, n_nuclei: int = 10, n_tiles: int = 4, failed: tuple[Box, ...] = ()) -> BlockDone:
    return BlockDone(SLIDE, BlockReport(index, n_nuclei, n_tiles, 0, failed))


def plan(n_blocks: int = 5, before: int = 0) -> RunPlanned:
    return RunPlanned(SLIDE, n_blocks, before, 4 * n_blocks, 4 * before, 10 * before, 2, ("stain: ihc [brown]",))


def test_speed_counts_only_tiles_of_this_run() -> None:
    clock = Clock()
    counts = SlideCounts.of_plan(plan(before=2), clock)
    assert counts.left_s is None
    clock.now_s += 2.0
    counts.add(block(2))
    assert counts.tiles_per_s == pytest.approx(2.0)
    assert counts.left_s == pytest.approx((20 - 12) / 2.0)
    assert counts.n_nuclei == 30


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 500), st.integers(1, 9)), max_size=20))
def test_counts_end_at_its_totals(blocks: list[tuple[bool, int, int]]) -> None:
    counts = SlideCounts.of_plan(RunPlanned(SLIDE, len(blocks), 0, sum(n for _, _, n in blocks)))
    for index, (fails, n_nuclei, n_tiles) in enumerate(blocks):
        counts.add(BlockFailed(SLIDE, index, n_tiles, "lost") if fails else block(index, n_nuclei, n_tiles))
    assert counts.n_blocks_done == counts.n_blocks
    assert counts.n_tiles_done == counts.n_tiles
    assert counts.n_failed == sum(fails for fails, _, _ in blocks)
    assert counts.n_nuclei == sum(n for fails, n, _ in blocks if not fails)


def events() -> list[Event]:
    return [
        CohortPlanned((SLIDE, "broken.svs")),
        StageStarted("plan", SLIDE),
        plan(before=1),
        StageStarted("segment", SLIDE),
        block(1),
        block(2, failed=(Box(0, 0, 10, 10),)),
        BlockFailed(SLIDE, 3, 4, "worker lost"),
        block(4),
        StageStarted("write", SLIDE),
        SlideDone(SLIDE, None),
        SlideFailed("broken.svs", "no reader opens it"),
    ]


def test_plain_lines_are_seldom_and_tell_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    listener = PlainProgress(stream, clock)
    for event in events():
        clock.now_s += 1.0
        listener(event)
    lines = stream.getvalue().splitlines()
    assert "case [07].svs: stain: ihc [brown]" in lines
    assert "case [07].svs: block 3 failed: worker lost" in lines
    assert "broken.svs: failed: no reader opens it" in lines
    counted = [line for line in lines if "nuclei so far" in line]
    assert len(counted) == 1, "four blocks in four seconds: only the last is told"
    assert "5/5 blocks, 20/20 tiles" in counted[0]
    assert "40 nuclei so far, 2 with failed parts" in counted[0]


def test_plain_lines_come_every_few_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    listener = PlainProgress(stream, clock)
    listener(plan(n_blocks=100))
    for index in range(60):
        clock.now_s += 1.0
        listener(block(index))
    assert sum("nuclei so far" in line for line in stream.getvalue().splitlines()) == 12


def test_many_failures_are_counted_not_told() -> None:
    stream = io.StringIO()
    listener = PlainProgress(stream, Clock())
    listener(plan(n_blocks=100))
    for index in range(100):
        listener(BlockFailed(SLIDE, index, 4, "worker lost"))
    lines = stream.getvalue().splitlines()
    assert sum("worker lost" in line for line in lines) == 5
    assert "further failures are only counted" in lines
    assert "100 with failed parts" in lines[-1]


def test_bar_shows_counts_and_leaves_square_brackets_alone() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=160, color_system=None)
    columns = (TextColumn("{task.description}", markup=False), TextColumn("{task.fields[facts]}", markup=False))
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        listener = BarProgress(progress)
        for event in events():
            listener(event)
            progress.refresh()
    drawn = stream.getvalue()
    assert "case [07].svs: stain: ihc [brown]" in drawn
    assert "5/5 blocks, 20/20 tiles" in drawn
    assert "case [07].svs: writing results" in drawn
    assert "2/2" in drawn


def test_silence_and_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with open_listener(silent=True) as listener:
        listener(plan())
    assert capsys.readouterr() == ("", "")
    with open_listener(silent=False) as listener:
        listener(plan())
    out, err = capsys.readouterr()
    assert out == ""
    assert "5 blocks, 20 tiles; 2 workers" in err
