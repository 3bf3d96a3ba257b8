"""Checks of what worker processes need of this machine, each by trying it. Dask is not imported."""

from __future__ import annotations

import multiprocessing
import socket
import subprocess
import sys
import tempfile

FILES_A_WORKER = 24
"""Open files that the process which starts workers needs for each worker; 13 were measured."""
_FILES_ANYWAY = 64
"""Open files that it needs without any worker."""
_CONNECT_S = 5.0
_START_S = 60.0


def shared_memory_problem() -> str:
    """Describe why processes cannot share a lock, such as an unwritable /dev/shm; empty when they can."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError) as error:
        return f"/dev/shm cannot be used ({_reason(error)}); processes share locks there"
    return ""


def loopback_problem() -> str:
    """Describe why processes of this machine cannot reach each other at 127.0.0.1; empty when they can."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(_CONNECT_S)
            with socket.create_connection(server.getsockname(), timeout=_CONNECT_S):
                server.accept()[0].close()
    except OSError as error:
        return f"127.0.0.1, the loopback network, cannot be used ({_reason(error)}); processes communicate over it"
    return ""


def temporary_folder_problem() -> str:
    """Describe why no temporary folder can be made; empty when one can."""
    try:
        with tempfile.TemporaryDirectory(prefix="wsipsm-try-"):
            return ""
    except OSError as error:
        return f"no temporary folder can be made ({_reason(error)}); set TMPDIR to a folder that can be written"


def process_problem() -> str:
    """Describe why no further process can be started; empty when one can."""
    try:
        ended = subprocess.run(
            [sys.executable, "-I", "-S", "-c", "pass"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_START_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"no further process can be started ({_reason(error)})"
    return f"a process that was started ended with {ended.returncode}" if ended.returncode else ""


def open_files_problem(n_workers: int) -> str:
    """Describe why ``n_workers`` would need more open files than are allowed; empty when they would not."""
    try:
        import resource
    except ImportError:  # not on Windows
        return ""
    granted, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _FILES_ANYWAY + FILES_A_WORKER * n_workers
    if granted != resource.RLIM_INFINITY and granted < needed:
        return f"{granted} open files are granted, {n_workers} workers need {needed}; raise 'ulimit -n'"
    return ""


def ground_problems(n_workers: int) -> list[str]:
    """List what prevents ``n_workers`` from being started, one sentence each; this takes moments."""
    found = [
        temporary_folder_problem(),
        shared_memory_problem(),
        loopback_problem(),
        open_files_problem(n_workers),
    ]
    return [problem for problem in found if problem]


def _reason(error: BaseException) -> str:
    said = getattr(error, "strerror", None) or " ".join(str(error).split())
    return str(said or type(error).__name__)
