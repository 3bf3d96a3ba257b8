"""Trains a small model, keeps its state at every step, tells its steps, and is there to be killed."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch

import wsipsm.training.pseudo_labels
import wsipsm.training.student
from wsipsm.training.fit import FitOptions
from wsipsm.training.pretext_training import PretextOptions
from wsipsm.training.train import train_model

STEPS = 8


def main() -> None:
    image, out, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    wsipsm.training.pseudo_labels.PretextOptions = partial(PretextOptions, steps=2, batch=2, crop_px=64)
    fit_student = wsipsm.training.student.fit

    def tell(step: int, steps: int, loss: float) -> None:
        sys.stdout.write(f"step {step}\n")
        sys.stdout.flush()

    def fit(labelled, options, progress):  # type: ignore[no-untyped-def]
        often = FitOptions(options.steps, options.seed, options.checkpoint, options.identity, checkpoint_s=0)
        return fit_student(labelled, often, tell)

    wsipsm.training.student.fit = fit
    train_model(
        [Path(image)],
        Path(out),
        stain=None,
        steps=STEPS,
        seed=3,
        mpp=0.25,
        init="random",
        report=lambda line: None,
        recipe=Path(__file__).with_name("tiny.toml"),
    )


if __name__ == "__main__":
    main()
