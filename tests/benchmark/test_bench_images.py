"""Images and label images: what is read, and the line that each kind of bad file gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from wsipsm.benchmark import images
from wsipsm.benchmark.images import check_pairs, list_files, list_names, read_label_png, read_rgb
from wsipsm.errors import UsageError

RGB = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_rgb_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    Image.fromarray(RGB).save(tmp_path / name)
    assert np.array_equal(read_rgb(tmp_path / name), RGB)


def test_opaque_alpha_is_dropped_and_transparency_refused(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "opaque.png")
    assert np.array_equal(read_rgb(tmp_path / "opaque.png"), RGB)
    rgba[3, 4, 3] = 200
    Image.fromarray(rgba).save(tmp_path / "clear.png")
    with pytest.raises(UsageError, match=r"clear\.png: has transparent pixels"):
        read_rgb(tmp_path / "clear.png")


def _truncated(path: Path) -> None:
    Image.fromarray(RGB).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BAD = {
    "empty.png": (lambda p: p.write_bytes(b""), "is empty"),
    "text.tif": (lambda p: p.write_text("no image at all"), "no image that can be read"),
    "half.png": (_truncated, "does not decode"),
    "half.tif": (_truncated, r"no image that can be read|does not decode|an image is needed"),
    "grey.png": (lambda p: Image.fromarray(RGB[..., 0]).save(p), "a grey image"),
    "deep.png": (lambda p: p.write_bytes(_png16()), "more than 8 bits"),
    "deepgrey.png": (lambda p: Image.fromarray(RGB[..., 0].astype(np.uint16) * 256).save(p), "more than 8 bits"),
    "deep.tif": (lambda p: tifffile.imwrite(p, RGB.astype(np.uint16) * 256), "8 bits|no image that can be read"),
    "print.tif": (lambda p: Image.fromarray(RGB).convert("CMYK").save(p), "pixels of kind CMYK"),
}


def _png16() -> bytes:
    import imagecodecs

    return bytes(imagecodecs.png_encode(RGB.astype(np.uint16) * 257))


@pytest.mark.parametrize("name", BAD)
def test_each_kind_of_bad_image_gets_its_line(tmp_path: Path, name: str) -> None:
    make, line = BAD[name]
    make(tmp_path / name)
    with pytest.raises(UsageError, match=line) as caught:
        read_rgb(tmp_path / name)
    assert name in str(caught.value)


def test_an_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.png.*No such file"):
        read_rgb(tmp_path / "gone.png")


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MAX_IMAGE_PX", 1000)
    with pytest.raises(UsageError, match="50 x 40 px; at most 1,000 px"):
        read_rgb(tmp_path / "a.png")


def test_labels_of_8_and_16_bit_come_back(tmp_path: Path) -> None:
    for kind in (np.uint8, np.uint16):
        labels = np.arange(2000, dtype=np.int32).reshape(40, 50) % (200 if kind is np.uint8 else 2000)
        Image.fromarray(labels.astype(kind)).save(tmp_path / "labels.png")
        assert np.array_equal(read_label_png(tmp_path / "labels.png"), labels)


def test_a_colour_picture_of_labels_is_refused(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "labels.png")
    with pytest.raises(UsageError, match="pixels of kind RGB; a label image"):
        read_label_png(tmp_path / "labels.png")


def test_files_are_listed_in_natural_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("10.png", "2.png", "0.PNG", "._2.png", "2.txt"):
        (tmp_path / name).touch()
    assert list(list_files(tmp_path, (".png",))) == ["0", "2", "10"]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.tif", "a.png"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"holds both a\.png and a\.tif"):
        list_files(tmp_path, (".png", ".tif"))


def test_unpaired_files_are_all_named_at_once(tmp_path: Path) -> None:
    pictures = {name: tmp_path / f"{name}.tif" for name in "abc"}
    annotations = {name: tmp_path / f"{name}.xml" for name in "bcde"}
    with pytest.raises(UsageError, match=r"no \.xml for a\.tif; no image for d\.xml, e\.xml"):
        check_pairs(tmp_path, pictures, annotations, ".xml")
    with pytest.raises(UsageError, match="holds no image"):
        check_pairs(tmp_path, {}, {}, ".xml")


def test_a_long_list_is_cut_and_counted() -> None:
    assert list_names(str(i) for i in range(20)).endswith("11 and 8 more")
