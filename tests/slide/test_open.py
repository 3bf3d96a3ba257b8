"""Opening: what is said of each thing that is no slide, pixel sizes, fingerprints."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from wsipsm.errors import MissingMppError, SlideOpenError, SlideReadError, UnsupportedSlideError, UsageError
from wsipsm.geometry import Box
from wsipsm.slide.array import ArraySlide
from wsipsm.slide.fingerprint import fingerprint_slide
from wsipsm.slide.open import open_slide, require_mpp
from wsipsm.slide.pixel_size import choose_mpp, stated_mpp
from wsipsm.slide.reader import agree_mpp, parse_number, shrinking_levels

CMU1 = "real/aperio-jpeg-he-skin-cmu1-small-region.svs"


@pytest.mark.parametrize("mpp", [0.0, -0.25, 50.0, float("nan"), float("inf")])
def test_implausible_mpp_option(tmp_path: Path, mpp: float) -> None:
    with pytest.raises(UsageError, match="--mpp"):
        open_slide(tmp_path / "any.svs", mpp=mpp)


@pytest.mark.parametrize("mpp", [None, 28.97, 176.0, 1000.0, 0.01])
def test_missing_or_implausible_mpp_of_the_file(mpp: float | None) -> None:
    info = ArraySlide(np.zeros((4, 4, 3), np.uint8), mpp, "case.svs").info
    with pytest.raises(MissingMppError, match="--mpp") as caught:
        require_mpp(info)
    assert "case.svs" in str(caught.value)
    assert "no pixel size" in str(caught.value) if mpp is None else f"{mpp:g} um/px" in str(caught.value)


def test_plausible_mpp_passes() -> None:
    info = ArraySlide(np.zeros((4, 4, 3), np.uint8), 0.25).info
    assert require_mpp(info) == 0.25
    mpp, statements = choose_mpp(stated_mpp("Aperio metadata", 0.25, 0.5), given=None)
    uneven = replace(info, mpp=mpp, mpp_statements=statements)
    with pytest.raises(MissingMppError, match="not square"):
        require_mpp(uneven)


def test_agreement_of_both_axes() -> None:
    assert agree_mpp(0.25, 0.2502) == (pytest.approx(0.2501), None)
    assert agree_mpp(None, None) == (None, None)
    assert agree_mpp(0.0, float("inf")) == (None, None)
    assert agree_mpp(0.25, None) == (0.25, None)
    value, note = agree_mpp(0.25, 0.5)
    assert value is None
    assert note is not None
    assert "0.25 x 0.5" in note


@pytest.mark.parametrize(
    ("x", "y", "mean", "words"),
    [
        (0.25, 0.2524, 0.2512, None),
        (0.25, 0.2526, 0.2513, "0.25 x 0.2526 um"),
        (0.26, 0.25, 0.255, "0.26 x 0.25 um"),
        (0.25, 0.263, None, "0.25 x 0.263 um"),
        (0.25, 0.5, None, "not square"),
    ],
)
def test_pixels_that_are_not_quite_square_are_named(x: float, y: float, mean: float | None, words: str | None) -> None:
    value, note = agree_mpp(x, y)

    assert value == (None if mean is None else pytest.approx(mean))
    assert (words is None) == (note is None)
    assert words is None or words in str(note)


def test_numbers_in_metadata() -> None:
    assert parse_number(" 0,25 ") == 0.25
    assert [parse_number(text) for text in (None, "", "x", "nan", "inf", "1e999")] == [None] * 6


def test_levels_must_shrink() -> None:
    assert shrinking_levels([(100, 80), (100, 80), (50, 40), (60, 30), (25, 40), (0, 0)]) == [0, 2, 4]


def test_what_is_no_slide_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.svs").touch()
    (tmp_path / "label.vsi").write_bytes(b"II*\0")
    (tmp_path / "noise.svs").write_bytes(np.random.default_rng(0).bytes(2000))
    (tmp_path / "folder").mkdir()
    (tmp_path / "Data").mkdir()
    (tmp_path / "Data" / "Slidedat.ini").touch()
    for name, words in (
        ("missing.svs", "no such file"),
        ("empty.svs", "empty file"),
        ("label.vsi", "Olympus VSI"),
        ("folder", "folder without DICOM"),
        ("Data", ".mrxs"),
        ("noise.svs", "openslide: .*; tiff: .*; image: .*; tiatoolbox: "),
    ):
        with pytest.raises(SlideOpenError, match=words) as caught:
            open_slide(tmp_path / name)
        assert name in str(caught.value)


def test_the_broken_slides(slides_dir: Path) -> None:
    broken = slides_dir / "broken"
    for name, words in (
        ("empty.svs", "empty"),
        ("broken-random-bytes.svs", "a text file"),
        ("mirax-no-data-folder.mrxs", "data folder mirax-no-data-folder/"),
    ):
        with pytest.raises(SlideOpenError, match=words):
            open_slide(broken / name)
    with open_slide(broken / "unreadable-bad-jpeg-tile.svs") as slide:
        for _ in range(2):
            with pytest.raises(SlideReadError, match="level 0"):
                slide.read_level(0, Box(0, 0, 16, 16))
    with pytest.raises(SlideOpenError, match="VSI"):
        open_slide(slides_dir / "real" / "olympus-vsi-jp2k" / "vsi-ets-test-jpg2k.vsi")
    with pytest.raises(UnsupportedSlideError, match="fluorescence"):
        open_slide(slides_dir / "real" / "hamamatsu-ndpi-fluorescence-dapi-40x.ndpi")
    with pytest.raises(SlideOpenError, match="2 DICOM series"):
        open_slide(slides_dir / "real")


def test_lying_tag_is_seen_through(slides_dir: Path) -> None:
    box = Box(0, 0, 2202, 2202)
    with (
        open_slide(slides_dir / "broken" / "generic-tiff-ki67-rgb-tag-on-ycbcr-jpeg.tiff") as liar,
        open_slide(slides_dir / "derived" / "aperio-jpeg-ihc-ki67.svs") as honest,
    ):
        assert np.array_equal(liar.read_level(0, box), honest.read_level(0, box))
        assert "photometric" in liar.info.notes[0]


def test_lying_dicom_is_seen_through(slides_dir: Path) -> None:
    """Re-encoded pixels of CMU-1 with subsampled colour: near, where the raw reading is 40 grey levels off."""
    with (
        open_slide(slides_dir / "real" / "dicom-jpeg-he-cmu1-small-region") as dicom,
        open_slide(slides_dir / CMU1) as svs,
    ):
        assert len(dicom.info.level_sizes) == 12
        assert "photometric" in dicom.info.notes[0]
        box = Box(300, 300, 1500, 1500)
        apart = np.abs(dicom.read_level(0, box).astype(int) - svs.read_level(0, box))
        assert apart.mean() < 4
        assert np.abs(apart.mean(axis=(0, 1))).max() < 6


def test_one_bad_tile_and_the_handle_after_it(slides_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad-tile.svs"
    with tifffile.TiffFile(slides_dir / CMU1) as tif:
        offset, count = tif.pages[0].dataoffsets[25], tif.pages[0].databytecounts[25]
    data = bytearray((slides_dir / CMU1).read_bytes())
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    with open_slide(slides_dir / CMU1) as sound, open_slide(path) as slide:
        bad = Box(25 % 10 * 240 + 5, 25 // 10 * 240 + 5, 20, 20)
        good = Box(0, 0, 900, 470)
        for _ in range(2):
            with pytest.raises(SlideReadError, match="bad-tile"):
                slide.read_level(0, bad)
            assert np.array_equal(slide.read_level(0, good), sound.read_level(0, good))


@pytest.mark.parametrize(
    "name", [CMU1, "derived/ometiff-ihc-ki67-subifd-pyramid.ome.tif", "derived/mirax-ihc-ki67.mrxs"]
)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.8, 0.999])
def test_truncated_slides(slides_dir: Path, tmp_path: Path, name: str, part: float) -> None:
    source = slides_dir / name
    path = tmp_path / source.name
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    if source.suffix == ".mrxs":
        shutil.copytree(source.with_suffix(""), path.with_suffix(""), copy_function=shutil.copyfile)
        tiles = path.with_suffix("") / "Data0000.dat"
        tiles.parent.chmod(0o755)
        data = tiles.read_bytes()
        tiles.write_bytes(data[: int(len(data) * part)])
        path.write_bytes(source.read_bytes())

    def read_all() -> None:
        with open_slide(path) as slide:
            for y in range(0, slide.info.size.height, 512):
                slide.read_level(0, Box(0, y, slide.info.size.width, 512))

    with pytest.raises((SlideOpenError, SlideReadError), match=path.name):
        read_all()


def test_fingerprint_holds_every_file_of_a_slide(slides_dir: Path, tmp_path: Path) -> None:
    source = slides_dir / "derived" / "mirax-ihc-ki67.mrxs"
    path = tmp_path / "other.mrxs"
    shutil.copyfile(source, path)
    shutil.copytree(source.with_suffix(""), path.with_suffix(""), copy_function=shutil.copyfile)
    assert fingerprint_slide(path) == fingerprint_slide(source)
    tiles = path.with_suffix("") / "Data0000.dat"
    tiles.parent.chmod(0o755)
    whole = bytearray(tiles.read_bytes())
    whole[len(whole) // 3] ^= 1
    tiles.write_bytes(whole)
    assert fingerprint_slide(path) != fingerprint_slide(source)
    folder = slides_dir / "real" / "dicom-jpeg-he-cmu1-small-region"
    with open_slide(folder) as by_folder, open_slide(folder / "level-3-frames-0-1.dcm") as by_file:
        assert by_folder.info.fingerprint == by_file.info.fingerprint
        assert by_folder.info.level_sizes == by_file.info.level_sizes


def test_user_mpp_overrides_the_files(slides_dir: Path) -> None:
    with open_slide(slides_dir / CMU1) as stated, open_slide(slides_dir / CMU1, mpp=0.3) as given:
        assert stated.info.mpp == pytest.approx(0.499)
        assert given.info.mpp == 0.3
        assert stated.info.fingerprint == given.info.fingerprint
