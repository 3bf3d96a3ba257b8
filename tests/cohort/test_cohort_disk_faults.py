"""A cohort whose folders go away for a while, or fill: real mounts, so root is needed."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cohort_pool import Cohort, draw_cohort, run_client, told

from wsipsm.folderlock import LOCK_NAME, hold_folder

AWAY_S = 5.0
ROOM_MIB = 8


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine lets nobody mount here: {done.stderr.strip()}")


@contextmanager
def shared(store: Path, place: Path) -> Iterator[Callable[[], None]]:
    """Show a folder at another place, as a network share; gives what takes it away for some seconds."""
    if os.geteuid():
        pytest.skip("taking a share away needs root")
    for folder in (store, place):
        folder.mkdir(exist_ok=True)
    mount("--bind", str(store), str(place))
    timers = []

    def take_away() -> None:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
        timers.append(threading.Timer(AWAY_S, mount, ("--bind", str(store), str(place))))
        timers[-1].start()

    try:
        yield take_away
    finally:
        for timer in timers:
            timer.join()
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def once(act: Callable[[], None], at: int) -> Callable[[object, int], None]:
    return lambda _, n_done: act() if n_done == at else None


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    with pytest.MonkeyPatch.context() as patch:
        import stand_in

        for place in ("stages.plan.resolve_model", "stages.prepare.resolve_model"):
            patch.setattr(f"wsipsm.{place}", stand_in.resolve_stand_in)
        patch.setattr("wsipsm.stages.block.load_predictor", stand_in.load_stand_in)
        patch.setattr("wsipsm.quality.picture_size.load_describer", stand_in.load_no_describer)
        return draw_cohort(tmp_path_factory.mktemp("drawn"), 10)


@pytest.mark.slow
def test_slides_on_a_share_that_goes_away_are_tried_again(cohort: Cohort, tmp_path: Path) -> None:
    place, out = tmp_path / "slides", tmp_path / "out"
    with shared(cohort.slides, place) as take_away:
        options = ("--workers", "2", "--pause-s", str(AWAY_S / 2))
        code, said = run_client(place, out, *options, then=once(take_away, 2))
    assert code == 0, said
    cohort.check_same(out, place)
    assert told(out, "failed"), "no slide was missed: the share was away too shortly"
    assert told(out, "trying again")


@pytest.mark.slow
def test_results_on_a_share_that_goes_away_are_all_there_in_the_end(cohort: Cohort, tmp_path: Path) -> None:
    """What is written meanwhile lies under the share's place, out of sight."""
    store, place = tmp_path / "store", tmp_path / "results"
    with shared(store, place) as take_away:
        options = ("--workers", "2", "--pause-s", str(AWAY_S / 2))
        code, said = run_client(cohort.slides, place, *options, then=once(take_away, 2))
    assert code == 0, said
    cohort.check_same(store)
    assert told(store, "trying again"), "nothing was missed: the share was away too shortly"
    assert not (store / LOCK_NAME).exists()


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    if os.geteuid():
        pytest.skip("a disk of its own needs root")
    place.mkdir()
    mount("-t", "tmpfs", "-o", f"size={ROOM_MIB}m", "tmpfs", str(place))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> None:
    with suppress(OSError), open(disk / "of another user", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.slow
def test_a_full_disk_stops_the_cohort_and_room_lets_it_go_on(cohort: Cohort, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    out = disk / "out"
    with small_disk(disk):
        code, said = run_client(cohort.slides, out, "--workers", "2", then=once(lambda: fill(disk), 3))
        assert code == 6, said
        assert "the disk is full (0.0 MiB free)" in said
        assert "then run the same command again" in said
        again, said = run_client(cohort.slides, out, "--workers", "2")
        assert again == 6, "still full"
        assert "the disk is full" in said
        (disk / "of another user").unlink()
        code, said = run_client(cohort.slides, out, "--workers", "2")
        assert code == 0, said
        cohort.check_same(out)
        assert len(told(out, "done before")) >= 3


def test_a_lock_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk):
        fill(disk)
        with pytest.raises(OSError, match="the disk is full"), hold_folder(disk):
            pass
        assert not (disk / LOCK_NAME).exists()
