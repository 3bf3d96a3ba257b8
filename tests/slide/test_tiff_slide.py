"""TIFF files written here, of every kind that is read or refused."""

from __future__ import annotations

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from wsipsm.codecs.jpeg_header import read_jpeg_header
from wsipsm.codecs.tile_grid import CACHE_BYTES
from wsipsm.errors import SlideError, SlideOpenError, SlideReadError, UnsupportedSlideError
from wsipsm.geometry import Box
from wsipsm.slide.open import open_slide
from wsipsm.slide.readers.tiff import TiffSlide, find_impossible_size


def noise(height: int = 300, width: int = 260, samples: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, samples), dtype=np.uint8)


def smooth(height: int = 300, width: int = 260) -> np.ndarray:
    """Brown and blue on white, smooth enough that JPEG keeps it."""
    y, x = np.mgrid[:height, :width] / 40.0
    red = 200 + 50 * np.sin(x)
    return np.stack((red, 180 + 40 * np.cos(y), 190 + 60 * np.sin(x + y)), axis=2).astype(np.uint8)


def whole(slide: TiffSlide, level: int = 0) -> np.ndarray:
    size = slide.info.level_sizes[level]
    return slide.read_level(level, Box(0, 0, size.width, size.height))


def set_tag(path: Path, tag: str, value: int) -> None:
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages[0].tags[tag].overwrite(value)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rowsperstrip": 7},
        {"rowsperstrip": 50, "compression": "lzw"},
        {"compression": "deflate", "predictor": True, "tile": (64, 48)},
        {"compression": "zstd", "tile": (64, 48)},
        {"tile": (64, 48)},
    ],
    ids=lambda options: "-".join(map(str, options.values())) or "plain",
)
def test_lossless_layouts_come_back_as_written(
    tmp_path: Path, byteorder: str, bigtiff: bool, options: dict[str, object]
) -> None:
    pixels, path = noise(), tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, byteorder=byteorder, bigtiff=bigtiff, metadata=None, **options)
    with TiffSlide(path) as slide:
        assert np.array_equal(whole(slide), pixels)
        assert np.array_equal(slide.read_level(0, Box(50, 60, 150, 200)), pixels[60:260, 50:200])


@pytest.mark.parametrize("options", [{}, {"compression": "deflate", "tile": (64, 48)}, {"rowsperstrip": 11}])
def test_separate_sample_planes(tmp_path: Path, options: dict[str, object]) -> None:
    pixels, path = noise(), tmp_path / "a.tif"
    planes = np.moveaxis(pixels, 2, 0).copy()
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", metadata=None, **options)
    with TiffSlide(path) as slide:
        assert np.array_equal(whole(slide), pixels)


def test_grey_inverted_palette_and_alpha(tmp_path: Path) -> None:
    grey = noise(samples=1)[..., 0]
    tifffile.imwrite(tmp_path / "grey.tif", grey, photometric="minisblack", metadata=None)
    tifffile.imwrite(tmp_path / "inverted.tif", grey, photometric="miniswhite", metadata=None)
    colours = np.random.default_rng(2).integers(0, 65536, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "palette.tif", grey, photometric="palette", colormap=colours, metadata=None)
    rgba = noise(samples=4)
    tifffile.imwrite(tmp_path / "rgba.tif", rgba, photometric="rgb", extrasamples=["unassalpha"], metadata=None)
    expected = {
        "grey": np.repeat(grey[..., None], 3, axis=2),
        "inverted": np.repeat(255 - grey[..., None], 3, axis=2),
        "palette": (colours >> 8).astype(np.uint8).T[grey],
        "rgba": np.rint(rgba[..., :3] * (rgba[..., 3:] / 255) + 255 - rgba[..., 3:].astype(float)).astype(np.uint8),
    }
    for name, pixels in expected.items():
        with TiffSlide(tmp_path / f"{name}.tif") as slide:
            assert np.abs(whole(slide).astype(int) - pixels).max() <= (1 if name == "rgba" else 0), name


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "palette", "rgb"])
def test_a_tile_that_the_file_leaves_out_is_white(tmp_path: Path, photometric: str) -> None:
    pixels, path = noise(64, 128, 3 if photometric == "rgb" else 1).squeeze(), tmp_path / "a.tif"
    colours = np.zeros((3, 256), np.uint16) if photometric == "palette" else None
    tifffile.imwrite(
        path, pixels, tile=(64, 64), metadata=None, compression="deflate", photometric=photometric, colormap=colours
    )
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags["TileByteCounts"].overwrite((0, tif.pages.first.databytecounts[1]))
    with TiffSlide(path) as slide:
        shown = whole(slide)
    assert (shown[:, :64] == 255).all()
    assert not (shown[:, 64:] == 255).all()


@pytest.mark.parametrize(("tag", "stream"), [("rgb", "ycbcr"), ("ycbcr", "ycbcr"), ("rgb", "rgb"), ("ycbcr", "rgb")])
def test_colours_are_right_whatever_the_tag_says(tmp_path: Path, tag: str, stream: str) -> None:
    """A JPEG file that states its own colours, put into a TIFF whose tag agrees or lies."""
    pixels, path = smooth(256, 256), tmp_path / "a.tif"
    if stream == "ycbcr":
        Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=98, subsampling=0)
    else:
        Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=98, keep_rgb=True)
    data = (tmp_path / "a.jpg").read_bytes()
    assert read_jpeg_header(data).colour == stream
    tifffile.imwrite(
        path, iter([data]), shape=pixels.shape, dtype=np.uint8, tile=(256, 256), compression="jpeg", photometric="rgb",
        metadata=None,
    )  # fmt: skip
    set_tag(path, "PhotometricInterpretation", {"rgb": 2, "ycbcr": 6}[tag])
    with open_slide(path) as slide:
        assert np.abs(whole(slide).astype(int) - pixels).mean() < 2
        assert bool(slide.info.notes) == (tag != stream)


@pytest.mark.parametrize(("planar", "n_colours"), [("contig", 3), ("contig", 1), ("separate", 3)])
@pytest.mark.parametrize("options", [{"tile": (64, 48)}, {"rowsperstrip": 20, "compression": "deflate"}, {}])
@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha", "unspecified"])
def test_alpha_is_laid_over_white_as_it_was_stored(
    tmp_path: Path, planar: str, n_colours: int, options: dict[str, object], kind: str
) -> None:
    colours, alpha = noise(samples=n_colours), noise(samples=1)[::-1]
    share = alpha / 255.0
    stored = np.rint(colours * share).astype(np.uint8) if kind == "assocalpha" else colours
    rgba = np.ascontiguousarray(np.concatenate((stored, alpha), axis=2))
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        np.moveaxis(rgba, 2, 0) if planar == "separate" else rgba,
        photometric="rgb" if n_colours == 3 else "minisblack",
        planarconfig=planar,
        extrasamples=[kind],
        metadata=None,
        **options,
    )

    with TiffSlide(path) as slide:
        found = whole(slide).astype(float)

    right = colours if kind == "unspecified" else colours * share + 255 * (1 - share)
    assert np.abs(found - right).max() <= 1


def test_ome_pyramid_in_sub_ifds(tmp_path: Path) -> None:
    pixels, path = noise(512, 640), tmp_path / "a.ome.tif"
    metadata = {"axes": "YXS", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(pixels, subifds=2, tile=(128, 128), photometric="rgb", compression="deflate", metadata=metadata)
        for step in (2, 4):
            writer.write(pixels[::step, ::step], subfiletype=1, tile=(128, 128), photometric="rgb")
    with open_slide(path) as slide:
        assert slide.info.reader == "tiff"
        assert slide.info.mpp == pytest.approx(0.25)
        assert [size.width for size in slide.info.level_sizes] == [640, 320, 160]
        assert np.array_equal(whole(slide, 2), pixels[::4, ::4])


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "words"),
    [
        ((4, 64, 64), np.uint8, {"ome": True, "metadata": {"axes": "CYX"}}, "4 separate channels"),
        ((64, 64), np.uint8, {"ome": True, "metadata": {"axes": "YX"}}, "one grey channel"),
        ((3, 64, 64, 3), np.uint8, {"ome": True, "metadata": {"axes": "ZYXS"}, "photometric": "rgb"}, "several planes"),
        ((64, 64), np.uint16, {"metadata": None, "tile": (64, 64)}, "uint16"),
        ((64, 64, 3), np.float32, {"metadata": None, "photometric": "rgb"}, "float32"),
    ],
)
def test_what_is_no_brightfield_rgb_is_refused_by_name(
    tmp_path: Path, shape: tuple[int, ...], dtype: type, options: dict[str, object], words: str
) -> None:
    path = tmp_path / ("a.ome.tif" if options.get("ome") else "a.tif")
    tifffile.imwrite(path, np.zeros(shape, dtype), **options)
    with pytest.raises(UnsupportedSlideError, match=words):
        open_slide(path)


def test_resolution_tags_are_read_with_their_unit(tmp_path: Path) -> None:
    for name, resolution, unit, mpp in (
        ("fine", (40_000, 40_000), "CENTIMETER", 0.25),
        ("print", (300, 300), "INCH", 25_400 / 300),
        ("uneven", (40_000, 20_000), "CENTIMETER", None),
        ("none", (1, 1), "NONE", None),
    ):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, noise(), resolution=resolution, resolutionunit=unit, metadata=None)
        with open_slide(path) as slide:
            assert slide.info.mpp == (None if mpp is None else pytest.approx(mpp)), name


def test_a_cut_file_is_refused_when_opened(tmp_path: Path) -> None:
    for name, options in (("raw", {}), ("tiled", {"tile": (64, 64), "compression": "deflate"})):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, noise(), metadata=None, **options)
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(SlideOpenError, match=r"cut short|damaged"):
            open_slide(path)


def test_one_bad_tile_does_not_spoil_the_others(tmp_path: Path) -> None:
    pixels, path = noise(), tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, tile=(64, 64), compression="deflate", metadata=None)
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].dataoffsets[6]
    data = bytearray(path.read_bytes())
    data[offset : offset + 40] = bytes(40)
    path.write_bytes(data)
    with open_slide(path) as slide:
        with pytest.raises(SlideReadError, match="tile 1, 1"):
            slide.read_level(0, Box(0, 0, 260, 300))
        assert np.array_equal(slide.read_level(0, Box(128, 0, 132, 300)), pixels[:, 128:])


def test_missing_tiles_are_white(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tiles = [noise(64, 64), None, None, noise(64, 64)]
    tifffile.imwrite(
        path, iter(tiles), shape=(128, 128, 3), dtype=np.uint8, tile=(64, 64), compression="deflate",
        photometric="rgb", metadata=None,
    )  # fmt: skip
    with TiffSlide(path) as slide:
        assert (slide.read_level(0, Box(64, 0, 64, 64)) == 255).all()


def test_sizes_in_headers_are_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for tag, value in (("TileWidth", 1_000_000), ("ImageWidth", 1_000_000), ("ImageLength", 2_000_000_000)):
        tifffile.imwrite(path, noise(), tile=(1024, 1024), compression="deflate", metadata=None, photometric="rgb")
        set_tag(path, tag, value)
        with pytest.raises(SlideError, match=r"\d"):
            open_slide(path)
    tifffile.imwrite(path, noise(), tile=(1024, 1024), metadata=None)
    set_tag(path, "TileWidth", 1_000_000)
    assert "1000000" in (find_impossible_size(path) or "")


def test_a_tile_larger_than_its_place_is_not_decoded(tmp_path: Path) -> None:
    """The JPEG says 16384 x 16384; the header of the TIFF says 64 x 64."""
    path = tmp_path / "a.tif"
    data = bytearray(imagecodecs.jpeg8_encode(smooth(64, 64)))
    frame = data.find(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 16384, 16384)
    tifffile.imwrite(
        path, iter([bytes(data)]), shape=(64, 64, 3), dtype=np.uint8, tile=(64, 64), compression="jpeg",
        photometric="ycbcr", metadata=None,
    )  # fmt: skip
    with TiffSlide(path) as slide, pytest.raises(SlideReadError, match="16384"):
        whole(slide)


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.zeros((6000, 4096, 3), np.uint8)
    tifffile.imwrite(path, pixels, tile=(512, 512), compression="deflate", metadata=None)
    with TiffSlide(path) as slide:
        whole(slide)
        assert 0 < slide._tiles.kept_bytes <= CACHE_BYTES


def test_jpeg_tables_decide_nothing_and_the_tag_everything_for_aperio(slides_dir: Path) -> None:
    """CMU-1: RGB without any marker; decoded here it must equal what OpenSlide shows."""
    path = slides_dir / "real" / "aperio-jpeg-he-skin-cmu1-small-region.svs"
    with TiffSlide(path) as ours, open_slide(path) as theirs:
        assert theirs.info.reader == "openslide"
        box = Box(500, 700, 700, 600)
        assert np.array_equal(ours.read_level(0, box), theirs.read_level(0, box))
        assert ours.info.mpp == theirs.info.mpp
        assert ours.info.objective_power == theirs.info.objective_power


@pytest.mark.parametrize(
    ("name", "difference"),
    [
        ("real/aperio-jp2k33005-he-tcga-cr-7395-nompp.svs", 0),
        ("real/aperio-jp2k33003-ihc-dab-luna-1065626.svs", 1),
        ("derived/aperio-jp2k33003-444-ihc-ki67.svs", 1),
        ("derived/aperio-jpeg-ihc-ki67.svs", 0),
    ],
)
def test_decoded_tiles_equal_openslide(slides_dir: Path, name: str, difference: int) -> None:
    with TiffSlide(slides_dir / name) as ours, open_slide(slides_dir / name) as theirs:
        assert theirs.info.reader == "openslide"
        box = Box(300, 200, 600, 700)
        apart = np.abs(ours.read_level(0, box).astype(int) - theirs.read_level(0, box)).max()
        assert apart <= difference
