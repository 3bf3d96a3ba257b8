"""One list of formats: what opening refuses by name, what a folder's search finds, what messages and the docs name."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsipsm.cohort.folders import find_slides
from wsipsm.errors import SlideOpenError
from wsipsm.results.folder_names import slide_stem
from wsipsm.slide.formats import DOUBLE_SUFFIXES, NOT_READ, PARTS_NOT_READ, READ, READABLE, SLIDE_SUFFIXES
from wsipsm.slide.open import open_slide

README = (Path(__file__).parents[2] / "README.md").read_text()
ENDINGS = [suffix for suffixes in READ.values() for suffix in suffixes]


@pytest.mark.parametrize("suffix", [*ENDINGS, *NOT_READ])
def test_a_folder_is_searched_for_every_format(tmp_path: Path, suffix: str) -> None:
    slide = tmp_path / "slides" / f"a{suffix.upper()}"
    slide.parent.mkdir()
    if suffix.endswith(".zarr"):
        slide.mkdir()
    else:
        slide.write_bytes(b"\x01\x02\x03")
    assert list(find_slides(slide.parent, tmp_path / "out")) == [slide]


@pytest.mark.parametrize("suffix", [".txt", ".ets", ".tifx", ".svs2"])
def test_other_files_are_no_slides(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"\x01\x02\x03")
    assert list(find_slides(tmp_path, tmp_path / "out")) == []


@pytest.mark.parametrize("suffix", [*NOT_READ, *PARTS_NOT_READ])
def test_what_no_reader_supports_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"II*\0" + bytes(100))
    with pytest.raises(SlideOpenError, match=r"no reader here supports; SVS, .* are read") as refused:
        open_slide(tmp_path / f"a{suffix}")
    assert all(name in str(refused.value) for name in READ)


@pytest.mark.parametrize("suffix", ENDINGS)
def test_no_readable_format_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"\x01\x02\x03" * 100)
    with pytest.raises(SlideOpenError) as refused:
        open_slide(tmp_path / f"a{suffix}")
    assert "no reader here supports" not in str(refused.value)


def test_no_format_is_both_read_and_not() -> None:
    assert set(ENDINGS).isdisjoint({*NOT_READ, *PARTS_NOT_READ})
    assert set(PARTS_NOT_READ).isdisjoint(SLIDE_SUFFIXES)


@pytest.mark.parametrize("suffix", DOUBLE_SUFFIXES)
def test_double_endings_are_left_out_of_names(suffix: str) -> None:
    assert slide_stem(f"a.b{suffix}") == "a.b"


def test_messages_and_readme_name_every_format() -> None:
    told = {word.strip() for word in READABLE.removesuffix(" are read").replace(" and ", ",").split(",")}
    assert told == set(READ)
    (told_there,) = [part for part in README.split("\n\n") if part.startswith("**Slides.**")]
    absent = [name for name in READ if name.removesuffix(" zarr") not in told_there]
    assert absent == []
