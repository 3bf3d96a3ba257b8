"""Ids of a cohort's slides, rule by rule, on slides of a few bytes: which is kept, given, shared, moved, refused."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from drawn_dicom import draw_dicom
from stand_in import MPP, draw_slide

from wsipsm.cohort.ids import (
    IDS_NAME,
    KnownSlide,
    NamedSlides,
    SlideToName,
    keep_known,
    name_slides,
    place_of,
    read_known,
)
from wsipsm.config import RunOptions
from wsipsm.errors import UsageError
from wsipsm.events import BlockDone, Event, RunPlanned, ignore_events
from wsipsm.keys import Artefact
from wsipsm.results.summary import RunSummary
from wsipsm.stages.prepare import PreparedSlide, prepare_slide
from wsipsm.stages.run import run_slide


def slide(path: Path, given: str = "", *, image: int | None = None, url: str = "", fault: str = "") -> SlideToName:
    return SlideToName(given, path.stem, image, path, url or None, url or str(path), f"row {path.name}", fault)


def known(name: str, path: Path | str, n_bytes: int | None = None, image: int | None = None) -> KnownSlide:
    return KnownSlide(name, str(path), n_bytes, image)


def hashed(name: str, identity: str, n: int = 6) -> str:
    return f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:n]}"


def file(path: Path, content: str = "1") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_names_are_those_of_files_unless_shared(tmp_path: Path) -> None:
    paths = [file(tmp_path / name) for name in ("x/a.svs", "y/A.svs", "b.svs", "c.svs", "d.svs")]
    before = (known("B", tmp_path / "gone" / "b.svs", 99), known("c", tmp_path / "other.svs", 98))
    named = name_slides([slide(path) for path in paths], before, tmp_path)
    x, y, b, c, _ = paths
    assert named.ids == (hashed("a", str(x)), hashed("A", str(y)), hashed("b", str(b)), hashed("c", str(c)), "d")
    assert named.faults == ("",) * 5
    assert [(one.id, one.place, one.n_bytes) for one in named.known] == [
        ("B", str(tmp_path / "gone" / "b.svs"), 99),
        ("c", str(tmp_path / "other.svs"), 98),
        *((name, str(path), 1) for name, path in zip(named.ids, paths, strict=True)),
    ]
    again = name_slides([slide(path) for path in reversed(paths)], named.known, tmp_path)
    assert again.ids == named.ids[::-1]


def test_ids_of_a_manifest_hold_and_are_told_when_they_cannot(tmp_path: Path) -> None:
    a, b, c, d = (file(tmp_path / f"{name}.svs") for name in "abcd")
    named = name_slides([slide(a, "One"), slide(b, "one"), slide(c, "c2"), slide(d)], (), tmp_path)
    assert named.ids[2:] == ("c2", "d")
    assert named.faults[0] == "row a.svs: id 'One' occurs 2 times; every slide needs its own."
    assert named.faults[1] == "row b.svs: id 'one' occurs 2 times; every slide needs its own."
    assert named.faults[2:] == ("", "")
    assert named.ids[0] == hashed("One", f"{a} row a.svs")
    assert named.ids[1] == hashed("one", f"{b} row b.svs")
    assert [one.id for one in named.known] == ["c2", "d"], "what is at fault is not kept"
    # The id of another slide in the list is refused; of one that is gone it is given.
    taken = name_slides([slide(a, "D"), slide(d)], named.known, tmp_path)
    assert taken.ids[1] == "d"
    assert (
        taken.faults[0]
        == f"row a.svs: id 'D' is that of {d} in this cohort; an id stays with its slide. Choose another."
    )
    assert name_slides([slide(a, "D")], named.known, tmp_path).ids == ("D",)
    both = name_slides([slide(a, "x", fault="wrong."), slide(b, "x")], (), tmp_path)
    assert both.faults[0] == "wrong. Also, row a.svs: id 'x' occurs 2 times; every slide needs its own."
    # One that a manifest gives is not made for another from its name.
    made = name_slides([slide(a), slide(b, "a")], (), tmp_path)
    assert made.ids == (hashed("a", str(a)), "a")


def test_a_slide_with_two_ids_keeps_the_last_that_is_free(tmp_path: Path) -> None:
    a, b = file(tmp_path / "a.svs"), file(tmp_path / "b.svs")
    before = (known("p1", a, 1), known("p2", a, 1), known("q", a, 1, 3))
    assert name_slides([slide(a), slide(a, image=3)], before, tmp_path).ids == ("p2", "q")
    assert name_slides([slide(a), slide(a)], before, tmp_path).ids == ("p2", "p1")
    assert name_slides([slide(a, "p2"), slide(a)], before, tmp_path).ids == ("p2", "p1")
    # A row for another slide that takes an id takes it for itself alone.
    found = name_slides([slide(b, "P1"), slide(a)], before, tmp_path)
    assert found.ids == (found.ids[0], "p2")
    assert found.faults == ("", "")


def test_a_digest_grows_until_it_is_free(tmp_path: Path) -> None:
    a = file(tmp_path / "a.svs")
    long = [hashed("a", str(a), n) for n in (6, 16, 64)]
    gone = tmp_path / "gone.svs"
    for n in range(3):
        before = (known("a", gone, 7), *(known(name.upper(), gone, 7) for name in long[:n]))
        assert name_slides([slide(a)], before, tmp_path).ids == (long[n],)


def results_of(out: Path, name: str, content: str) -> None:
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    folder = out / name
    folder.mkdir(parents=True)
    (folder / Artefact.SLIDE).write_bytes(orjson.dumps({"source": name, "fingerprint": fingerprint}))


def test_what_was_moved_is_known_by_its_bytes_where_there_are_results(tmp_path: Path) -> None:
    out, now = tmp_path / "out", file(tmp_path / "now" / "a.svs", "same")
    results_of(out, "was", "same")
    old = tmp_path / "old" / "b.svs"
    for before, expected in (
        (known("was", old, 4), "was"),
        (known("was", old, 5), "a"),  # of another size
        (known("was", old, 4, 2), "a"),  # another image
        (known("was", file(tmp_path / "there.svs"), 4), "a"),  # it lies where it was
        (known("new", old, 4), "a"),  # without results, and of another name
        (known("new", tmp_path / "old" / "A.SVS", 4), "new"),  # without results, but of this name
    ):
        assert name_slides([slide(now)], (before,), out).ids == (expected,), before
    results_of(out, "other", "else")
    assert name_slides([slide(now)], (known("other", tmp_path / "old" / "a.svs", 4),), out).ids == ("a",)
    # A row that has an id of its own, or a fault, takes none that another had.
    assert name_slides([slide(now, "own")], (known("was", old, 4),), out).ids == ("own",)
    assert name_slides([slide(now, fault="x")], (known("was", old, 4),), out).ids == ("a",)
    # Moved once, an id is not given twice.
    twin = file(tmp_path / "now" / "c.svs", "same")
    assert name_slides([slide(now), slide(twin)], (known("was", old, 4),), out).ids == ("was", "c")


def test_of_several_that_are_gone_the_one_with_the_most_alike_path_is_taken(tmp_path: Path) -> None:
    now = file(tmp_path / "new" / "p1" / "scan" / "a.svs")
    places = ["old/p2/scan/a.svs", "old/p1/scan/a.svs", "old/p1/a.svs", "old/x/p1/scan/a.svs"]
    before = tuple(known(f"id{n}", tmp_path / place, 1) for n, place in enumerate(places))
    assert name_slides([slide(now)], before, tmp_path).ids == ("id1",)
    assert name_slides([slide(now)], before[::-1], tmp_path).ids == ("id3",), "of equals the first"
    assert name_slides([slide(now)], before[2:3] + before[:1], tmp_path).ids == ("id0",)


@pytest.mark.parametrize(("n_more", "expected"), [(0, "a"), (1, "was")])
def test_large_slides_of_one_name_and_size_are_not_read(tmp_path: Path, n_more: int, expected: str) -> None:
    """Beyond 256 MiB; their results are of other bytes here, which is only seen where they are read."""
    now = tmp_path / "now" / "a.svs"
    file(now)
    os.truncate(now, (256 << 20) + n_more)
    results_of(tmp_path / "out", "was", "other")
    before = known("was", tmp_path / "old" / "a.svs", (256 << 20) + n_more)
    assert name_slides([slide(now)], (before,), tmp_path / "out").ids == (expected,)
    if n_more:
        renamed = known("was", tmp_path / "old" / "b.svs", (256 << 20) + n_more)
        assert name_slides([slide(now)], (renamed,), tmp_path / "out").ids == ("a",)


def test_another_spelling_of_a_path_is_the_same_place(tmp_path: Path) -> None:
    now = file(tmp_path / "now" / "a.svs")
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path / "now")
    before = known("was", linked / "a.svs", 1)
    assert name_slides([slide(now)], (before,), tmp_path).ids == ("was",)


def test_addresses_are_known_by_what_is_shown_of_them(tmp_path: Path) -> None:
    def named(address: str, before: tuple[KnownSlide, ...], image: int | None = None) -> NamedSlides:
        return name_slides([slide(Path("a.svs"), url=address, image=image)], before, tmp_path)

    first = named("https://host/x/a.svs?key=1", ())
    (one,) = first.known
    assert one.place == f"https://host/x/a.svs#{hashlib.sha256(b'https://host/x/a.svs?key=1').hexdigest()[:16]}"
    assert one.n_bytes is None
    mine = (KnownSlide("mine", one.place, None),)
    assert named("https://host/x/a.svs?key=2", mine).ids == ("mine",)
    assert named("https://host/y/a.svs?key=1", mine).ids == ("a",)
    assert named("https://host/x/a.svs?key=2", mine, image=1).ids == ("a",)


def test_a_dicom_slide_lies_in_its_folder_by_its_series(tmp_path: Path) -> None:
    one = draw_dicom(tmp_path / "d" / "b", "1.2.3")
    expected = f"{tmp_path / 'd'}#1.2.3"
    assert place_of(one, str(one)) == expected
    assert place_of(tmp_path / "d", str(tmp_path / "d")) == expected
    file(tmp_path / "d" / "a.txt")
    assert place_of(tmp_path / "d", str(tmp_path / "d")) == expected
    nameless = draw_dicom(tmp_path / "e" / "x", "")
    for other in (nameless, tmp_path / "e", tmp_path / "absent", file(tmp_path / "f" / "g.svs"), tmp_path / "f"):
        assert place_of(other, "here") == "here"
    draw_dicom(tmp_path / "z.zarr" / "x", "1.2.3")
    assert place_of(tmp_path / "z.zarr", "here") == "here"
    odd = tmp_path / "odd"
    odd.write_bytes(one.read_bytes().replace(b"1.2.3\0", b"1.2.\xe9\0"))
    assert place_of(odd, str(odd)) == f"{tmp_path}#1.2.\\xe9"
    # Moved, it is known by its folder's name and its series.
    before = (known("was", f"{tmp_path / 'old'}#1.2.3"),)
    folder = slide(tmp_path / "d")
    assert name_slides([folder], before, tmp_path).ids == ("d",)
    assert name_slides([folder], (known("was", f"{tmp_path / 'old' / 'd'}#1.2.3"),), tmp_path).ids == ("was",)
    still = draw_dicom(tmp_path / "still" / "d" / "x", "1.2.3").parent
    assert name_slides([folder], (known("was", f"{still}#1.2.3"),), tmp_path).ids == ("d",)


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    kept = (known("a", "/x/\udce9.svs", 5, 2), known("ß", "https://host/a#1", None))
    keep_known(tmp_path, kept)
    assert read_known(tmp_path) == kept
    text = (tmp_path / IDS_NAME).read_bytes()
    assert text.isascii()
    assert text.endswith(b"}\n")
    assert text.count(b"\n ") > 5, "one line a value, for a person"
    assert read_known(tmp_path / "absent") == read_known(tmp_path / IDS_NAME) == ()
    (tmp_path / IDS_NAME).write_text('{"slides": [{"id": 3, "place": "p", "n_bytes": null}]}')
    assert read_known(tmp_path) == (known("3", "p"),), "without an image, as before there was one"
    (tmp_path / IDS_NAME).write_text('{"slides": [{"id": 3, "place": "p"}]}')
    with pytest.raises(UsageError, match="it keeps the ids"):
        read_known(tmp_path)


def options(**values: Any) -> RunOptions:
    return RunOptions(**{"mpp": MPP, "workers": 0, "block_px": 128, "tile_px": 128, **values})


@pytest.mark.usefixtures("stand_in")
def test_a_run_that_goes_on_says_what_was_done_before(tmp_path: Path) -> None:
    path = draw_slide(tmp_path / "slide.png", 200, 160, 1)
    events: list[Event] = []

    def stop_at_a_block(event: Event) -> None:
        events.append(event)
        if isinstance(event, BlockDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_slide(path, tmp_path / "out", options(), stop_at_a_block)
    (planned,) = (event for event in events if isinstance(event, RunPlanned))
    assert (planned.n_blocks, planned.n_done_before, planned.n_tiles_before, planned.n_nuclei_before) == (4, 0, 0, 0)
    prepared = prepare_slide(path, tmp_path / "out", options(), "slide")
    assert isinstance(prepared, PreparedSlide)
    (done,) = prepared.before.values()
    assert len(prepared.todo) == 3
    assert {block.index for block in prepared.todo} == set(range(4)) - set(prepared.before)
    told = prepared.announcement(7)
    assert (told.slide, told.n_blocks, told.n_done_before, told.n_workers) == (str(path), 4, 1, 7)
    assert (told.n_tiles, told.n_tiles_before) == (planned.n_tiles, done.n_tiles)
    assert told.n_nuclei_before == done.n_nuclei > 0
    assert told.notes[0].startswith("model stand-in: ")
    assert (prepared.notes, prepared.folder, prepared.seconds >= 0) == ((), str(tmp_path / "out" / "slide"), True)


@pytest.mark.usefixtures("stand_in")
def test_a_run_that_is_finished_is_told_unless_other_things_are_asked_for(tmp_path: Path) -> None:
    path = draw_slide(tmp_path / "slide.png", 100, 90, 1)
    first = run_slide(path, tmp_path / "out", options(), ignore_events)
    finished = prepare_slide(path, tmp_path / "out", options(), "slide")
    assert isinstance(finished, RunSummary)
    assert finished.is_finished
    assert finished.restored == ""
    other = prepare_slide(path, tmp_path / "out", options(tile_px=64), "slide")
    assert isinstance(other, PreparedSlide)
    assert other.before == {}
    assert other.notes == ("results of other options or another version in this folder were replaced.",)
    anew = prepare_slide(path, tmp_path / "out", options(overwrite=True), "slide")
    assert isinstance(anew, PreparedSlide)
    assert anew.before == {}
    assert anew.request == first.request_key != other.request
    assert not (tmp_path / "out" / "slide" / Artefact.SUMMARY).exists()
    assert (tmp_path / "out" / "slide" / Artefact.SHARDS).is_dir()
