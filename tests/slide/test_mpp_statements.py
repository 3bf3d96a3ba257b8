"""Every statement of a file about its pixel size is found, judged and said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from wsipsm.errors import MissingMppError
from wsipsm.slide.base import MppVerdict, SlideInfo
from wsipsm.slide.open import open_slide, require_mpp
from wsipsm.slide.pixel_size import OBJECTIVE, StatedMpp, choose_mpp, describe_statement, notes_on_mpp

PIXELS = np.full((64, 64, 3), 200, np.uint8)


def info_of(path: Path, mpp: float | None = None) -> SlideInfo:
    with open_slide(path, mpp) as slide:
        return slide.info


@pytest.mark.parametrize(
    ("resolution", "unit", "value", "verdict"),
    [
        (1e4 / 0.2271, "CENTIMETER", 0.2271, "used"),
        (25_400 / 0.25, "INCH", 0.25, "used"),
        (1e3 / 0.2271, "MILLIMETER", 0.2271, "used"),
        (1 / 0.2271, "MICROMETER", 0.2271, "used"),
        (1e4 / 0.2271, "INCH", 0.5768, "used"),
        (1e5 / 0.2271, "CENTIMETER", 0.0227, "refused"),
        (1e4 / 28.97, "CENTIMETER", 28.97, "refused"),
        (1e4 / 176, "CENTIMETER", 176, "refused"),
        (10, "CENTIMETER", 1000, "refused"),
        (72, "INCH", 352.8, "refused"),
        (1e4 / 0.2271, "NONE", None, "refused"),
    ],
)
def test_resolution_tags(tmp_path: Path, resolution: float, unit: str, value: float | None, verdict: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, PIXELS, photometric="rgb", resolution=(resolution, resolution), resolutionunit=unit, metadata=None
    )
    info = info_of(path)
    (statement,) = info.mpp_statements
    assert statement.value == (None if value is None else pytest.approx(value, rel=2e-3))
    assert statement.verdict == verdict
    if verdict == "used":
        assert require_mpp(info) == pytest.approx(value, rel=2e-3)
        assert f"{statement.value:.4g} um/px" in notes_on_mpp(info.mpp_statements)[0]
        return
    with pytest.raises(MissingMppError, match="--mpp") as caught:
        require_mpp(info)
    assert "no pixel size in the file" not in str(caught.value)
    assert ("0.2271 um/px if per cm" if value is None else f"{statement.value:.4g} um/px") in str(caught.value)


@pytest.mark.parametrize(
    ("unit", "per_um"),
    [
        ("micron", 1),
        ("um", 1),
        ("Qm", 1),
        ("\\u00B5m", 1),
        ("cm", 1e-4),
        ("inch", 1 / 25_400),
        ("mm", 1e-3),
        ("nm", 1e3),
        ("micrometers", 1),
        ("millimetre", 1e-3),
        ("meter", 1e-6),
        ("thou", 1 / 25.4),
        ("ft", 1 / 304_800),
    ],
)
def test_imagej_counts_in_the_unit_of_its_description(tmp_path: Path, unit: str, per_um: float) -> None:
    path = tmp_path / "a.tif"
    per_unit = 1 / 0.2271 / per_um
    tifffile.imwrite(
        path, PIXELS, photometric="rgb", imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit}
    )
    # ImageJ on Windows writes the Greek letter as one byte, which the writer here refuses.
    path.write_bytes(path.read_bytes().replace(b"unit=Qm", b"unit=\xb5m"))
    info = info_of(path)
    assert info.mpp == pytest.approx(0.2271, rel=1e-3)
    assert info.mpp_statements[0].source == "ImageJ metadata"


def test_an_imagej_unit_that_is_no_length_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", imagej=True, resolution=(4.4, 4.4), metadata={"unit": "furlong"})
    with pytest.raises(MissingMppError, match="furlong"):
        require_mpp(info_of(path))


def test_without_a_unit_the_inch_counts_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", metadata=None, resolution=(101_600, 101_600), resolutionunit=2)
    with tifffile.TiffFile(path, mode="r+") as tif:
        unit = tif.pages.first.tags["ResolutionUnit"]
        # Under another number the tag is unknown, and the unit absent.
        tif.filehandle.seek(unit.offset)
        tif.filehandle.write(np.uint16(297).tobytes())
    info = info_of(path)
    assert info.mpp == pytest.approx(0.25)
    assert "no ResolutionUnit" in info.mpp_statements[0].text


def test_ome_xml_goes_before_the_tags_and_the_tags_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    metadata = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "axes": "YXS"}
    tifffile.imwrite(path, PIXELS, photometric="rgb", metadata=metadata, resolution=(4e4, 4e4), resolutionunit=3)
    info = info_of(path)
    assert info.mpp == 0.5
    verdicts = {one.source: one.verdict for one in info.mpp_statements}
    assert verdicts == {"OME-XML": MppVerdict.USED, "TIFF resolution tags": MppVerdict.CONTRADICTS}
    assert any("0.25 um/px" in note and "contradicts" in note for note in notes_on_mpp(info.mpp_statements))


def test_the_option_goes_before_the_file_and_both_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", metadata=None, resolution=(4e4, 4e4), resolutionunit=3)
    info = info_of(path, mpp=0.5)
    assert info.mpp == 0.5
    told = " ".join(notes_on_mpp(info.mpp_statements))
    assert "--mpp: 0.5 um/px, used" in told
    assert "TIFF resolution tags: 0.25 um/px, overridden by --mpp" in told


def test_an_image_states_nothing(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert info_of(tmp_path / "a.png").mpp_statements == ()
    with pytest.raises(MissingMppError, match="no pixel size in the file"):
        require_mpp(info_of(tmp_path / "a.png"))
    (given,) = info_of(tmp_path / "a.png", mpp=0.25).mpp_statements
    assert (given.source, given.verdict) == ("--mpp", MppVerdict.USED)


@pytest.mark.parametrize(
    ("power", "mpp", "verdict"),
    [
        (40, 0.2271, "agrees"),
        (20, 0.5, "agrees"),
        (40, 0.5, "contradicts"),
        (20, 0.25, "contradicts"),
        (20, None, "not used"),
    ],
)
def test_an_objective_is_compared_and_never_computed_with(power: float, mpp: float | None, verdict: str) -> None:
    stated = [] if mpp is None else [StatedMpp("Aperio metadata", mpp)]
    used, statements = choose_mpp(stated, given=None, power=power)
    assert used == mpp
    assert {one.source: one.verdict for one in statements}[OBJECTIVE] == verdict
    assert f"{power}x" in describe_statement(statements[-1])


def test_a_plausible_statement_goes_before_one_that_is_not() -> None:
    used, statements = choose_mpp([StatedMpp("Aperio metadata", 1000.0), StatedMpp("tags", 0.25)], given=None)
    assert used == 0.25
    assert [(one.source, one.verdict) for one in statements] == [
        ("tags", MppVerdict.USED),
        ("Aperio metadata", MppVerdict.REFUSED),
    ]


@pytest.mark.parametrize("given", [None, 0.25])
@pytest.mark.parametrize(
    ("y", "is_named", "is_usable"), [(0.2512, False, True), (0.255, True, True), (0.272, True, False)]
)
@pytest.mark.parametrize("is_ome", [False, True])
def test_pixels_that_are_not_square_are_named_whatever_the_user_gives(
    tmp_path: Path, given: float | None, y: float, is_named: bool, is_usable: bool, is_ome: bool
) -> None:
    pixels = np.full((96, 128, 3), 240, np.uint8)
    path = tmp_path / ("a.ome.tif" if is_ome else "a.tif")
    if is_ome:
        tifffile.imwrite(path, pixels, photometric="rgb", metadata={"PhysicalSizeX": 0.25, "PhysicalSizeY": y})
    else:
        per_cm = (1e4 / 0.25, 1e4 / y)
        tifffile.imwrite(path, pixels, photometric="rgb", resolution=per_cm, resolutionunit="CENTIMETER", metadata=None)

    with open_slide(path, given) as slide:
        notes = " ".join(notes_on_mpp(slide.info.mpp_statements))
        assert slide.info.mpp == (given if given else pytest.approx((0.25 + y) / 2) if is_usable else None)

    assert (f"0.25 x {y:g} um" in notes) == is_named
