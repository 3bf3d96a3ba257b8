from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import shapely
from PIL import Image

from wsipsm.export.overview import COLOURS, OverviewCanvas, caption_px, write_overview
from wsipsm.instances.table import build_table
from wsipsm.keys import Column

PALE = np.full((400, 600, 3), 225, np.uint8)


def discs(centres: np.ndarray, radius: float, positive: np.ndarray | None) -> pa.Table:
    polygons = shapely.buffer(shapely.points(centres), radius)
    values = np.ones(len(centres), np.float32)
    measured = {Column.PROBABILITY: values, Column.HEMATOXYLIN_OD: values}
    if positive is not None:
        measured[Column.DAB_OD] = positive.astype(np.float32)
    return build_table(
        np.asarray(polygons, dtype=object),
        measured,
        mpp_px0=0.25,
        fingerprint="x",
        dab_cut_od=None if positive is None else 0.5,
    )


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def coloured(picture: np.ndarray, name: str) -> np.ndarray:
    return np.asarray(np.abs(picture - COLOURS[name]).sum(axis=-1) < 60)


def test_large_nuclei_are_outlined_where_they_lie(tmp_path: Path) -> None:
    table = discs(np.array([[200.0, 200.0], [800.0, 400.0]]), 40, np.array([True, False]))
    write_overview(tmp_path / "o.png", PALE, 2.0, [table], "two nuclei")
    picture = read(tmp_path / "o.png")
    left = (picture.shape[1] - 600) // 2
    image = picture[:400, left : left + 600]
    for name, (x, y) in {"Positive": (100, 100), "Negative": (400, 200)}.items():
        rows, columns = np.nonzero(coloured(image, name))
        assert (columns.min() + columns.max()) / 2 == pytest.approx(x - 0.5, abs=1)
        assert (rows.min() + rows.max()) / 2 == pytest.approx(y - 0.5, abs=1)
        assert np.ptp(columns) == pytest.approx(40, abs=3)
        assert not coloured(image, name)[y, x]  # an outline, not a blot
    assert picture[400:].min() < 80  # caption and legend below


@pytest.mark.parametrize("width", [300, 720, 2000])
def test_every_line_of_a_caption_is_drawn_and_a_long_one_cut(width: int, tmp_path: Path) -> None:
    ground = np.full((200, width, 3), 225, np.uint8)
    line = round(np.clip(max(width, 720) / 70, 14, 40) * 1.5)
    for n in (1, 2, 3):
        OverviewCanvas(ground, 2.0).save(tmp_path / "o.png", "\n".join(["w" * 400, "FLAG", "use"][:n]))
        strip = read(tmp_path / "o.png")[200:]
        assert len(strip) == caption_px(max(width, 720))
        drawn = [bool((part < 90).any()) for part in np.split(strip, range(line, len(strip), line))]
        assert sum(drawn) in (n, n + 1)
        assert strip[:, -4:].min() == 255


def test_small_nuclei_become_dots_beside_the_tissue(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centres = np.stack(np.meshgrid(np.arange(20, 580, 20), np.arange(20, 380, 20)), axis=-1).reshape(-1, 2) * 4.0
    positive = rng.random(len(centres)) < 0.3
    write_overview(tmp_path / "o.png", PALE, 4.0, [discs(centres, 8, positive)], "dots", mpp=0.25)
    picture = read(tmp_path / "o.png")
    assert picture.shape[0] > 2 * 400
    lower = picture[412:812]
    assert coloured(lower, "Negative").sum() > coloured(lower, "Positive").sum() > 200
    assert not coloured(picture[:400], "Negative").any()


def test_crowds_become_a_map_of_the_positive_share(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centres = rng.uniform((0, 0), (600, 400), (60_000, 2)) * 40
    positive = rng.random(60_000) < np.where(centres[:, 0] < 12_000, 0.02, 0.9)
    canvas = OverviewCanvas(PALE, 40.0)
    for part in np.array_split(np.arange(60_000), 3):
        canvas.add(discs(centres[part], 10, positive[part]))
    assert canvas.n_by_class == {"Positive": int(positive.sum()), "Negative": int((~positive).sum())}
    canvas.save(tmp_path / "o.png", "crowd")
    picture = read(tmp_path / "o.png")
    left = (picture.shape[1] - 600) // 2
    low, high = picture[500:700, left + 50 : left + 250], picture[500:700, left + 350 : left + 550]
    assert low[..., 2].mean() > low[..., 0].mean() + 50
    assert high[..., 0].mean() > high[..., 2].mean() + 50


def test_region_is_drawn_and_plain_nuclei_have_a_colour(tmp_path: Path) -> None:
    region = shapely.box(100, 100, 1100, 700).difference(shapely.box(400, 300, 500, 400))
    table = discs(np.array([[300.0, 200.0]]), 40, None)
    write_overview(tmp_path / "o.png", PALE, 2.0, [table], "region", region_outline=region)
    picture = read(tmp_path / "o.png")[:400]
    left = (picture.shape[1] - 600) // 2
    assert picture[200, left + 49 : left + 51].max() < 60
    assert picture[150, left + 205 : left + 245].min() < 60  # the hole's border
    assert coloured(picture, "Nucleus").any()


@pytest.mark.parametrize(
    ("n", "radius"), [(2, 40), (30, 2), (60_000, 2), (0, 2)], ids=["outlines", "dots", "heat", "none"]
)
def test_a_picture_that_cannot_be_written_into_is_left_as_it_was(n: int, radius: float, tmp_path: Path) -> None:
    """As the stored picture of a run is, on which a score draws its region."""
    ground = PALE.copy()
    ground.flags.writeable = False
    at = np.random.default_rng(0).uniform((100, 100), (1100, 700), (n, 2))
    tables = [discs(at, radius, np.arange(n) % 2 == 0)] if n else []
    region = shapely.box(40, 40, 1160, 760)
    write_overview(tmp_path / "o.png", ground, 2.0, tables, "drawn", region_outline=region)
    assert (ground == PALE).all()
    assert (read(tmp_path / "o.png").max(axis=-1) < 60).sum() > 2 * 500  # the region's outline


def test_nothing_found_still_gives_a_picture(tmp_path: Path) -> None:
    empty = discs(np.empty((0, 2)), 1, None)
    small = np.full((3, 5, 3), 200, np.uint8)
    write_overview(tmp_path / "o.png", small, 1.0, [empty], "no nuclei found in a very small slide " * 20, mpp=0.25)
    assert read(tmp_path / "o.png").shape[1] >= 720
    write_overview(tmp_path / "p.png", small, 1.0, [], "")
    assert (tmp_path / "p.png").is_file()
