"""Compiled networks are kept for the user's next process, give the same scores, and come from nobody else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import wsipsm
from wsipsm.doctor import _check_network_cache
from wsipsm.errors import ModelError
from wsipsm.models.card import ModelCard
from wsipsm.models.describe import open_describer
from wsipsm.models.predict import open_predictor
from wsipsm.models.registry import resolve_model

openvino = pytest.importorskip("openvino")
compiled = pytest.importorskip("wsipsm.models.compiled")

RGB = np.random.default_rng(4).integers(0, 256, (96, 128, 3), dtype=np.uint8)
on_posix = pytest.mark.skipif(os.name != "posix", reason="who may enter a folder is told by POSIX modes")
SAY = """
import sys
from wsipsm.models.describe import open_describer
from wsipsm.models.predict import open_predictor
from wsipsm.models.registry import resolve_model
open_predictor(*resolve_model("nuclei-he"))
open_describer(*resolve_model("nuclei-he"))
print("torch" in sys.modules)
"""


QUIET = """
import multiprocessing.process, sys
multiprocessing.process.BaseProcess.start = lambda self: print("a process was started")
from wsipsm.models.openvino_backend import open_compiled
import threading
for thread in threading.enumerate():
    if thread is not threading.current_thread():
        thread.join(20)
print("openvino_telemetry" in sys.modules)
import importlib.util
importlib.util.find_spec("openvino_telemetry")
"""


def test_openvino_reports_nothing_when_it_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
    assert not done.stderr


def test_openvino_is_imported_in_one_place() -> None:
    package = Path(wsipsm.__file__).parent
    plain = re.compile(r"^(import|from) openvino\b|import_module\(.openvino\b", re.MULTILINE)
    named = {file.name for file in package.rglob("*.py") if plain.search(file.read_text())}
    inside = {
        file.name for file in package.rglob("*.py") if re.search(r"^    import openvino\b", file.read_text(), re.M)
    }
    assert (named, inside) == (set(), {"quiet_openvino.py"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[NDArray[np.float32], Path]:
    """Scores of a network that was just converted, and the entry that it left."""
    place = tmp_path_factory.mktemp("made") / "networks"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(compiled.FOLDER_VARIABLE, str(place))
        found = scores()
    (entry,) = place.iterdir()
    return found, entry


@pytest.fixture
def filled(folder: Path, made: tuple[NDArray[np.float32], Path]) -> Path:
    """Give the entry of a folder that holds one."""
    folder.mkdir(mode=0o700)
    return Path(shutil.copy(made[1], folder))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "networks"
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, str(place))
    return place


def scores(threads: int = 1) -> NDArray[np.float32]:
    return open_predictor(*resolve_model("nuclei-he"), backend="openvino", threads=threads).predict(RGB)


def entries(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Inode and content by name: an entry that is made anew is another file."""
    return {file.name: (file.stat().st_ino, file.read_bytes()) for file in folder.iterdir()}


def test_a_kept_network_gives_the_same_bytes_and_is_not_made_again(
    folder: Path, filled: Path, made: tuple[NDArray[np.float32], Path]
) -> None:
    before = entries(folder)
    assert np.array_equal(scores(), made[0])
    # How many threads work makes no other network.
    assert np.array_equal(scores(threads=2), made[0])
    assert entries(folder) == before


def test_a_kept_network_describes_alike(folder: Path) -> None:
    made, kept = (open_describer(*resolve_model("nuclei-he")).describe(RGB) for _ in range(2))
    assert len(entries(folder)) == 1
    assert np.array_equal(made, kept)


def test_torch_is_loaded_only_where_nothing_is_kept(folder: Path) -> None:
    command = [sys.executable, "-c", SAY]
    said = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() for _ in range(2)]
    assert said == ["True", "False"]


@pytest.mark.parametrize("damage", [b"", b"short", "one bit", "cut", "another's"])
def test_a_damaged_entry_is_made_anew(
    filled: Path, made: tuple[NDArray[np.float32], Path], damage: bytes | str
) -> None:
    entry = filled
    whole = entry.read_bytes()
    if damage == "one bit":
        entry.write_bytes(whole[:-1000] + bytes([whole[-1000] ^ 1]) + whole[-999:])
    elif damage == "cut":
        entry.write_bytes(whole[:-1])
    elif damage == "another's":  # whole, and nothing that OpenVINO can load here
        entry.unlink()
        compiled._write_entry(entry, b"of another make")
    else:
        assert isinstance(damage, bytes)
        entry.write_bytes(damage)
    assert np.array_equal(scores(), made[0])
    digest, content = compiled._CHECKSUM_BYTES, entry.read_bytes()
    assert compiled._read_entry(entry) == content[digest:]
    assert len(content) > len(whole) // 2  # names in it differ from time to time


@pytest.mark.usefixtures("filled")
def test_another_network_is_another_entry(folder: Path) -> None:
    open_predictor(*resolve_model("ki67-ihc"), backend="openvino")
    assert len(entries(folder)) == 2


@on_posix
def test_the_folder_is_the_users_alone(folder: Path) -> None:
    scores()
    assert folder.stat().st_mode & 0o777 == 0o700


@on_posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o701])
def test_a_folder_that_others_enter_is_not_trusted(
    folder: Path, filled: Path, made: tuple[NDArray[np.float32], Path], mode: int
) -> None:
    # What lies there would be believed by its checksum, and is another network's.
    open_describer(*resolve_model("nuclei-he"))
    (other,) = set(folder.iterdir()) - {filled}
    filled.write_bytes(other.read_bytes())
    folder.chmod(mode)
    assert compiled.find_folder() == (folder, "other users can enter it")
    before = entries(folder)
    assert np.array_equal(scores(), made[0])
    assert entries(folder) == before


@on_posix
def test_a_link_to_a_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    folder.symlink_to(elsewhere)
    assert compiled.private_folder() is None
    finding = _check_network_cache()
    assert (finding.state, finding.found) == ("note", f"{folder} is not used: it is a link or a file")
    assert compiled.FOLDER_VARIABLE in finding.remedy
    scores()
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("chosen", ["off", "OFF", "\0", "file"])
def test_without_a_folder_nothing_is_kept_and_all_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: tuple[NDArray[np.float32], Path], chosen: str
) -> None:
    (tmp_path / "file").write_text("")
    if chosen == "\0":  # no system's variables hold it; a path may
        monkeypatch.setattr(compiled, "_chosen_folder", lambda: Path(chosen))
    else:
        monkeypatch.setenv(compiled.FOLDER_VARIABLE, str(tmp_path / chosen) if chosen == "file" else chosen)
    assert compiled.private_folder() is None
    assert np.array_equal(scores(), made[0])


def test_the_users_folder_is_taken_where_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(compiled.FOLDER_VARIABLE, raising=False)
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert compiled.find_folder() == (tmp_path / "wsipsm" / "networks", "")


def test_only_some_entries_are_kept(folder: Path) -> None:
    place = compiled.private_folder()
    (place / "foreign.txt").write_text("left alone")
    for number in range(compiled._N_KEPT + 3):
        compiled._write_entry(place / f"{number:03d}.network", b"network")
        os.utime(place / f"{number:03d}.network", (number, number))
    compiled._write_entry(place / "last.network", b"network")
    names = sorted(file.name for file in place.iterdir())
    assert len(names) == compiled._N_KEPT + 1
    assert names[0] == "004.network"
    assert names[-2:] == ["foreign.txt", "last.network"]


@pytest.mark.usefixtures("filled")
def test_damaged_weights_are_refused_although_their_network_is_kept(tmp_path: Path) -> None:
    weights, card = resolve_model("nuclei-he")
    damaged = tmp_path / "damaged.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(ModelError, match="damaged or belongs to another card"):
        open_predictor(damaged, ModelCard.model_validate(card), backend="openvino")
