"""The stand-in network for workers, in a process that dies in native code of slides that are marked.

A slide whose name holds "crash-open" takes it down when it is opened, one with a magenta pixel when it is scored.
"""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HERE = str(Path(__file__).resolve())
MAGENTA = (255, 0, 255)


def mark(slide: Path) -> None:
    """Make a drawn slide one whose scoring crashes."""
    with Image.open(slide) as image:
        pixels = np.array(image)
    pixels[:40, :40] = MAGENTA
    Image.fromarray(pixels).save(slide)


def install() -> None:
    """Put the stand-in and the crashes in place, for good."""
    import stand_in

    import wsipsm.stages.block
    import wsipsm.stages.prepare
    from wsipsm.slide.base import Slide

    class Crashing(stand_in.DarknessPredictor):
        def predict(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
            if (rgb == MAGENTA).all(axis=2).any():
                ctypes.string_at(0)
            return super().predict(rgb)

    opens = wsipsm.stages.prepare.open_slide

    def open_slide(path: str | Path, *options: Any, **named: Any) -> AbstractContextManager[Slide]:
        if "crash-open" in str(path):
            ctypes.string_at(0)
        return opens(path, *options, **named)

    stand_in.install()
    wsipsm.stages.block.load_predictor = lambda *_: Crashing()
    wsipsm.stages.prepare.open_slide = open_slide  # type: ignore[assignment]


async def dask_setup(worker: Any) -> None:
    install()
