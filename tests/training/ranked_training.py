"""Trains two networks under torch's launcher, and stores what each process ends with."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from wsipsm.demo.draw import draw_array
from wsipsm.paper.pixel import PixelOptions, TrainingExample, train_pixels
from wsipsm.training.losses import detection_loss
from wsipsm.training.pretext_training import PretextOptions, train_pretext


def main() -> None:
    folder, rank = Path(sys.argv[1]), os.environ["RANK"]
    rgb, _ = draw_array(seed=1, size=(64, 64), n_nuclei=4)
    options = PretextOptions(steps=2, batch=4, crop_px=48)
    network, _ = train_pretext([rgb], options, keep=folder / "pretext")
    example = TrainingExample(rgb, ((rgb.mean(axis=2) < 180).astype("uint8"),))
    detector = train_pixels(
        [example], 2, detection_loss, PixelOptions(steps=2, batch=4, crop_px=32), keep=folder / "detector"
    )
    state = {f"{i}.{k}": v for i, n in enumerate((network, detector)) for k, v in n.state_dict().items()}
    torch.save(state, folder / f"rank{rank}.pt")


if __name__ == "__main__":
    main()
