"""What is said of a path at which no file is, and of names that cannot be written."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from wsipsm.errors import UsageError
from wsipsm.folderlock import hold_folder
from wsipsm.paths import find_bad_name, find_no_file, require_plain_name


@pytest.mark.parametrize(
    ("text", "words", "remedy"),
    [
        ("absent.svs", "no such file", "Check the path"),
        ("a.txt/below.svs", "no such file", "Check the path"),
        ("~/slides/a.svs", "~ stands for itself", "whole path"),
        ("~ann/a.svs", "~ stands for itself", "whole path"),
        (r"C:\Users\ann\a.svs", "path of Windows", "/mnt/c/Users/ann/a.svs"),
        ("d:/slides/a.svs", "path of Windows", "/mnt/d/slides/a.svs"),
        (r"\\server\share\a.svs", "network path of Windows", "Mount"),
        ("//server/share/a.svs", "network path of Windows", "Mount"),
        (r"slides\a.svs", "does not divide folders", "/ between"),
        ("'a b.svs'", "quotes are a part", "Leave them out"),
        ("\u201ca.svs\u201d", "quotes are a part", "Leave them out"),
        ("x" * 300, "too long", "path"),
        ("loop.svs", "leads back to itself", "Name the file itself"),
        ("dangling.svs", "a link to gone.svs, where nothing is", "Name the file itself"),
        ("folder", "a folder", "Check the path"),
        ("pipe.svs", "a named pipe", "Check the path"),
        ("socket.svs", "a socket", "Check the path"),
        ("/dev/null", "a device", "Check the path"),
        ("a\0b", "NUL", "Check the path"),
    ],
)
def test_what_is_there_in_place_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str, remedy: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("x")
    Path("folder").mkdir()
    os.mkfifo("pipe.svs")
    os.symlink("loop.svs", "loop.svs")
    os.symlink("gone.svs", "dangling.svs")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.svs")
        found = find_no_file(Path(text))

    assert found is not None
    assert words in found[0]
    assert remedy in found[1]
    assert find_no_file(Path("a.txt")) is None


def test_names_that_are_not_utf8_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")

    assert r"caf\xe9" in str(find_bad_name(bad))
    with pytest.raises(UsageError, match="not UTF-8"):
        require_plain_name(bad)
    with pytest.raises(UsageError, match="not UTF-8"), hold_folder(Path(bad)):
        pass
    assert not os.path.lexists(bad)
    require_plain_name(tmp_path / "caf\u00e9 \u540d")
    os.mkdir(bad)
    monkeypatch.chdir(bad)
    with pytest.raises(UsageError, match="not UTF-8"):
        require_plain_name("out")
