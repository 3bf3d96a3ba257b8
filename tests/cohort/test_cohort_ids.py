"""An id of a cohort never changes when the cohort grows, shrinks, moves or is listed otherwise."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from drawn_dicom import draw_dicom
from stand_in import MPP, draw_slide

from wsipsm.cohort.discover import Cohort, list_slides, read_cohort
from wsipsm.cohort.ids import IDS_NAME, keep_known
from wsipsm.cohort.run import run_cohort
from wsipsm.config import RunOptions
from wsipsm.errors import UsageError
from wsipsm.events import BlockDone, Event, ignore_events


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def listed(out: Path, *sources: Path) -> Cohort:
    """List slides as a cohort does that then begins."""
    cohort = read_cohort(sources, out)
    out.mkdir(exist_ok=True)
    keep_known(out, cohort.known)
    return cohort


def ids(root: Path, *sources: Path, out: str = "out") -> dict[str, str]:
    """Ids by path in the cohort's folder."""
    cohort = listed(root / out, *(sources or [root / "in"]))
    assert not cohort.problems
    return {slide.path.relative_to(root / "in").as_posix(): slide.id for slide in cohort.slides}


def test_each_image_of_a_file_has_an_id(tmp_path: Path) -> None:
    touch(tmp_path / "in", "x/case.svs", "y/case.svs", "z/one.svs")
    out = tmp_path / "out"

    def ids_of(image: int | None) -> list[str]:
        cohort = read_cohort([tmp_path / "in"], out, image=image)
        out.mkdir(exist_ok=True)
        keep_known(out, cohort.known)
        assert not cohort.problems
        return [slide.id for slide in cohort.slides]

    found = {image: ids_of(image) for image in (None, 1, 2)}
    assert [ids[2] for ids in found.values()] == ["one", "one-image-1", "one-image-2"]
    assert len({name.casefold() for ids in found.values() for name in ids}) == 9
    (tmp_path / "in" / "0").mkdir()
    touch(tmp_path / "in", "0/one.svs")
    assert {image: ids_of(image)[1:] for image in found} == found
    # Moved, each image keeps its own.
    (tmp_path / "in").rename(tmp_path / "there")
    (tmp_path / "there").rename(tmp_path / "in2")
    moved = read_cohort([tmp_path / "in2"], out, image=2)
    assert [slide.id for slide in moved.slides][1:] == found[2]
    # A manifest names images one by one, and an id that was given stays with its image.
    rows = tmp_path / "rows.csv"
    rows.write_text("slide,id,image\nin2/z/one.svs,mine,1\nin2/z/one.svs,,3\nin2/z/one.svs,one-image-2,4\n")
    cohort = read_cohort([rows], out)
    assert [slide.id for slide in cohort.slides][:2] == ["mine", "one-image-3"]


GROWTH: dict[str, tuple[str, ...]] = {
    "the same stem after": ("y/case.svs",),
    "the same stem before": ("a/case.svs",),
    "the same stem above": ("case.svs",),
    "the same stem, another suffix": ("x/case.ndpi", "x/case.ome.tif"),
    "capital letters": ("y/CASE.svs", "z/Case.SVS"),
    "letters that are folded": ("y/straße.svs", "z/STRASSE.svs"),
    "signs that no folder can have": ("y/a:b.svs", "y/a_b.svs", "z/a?b.svs"),
    "composed and decomposed": ("y/\u00e9.svs", "z/e\u0301.svs"),
    "names cut to one": ("y/" + "n" * 130 + "1.svs", "y/" + "n" * 130 + "2.svs"),
    "a name that looks like a hashed one": ("y/case-123456.svs",),
    "many at once": tuple(f"{folder}/case.svs" for folder in "abcdefgh"),
    "before and after in order": ("0.svs", "zz.svs"),
}


@pytest.mark.parametrize("new", GROWTH.values(), ids=GROWTH.keys())
def test_ids_stay_when_slides_are_added_and_taken_away(tmp_path: Path, new: tuple[str, ...]) -> None:
    touch(
        tmp_path / "in",
        "x/case.svs",
        "x/other.svs",
        "x/straße.svs",
        "x/a*b.svs",
        "x/\u00c9.svs",
        "x/" + "n" * 130 + ".svs",
    )
    first = ids(tmp_path)
    assert first["x/case.svs"] == "case"
    found = dict(first)
    for name in new:
        touch(tmp_path / "in", name)
        now = ids(tmp_path)
        assert {path: now[path] for path in found} == found
        assert len({one.casefold() for one in now.values()}) == len(now)
        assert all(len(one.encode()) < 200 for one in now.values())
        found = now
    for name in new:
        (tmp_path / "in" / name).unlink()
        now = ids(tmp_path)
        assert now == {path: found[path] for path in now}
    assert now == first
    touch(tmp_path / "in", *reversed(new))
    assert ids(tmp_path) == found, "those that come back get what they had"


def test_an_id_is_not_given_to_another_slide(tmp_path: Path) -> None:
    touch(tmp_path / "in", "x/case.svs")
    assert ids(tmp_path) == {"x/case.svs": "case"}
    (tmp_path / "in" / "x" / "case.svs").unlink()
    touch(tmp_path / "in", "y/case.ndpi")
    (found,) = ids(tmp_path).values()
    assert found.startswith("case-")
    touch(tmp_path / "in", "x/case.svs")
    assert ids(tmp_path) == {"x/case.svs": "case", "y/case.ndpi": found}


def test_ids_do_not_depend_on_how_slides_are_named(tmp_path: Path) -> None:
    touch(tmp_path / "in", "x/case.svs", "y/case.svs", "z/one.svs")
    root = tmp_path / "in"
    first = ids(tmp_path)
    assert ids(tmp_path, root / "z", root / "y", root / "x") == first
    assert ids(tmp_path, root / "y" / "case.svs") == {"y/case.svs": first["y/case.svs"]}
    assert ids(tmp_path, root / "x" / ".." / "x" / "case.svs", root) | first
    (tmp_path / "link").symlink_to(root)
    cohort = listed(tmp_path / "out", tmp_path / "link")
    assert sorted(slide.id for slide in cohort.slides) == sorted(first.values())


def manifest(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "in" / "cohort.csv"
    path.write_text(text)
    return path


def test_manifests_with_and_without_ids(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.svs", "b.svs", "x/a.svs")
    plain = manifest(tmp_path, "slide\na.svs\nb.svs\n")
    assert ids(tmp_path, plain) == {"a.svs": "a", "b.svs": "b"}
    manifest(tmp_path, "slide\nx/a.svs\nb.svs\na.svs\n")
    grown = ids(tmp_path, plain)
    assert (grown["a.svs"], grown["b.svs"]) == ("a", "b")
    manifest(tmp_path, "slide,id\na.svs,p1\nb.svs,\nx/a.svs,p2\n")
    assert ids(tmp_path, plain) == {"a.svs": "p1", "b.svs": "b", "x/a.svs": "p2"}
    manifest(tmp_path, "slide\nb.svs\nx/a.svs\na.svs\n")
    assert ids(tmp_path, plain) == {"a.svs": "p1", "b.svs": "b", "x/a.svs": "p2"}
    manifest(tmp_path, "slide,id\na.svs,p2\nx/a.svs,p1\n")
    assert ids(tmp_path, plain) == {"a.svs": "p2", "x/a.svs": "p1"}, "ids of a manifest hold"


def test_a_manifest_that_gives_the_id_of_another_slide_is_told_so(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.svs", "b.svs")
    ids(tmp_path)
    rows = manifest(tmp_path, "slide,id\nb.svs,A\n")
    cohort = read_cohort([tmp_path / "in", rows], tmp_path / "out")
    assert [slide.id for slide in cohort.slides if slide.path.name == "a.svs"] == ["a"]
    (problem,) = cohort.problems
    assert "line 2: id 'A' is that of " in problem.reason
    assert "an id stays with its slide" in problem.reason


def test_addresses_that_are_signed_anew(tmp_path: Path) -> None:
    def ids_of(*urls: str) -> list[str]:
        rows = tmp_path / "cohort.csv"
        rows.write_text("slide\n" + "".join(f"{url}\n" for url in urls))
        return [slide.id for slide in listed(tmp_path / "out", rows).slides]

    first = ids_of("https://host/x/a.svs?X-Signature=secret1")
    assert first == ["a"]
    found = ids_of("https://host/y/a.svs?X-Signature=secret2", "https://host/x/a.svs?X-Signature=secret3")
    assert found[1] == "a"
    assert ids_of("https://host/x/a.svs?X-Signature=4", "https://host/y/a.svs?X-Signature=5") == found[::-1]
    assert "secret" not in (tmp_path / "out" / IDS_NAME).read_text()


def test_a_dicom_slide_keeps_its_id_whichever_file_stands_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "deep"
    draw_dicom(folder / "1", "1.2.3", 10)
    first = [slide.id for slide in listed(tmp_path / "out", tmp_path / "in").slides]
    steps: tuple[Callable[[], object], ...] = (
        lambda: draw_dicom(folder / "2", "1.2.3", 500),
        lambda: (folder / "readme.txt").write_text("x"),
        lambda: draw_dicom(folder / "3", "1.2.3", 900),
        lambda: draw_dicom(folder / "0", "1.2.4", 900),
    )
    for step in steps:
        step()
        found = [slide.id for slide in listed(tmp_path / "out", tmp_path / "in").slides]
        assert set(first) <= set(found)
    assert len(found) == 2


def test_ids_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.svs")
    ids(tmp_path)
    for content in ("", "[]", '{"slides": [{}]}', '{"slides": 3}', "\0"):
        (tmp_path / "out" / IDS_NAME).write_text(content)
        with pytest.raises(UsageError, match="it keeps the ids"):
            list_slides([tmp_path / "in"], tmp_path / "out")


def options(**values: Any) -> RunOptions:
    return RunOptions(**{"mpp": MPP, "workers": 0, "block_px": 256, "tile_px": 128, **values})


@pytest.mark.usefixtures("stand_in")
def test_a_cohort_that_grows_or_moves_computes_only_what_is_new(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    for n, name in enumerate(("x/case.png", "y/one.png", "y/renamed.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        draw_slide(root / name, 200, 180, seed=n)
    first = run_cohort([root], out, options(), ignore_events)
    assert {row.slide.rpartition("/")[2]: row.id for row in first.rows}["case.png"] == "case"
    draw_slide(root / "y" / "case.png", 200, 180, seed=7)
    (root / "y" / "renamed.png").rename(root / "y" / "0.png")
    moved = tmp_path / "moved"
    root.rename(moved)
    events: list[Event] = []
    second = run_cohort([moved], out, options(), events.append)
    rows = {row.slide.removeprefix(f"{moved}/"): row for row in second.rows}
    assert (rows["x/case.png"].id, rows["y/one.png"].id, rows["y/0.png"].id) == ("case", "one", "renamed")
    assert rows["y/case.png"].id.startswith("case-")
    n_new = sum(isinstance(event, BlockDone) for event in events)
    assert n_new == 1, "the slide that is new has one block"
    shutil.rmtree(moved / "x")
    third = run_cohort([moved], out, options(), ignore_events)
    assert {row.id for row in third.rows} == {row.id for row in second.rows} - {"case"}
