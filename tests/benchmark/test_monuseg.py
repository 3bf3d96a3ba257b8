"""MoNuSeg's layouts, its XML, odd regions, and what the paper's protocol scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsipsm.benchmark.sets.monuseg import monuseg_images, paper_view
from wsipsm.errors import UsageError
from wsipsm.geometry import Size
from wsipsm.metrics import labels as labels_module
from wsipsm.metrics.labels import read_aperio_xml
from wsipsm.metrics.segmentation import aji, measure_overlap

SQUARE = [(5.5, 5.5), (15.5, 5.5), (15.5, 15.5), (5.5, 15.5)]


def aperio(*regions: list[tuple[float, float]]) -> str:
    told = "".join(
        "<Region><Vertices>" + "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in region) + "</Vertices></Region>"
        for region in regions
    )
    return f"<Annotations><Annotation><Regions>{told}</Regions></Annotation></Annotations>"


def write_set(pixels: Path, truth: Path, names: str = "ab", size: int = 40, kind: str = "xml") -> None:
    pixels.mkdir(parents=True, exist_ok=True)
    truth.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.full((size, size, 3), 200, np.uint8)).save(pixels / f"{name}.tif")
        if kind == "xml":
            (truth / f"{name}.xml").write_text(aperio(SQUARE))
        else:
            labels = np.zeros((size, size), np.uint16)
            labels[5:15, 5:15] = 1
            Image.fromarray(labels).save(truth / f"{name}.png")


LAYOUTS = {
    "official training": ("Tissue Images", "Annotations", "xml"),
    "official training, unpacked twice": ("M 2018/M 2018/Tissue Images", "M 2018/M 2018/Annotations", "xml"),
    "official test, flat": (".", ".", "xml"),
    "label images": ("images", "labels_png", "png"),
    "images and XML": ("images", "xml", "xml"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_truth(tmp_path: Path, layout: str) -> None:
    pixels, truth, kind = LAYOUTS[layout]
    write_set(tmp_path / pixels, tmp_path / truth, kind=kind)
    found = monuseg_images(tmp_path)
    assert [image.name for image in found] == ["a", "b"]
    expected = np.zeros((40, 40), np.int32)
    expected[5:15, 5:15] = 1
    for image in found:
        assert np.array_equal(image.truth, expected)
        assert image.rgb.shape == (40, 40, 3)
        assert image.size == Size(40, 40)
        assert image.notes == ()


def test_missing_and_extra_annotations_are_named_together(tmp_path: Path) -> None:
    write_set(tmp_path / "Tissue Images", tmp_path / "Annotations", "abc")
    (tmp_path / "Annotations" / "a.xml").rename(tmp_path / "Annotations" / "z.xml")
    with pytest.raises(UsageError, match=r"no annotation in Annotations for a\.tif; no image for z\.xml"):
        monuseg_images(tmp_path)


def test_label_images_of_another_size_are_named(tmp_path: Path) -> None:
    write_set(tmp_path / "images", tmp_path / "labels_png", "abc", kind="png")
    Image.fromarray(np.zeros((30, 40), np.uint16)).save(tmp_path / "labels_png" / "b.png")
    with pytest.raises(UsageError, match=r"another size than their image: b\.png \(40 x 30, image 40 x 40\)"):
        monuseg_images(tmp_path)


def test_an_unknown_layout_says_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"no layout of MoNuSeg \(found notes\.txt\)"):
        monuseg_images(tmp_path)


def test_a_binary_mask_is_no_truth(tmp_path: Path) -> None:
    write_set(tmp_path / "Tissue Images", tmp_path / "Annotations", "a", kind="png")
    mask = np.zeros((40, 40), np.uint8)
    mask[2:8, 2:8] = mask[20:30, 20:30] = 255
    Image.fromarray(mask).save(tmp_path / "Annotations" / "a.png")
    with pytest.raises(UsageError, match="a mask of one value"):
        monuseg_images(tmp_path)[0].truth  # noqa: B018


def test_odd_regions_are_drawn_or_dropped_and_counted(tmp_path: Path) -> None:
    write_set(tmp_path, tmp_path, "a")
    regions = [
        SQUARE,
        [(20.5, 5.5), (30.5, 15.5), (30.5, 5.5), (20.5, 15.5)],  # crosses itself: two triangles
        [(1.0, 1.0), (2.0, 1.0)],
        [],
        [(100, 100), (110, 100), (110, 110)],
        [(-30, -30), (-20, -30), (-20, -20)],
        [(25.6, 25.6), (25.7, 25.6), (25.7, 25.7)],  # no pixel's centre
        [(x, y) for x, y in SQUARE],  # under an earlier one
        [(35.5, 35.5), (60.5, 35.5), (60.5, 60.5), (35.5, 60.5)],  # cut at the edge, as is usual
    ]
    (tmp_path / "a.xml").write_text(aperio(*regions))
    (image,) = monuseg_images(tmp_path)
    assert image.truth.max() == 3
    assert (image.truth[35:, 35:] == 3).all()
    assert 40 <= (image.truth == 2).sum() <= 60
    assert image.notes == (
        "a.xml: of 9 regions 2 with fewer than three vertices, dropped; 2 outside the image, dropped; "
        "2 without a pixel of their own, dropped; 1 crossing themselves, drawn by parity.",
    )


BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><Annotations>&b;</Annotations>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]><Annotations>&f;</Annotations>'
BAD_XML = {
    "bomb": (BOMB, "declares a document type"),
    "other file": (OUTSIDE, "declares a document type"),
    "cut off": ("<Annotations><Region>", "no element found"),
    "empty": ("", "no element found"),
    "no number": (aperio([("a", 1), (2, 2), (3, 1)]), "X 'a' at line 1 is no number"),  # type: ignore[list-item]
    "not a number": (aperio([(float("nan"), 1), (2, 2), (3, 1)]), "is no pixel of any slide"),
    "far away": (aperio([(1e18, 1), (2, 2), (3, 1)]), "is no pixel of any slide"),
}


@pytest.mark.parametrize("kind", BAD_XML)
def test_bad_xml_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    text, line = BAD_XML[kind]
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(UsageError, match=line) as caught:
        read_aperio_xml(tmp_path / "a.xml")
    assert "a.xml" in str(caught.value)


def test_xml_without_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.xml").write_text(aperio(SQUARE))
    monkeypatch.setattr(labels_module, "MAX_XML_BYTES", 100)
    with pytest.raises(UsageError, match="at most"):
        read_aperio_xml(tmp_path / "a.xml")


def test_utf16_xml_is_read_and_its_entities_refused_too(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(('<?xml version="1.0" encoding="utf-16"?>' + aperio(SQUARE)).encode("utf-16"))
    assert [len(region) for region in read_aperio_xml(tmp_path / "a.xml")] == [4]
    (tmp_path / "a.xml").write_bytes(('<?xml version="1.0" encoding="utf-16"?>' + BOMB).encode("utf-16"))
    with pytest.raises(UsageError, match="declares a document type"):
        read_aperio_xml(tmp_path / "a.xml")


def test_the_paper_view_is_the_centre_with_touching_nuclei_merged(tmp_path: Path) -> None:
    write_set(tmp_path / "images", tmp_path / "labels_png", "a", size=600, kind="png")
    labels = np.zeros((600, 600), np.uint16)
    labels[100:110, 100:110], labels[110:120, 110:120] = 1, 2  # touch at a corner
    labels[300:310, 300:310], labels[0:40, 0:40] = 3, 4
    Image.fromarray(labels).save(tmp_path / "labels_png" / "a.png")
    view = paper_view(monuseg_images(tmp_path)[0])
    assert view.rgb.shape == (512, 512, 3)
    assert view.size == Size(512, 512)
    assert view.truth.max() == 2
    assert np.array_equal(view.truth > 0, labels[44:556, 44:556] > 0)


def test_the_paper_view_needs_an_image_that_large(tmp_path: Path) -> None:
    write_set(tmp_path, tmp_path, "a")
    with pytest.raises(UsageError, match="--protocol paper crops 512 px"):
        paper_view(monuseg_images(tmp_path)[0])


def test_real_labels_and_real_xml_are_the_same_truth(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "monuseg" / "train"
    found = {image.name: image for image in monuseg_images(folder)}
    assert len(found) == 30
    for path in sorted((folder / "xml").glob("*.xml")):
        (tmp_path / path.name).symlink_to(path)
        (tmp_path / f"{path.stem}.tif").symlink_to(folder / "images" / f"{path.stem}.tif")
    drawn = monuseg_images(tmp_path)
    assert len(drawn) == 2
    for image in drawn:
        assert aji(measure_overlap(found[image.name].truth, image.truth)) > 0.995
