"""DICOM is known by its bytes, whatever its files are called, and a series is one slide."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from pathlib import Path

import pytest
from drawn_dicom import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    TOMOGRAPHY,
    dicom,
    draw_dicom,
    element,
)

from wsipsm.cohort.discover import list_slides
from wsipsm.errors import SlideOpenError
from wsipsm.slide.dicom import is_dicom, read_dicom_head, series_files, slides_in
from wsipsm.slide.fingerprint import fingerprint_slide
from wsipsm.slide.open import open_slide

ITEM_END, SEQUENCE_END = b"\xfe\xff\x0d\xe0" + bytes(4), b"\xfe\xff\xdd\xe0" + bytes(4)
OTHER_SERIES = element(0x0020, 0x000E, "UI", b"9.9.9")
REFERENCED = b"\x08\x00\x15\x11SQ\0\0"
ITEM = b"\xfe\xff\x00\xe0"
UNDEFINED = b"\xff\xff\xff\xff"
SEQUENCES = {
    "stated lengths": REFERENCED
    + (len(OTHER_SERIES) + 8).to_bytes(4, "little")
    + ITEM
    + len(OTHER_SERIES).to_bytes(4, "little")
    + OTHER_SERIES,
    "undefined lengths": REFERENCED + UNDEFINED + ITEM + UNDEFINED + OTHER_SERIES + ITEM_END + SEQUENCE_END,
    "nested": REFERENCED
    + UNDEFINED
    + ITEM
    + UNDEFINED
    + (REFERENCED + UNDEFINED + ITEM + UNDEFINED + OTHER_SERIES + ITEM_END + SEQUENCE_END)
    + ITEM_END
    + SEQUENCE_END,
    "longer than the first look": element(0x0008, 0x1030, "UN", b"x" * 100_000),
}


@pytest.mark.parametrize("before", SEQUENCES.values(), ids=SEQUENCES.keys())
def test_the_series_is_that_of_the_file_not_of_one_it_refers_to(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(dicom("1.2.3", before=before))
    head = read_dicom_head(path)
    assert head is not None
    assert head.series == b"1.2.3"
    assert head.is_slide_part


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_every_way_to_write_a_header_is_followed(tmp_path: Path, syntax: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(dicom("1.2.3", syntax=syntax))
    head = read_dicom_head(path)
    assert head is not None
    assert (head.series, head.is_slide_part) == (b"1.2.3", True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"DICM",
        bytes(132),
        b"\0" * 128 + b"DICM",
        b"\0" * 128 + b"DICM" + b"\xff" * 4000,
        dicom("1.2.3", before=REFERENCED + UNDEFINED + (ITEM + UNDEFINED + REFERENCED + UNDEFINED) * 500),
        dicom("1.2.3")[:180],
    ],
)
def test_a_hostile_header_names_no_series(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    head = read_dicom_head(path)
    assert head is None or not head.series
    assert is_dicom(path) == (content[128:132] == b"DICM")
    assert series_files(path) == [path]


def preceded(n_bytes: int) -> bytes:
    """File whose series begins so many bytes after its class."""
    return dicom("1.2.3", before=element(0x0008, 0x1030, "UN", b"x" * (n_bytes - 12)))


@pytest.mark.parametrize("cut", range(-40, 41, 2))
def test_a_series_across_the_end_of_the_first_look_is_read_whole(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a"
    begin = len(dicom("")) - len(element(0x7FE0, 0x0010, "OB", b""))
    path.write_bytes(preceded(65_536 - begin + cut))
    head = read_dicom_head(path)
    assert head is not None
    assert (head.series, head.is_slide_part) == (b"1.2.3", True)


@pytest.mark.parametrize(("n_mib", "series"), [(3, b"1.2.3"), (6, b"")])
def test_a_series_is_looked_for_in_the_first_four_mib(tmp_path: Path, n_mib: int, series: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(preceded(n_mib << 20))
    head = read_dicom_head(path)
    assert head is not None
    assert head.series == series


def test_a_look_at_a_header_does_not_read_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(dicom("1.2.3"))
    os.truncate(path, 64 << 20)
    tracemalloc.start()
    try:
        assert is_dicom(path)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 1 << 20


def test_files_of_other_kinds_are_no_slides(tmp_path: Path) -> None:
    draw_dicom(tmp_path / "CT1", "1.5", sop_class=TOMOGRAPHY)
    draw_dicom(tmp_path / "DICOMDIR", "", sop_class="1.2.840.10008.1.3.10")
    (tmp_path / "readme").write_text("nothing")
    assert slides_in(tmp_path.iterdir()) == {}
    draw_dicom(tmp_path / "IM1", "1.2")
    assert [slide.path.name for slide in list_slides([tmp_path], tmp_path / "out")] == ["IM1"]


@pytest.mark.parametrize("names", [("1.DCM", "2.DCM"), ("IM1", "IM2"), ("1.2.840.1", "1.2.840.2"), ("a.dcm", "b.Dcm")])
def test_a_series_is_one_slide_under_any_names(tmp_path: Path, names: tuple[str, str]) -> None:
    one, two = (draw_dicom(tmp_path / "deep" / "er" / name, "1.2.3", 10 + n) for n, name in enumerate(names))
    assert [slide.path for slide in list_slides([tmp_path], tmp_path / "out")] == [one.parent]
    assert series_files(one) == series_files(two) == sorted((one, two))
    assert fingerprint_slide(one) == fingerprint_slide(two) == fingerprint_slide(one.parent)
    other = draw_dicom(tmp_path / "deep" / "er" / "x", "1.2.4")
    assert [slide.path for slide in list_slides([tmp_path], tmp_path / "out")] == [two, other]
    assert fingerprint_slide(other) != fingerprint_slide(one) == fingerprint_slide(two)
    with pytest.raises(SlideOpenError, match="2 DICOM series"):
        fingerprint_slide(one.parent)


def test_files_of_a_series_may_be_renamed_but_not_be_changed_or_missing(tmp_path: Path) -> None:
    paths = [draw_dicom(tmp_path / "P" / f"{n}.dcm", "1.2.3", n) for n in range(3)]
    first = fingerprint_slide(paths[0])
    shutil.copytree(tmp_path / "P", tmp_path / "Q")
    (tmp_path / "Q" / "1.dcm").rename(tmp_path / "Q" / "Z")
    (tmp_path / "Q" / "notes.txt").write_text("beside")
    assert fingerprint_slide(tmp_path / "Q" / "0.dcm") == first
    (tmp_path / "Q" / "Z").write_bytes(dicom("1.2.3", 1)[:-1] + b"x")
    assert fingerprint_slide(tmp_path / "Q" / "0.dcm") != first
    (tmp_path / "Q" / "Z").unlink()
    assert fingerprint_slide(tmp_path / "Q" / "0.dcm") != first


def test_a_series_that_states_no_series_is_never_the_same_as_another(tmp_path: Path) -> None:
    one, two = draw_dicom(tmp_path / "1.DCM", "", 5), draw_dicom(tmp_path / "2.DCM", "", 8)
    assert fingerprint_slide(one) != fingerprint_slide(two)


def test_a_real_series_opens_under_any_name(slides_dir: Path, tmp_path: Path) -> None:
    source = slides_dir / "real" / "dicom-jpeg-he-cmu1-small-region"
    files = sorted(source.glob("*.dcm"))
    for folder, name in (("upper", "{}.DCM"), ("bare", "IM{}"), ("numbers", "1.2.840.{}")):
        (tmp_path / folder).mkdir()
        for n, file in enumerate(files):
            shutil.copyfile(file, tmp_path / folder / name.format(n))
    with open_slide(source) as given:
        for folder in ("upper", "bare", "numbers"):
            file = sorted((tmp_path / folder).iterdir())[-1]
            with open_slide(tmp_path / folder) as by_folder, open_slide(file) as by_file:
                assert by_folder.info.level_sizes == by_file.info.level_sizes == given.info.level_sizes
                assert by_folder.info.fingerprint == by_file.info.fingerprint == given.info.fingerprint
                assert by_folder.info.vendor == by_file.info.vendor == "dicom"
