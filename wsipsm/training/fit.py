"""The training loop of all networks, which can be resumed.

The random choices of a step depend on the seed and the step alone, so no random state has to be stored. A training that
was killed continues from its last checkpoint and gives the same weights, and batches can be made ahead in other
threads.
"""

from __future__ import annotations

import atexit
import csv
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from wsipsm.errors import ModelError, WsipsmError
from wsipsm.rundir import write_aside
from wsipsm.training.checkpoint import load_checkpoint, restore, save_checkpoint
from wsipsm.training.device import Compute, find_compute

Batch = TypeVar("Batch")
Progress = Callable[[int, int, float], None]
"""A function that is called with the step, the number of steps and the loss."""
_AHEAD = 3
"""Number of batches that are made ahead."""
CHECKPOINT_SUFFIX, LOG_SUFFIX = ".checkpoint", ".log.csv"


@dataclass(frozen=True, slots=True)
class BatchSource:
    """The source of a batch's random choices, which depend on seed, step and process, and the number of processes."""

    rng: np.random.Generator
    torch_seed: int
    n_ranks: int = 1

    def generator(self) -> torch.Generator:
        """Make torch's random generator of this step."""
        return torch.Generator().manual_seed(self.torch_seed)

    def share(self, batch: int) -> int:
        """Divide a batch: return the number of items, at least 1, that each process makes."""
        return max(1, batch // self.n_ranks)


@dataclass(frozen=True, slots=True)
class FitOptions:
    """Settings of the loop: its number of steps, its seed, and its checkpoint."""

    steps: int
    seed: int = 0
    checkpoint: Path | None = None
    """Path of state and CSV log, without their suffixes; None: nothing is stored."""
    identity: str = ""
    """Text that names all that shapes the training; a checkpoint of another one is not continued."""
    checkpoint_s: float = 60.0
    """Time after which a step writes a checkpoint again, s; a training that is killed loses about as much."""


@dataclass(frozen=True, slots=True)
class TrainingPlan(Generic[Batch]):
    """The parts of a training: its network, batches, loss, optimiser and learning rate."""

    network: nn.Module
    """Module with every trainable weight, on the processor; :func:`fit` moves it to the device."""
    make_batch: Callable[[BatchSource], Batch]
    loss: Callable[[nn.Module, Batch, torch.device], Tensor]
    optimiser: Callable[[nn.Module], Optimizer]
    learning_rate: Callable[[int], float]
    """Function from the number of a step to its learning rate."""
    averaged: bool = False
    """Whether the final weights are a moving average over the steps."""


def fit(plan: TrainingPlan[Batch], options: FitOptions, progress: Progress | None = None) -> list[float]:
    """Train a network in place, from its last checkpoint where there is one.

    Parameters
    ----------
    plan
        Parts of the training.
    options
        Settings of the loop.
    progress
        Function that is called at every step.

    Returns
    -------
    Loss of every step.

    Raises
    ------
    WsipsmError
        When the loss is not finite.
    ModelError
        When the checkpoint is of another training or architecture, or damaged.
    OutputError
        When a checkpoint cannot be written.
    """
    compute = find_compute()
    network = plan.network.to(compute.device).train()
    optimiser = plan.optimiser(network)
    average = {k: v.detach().clone() for k, v in network.state_dict().items()} if plan.averaged else None
    losses = _resume(plan.network, optimiser, average, options)
    scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.autocast == torch.float16)
    trained = _distribute(network, compute)
    with _open_ahead(plan.make_batch, options, compute, len(losses)) as batches:
        saved = time.monotonic()
        for step in range(len(losses), options.steps):
            _set_learning_rate(optimiser, plan.learning_rate(step))
            with compute.casting():
                loss = plan.loss(trained, next(batches), compute.device)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise WsipsmError(
                    f"training: the loss is {value:g} at step {step}; a number is needed. Try another --seed, or a "
                    "lower learning rate."
                )
            optimiser.zero_grad()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimiser)
            scaler.update()
            if average is not None:
                _update_average(average, network, step)
            losses.append(value)
            if progress is not None:
                progress(step, options.steps, value)
            if time.monotonic() - saved > options.checkpoint_s or step == options.steps - 1:
                _keep(options, losses, network, optimiser, average, compute)
                saved = time.monotonic()
        if average is not None:
            network.load_state_dict(average)
        _share_result(network, compute)
    network.eval()
    return losses


def one_cycle(peak: float, steps: int, warm_share: float = 0.1) -> Callable[[int], float]:
    """Make a one-cycle learning rate: by cosines from peak / 25 to the peak and to nearly 0 (Smith and Topin 2018)."""
    warm = max(1.0, warm_share * steps)

    def rate(step: int) -> float:
        if step < warm:
            low, share = peak / 25, step / warm
            return low + (peak - low) * (1 - math.cos(math.pi * share)) / 2
        share = min(1.0, (step - warm) / max(1.0, steps - warm))
        return peak / 250_000 + (peak - peak / 250_000) * (1 + math.cos(math.pi * share)) / 2

    return rate


def averaged_plan(
    network: nn.Module,
    make_batch: Callable[[BatchSource], Batch],
    loss: Callable[[nn.Module, Batch, torch.device], Tensor],
    learning_rate: float,
    steps: int,
) -> TrainingPlan[Batch]:
    """Make the plan of every nucleus network: AdamW, one cycle of the learning rate, averaged weights.

    Parameters
    ----------
    network, make_batch, loss
        The same as in :class:`TrainingPlan`.
    learning_rate
        Highest learning rate of the cycle.
    steps
        Number of steps of the whole training.
    """
    return TrainingPlan(
        network=network,
        make_batch=make_batch,
        loss=loss,
        optimiser=lambda module: torch.optim.AdamW(module.parameters(), learning_rate, weight_decay=1e-4),
        learning_rate=one_cycle(learning_rate, steps),
        averaged=True,
    )


def _resume(
    network: nn.Module, optimiser: Optimizer, average: dict[str, Tensor] | None, options: FitOptions
) -> list[float]:
    if options.checkpoint is None:
        return []
    path = options.checkpoint.with_name(options.checkpoint.name + CHECKPOINT_SUFFIX)
    stored = load_checkpoint(path)
    if stored is None:
        return []
    restore(path, stored, network, optimiser, average)
    if stored.identity != options.identity:
        raise ModelError(
            f"{path}: belongs to a training with other images or settings; the same ones are needed to go on. "
            "Choose another folder, or remove it to train anew."
        )
    return list(stored.losses)


def _keep(
    options: FitOptions,
    losses: list[float],
    network: nn.Module,
    optimiser: Optimizer,
    average: dict[str, Tensor] | None,
    compute: Compute,
) -> None:
    if options.checkpoint is None or compute.rank:
        return
    beside = options.checkpoint
    save_checkpoint(
        beside.with_name(beside.name + CHECKPOINT_SUFFIX), options.identity, losses, network, optimiser, average
    )
    with write_aside(beside.with_name(beside.name + LOG_SUFFIX)) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "loss"])
        writer.writerows(enumerate(losses))


def _distribute(network: nn.Module, compute: Compute) -> nn.Module:
    """Distribute gradients to the other processes of torch's launcher, where there are any.

    The process group is joined once and left only when the process ends. A second group would read the addresses of the
    first one from the launcher's store, and wait forever.
    """
    if compute.n_ranks == 1:
        return network
    on_gpu = compute.device.type == "cuda"
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
        atexit.register(torch.distributed.destroy_process_group)
    return DistributedDataParallel(
        network, device_ids=[compute.device] if on_gpu else None, find_unused_parameters=True
    )


def _share_result(network: nn.Module, compute: Compute) -> None:
    """Copy the first process's weights to all, since batch norm had other crops in each; wait until they are stored."""
    if compute.n_ranks > 1:
        for value in network.state_dict().values():
            torch.distributed.broadcast(value, src=0)


@contextmanager
def _open_ahead(
    make_batch: Callable[[BatchSource], Batch], options: FitOptions, compute: Compute, first: int
) -> Iterator[Iterator[Batch]]:
    """Make batches in order and ahead of their use, in other threads, so that the loop rarely waits for them."""

    def at(step: int) -> Batch:
        source = np.random.SeedSequence([options.seed, step, compute.rank])
        torch_seed = int(source.generate_state(1, np.uint32)[0])
        return make_batch(BatchSource(np.random.default_rng(source), torch_seed, compute.n_ranks))

    def batches() -> Iterator[Batch]:
        waiting: list[Future[Batch]] = [
            pool.submit(at, step) for step in range(first, min(first + _AHEAD, options.steps))
        ]
        for step in range(first, options.steps):
            batch = waiting.pop(0).result()
            if step + _AHEAD < options.steps:
                waiting.append(pool.submit(at, step + _AHEAD))
            yield batch

    with ThreadPoolExecutor(max_workers=2) as pool:
        yield batches()


def _set_learning_rate(optimiser: Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def _update_average(average: dict[str, Tensor], network: nn.Module, step: int) -> None:
    momentum = min(0.99, (step + 1) / (step + 10))
    for name, value in network.state_dict().items():
        if value.dtype.is_floating_point:
            average[name].mul_(momentum).add_(value, alpha=1 - momentum)
        else:
            average[name].copy_(value)
