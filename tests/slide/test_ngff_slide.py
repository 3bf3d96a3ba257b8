"""OME-NGFF through tiatoolbox, where that is installed; what is said where it is not."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from wsipsm.errors import SlideOpenError
from wsipsm.geometry import Box
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import read_thumbnail


def write_ngff(path: Path, pixels: np.ndarray) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for level, step in enumerate((1, 2)):
        part = pixels[::step, ::step]
        array = group.create_array(str(level), shape=part.shape, chunks=(128, 128, 3), dtype="uint8")
        array[:] = part
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"] + [{"name": "c", "type": "channel"}]
    scales = [[0.25, 0.25, 1], [0.5, 0.5, 1]]
    datasets = [
        {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for level, scale in enumerate(scales)
    ]
    group.attrs.update(
        {
            "name": "drawn",
            "version": "1",
            "multiscales": [{"version": "0.4", "axes": axes, "datasets": datasets}],
            "omero": {
                "id": 1,
                "name": "drawn",
                "version": "0.4",
                "channels": [],
                "rdefs": {"defaultT": 0, "defaultZ": 0, "model": "color"},
            },
        }
    )


@pytest.mark.filterwarnings("ignore")
def test_ngff_levels(tmp_path: Path) -> None:
    for module in ("tiatoolbox", "matplotlib", "SimpleITK"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed; scripts/install-tiatoolbox adds it")
    pixels = np.random.default_rng(0).integers(0, 256, (300, 420, 3), dtype=np.uint8)
    write_ngff(tmp_path / "slide.zarr", pixels)
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    with open_slide(tmp_path / "slide.zarr") as slide:
        assert (logging.getLogger().handlers, logging.getLogger().level) == (handlers, level)
        assert slide.info.reader == "tiatoolbox"
        assert slide.info.mpp == 0.25
        assert [(size.width, size.height) for size in slide.info.level_sizes] == [(420, 300), (210, 150)]
        for index, step in enumerate((1, 2)):
            box = Box(100, 30, 90, 60)
            expected = pixels[::step, ::step][box.y : box.bottom, box.x : box.right]
            assert np.array_equal(slide.read_level(index, box), expected)
        assert read_thumbnail(slide, 105)[0].shape == (75, 105, 3)


def test_missing_tiatoolbox_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slide.zarr").mkdir()
    for module in ("tiatoolbox", "tiatoolbox.utils.exceptions", "tiatoolbox.wsicore.wsireader"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SlideOpenError, match=r"pip install --no-deps tiatoolbox==2\.1\.3"):
        open_slide(tmp_path / "slide.zarr")


@pytest.mark.filterwarnings("ignore")
def test_a_folder_that_is_no_ngff(tmp_path: Path) -> None:
    (tmp_path / "slide.zarr").mkdir()
    with pytest.raises(SlideOpenError, match="tiatoolbox"):
        open_slide(tmp_path / "slide.zarr")
