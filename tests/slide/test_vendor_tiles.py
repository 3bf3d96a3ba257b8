"""Tiles of vendors' slides that are decoded without OpenSlide are what OpenSlide shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from wsipsm.codecs.rgb import compose_over_white
from wsipsm.errors import SlideReadError
from wsipsm.geometry import Box, Size
from wsipsm.slide.open import open_slide
from wsipsm.slide.readers import ndpi
from wsipsm.slide.readers.openslide import OpenSlideSlide
from wsipsm.slide.readers.vendor_tiles import VendorTiles, keep_agreeing_levels, open_vendor_tiles

CMU1 = "real/aperio-jpeg-he-skin-cmu1-small-region.svs"
KI67 = "derived/aperio-jpeg-ihc-ki67.svs"
NDPI = "derived/hamamatsu-ndpi-ihc-ki67.ndpi"
PHILIPS = "derived/philips-tiff-ihc-ki67.tiff"
FLUORESCENCE = "real/hamamatsu-ndpi-fluorescence-dapi-40x.ndpi"


def shown(handle: openslide.OpenSlide, level: int, size: Size) -> np.ndarray:
    """A whole level as OpenSlide shows it; from its corner, where no downsample moves it."""
    return compose_over_white(np.asarray(handle.read_region((0, 0), level, (size.width, size.height))))


@pytest.mark.parametrize(
    ("name", "difference"),
    [
        (CMU1, 0),
        (KI67, 0),
        (PHILIPS, 0),
        (NDPI, 0),
        ("derived/aperio-jpeg-ihc-ki67-nompp.svs", 0),
        ("derived/aperio-jp2k33003-444-ihc-ki67.svs", 1),
        ("real/aperio-jpeg-16px-openslide-small.svs", 0),
        ("real/aperio-jp2k33005-he-tcga-cr-7395-nompp.svs", 0),
        pytest.param("real/aperio-jp2k33003-ihc-dab-luna-1065626.svs", 1, marks=pytest.mark.slow),
    ],
)
def test_all_pixels_of_levels_that_are_not_moved_equal_openslide(slides_dir: Path, name: str, difference: int) -> None:
    path = slides_dir / name
    with OpenSlideSlide(path) as slide, openslide.OpenSlide(path) as handle:
        slide.read_level(0, Box(0, 0, 1, 1))
        assert slide._tiles is not None
        whole = [level for level, step in enumerate(handle.level_downsamples) if step == round(step)]
        assert sorted(slide._tiles.grids) == whole
        for level in whole:
            size = slide.info.level_sizes[level]
            ours = slide.read_level(level, Box(0, 0, size.width, size.height))
            assert np.abs(ours.astype(np.int16) - shown(handle, level, size)).max() <= difference, level


def test_a_real_ndpi_by_the_places_of_its_markers(slides_dir: Path) -> None:
    """The one of which the file itself states where restart intervals begin; fluorescence, so no slide of ours."""
    path = slides_dir / FLUORESCENCE
    with openslide.OpenSlide(path) as handle:
        sizes = [Size(*size) for size in handle.level_dimensions]
        tiles = open_vendor_tiles(path, "hamamatsu", sizes, range(len(sizes)))
        assert tiles is not None
        assert len(tiles.grids) == len(sizes) == 7
        for level, size in enumerate(sizes):
            assert np.array_equal(tiles.read(level, Box(0, 0, size.width, size.height)), shown(handle, level, size))
        tiles.close()


@pytest.mark.parametrize(
    "name", ["leica-scn-ihc-ki67.scn", "ventana-tif-ihc-ki67.tif", "ventana-bif-ihc-ki67-overlaps.bif"]
)
def test_other_layouts_are_left_to_openslide(slides_dir: Path, name: str) -> None:
    with OpenSlideSlide(slides_dir / "derived" / name) as slide:
        slide.read_level(0, Box(0, 0, 9, 9))
        assert slide._tiles is None


def spoil(source: Path, target: Path, index: int, how: str) -> Box:
    """Copy a slide and damage one tile of its first page; its place."""
    with tifffile.TiffFile(source) as tif:
        page = tif.pages[0]
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        row, column = divmod(index, -(-page.imagewidth // page.tilewidth))
        place = Box(column * page.tilewidth, row * page.tilelength, page.tilewidth, page.tilelength)
    data = bytearray(source.read_bytes())
    if how == "cut":
        data[offset + count // 2 : offset + count] = bytes(count - count // 2)
    elif how == "zeros":
        data[offset : offset + count] = bytes(count)
    elif how == "noise":
        noise = np.random.default_rng(index).integers(0, 256, count // 4, dtype=np.uint8).tobytes()
        data[offset + count // 2 : offset + count // 2 + len(noise)] = noise
    target.write_bytes(data)
    if how == "missing":
        with tifffile.TiffFile(target, mode="r+b") as tif:
            counts = list(tif.pages[0].databytecounts)
            counts[index] = 0
            tif.pages[0].tags["TileByteCounts"].overwrite(counts)
    return place


@pytest.mark.parametrize("how", ["cut", "zeros", "noise", "missing"])
@pytest.mark.parametrize(
    "name", [CMU1, KI67, PHILIPS, "real/aperio-jp2k33005-he-tcga-cr-7395-nompp.svs"]
)  # fmt: skip
def test_a_spoiled_tile_is_what_openslide_makes_of_it(slides_dir: Path, tmp_path: Path, name: str, how: str) -> None:
    path = tmp_path / Path(name).name
    place = spoil(slides_dir / name, path, 7, how)
    with openslide.OpenSlide(path) as handle:
        try:
            theirs = compose_over_white(
                np.asarray(handle.read_region((place.x, place.y), 0, (place.width, place.height)))
            )
        except openslide.OpenSlideError:
            theirs = None
    with open_slide(path) as slide, open_slide(slides_dir / name) as sound:
        whole = Box(0, 0, slide.info.size.width, slide.info.size.height)
        try:
            ours = slide.read_level(0, place)
        except SlideReadError:
            ours = None
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert np.array_equal(ours, theirs)
        beside = Box(place.x, place.bottom, place.width, place.height).intersect(whole)
        assert np.array_equal(slide.read_level(0, beside), sound.read_level(0, beside))


def test_a_level_that_openslide_shows_differently_is_left_to_it(slides_dir: Path) -> None:
    path = slides_dir / KI67
    with open_slide(path) as slide:
        sizes = slide.info.level_sizes
        tiles = open_vendor_tiles(path, "aperio", sizes, range(len(sizes)))
        assert isinstance(tiles, VendorTiles)

        def read(level: int, box: Box) -> np.ndarray:
            if level == 0:
                return slide.read_level(level, box)
            raise SlideReadError("a tile that does not decode")

        keep_agreeing_levels(tiles, sizes, (1.0, 4.0036), read)
        assert sorted(tiles.grids) == [0]
        keep_agreeing_levels(tiles, sizes, (1.0, 4.0036), lambda level, box: 255 - slide.read_level(level, box))
        assert not tiles.grids
        tiles.close()


def test_levels_that_are_not_openslides_are_left_to_it(slides_dir: Path) -> None:
    for name, vendor in ((KI67, "aperio"), (PHILIPS, "philips"), (NDPI, "hamamatsu")):
        with openslide.OpenSlide(slides_dir / name) as handle:
            sizes = [Size(*size) for size in handle.level_dimensions]
        assert open_vendor_tiles(slides_dir / name, vendor, sizes[:-1], range(len(sizes) - 1)) is None
        larger = [Size(size.width + 2000, size.height) for size in sizes]
        assert open_vendor_tiles(slides_dir / name, vendor, larger, range(len(sizes))) is None


def test_an_ndpi_whose_markers_are_not_where_they_belong(
    slides_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = slides_dir / NDPI
    with openslide.OpenSlide(path) as handle:
        sizes = [Size(*size) for size in handle.level_dimensions]
    data = bytearray(path.read_bytes())
    first = data.index(b"\xff\xd0", 2000)
    data[first : first + 2] = b"\x00\x00"
    spoiled = tmp_path / "a.ndpi"
    spoiled.write_bytes(data)
    assert open_vendor_tiles(spoiled, "hamamatsu", sizes, range(len(sizes))) is None
    monkeypatch.setattr(ndpi, "MAX_SCANNED_BYTES", 1000)
    assert open_vendor_tiles(path, "hamamatsu", sizes, range(len(sizes))) is None
