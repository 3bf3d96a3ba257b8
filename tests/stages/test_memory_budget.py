"""Memory that a plan projects against the memory that its processes took, as the operating system counts it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from drawn_canvas import write_dense
from numpy.typing import NDArray
from PIL import Image
from stand_in import draw_nuclei

from wsipsm.config import RunOptions
from wsipsm.executors.budget import Budget, project_budget
from wsipsm.stages.prepare import PreparedSlide, prepare_slide

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")


def draw_sparse(path: Path) -> Path:
    """Draw two islands of tissue on 6000 x 4000 px of glass, as a tiled TIFF at 0.25 um/px."""
    pixels = np.full((4000, 6000, 3), 244, np.uint8)
    pixels[300:1300, 400:1400] = at_quarter(1000, seed=1)
    pixels[2500:3500, 4500:5500] = at_quarter(1000, seed=2)
    return write_dense(path.with_suffix(".tif"), pixels, mpp=0.25)


def draw_dense(path: Path) -> Path:
    """Draw 3000 x 3000 px full of nuclei, as a tiled TIFF at 0.25 um/px."""
    return write_dense(path.with_suffix(".tif"), at_quarter(3000, seed=3), mpp=0.25)


def draw_large(path: Path) -> Path:
    """Draw 4400 x 4400 px full of nuclei, more than a large block, as a tiled TIFF at 0.25 um/px."""
    return write_dense(path.with_suffix(".tif"), at_quarter(4400, seed=3), mpp=0.25)


def draw_plain(path: Path) -> Path:
    """Draw a plain image of 1400 x 1400 px at 0.5 um/px, which is enlarged to 2800 x 2800 px."""
    path = path.with_suffix(".png")
    Image.fromarray(draw_nuclei(1400, 1400, seed=4)).save(path)
    return path


def at_quarter(side: int, seed: int) -> NDArray[np.uint8]:
    """Draw nuclei at 0.25 um/px, shape (side, side, 3)."""
    image = cv2.resize(draw_nuclei(side // 2, side // 2, seed), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(image, np.uint8)


def projected(slide: Path, out: Path, options: RunOptions) -> Budget:
    prepared = prepare_slide(slide, out, options, slide.stem)
    assert isinstance(prepared, PreparedSlide)
    assert prepared.todo
    return prepared.plan.budget


def peaks(command: list[str], said: Path) -> list[int]:
    """Run a command; gives the peak resident bytes of its process, then of each other program that it started."""
    found: dict[int, int] = {}
    with said.open("w") as output:
        running = psutil.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    while running.poll() is None:
        with suppress(psutil.Error):  # one that ended meanwhile
            # A copy of the process that is about to run another program shares the memory that it shows.
            own = running.cmdline()
            others = [one for one in running.children(recursive=True) if one.cmdline() not in ([], own)]
            for process in [running, *others]:
                found[process.pid] = peak_of(process.pid) or found.get(process.pid, 0)
        time.sleep(0.02)
    assert running.wait() == 0, said.read_text()
    return [found.pop(running.pid), *found.values()]


def peak_of(pid: int) -> int:
    """Peak resident bytes so far, as Linux keeps it; 0 of a process that ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "options"),
    [
        (draw_sparse, RunOptions(workers=0)),
        (draw_dense, RunOptions(workers=0, block_px=2048, tile_px=1024)),
        (draw_large, RunOptions(workers=0, block_px=4096, tile_px=2048)),
        (draw_plain, RunOptions(workers=1, mpp=0.5, block_px=1024, tile_px=512)),
    ],
)
def test_a_run_takes_what_was_projected_at_most_and_a_third_at_least(
    tmp_path: Path, draw: Callable[[Path], Path], options: RunOptions
) -> None:
    slide = draw(tmp_path / "slide")
    budget = projected(slide, tmp_path / "plan", options)
    client, *others = peaks(command_of(slide, tmp_path, options), tmp_path / "said.txt")
    total = budget.total_bytes(options.workers or 0)
    assert total / 3 <= client + sum(others) <= total
    if options.workers:
        assert client <= budget.client_bytes
        assert budget.worker_bytes / 3 <= max(others) <= budget.worker_bytes


def command_of(slide: Path, folder: Path, options: RunOptions) -> list[str]:
    given = {"--workers": options.workers, "--block-px": options.block_px, "--tile-px": options.tile_px}
    given = {flag: value for flag, value in {**given, "--mpp": options.mpp}.items() if value is not None}
    command = [sys.executable, "-c", "from wsipsm.cli.start import main; main()", "run", str(slide)]
    return [*command, "--out", str(folder / "out"), *(str(word) for pair in given.items() for word in pair)]


@needs_proc
def test_what_a_plain_image_takes_while_it_is_decoded_is_projected(tmp_path: Path) -> None:
    small, large = (peak_of_opening(tmp_path / f"{side}.png", side) for side in (10, 5000))
    without, whole = (project_budget(64, 0, 64, 0, 0.0, n_px) for n_px in (0, 5000 * 5000))
    more = whole.client_bytes - without.client_bytes
    assert more / 3 <= large - small <= more
    assert whole.worker_bytes > without.worker_bytes


def peak_of_opening(path: Path, side: int) -> int:
    """Draw a plain image with alpha and open it in a process of its own."""
    Image.fromarray(np.full((side, side, 4), 240, np.uint8)).save(path, compress_level=1)
    code = f"from wsipsm.slide.open import open_slide; open_slide({str(path)!r}, 0.5)"
    return peaks([sys.executable, "-c", code], path.with_suffix(".txt"))[0]
