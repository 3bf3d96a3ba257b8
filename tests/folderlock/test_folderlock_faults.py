"""Locks held in a container that has the host's name and numbers of processes of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wsipsm.errors import UsageError
from wsipsm.folderlock import hold_folder

BEAT_S = 0.5
HOLDER = """
import sys, time
from pathlib import Path
from wsipsm.folderlock import hold_folder
with hold_folder(Path(sys.argv[1]), {beat}):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("apart", [("--pid", "--fork", "--mount-proc"), ("--time", "--boottime", "86400")])
def test_a_holder_in_a_container_of_this_host_is_seen_by_its_signs_of_life(
    tmp_path: Path, apart: tuple[str, ...]
) -> None:
    inside = ["unshare", "--kill-child", *apart]
    try:
        tried = subprocess.run([*inside, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no 'unshare' on this machine")
    if tried.returncode:
        pytest.skip(f"this machine makes no namespaces: {tried.stderr.strip()}")
    command = [*inside, sys.executable, "-c", HOLDER.format(beat=BEAT_S), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(UsageError, match="works on it"), hold_folder(tmp_path, BEAT_S):
                pass
        finally:
            holder.kill()
    with hold_folder(tmp_path, BEAT_S) as lock:
        assert "left behind" in lock.note
