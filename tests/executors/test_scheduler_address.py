"""Addresses of a scheduler that cannot be used: what is wrong, in one line, and no traceback afterwards."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from distributed import LocalCluster

from wsipsm.errors import UsageError
from wsipsm.executors.greeting import check_scheduler
from wsipsm.executors.scheduler_address import check_address

QUIET = {"n_workers": 0, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1", "silence_logs": 60}


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("junk://x", "a scheduler cannot be reached by junk://"),
        ("inproc://127.0.0.1/1/1", "cannot be reached by inproc://"),
        ("ucx://host:8786", "cannot be reached by ucx://"),
        ("http://host:8787", "cannot be reached by http://"),
        ("://", "cannot be reached by ://"),
        ("tcp://", "it names no host"),
        ("", "it names no host"),
        ("tcp://:8786", "it names no host"),
        ("tcp://127.0.0.1:99999", "host and port cannot be read"),
        ("tcp://127.0.0.1:abc", "host and port cannot be read"),
        ("tcp://[::1", "host and port cannot be read"),
        ("tcp://host.invalid:8786", "no host of the name host.invalid is known"),
        ("tcp://" + "a" * 300 + ":1", "no host of the name"),
    ],
)
def test_an_address_that_cannot_be_one(address: str, said: str) -> None:
    with pytest.raises(UsageError, match=r"^--scheduler ") as caught:
        check_address(address)
    assert said in str(caught.value)


def test_a_port_at_which_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        check_address(address)
    with pytest.raises(UsageError, match="nothing listens there"):
        check_address(address)


@pytest.fixture(scope="module")
def web_port() -> Iterator[int]:
    """A port of an HTTP server."""

    class Silent(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("scheme", ["tcp", "tls", "ws"])
def test_a_port_of_something_else(web_port: int, scheme: str) -> None:
    with pytest.raises(UsageError, match="what listens there is no scheduler that can be used"):
        check_scheduler(f"{scheme}://127.0.0.1:{web_port}", 3)


def test_keys_that_do_not_fit() -> None:
    with LocalCluster(**QUIET, security=True) as closed:
        with pytest.raises(UsageError, match="no keys are configured here for tls://"):
            check_scheduler(closed.scheduler_address, 3)
        with pytest.raises(UsageError, match="what listens there is no scheduler that can be used"):
            check_scheduler(closed.scheduler_address.replace("tls", "tcp"), 3)


def test_a_scheduler_answers() -> None:
    with LocalCluster(**QUIET) as cluster:
        check_scheduler(cluster.scheduler_address, 30)
        check_scheduler(cluster.scheduler_address.removeprefix("tcp://"), 30)


@pytest.mark.parametrize("address", ["junk://x", "an HTTP server"])
def test_the_command_says_one_line(tmp_path: Path, web_port: int, address: str) -> None:
    code = "from wsipsm.cli.start import main\nmain()"
    given = f"tcp://127.0.0.1:{web_port}" if address == "an HTTP server" else address
    from PIL import Image

    Image.new("RGB", (600, 600), (120, 60, 140)).save(tmp_path / "a.png")
    ended = subprocess.run(
        [sys.executable, "-c", code, "run", str(tmp_path / "a.png"), "--mpp", "0.25", "-q", "--scheduler", given],
        cwd=tmp_path,
        env={**os.environ},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"error: --scheduler {given}: ")
    assert ended.stderr.count("\n") == 1
