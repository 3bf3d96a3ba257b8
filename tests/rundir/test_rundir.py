"""The output folder: whole files under final names, or none."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsipsm.errors import OutputError
from wsipsm.geometry import Box
from wsipsm.keys import Artefact
from wsipsm.rundir import TEMPORARY_PREFIX, RunDir, digest, is_alive, output_error, write_aside
from wsipsm.tiling import Block


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = shutil.which("mount") is not None and hasattr(os, "geteuid") and os.geteuid() == 0
    if mounted:
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    if not mounted:
        pytest.skip("a tmpfs cannot be mounted here (root is needed)")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "cells.geojson.gz"
    with write_aside(path) as temporary:
        assert temporary.name.endswith(path.name)
        assert temporary.parent == path.parent
        temporary.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyboardInterrupt()])
def test_failure_keeps_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(b"old")

    def write() -> None:
        with write_aside(path) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_is_told_with_path_and_free_space(tiny_disk: Path) -> None:
    path = tiny_disk / "cells.parquet"
    path.write_bytes(b"old")

    def write() -> None:
        with write_aside(path) as temporary:
            temporary.write_bytes(bytes(200_000))

    with pytest.raises(OutputError, match=r"cells\.parquet: the disk is full \(.* MiB free\)") as caught:
        write()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.exit_code == 6
    assert [entry.name for entry in tiny_disk.iterdir()] == ["cells.parquet"]
    assert path.read_bytes() == b"old"


def test_other_errors_of_the_system_pass_through(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="unrelated"), write_aside(tmp_path / "x"):
        raise OSError(errno.EPIPE, "unrelated")


def test_folder_that_cannot_be_made_is_refused_before_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match="cannot be written"):
        RunDir(tmp_path / "file" / "slide").create()


def test_what_dead_runs_left_is_cleared_and_what_lives_is_not(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "slide")
    run_dir.create()
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    host = socket.gethostname()
    dead = run_dir.root / f"{TEMPORARY_PREFIX}{host}-{int(done.stdout)}-cells.parquet"
    dead_shard = run_dir.path(Artefact.SHARDS) / dead.name
    alive = run_dir.root / f"{TEMPORARY_PREFIX}{host}-{os.getppid()}-cells.parquet"
    elsewhere = run_dir.root / f"{TEMPORARY_PREFIX}other.host-1-cells.parquet"
    final = run_dir.path(Artefact.CELLS)
    for path in (dead, dead_shard, alive, elsewhere, final):
        path.write_bytes(b"x")
    run_dir.create()
    assert [path.exists() for path in (dead, dead_shard, alive, elsewhere, final)] == [False, False, True, True, True]


@pytest.mark.parametrize("number", ["9" * 30, str(2**31), "\u00b2", "x"])
def test_odd_numbers_in_names_are_no_process(tmp_path: Path, number: str) -> None:
    run_dir = RunDir(tmp_path / "slide")
    run_dir.create()
    left = run_dir.root / f"{TEMPORARY_PREFIX}{socket.gethostname()}-{number}-cells.parquet"
    left.touch()
    run_dir.create()
    assert left.exists() != number.isdecimal(), "what no process can have written is taken away, other names are not"


def test_processes_live_or_not() -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    assert is_alive(os.getpid())
    assert is_alive(1), "one of another user lives, too"
    assert not any(is_alive(pid) for pid in (int(ended.stdout), -1, 2**31, 10**30))


def test_shards_are_removed_but_those_kept(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.create()
    blocks = [Block(column, 0, column, Box(0, 0, 1, 1)) for column in range(2)]
    paths = [run_dir.shard_path("key", block) for block in blocks]
    assert paths[1].name == "00000-00001-key.parquet"
    for path in paths:
        path.write_bytes(b"x")
    run_dir.remove_shards(keep=paths[:1])
    assert [path.exists() for path in paths] == [True, False]
    run_dir.remove_shards()
    assert not run_dir.path(Artefact.SHARDS).exists()


def test_json_round_trip_and_damage(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.write_json(Artefact.SUMMARY, {"n": 1})
    assert run_dir.read_json(Artefact.SUMMARY) == {"n": 1}
    run_dir.path(Artefact.SUMMARY).write_text("{")
    assert run_dir.read_json(Artefact.SUMMARY) is None
    run_dir.remove(Artefact.SUMMARY)
    assert run_dir.read_json(Artefact.SUMMARY) is None


def test_digest_depends_on_values_not_on_order() -> None:
    assert digest({"a": 1, "b": [1.5]}) == digest({"b": [1.5], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert len(digest(None)) == 16


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EFBIG, "larger than allowed"),
        (errno.EDQUOT, "the quota on this disk is used up"),
        (errno.ENOSPC, "the disk is full"),
    ],
)
def test_each_limit_on_room_is_called_by_its_name(tmp_path: Path, number: int, words: str) -> None:
    said = str(output_error(tmp_path / "cells.parquet", OSError(number, os.strerror(number))))

    assert words in said
    assert "finished blocks are kept" in said
    assert ("disk is full" in said) == (number == errno.ENOSPC)


def test_a_limit_on_the_size_of_files_is_told_with_its_value(tmp_path: Path) -> None:
    program = (
        "import resource, sys; from pathlib import Path; from wsipsm.rundir import write_aside\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "with write_aside(Path(sys.argv[1])) as aside: aside.write_bytes(bytes(10000))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.bin")], capture_output=True, text=True, check=False
    )

    assert "a.bin: the file would be larger than allowed ('ulimit -f' allows 4,096 bytes)" in ended.stderr
    assert os.listdir(tmp_path) == []
