"""What holds for every slide, whichever reader opens it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from wsipsm.errors import SlideReadError
from wsipsm.geometry import Box, Size
from wsipsm.slide.array import ArraySlide
from wsipsm.slide.base import Slide
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import read_box, read_thumbnail

DRAWN = ("array", "array-pyramid", "png", "jpg", "stripped.tif", "tiled.tif", "planar.tif", "pyramid.ome.tif")
REAL = (
    "real/aperio-jpeg-he-skin-cmu1-small-region.svs",
    "real/aperio-jp2k33003-ihc-dab-luna-1065626.svs",
    "real/aperio-jp2k33005-he-tcga-cr-7395-nompp.svs",
    "real/ometiff-ihc-ki67-os2-hamamatsu-crop.ome.tif",
    "real/ometiff-he-tma-core-instanseg.ome.tif",
    "real/dicom-jpeg-he-cmu1-small-region",
    "real/dicom-jpeg-he-camelyon-lowmag.dcm",
    "real/dicom-raw-he-highdicom-50px.dcm",
    "real/aperio-jpeg-16px-openslide-small.svs",
    "broken/generic-tiff-ki67-rgb-tag-on-ycbcr-jpeg.tiff",
    "derived/aperio-jp2k33003-444-ihc-ki67.svs",
    "derived/aperio-jpeg-ihc-ki67-nompp.svs",
    "derived/aperio-jpeg-ihc-ki67.svs",
    "derived/generic-tiff-ihc-ki67-pyramid.tiff",
    "derived/hamamatsu-ndpi-ihc-ki67.ndpi",
    "derived/leica-scn-ihc-ki67.scn",
    "derived/mirax-ihc-ki67.mrxs",
    "derived/ometiff-ihc-ki67-subifd-pyramid.ome.tif",
    "derived/philips-tiff-ihc-ki67.tiff",
    "derived/ventana-bif-ihc-ki67-overlaps.bif",
    "derived/ventana-tif-ihc-ki67.tif",
)


def draw(kind: str, folder: Path) -> Slide:
    pixels = np.random.default_rng(5).integers(0, 256, (331, 403, 3), dtype=np.uint8)
    path = folder / f"drawn.{kind}"
    if kind.startswith("array"):
        return ArraySlide(pixels, 0.25, n_levels=4 if kind == "array-pyramid" else 1)
    if kind in ("png", "jpg"):
        Image.fromarray(pixels).save(path)
    elif kind == "stripped.tif":
        tifffile.imwrite(path, pixels, rowsperstrip=13, compression="lzw", metadata=None)
    elif kind == "tiled.tif":
        tifffile.imwrite(path, pixels, tile=(96, 64), compression="deflate", byteorder=">", metadata=None)
    elif kind == "planar.tif":
        planes = np.moveaxis(pixels, 2, 0).copy()
        tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", tile=(96, 64), metadata=None)
    else:
        with tifffile.TiffWriter(path, ome=True) as writer:
            writer.write(pixels, subifds=1, tile=(96, 64), photometric="rgb", metadata={"axes": "YXS"})
            writer.write(pixels[::4, ::4], subfiletype=1, tile=(96, 64), photometric="rgb")
    return open_slide(path)


@pytest.fixture(scope="module", params=[*DRAWN, *REAL])
def slide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
    """Every reader, over drawn files and over every readable real one."""
    kind = request.param
    if kind in DRAWN:
        opened = draw(kind, tmp_path_factory.mktemp("drawn"))
    else:
        opened = open_slide(request.getfixturevalue("slides_dir") / kind)
    with opened:
        yield opened


def part(size: Size, width: int = 700, height: int = 600) -> Box:
    """A box in the middle of a level, no larger than stated."""
    width, height = min(width, size.width), min(height, size.height)
    return Box((size.width - width) // 2, (size.height - height) // 2, width, height)


def test_facts(slide: Slide) -> None:
    info = slide.info
    assert info.reader in ("openslide", "tiff", "image", "array")
    assert len(info.fingerprint) == 64
    assert info.level_sizes
    for larger, smaller in zip(info.level_sizes, info.level_sizes[1:], strict=False):
        assert smaller.width <= larger.width
        assert smaller.height <= larger.height
        assert smaller.area < larger.area
    assert info.downsample(0) == 1
    assert info.mpp is None or info.mpp > 0
    if info.bounds is not None:
        assert info.bounds.area > 0
        assert info.bounds.intersect(Box(0, 0, info.size.width, info.size.height)) == info.bounds


def test_shape_and_type_of_every_level(slide: Slide) -> None:
    for level, size in enumerate(slide.info.level_sizes):
        box = part(size, 300, 200)
        pixels = slide.read_level(level, box)
        assert pixels.shape == (box.height, box.width, 3)
        assert pixels.dtype == np.uint8
    assert slide.read_level(0, Box(0, 0, 0, 5)).shape == (5, 0, 3)


def test_outside_is_white(slide: Slide) -> None:
    for level, size in enumerate(slide.info.level_sizes):
        pixels = slide.read_level(level, Box(size.width - 8, size.height - 7, 30, 20))
        assert (pixels[7:] == 255).all()
        assert (pixels[:, 8:] == 255).all()
        corner = slide.read_level(level, Box(-9, -5, 20, 20))
        assert (corner[:5] == 255).all()
        assert (corner[:, :9] == 255).all()
        assert (slide.read_level(level, Box(size.width + 5, -90, 10, 10)) == 255).all()
        inside_of = Box(0, 0, min(11, size.width), min(15, size.height))
        assert np.array_equal(
            corner[5 : 5 + inside_of.height, 9 : 9 + inside_of.width], slide.read_level(level, inside_of)
        )


def test_a_part_of_a_read_is_the_read_of_the_part(slide: Slide) -> None:
    for level, size in enumerate(slide.info.level_sizes[:3]):
        box = part(size)
        whole = slide.read_level(level, box)
        for x, y in ((0, 0), (1, 3), (box.width // 3, box.height // 2)):
            width, height = max(1, min(257, box.width - x)), max(1, min(190, box.height - y))
            if x >= box.width or y >= box.height:
                continue
            small = slide.read_level(level, Box(box.x + x, box.y + y, width, height))
            assert np.array_equal(small, whole[y : y + height, x : x + width])


@pytest.mark.parametrize("scale", [0.6, 1.1010, 4.4])
def test_working_pixels_do_not_depend_on_their_box(slide: Slide, scale: float) -> None:
    size = slide.info.size
    box = part(Size(max(1, int(size.width / scale)), max(1, int(size.height / scale))), 300, 250)
    whole = read_box(slide, box, scale)
    for x, y in ((0, 0), (box.width // 2, box.height // 3), (box.width - 1, box.height - 1)):
        width, height = min(120, box.width - x), min(90, box.height - y)
        small = read_box(slide, Box(box.x + x, box.y + y, width, height), scale)
        assert np.array_equal(small, whole[y : y + height, x : x + width])


def test_thumbnail(slide: Slide) -> None:
    image, scale = read_thumbnail(slide, 256)
    assert max(image.shape[:2]) <= 256
    assert image.shape[1] * scale >= slide.info.size.width - 1e-6
    assert image.shape[0] * scale >= slide.info.size.height - 1e-6


def test_closed_slides_say_so(slides_dir: Path, tmp_path: Path) -> None:
    opened = [draw(kind, tmp_path) for kind in DRAWN]
    opened += [open_slide(slides_dir / name) for name in ("derived/aperio-jpeg-ihc-ki67.svs", REAL[3])]
    for one in opened:
        one.close()
        with pytest.raises(SlideReadError, match="closed"):
            one.read_level(0, Box(0, 0, 4, 4))
        one.close()


@pytest.mark.parametrize(
    ("name", "offset"),
    [
        ("derived/aperio-jpeg-ihc-ki67-nompp.svs", (0, 0)),
        ("derived/aperio-jpeg-ihc-ki67.svs", (0, 0)),
        ("derived/generic-tiff-ihc-ki67-pyramid.tiff", (0, 0)),
        ("derived/leica-scn-ihc-ki67.scn", (3082, 5284)),
        ("derived/philips-tiff-ihc-ki67.tiff", (0, 0)),
        ("derived/ventana-tif-ihc-ki67.tif", (0, 0)),
        ("broken/generic-tiff-ki67-rgb-tag-on-ycbcr-jpeg.tiff", (0, 0)),
    ],
)
def test_containers_of_the_same_stream_hold_the_same_pixels(
    slides_dir: Path, name: str, offset: tuple[int, int]
) -> None:
    with open_slide(slides_dir / REAL[3]) as source, open_slide(slides_dir / name) as derived:
        bounds = derived.info.bounds
        assert ((bounds.x, bounds.y) if bounds else (0, 0)) == offset
        assert np.array_equal(
            derived.read_level(0, Box(*offset, 2202, 2202)), source.read_level(0, Box(0, 0, 2202, 2202))
        )


@pytest.mark.parametrize(
    "name",
    [
        "derived/hamamatsu-ndpi-ihc-ki67.ndpi",
        "derived/mirax-ihc-ki67.mrxs",
        "derived/ometiff-ihc-ki67-subifd-pyramid.ome.tif",
        "derived/ventana-bif-ihc-ki67-overlaps.bif",
        "derived/aperio-jp2k33003-444-ihc-ki67.svs",
    ],
)
def test_encoded_again_the_pixels_stay_near(slides_dir: Path, name: str) -> None:
    """Containers whose tiles had to be cut anew: same place, same colours, the losses of one more encoding."""
    with open_slide(slides_dir / REAL[3]) as source, open_slide(slides_dir / name) as derived:
        x, y = (derived.info.bounds.x, derived.info.bounds.y) if derived.info.bounds else (0, 0)
        apart = np.abs(
            derived.read_level(0, Box(x, y, 1024, 1024)).astype(int) - source.read_level(0, Box(0, 0, 1024, 1024))
        )
        assert apart.mean() < 1.5
