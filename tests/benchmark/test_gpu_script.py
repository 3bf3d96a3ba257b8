"""The benchmark of a GPU says why it measures nothing where there is none; tests see none."""

from __future__ import annotations

import pytest

from benchmarks import gpu


def test_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--he", "absent.png"])
    shown = capsys.readouterr().out
    assert shown.startswith("not measured: ")
    assert any(reason in shown for reason in ("built without CUDA", "no NVIDIA driver", "sees no GPU"))
