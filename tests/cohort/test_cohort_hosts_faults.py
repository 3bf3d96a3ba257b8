"""A cohort on machines that differ, and on machines whose network is cut."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import other_code
import pytest
from cohort_pool import START_S, Pool, draw_cohort, run_client, told
from distributed import Client

CUT_S = 30.0
_NET = "10.213.7"


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_a_worker_that_joins_with_another_torch_is_refused_by_name(tmp_path: Path) -> None:
    cohort, out = draw_cohort(tmp_path, 16), tmp_path / "out"

    def join(client: subprocess.Popen[str], n_done: int) -> None:
        if n_done == 1:
            client.send_signal(signal.SIGSTOP)  # until it has joined, which takes as long as some slides
            pool.add_worker(preload=other_code.HERE)
            with Client(pool.address, set_as_default=False) as asking:
                asking.wait_for_workers(3, timeout=START_S)
            client.send_signal(signal.SIGCONT)

    with ExitStack() as stack:
        pool = Pool(tmp_path, 2, stack)
        code, said = run_client(cohort.slides, out, "--scheduler", pool.address, then=join)
    assert code == 0, said
    cohort.check_same(out)
    (line,) = told(out, "worker refused")
    reason = line.reason
    assert reason.startswith("worker tcp://127.0.0.1:")
    assert f"has {other_code.TORCH}; torch " in reason
    assert reason.endswith("is needed. Install the same versions on every worker and start them again.")
    assert not told(out, "failed")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def three_hosts() -> Iterator[list[str]]:
    """Network namespaces with addresses .1, .2 and .3, whose cables meet in a bridge; gives their names."""
    if os.geteuid():
        pytest.skip("hosts made of network namespaces need root")
    mark = f"w{os.getpid() % 100_000}"
    names = [f"{mark}h{number}" for number in (1, 2, 3)]
    with ExitStack() as stack:
        try:
            ip("link", "add", f"{mark}b", "type", "bridge")
            stack.callback(ip, "link", "del", f"{mark}b")
            ip("link", "set", f"{mark}b", "up")
            for number, name in enumerate(names, start=1):
                ip("netns", "add", name)
                stack.callback(ip, "netns", "del", name)
                ip("link", "add", f"{name}o", "type", "veth", "peer", "name", "eth0", "netns", name)
                ip("link", "set", f"{name}o", "master", f"{mark}b", "up")
                ip("-n", name, "addr", "add", f"{_NET}.{number}/24", "dev", "eth0")
                ip("-n", name, "link", "set", "eth0", "up")
                ip("-n", name, "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"this machine makes no network namespaces: {getattr(error, 'stderr', error)}")
        yield names


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_a_host_that_is_cut_off_for_half_a_minute_costs_nothing(tmp_path: Path) -> None:
    cohort, out = draw_cohort(tmp_path, 20), tmp_path / "out"
    with ExitStack() as stack:
        names = stack.enter_context(three_hosts())
        inside = [("ip", "netns", "exec", name) for name in names]
        # Slow enough for the host to come back amid the cohort, on a fast machine too.
        pool = Pool(tmp_path, 0, stack, f"{_NET}.1", inside[0], WSIPSM_STAND_IN_DELAY_S="0.2")
        for host in inside[1:]:
            pool.add_worker(inside=host)
        cut: list[float] = []

        def cut_off(_: object, n_done: int) -> None:
            if n_done == 4:
                ip("link", "set", f"{names[2]}o", "down")
                cut.append(time.monotonic())
                back = threading.Timer(CUT_S, ip, ("link", "set", f"{names[2]}o", "up"))
                stack.callback(back.join)
                back.start()

        options = ("--scheduler", pool.address)
        code, said = run_client(cohort.slides, out, *options, then=cut_off, inside=inside[0])
        lasted_s = time.monotonic() - cut[0]
        assert code == 0, said
        assert lasted_s > CUT_S, "the host came back after the cohort's end"
    cohort.check_same(out)
