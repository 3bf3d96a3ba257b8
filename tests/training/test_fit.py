"""The loop that all networks share: seeded, resumable, watched."""

from __future__ import annotations

import csv
import math
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from wsipsm.errors import ModelError, OutputError, WsipsmError
from wsipsm.rundir import TEMPORARY_PREFIX
from wsipsm.training.device import Compute, find_compute
from wsipsm.training.fit import BatchSource, FitOptions, Progress, TrainingPlan, fit, one_cycle

RANKED = Path(__file__).with_name("ranked_training.py")
STEPS = 9


def plan(width: int = 5, *, averaged: bool = True, poison_at: int | None = None) -> TrainingPlan[Tensor]:
    """A network with batch norm that learns to add up what it is shown."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 1))
    drawn: list[int] = []

    def make_batch(source: BatchSource) -> Tensor:
        drawn.append(1)
        batch = torch.randn(source.share(6), 4, generator=source.generator())
        return batch * math.nan if poison_at is not None and len(drawn) > poison_at else batch

    def loss(trained: nn.Module, batch: Tensor, device: torch.device) -> Tensor:
        error: Tensor = (trained(batch.to(device)).squeeze(1) - batch.sum(dim=1).to(device)).pow(2).mean()
        return error

    return TrainingPlan(
        network,
        make_batch,
        loss,
        lambda module: torch.optim.Adam(module.parameters(), 1e-2),
        one_cycle(1e-2, STEPS),
        averaged,
    )


def same(left: nn.Module, right: nn.Module) -> bool:
    mine, theirs = left.state_dict(), right.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@contextmanager
def stopping(last: int) -> Iterator[Progress]:
    def progress(step: int, steps: int, loss: float) -> None:
        if step == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        yield progress


def options(tmp_path: Path) -> FitOptions:
    return FitOptions(STEPS, 3, tmp_path / "net", "these images", checkpoint_s=0)


def test_two_trainings_are_the_same() -> None:
    first, second, other = plan(), plan(), plan()
    losses = [fit(c, FitOptions(STEPS, seed)) for c, seed in ((first, 1), (second, 1), (other, 2))]
    assert losses[0] == losses[1] != losses[2]
    assert same(first.network, second.network)
    assert not same(first.network, other.network)
    assert losses[0][-1] < losses[0][0]
    assert not first.network.training


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("last", [1, 4, STEPS - 1])
def test_interrupted_anywhere_it_ends_the_same(tmp_path: Path, last: int, averaged: bool) -> None:
    whole = plan(averaged=averaged)
    expected = fit(whole, FitOptions(STEPS, 3))
    with stopping(last) as progress:
        fit(plan(averaged=averaged), options(tmp_path), progress)
    told: list[int] = []
    again = plan(averaged=averaged)
    losses = fit(again, options(tmp_path), lambda step, steps, loss: told.append(step))
    assert told == list(range(last, STEPS)), "the step that was interrupted is done once more, none else"
    assert losses == expected
    assert same(again.network, whole.network)
    rows = list(csv.DictReader((tmp_path / "net.log.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == list(range(STEPS))
    assert [float(row["loss"]) for row in rows] == losses
    assert not list(tmp_path.glob(f"{TEMPORARY_PREFIX}*"))


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first, again = plan(), plan()
    losses = fit(first, options(tmp_path))
    told: list[int] = []
    assert fit(again, options(tmp_path), lambda step, steps, loss: told.append(step)) == losses
    assert told == []
    assert same(first.network, again.network)


def test_no_step_is_no_change(tmp_path: Path) -> None:
    trained = plan()
    assert fit(trained, replace(options(tmp_path), steps=0)) == []
    assert same(trained.network, plan().network)


def test_a_checkpoint_of_another_training_or_network(tmp_path: Path) -> None:
    fit(plan(), options(tmp_path))
    with pytest.raises(ModelError, match=r"net\.checkpoint: belongs to a training with other images or settings"):
        fit(plan(), replace(options(tmp_path), identity="other images"))
    with pytest.raises(ModelError, match=r"net\.checkpoint: made for another architecture \(0\.bias and \d+ more"):
        fit(plan(7), options(tmp_path))


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "header", "folder", "foreign"])
def test_a_damaged_checkpoint_is_told(tmp_path: Path, damage: str) -> None:
    fit(plan(), options(tmp_path))
    path = tmp_path / "net.checkpoint"
    content = path.read_bytes()
    broken = {
        "cut": content[: len(content) // 2],
        "noise": bytes(range(7, 256)) * 9,
        "empty": b"",
        "header": content.replace(b'\\"step\\"', b'\\"stop\\"'),
        "foreign": b"\x02" + bytes(7) + b"{}",
        "folder": b"",
    }[damage]
    path.write_bytes(broken)
    if damage == "folder":
        path.unlink()
        path.mkdir()
    with pytest.raises(ModelError, match=r"net\.checkpoint: .*Remove it to train anew"):
        fit(plan(), options(tmp_path))


def test_no_number_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    with pytest.raises(WsipsmError, match=r"the loss is nan at step 5; .*--seed"):
        fit(plan(poison_at=5), options(tmp_path))
    told: list[int] = []
    fit(plan(), options(tmp_path), lambda step, steps, loss: told.append(step))
    assert told[0] == 5


@contextmanager
def small_disk(n_bytes: int) -> Iterator[None]:
    """No file may grow beyond a size: what a full disk is to a writer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_the_checkpoint_before_it_stays(tmp_path: Path) -> None:
    with stopping(4) as progress:
        fit(plan(), options(tmp_path), progress)
    before = (tmp_path / "net.checkpoint").read_bytes()
    with small_disk(200), pytest.raises(OutputError, match=r"net\.checkpoint: the file would be larger than allowed"):
        fit(plan(), options(tmp_path))
    assert (tmp_path / "net.checkpoint").read_bytes() == before
    assert not list(tmp_path.glob(f"{TEMPORARY_PREFIX}*"))


def test_an_error_while_drawing_comes_through() -> None:
    def make_batch(source: BatchSource) -> Tensor:
        raise OSError("the slide went away")

    with pytest.raises(OSError, match="went away"):
        fit(replace(plan(), make_batch=make_batch), FitOptions(STEPS))


def test_the_schedule_rises_and_falls() -> None:
    rate = one_cycle(1.0, 100)
    rates = [rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[10] == pytest.approx(1.0)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_the_processor_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = find_compute()
    assert found == Compute(torch.device("cpu"), None, 1, 2)
    assert found.description == "cpu float32, 2 processes"


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command += ["--nproc_per_node", "2", str(RANKED), str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert ranks[0].keys() == ranks[1].keys()
    assert all(torch.equal(ranks[0][name], ranks[1][name]) for name in ranks[0])
    assert sorted(path.name for path in tmp_path.glob("*.checkpoint")) == ["detector.checkpoint", "pretext.checkpoint"]
    for path in tmp_path.iterdir():
        path.unlink()  # they are large
