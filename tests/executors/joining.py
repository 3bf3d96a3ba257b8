"""Tasks for workers that join late, and what they say they run: by the environment, another version."""

from __future__ import annotations

import os


def fingerprint() -> str:
    return f"wsipsm 1, torch {os.environ.get('JOINS_WITH_TORCH', '2')}, numpy 3"


def wait_a_little(number: int) -> str:
    import time

    from distributed import get_worker

    time.sleep(0.1)
    return str(get_worker().address)
