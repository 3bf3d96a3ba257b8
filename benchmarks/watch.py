"""Runs a command and measures the memory of its whole process tree."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

INTERVAL_S = 0.2


@dataclass
class Usage:
    """Peak memory of a command and its children."""

    rss_bytes: int = 0
    """Sum of resident sets, in which a shared page counts once for each process."""
    pss_bytes: int = 0
    """Sum of proportional sets, in which a shared page counts once; 0 where the system does not report it."""
    n_processes: int = 0
    largest_rss_bytes: int = 0
    """Largest resident set of a single process."""
    seconds: float = 0.0
    exit_code: int = 0
    output: str = ""
    """Standard output and error."""


def run_watched(command: Sequence[str]) -> Usage:
    """Run a command to its end, and sample its tree every 0.2 s."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    usage, done = Usage(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, usage, done), daemon=True)
    watcher.start()
    usage.output = process.communicate()[0]
    done.set()
    watcher.join()
    usage.seconds, usage.exit_code = time.perf_counter() - start, process.returncode
    return usage


def _watch(pid: int, usage: Usage, done: threading.Event) -> None:
    while not done.wait(INTERVAL_S):
        try:
            root = psutil.Process(pid)
            family = [root, *root.children(recursive=True)]
        except psutil.Error:
            return
        sizes = [size for member in family if (size := _sizes(member)) is not None]
        if not sizes:
            continue
        usage.rss_bytes = max(usage.rss_bytes, sum(rss for rss, _ in sizes))
        usage.pss_bytes = max(usage.pss_bytes, sum(pss for _, pss in sizes))
        usage.largest_rss_bytes = max(usage.largest_rss_bytes, *(rss for rss, _ in sizes))
        usage.n_processes = max(usage.n_processes, len(sizes))


def _sizes(process: psutil.Process) -> tuple[int, int] | None:
    try:
        full = process.memory_full_info()
    except psutil.Error:
        return None  # it ended meanwhile
    return full.rss, getattr(full, "pss", 0)
