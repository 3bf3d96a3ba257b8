"""Which of several images in a file is the slide, what is said of the others, and how one is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from drawn_images import data, flat, ome, part, write_pages

from wsipsm.errors import UnsupportedSlideError, UsageError
from wsipsm.geometry import Box, Size
from wsipsm.slide.base import SlideImage
from wsipsm.slide.images import choose_image
from wsipsm.slide.open import open_slide

SMALL, LARGE = flat(128, 96, 10), flat(256, 192, 200)


def opened(path: Path, image: int | None = None) -> tuple[tuple[int, int], int, str]:
    """Size of the slide, red of its first pixel, and its notes."""
    with open_slide(path, image=image) as slide:
        size = slide.info.size
        return (size.width, size.height), int(slide.read_level(0, Box(0, 0, 8, 8))[0, 0, 0]), " ".join(slide.info.notes)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("n_levels", [1, 2])
@pytest.mark.parametrize("is_ome", [True, False])
def test_the_larger_scene_is_the_slide_and_the_other_is_named(
    tmp_path: Path, order: tuple[int, int], n_levels: int, is_ome: bool
) -> None:
    pages = [(SMALL, LARGE)[place] for place in order]
    xml = ome([part(page.shape[1], page.shape[0], data(place), f"s{place}") for place, page in enumerate(pages)])
    path = write_pages(tmp_path / "a.ome.tif", pages, xml if is_ome else None, n_levels)

    size, red, notes = opened(path)

    assert (size, red) == ((256, 192), 200)
    assert "128 x 96 px" in notes
    assert "--image" in notes
    small = order.index(0) + 1
    assert opened(path, small)[:2] == ((128, 96), 10)
    assert opened(path, 3 - small)[:2] == ((256, 192), 200)
    with pytest.raises(UsageError, match=r"--image 3: .*holds image 1 .*image 2"):
        opened(path, 3)


def test_levels_and_pixel_size_are_those_of_the_chosen_image(tmp_path: Path) -> None:
    xml = ome([part(128, 96, data(0), mpp=0.25), part(256, 192, data(1), mpp=0.5)])
    path = write_pages(tmp_path / "a.ome.tif", [SMALL, LARGE], xml, n_levels=2)

    for image, mpp, sizes in ((1, 0.25, [(128, 96), (64, 48)]), (2, 0.5, [(256, 192), (128, 96)])):
        with open_slide(path, image=image) as slide:
            assert slide.info.mpp == mpp
            assert [(size.width, size.height) for size in slide.info.level_sizes] == sizes
            np.testing.assert_array_equal(
                slide.read_level(1, Box(0, 0, 40, 40)), (SMALL, LARGE)[image - 1][::2, ::2][:40, :40]
            )


def test_two_images_of_one_size_have_their_own_pixel_sizes(tmp_path: Path) -> None:
    other = flat(128, 96, 77)
    xml = ome([part(128, 96, data(0), "a", 0.25), part(128, 96, data(1), "b", 0.5)])
    path = write_pages(tmp_path / "a.ome.tif", [SMALL, other], xml)

    for image, mpp, red in ((None, 0.25, 10), (1, 0.25, 10), (2, 0.5, 77)):
        with open_slide(path, image=image) as slide:
            assert slide.info.mpp == mpp
            assert slide.read_level(0, Box(0, 0, 1, 1))[0, 0, 0] == red


@pytest.mark.parametrize("opens", ["a.ome.tif", "b.ome.tif"])
@pytest.mark.parametrize(("with_own_id", "is_renamed"), [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("other_is_there", [True, False])
def test_images_of_another_file_are_never_read(
    tmp_path: Path, opens: str, with_own_id: bool, is_renamed: bool, other_is_there: bool
) -> None:
    parts = [part(128, 96, data(0, "a.ome.tif", 1), "a"), part(256, 192, data(0, "b.ome.tif", 2), "b")]
    for number, (name, page) in enumerate((("a.ome.tif", SMALL), ("b.ome.tif", LARGE)), start=1):
        if name == opens or other_is_there:
            # A page that another file's page number would lead to.
            pages = [page, flat(256, 192, 111)]
            write_pages(tmp_path / name, pages, ome(parts, number if with_own_id else None))
    path = tmp_path / opens
    if is_renamed:
        path = path.rename(tmp_path / "moved.ome.tif")

    size, red, notes = opened(path)

    assert (size, red) == (((128, 96), 10) if opens.startswith("a") else ((256, 192), 200))
    assert ("b.ome.tif" if opens.startswith("a") else "a.ome.tif") in notes


def test_a_file_whose_images_all_lie_elsewhere_is_refused_by_name(tmp_path: Path) -> None:
    xml = ome([part(256, 192, data(0, "b.ome.tif", 2))], own=1)
    path = write_pages(tmp_path / "a.ome.tif", [SMALL], xml)

    with pytest.raises(UnsupportedSlideError, match=r"a\.ome\.tif: .*Name one of b\.ome\.tif"):
        opened(path)


def test_an_image_of_which_a_part_lies_elsewhere_is_left_out(tmp_path: Path) -> None:
    split = part(256, 192, data(0) + data(0, "b.ome.tif", 2), "split")
    path = write_pages(tmp_path / "a.ome.tif", [LARGE, SMALL], ome([split, part(128, 96, data(1), "whole")], own=1))

    size, red, notes = opened(path)

    assert (size, red) == ((128, 96), 10)
    assert "'split', (256 x 192 px)" in notes


def test_a_file_that_is_only_pixels_is_refused_with_the_name_of_its_description(tmp_path: Path) -> None:
    xml = ome(['<BinaryOnly MetadataFile="set.companion.ome" UUID="urn:uuid:1"/>'], own=1)
    path = write_pages(tmp_path / "a.ome.tif", [SMALL], xml)

    with pytest.raises(UnsupportedSlideError, match=r"set\.companion\.ome"):
        opened(path)


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("label", [(90, 70), (300, 400)])
def test_a_label_page_first_is_no_slide(tmp_path: Path, marked: bool, label: tuple[int, int]) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(flat(*label, 5), photometric="rgb", metadata=None)
        for level in range(3):
            page = np.ascontiguousarray(LARGE[:: 2**level, :: 2**level])
            kind = 1 if marked and level else 0
            writer.write(page, photometric="rgb", tile=(64, 64), metadata=None, subfiletype=kind)

    size, red, notes = opened(path)

    assert (size, red) == ((256, 192), 200)
    assert f"{label[0]} x {label[1]} px" in notes
    assert opened(path, 1)[:2] == (label, 5)


def test_a_label_of_the_slides_shape_is_not_its_first_level(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(flat(512, 384, 5), photometric="rgb", metadata=None)
        for level in range(3):
            page = np.ascontiguousarray(LARGE[:: 2**level, :: 2**level])
            writer.write(page, photometric="rgb", tile=(64, 64), metadata=None, subfiletype=1 if level else 0)

    assert opened(path)[:2] == ((256, 192), 200)


@pytest.mark.parametrize("name", ["label", "Macro image", "thumbnail", "OVERVIEW"])
def test_a_named_picture_is_no_slide_however_large(tmp_path: Path, name: str) -> None:
    xml = ome([part(256, 192, data(0), name), part(128, 96, data(1), "scan")])
    path = write_pages(tmp_path / "a.ome.tif", [LARGE, SMALL], xml)

    size, red, notes = opened(path)

    assert (size, red) == ((128, 96), 10)
    assert f"'{name}' (256 x 192 px)" in notes


def test_pages_of_one_size_are_chosen_by_number_only(tmp_path: Path) -> None:
    path = write_pages(tmp_path / "a.tif", [SMALL, flat(128, 96, 77)], n_levels=2)

    with pytest.raises(UnsupportedSlideError, match=r"2 pages of one size.*--image N"):
        opened(path)
    assert opened(path, 1)[:2] == ((128, 96), 10)
    assert opened(path, 2)[:2] == ((128, 96), 77)


def test_a_file_of_one_image_has_no_second(tmp_path: Path) -> None:
    path = write_pages(tmp_path / "a.tif", [SMALL], n_levels=2)

    assert opened(path, 1) == ((128, 96), 10, opened(path)[2])
    with pytest.raises(UsageError, match="--image 2"):
        opened(path, 2)


def test_hostile_descriptions_do_no_harm(tmp_path: Path) -> None:
    parts = [
        part(128, 96, data(99), "far"),
        part(128, 96, data(0), "\u202e&#x9b;31m"),
        "<Image/>",
        "<Image><Pixels/></Image>",
    ]
    path = write_pages(tmp_path / "a.ome.tif", [SMALL, LARGE], ome(parts))

    size, red, notes = opened(path)

    assert (size, red) == ((128, 96), 10)
    assert not set(notes) & {"\u202e", "\x9b"}


def test_the_rule() -> None:
    images = [SlideImage("macro", Size(900, 900)), SlideImage("", Size(800, 10), 2), SlideImage("", Size(800, 20), 3)]

    assert choose_image(images, None, Path("a")) == 3
    assert choose_image(images[:1], None, Path("a")) == 1
    assert choose_image([*images, SlideImage("", Size(800, 20), 3)], None, Path("a")) == 3
