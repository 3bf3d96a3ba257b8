"""The picture of trainings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsipsm.export.loss_curve import draw_losses


@pytest.mark.parametrize("n_steps", [1, 40])
def test_a_panel_for_each_training(tmp_path: Path, n_steps: int) -> None:
    path = tmp_path / "losses.png"
    draw_losses(path, {"pretext": [1.0 / (k + 1) for k in range(n_steps)]})
    narrow = np.asarray(Image.open(path).convert("RGB"))
    draw_losses(path, {"pretext": [2.0] * n_steps, "detector": [1.0] * n_steps})
    wide = np.asarray(Image.open(path).convert("RGB"))
    assert wide.shape[1] > 1.8 * narrow.shape[1]
    assert (narrow < 200).any()
    assert [p.name for p in tmp_path.iterdir()] == ["losses.png"]
