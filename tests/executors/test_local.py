"""A local cluster: who may join it, and what is said where it cannot be started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from distributed import LocalCluster
from PIL import Image

from wsipsm import machine
from wsipsm.errors import UsageError
from wsipsm.executors.dask import DaskExecutor
from wsipsm.machine import ground_problems, process_problem

_NOBODY = 65534
_PROBE_S = 120.0
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can act as another user or hide /dev/shm"
)

# What another user of the machine would try at a port: run code there, with no keys, and with keys of his own.
PROBE = """
import asyncio, os, socket, sys
from distributed.core import rpc
from distributed.protocol.pickle import dumps
from distributed.security import Security

def owner(dask_scheduler=None):
    import os
    return os.getuid()

async def submit(address, **args):
    async with rpc(address, connection_args=args, timeout=4) as server:
        return await asyncio.wait_for(server.run_function(function=dumps(owner), args=dumps(()), kwargs=dumps({})), 10)

def answers_http(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.settimeout(10)
        connection.sendall(b"GET /health HTTP/1.0\\r\\n\\r\\n")
        try:
            return connection.recv(20).startswith(b"HTTP")
        except OSError:
            return False

# Only now: another user may not be able to read this Python.
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
for port in map(int, sys.argv[2:]):
    own = Security.temporary().get_connection_args("client")
    for protocol, args in (("tcp", {}), ("tls", own)):
        try:
            said = asyncio.run(submit(f"{protocol}://127.0.0.1:{port}", **args))
            print("ran" if said.get("status") == "OK" else said, os.getuid())
        except Exception as error:
            print("refused", type(error).__name__)
    print("page" if answers_http(port) else "no page")
"""


def listening_ports(pid: int | None = None) -> list[int]:
    """Ports at which a process, this one without its number, and those that it started listen."""
    here = psutil.Process(pid)
    found = set()
    for process in (here, *here.children(recursive=True)):
        found |= {c.laddr.port for c in process.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN}
    return sorted(found)


def try_as_nobody(ports: list[int]) -> list[str]:
    """Lines of what came of all tries of another user."""
    ran = subprocess.run(
        [sys.executable, "-c", PROBE, str(_NOBODY), *map(str, ports)],
        capture_output=True,
        text=True,
        timeout=_PROBE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split("\n")[:-1]


@needs_root
def test_another_user_of_the_machine_is_refused_at_every_port() -> None:
    before = set(listening_ports())
    with DaskExecutor(n_workers=1) as executor:
        assert executor.n_workers == 1
        ports = sorted(set(listening_ports()) - before)
        assert len(ports) == 3  # scheduler, nanny, worker
        lines = try_as_nobody(ports)
    assert len(lines) == 3 * len(ports)
    assert {line.split()[0] for line in lines} == {"refused", "no"}


@needs_root
@pytest.mark.slow
def test_another_user_is_refused_by_a_run(tmp_path: Path) -> None:
    dots = np.full((64, 64, 3), 235, np.uint8)
    dots[20:44, 20:44] = (70, 60, 140)
    Image.fromarray(np.tile(dots, (48, 48, 1))).save(tmp_path / "a.png")
    size = ("--block-px", "256", "--tile-px", "256")
    command = ("run", str(tmp_path / "a.png"), "--mpp", "0.25", "--workers", "1", "--out", str(tmp_path / "out"), *size)
    with subprocess.Popen([sys.executable, "-c", "from wsipsm.cli.start import main; main()", *command]) as run:
        try:
            while not any((tmp_path / "out").glob("*/shards/*.parquet")):
                assert run.poll() is None
                time.sleep(0.1)
            ports = listening_ports(run.pid)
            assert len(ports) == 3
            lines = try_as_nobody(ports)
            assert run.poll() is None
        finally:
            run.terminate()
    assert {line.split()[0] for line in lines} == {"refused", "no"}
    assert run.returncode == 143


@needs_root
def test_the_same_tries_succeed_at_an_open_cluster() -> None:
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        lines = try_as_nobody([cluster.scheduler.port, cluster.scheduler.http_server.port])
    assert f"ran {_NOBODY}" in lines
    assert "page" in lines


def test_keys_lie_nowhere_while_workers_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with DaskExecutor(n_workers=1) as executor:
        assert [outcome.result for outcome in executor.run(abs, [-1])] == [1]
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o077 == 0
        held = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        assert not any(b"PRIVATE KEY" in content for content in held)
        for child in psutil.Process().children(recursive=True):
            assert "PRIVATE KEY" not in " ".join(child.cmdline()) + " ".join(child.environ().values())
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_wrong_here() -> None:
    assert ground_problems(1) == []
    assert process_problem() == ""


START = """
import sys
from wsipsm.executors.dask import DaskExecutor
from wsipsm.errors import UsageError
if __name__ == "__main__":
    try:
        DaskExecutor(n_workers=2).close()
    except UsageError as error:
        print(error)
"""


def start_within(tmp_path: Path, *around: str) -> str:
    """What is said when workers are started within something that takes from them what they need."""
    script = tmp_path / "start.py"
    script.write_text(START)
    ran = subprocess.run(
        [*around, f'"{sys.executable}" "{script}"'], capture_output=True, text=True, timeout=120, check=False
    )
    if "unshare" in ran.stderr or "mount:" in ran.stderr:
        pytest.skip(f"namespaces cannot be made here: {ran.stderr.splitlines()[0]}")
    assert ran.stderr == ""
    return ran.stdout


needs_unshare = pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")


@needs_root
@needs_unshare
@pytest.mark.parametrize(
    ("around", "told"),
    [
        (("unshare", "-n", "sh", "-c"), "127.0.0.1, the loopback network, cannot be used"),
        (
            (
                "unshare",
                "-m",
                "--propagation",
                "private",
                "sh",
                "-c",
                'mount -t tmpfs -o ro none /dev/shm && eval "$0"',
            ),
            "/dev/shm cannot be used (Read-only file system)",
        ),
    ],
)
def test_what_the_machine_lacks_is_said_with_the_way_out(tmp_path: Path, around: tuple[str, ...], told: str) -> None:
    said = start_within(tmp_path, *around)
    assert said.startswith("--workers 2: worker processes cannot be started: ")
    assert told in said
    assert "Pass --workers 0" in said
    assert said.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_too_few_open_files_are_said(tmp_path: Path) -> None:
    said = start_within(tmp_path, "sh", "-c", 'ulimit -n 60 && eval "$0"')
    assert "60 open files are granted, 2 workers need" in said


def test_no_temporary_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    assert "no temporary folder can be made" in machine.temporary_folder_problem()
    with pytest.raises(UsageError, match=r"--workers 1: .*no temporary folder.*Pass --workers 0"):
        DaskExecutor(n_workers=1)
