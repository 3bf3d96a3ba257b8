"""A slide is the same when its bytes are: all of them, of all its files, and nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wsipsm.errors import SlideOpenError
from wsipsm.slide.fingerprint import FileStamp, fingerprint_array, fingerprint_slide, slide_files, stamp_slide

N_BYTES = 700_000


def draw(path: Path, seed: int = 0, n_bytes: int = N_BYTES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.random.default_rng(seed).bytes(n_bytes))
    return path


def change(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))


def test_the_fingerprint_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.svs")
    assert fingerprint_slide(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("place", [0, 1, 65_536, 65_537, 123_456, 350_000, N_BYTES // 2, N_BYTES - 65_537, N_BYTES - 1])
def test_one_changed_bit_anywhere_makes_another_slide(tmp_path: Path, place: int) -> None:
    path = draw(tmp_path / "a.svs")
    first = fingerprint_slide(path)
    change(path, place)
    assert fingerprint_slide(path) != first
    change(path, place)
    assert fingerprint_slide(path) == first


def replaced_keeping_times(path: Path) -> None:
    new = draw(path.with_name("new"), 1)
    shutil.copystat(path, new)
    shutil.copy2(new, path)


def renamed_over(path: Path) -> None:
    new = draw(path.with_name("new"), 1)
    shutil.copystat(path, new)
    new.replace(path)


def forged_time(path: Path) -> None:
    before = path.stat()
    change(path, 5)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def changed_at_once(path: Path) -> None:
    change(path, 5)


def changed_through_a_link(path: Path) -> None:
    os.link(path, path.with_name("link"))
    forged_time(path.with_name("link"))


CHANGES = [replaced_keeping_times, renamed_over, forged_time, changed_at_once, changed_through_a_link]


@pytest.mark.parametrize("is_old", [True, False], ids=["written long ago", "just written"])
@pytest.mark.parametrize("make", CHANGES, ids=lambda make: make.__name__)
def test_a_change_is_seen_however_it_is_made(
    tmp_path: Path, make: Callable[[Path], None], is_old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = draw(tmp_path / "a.svs")
    if is_old:  # as if it had been written long ago, so that it is remembered
        monkeypatch.setattr("wsipsm.slide.fingerprint._OLD_NS", -(10**18))
    first = fingerprint_slide(path)
    assert fingerprint_slide(path) == first
    before = stamp_slide(path)
    if is_old:
        wait_for_a_tick(tmp_path, path)
    make(path)
    assert fingerprint_slide(path) != first
    if is_old:
        assert stamp_slide(path) != before


@pytest.mark.parametrize(("age_s", "is_read_again"), [(0.0, True), (2.5, True), (60.0, False)])
def test_only_a_file_that_was_left_alone_for_a_while_is_remembered(
    tmp_path: Path, age_s: float, is_read_again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system whose clock stands still: what is written within a tick has one time of change."""
    path = draw(tmp_path / "a.svs")
    found = path.stat()
    changed_ns = time.time_ns() - int(age_s * 1e9)
    stamp = FileStamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, changed_ns)
    monkeypatch.setattr("wsipsm.slide.fingerprint._stamp", lambda _: stamp)
    first = fingerprint_slide(path)
    change(path, 5)
    assert (fingerprint_slide(path) != first) is is_read_again


def wait_for_a_tick(folder: Path, path: Path) -> None:
    """Let the file system's clock go on behind a file's time of change."""
    probe = folder / "probe"
    probe.touch()
    while probe.stat().st_ctime_ns <= path.stat().st_ctime_ns:
        probe.touch()


def test_a_slide_may_be_moved_renamed_and_copied(tmp_path: Path) -> None:
    one = draw(tmp_path / "a.svs")
    first = fingerprint_slide(one)
    two = tmp_path / "elsewhere" / "b.tiff"
    two.parent.mkdir()
    shutil.copyfile(one, two)
    assert fingerprint_slide(two) == first
    assert fingerprint_slide(one.rename(tmp_path / "c.svs")) == first
    os.symlink(two, tmp_path / "link.svs")
    assert fingerprint_slide(tmp_path / "link.svs") == first


def draw_mirax(folder: Path, stem: str, seed: int = 0) -> Path:
    path = draw(folder / f"{stem}.mrxs", seed, 500)
    data = folder / stem
    for n, name in enumerate(("Index.dat", "Data0000.dat", "DATA0001.DAT")):
        draw(data / name, seed + n, 1000)
    (data / "Slidedat.ini").write_text(
        "[GENERAL]\nINDEXFILE = Index.dat\nFILE_0 = Data0000.dat\nFILE_1 = data0001.dat\n"
    )
    return path


def test_a_mirax_is_its_file_and_what_its_index_names(tmp_path: Path) -> None:
    path = draw_mirax(tmp_path, "a")
    first = fingerprint_slide(path)
    assert len(slide_files(path)) == 5
    assert fingerprint_slide(draw_mirax(tmp_path / "moved", "other name")) == first
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    assert fingerprint_slide(path) == first, "left by a file manager"
    for name in ("Index.dat", "Data0000.dat", "DATA0001.DAT", "Slidedat.ini"):
        change(tmp_path / "a" / name, 20)
        assert fingerprint_slide(path) != first
        change(tmp_path / "a" / name, 20)
    one, two = (tmp_path / "a" / name for name in ("Data0000.dat", "DATA0001.DAT"))
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    assert fingerprint_slide(path) != first, "two files have changed their places"


def test_a_vms_is_its_file_and_the_pictures_it_names(tmp_path: Path) -> None:
    path = tmp_path / "x.vms"
    path.write_text("[Virtual Microscope Specimen]\nImageFile=x.jpg\nMapFile=x_map.jpg\n")
    for n, name in enumerate(("x.jpg", "x_map.jpg", "other.jpg")):
        draw(tmp_path / name, n, 1000)
    first = fingerprint_slide(path)
    change(tmp_path / "other.jpg", 0)
    assert fingerprint_slide(path) == first
    change(tmp_path / "x.jpg", 500)
    assert fingerprint_slide(path) != first


def test_a_zarr_is_all_of_its_files_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "a.zarr"
    draw(folder / "0" / "0.0", 0, 100)
    draw(folder / "0" / "0.1", 1, 100)
    first = fingerprint_slide(folder)
    for left_by_a_system in (".DS_Store", "0/._0.0", "Thumbs.db", "desktop.ini"):
        (folder / left_by_a_system).write_bytes(b"x")
    assert fingerprint_slide(folder) == first
    (folder / "0" / "0._").write_bytes(b"x")
    assert fingerprint_slide(folder) != first
    (folder / "0" / "0._").unlink()
    (folder / "0" / "0.0").rename(folder / "0" / "swap")
    (folder / "0" / "0.1").rename(folder / "0" / "0.0")
    (folder / "0" / "swap").rename(folder / "0" / "0.1")
    assert fingerprint_slide(folder) != first


def test_an_array_is_known_by_its_shape_and_all_its_bytes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3)).astype(np.uint8)
    first = fingerprint_array(pixels)
    assert fingerprint_array(pixels.copy(order="F")) == first
    assert fingerprint_array(np.flip(np.flip(pixels, 0).copy(), 0)) == first
    changed = pixels.copy()
    changed[-1, -1, -1] ^= 1
    others = [fingerprint_array(other) for other in (changed, pixels.reshape(4, 6, 3), pixels[:-1], pixels[::-1])]
    assert len({first, *others}) == 5


@pytest.mark.parametrize("name", ["empty.zarr", "empty", "absent.svs"])
def test_nothing_has_no_fingerprint(tmp_path: Path, name: str) -> None:
    if name != "absent.svs":
        (tmp_path / name).mkdir()
    with pytest.raises(SlideOpenError):
        fingerprint_slide(tmp_path / name)
    assert stamp_slide(tmp_path / name) in (None, ())
