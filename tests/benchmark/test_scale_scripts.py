"""The scripts that measure schedulers find the stand-in for a network that the tests have."""

from importlib import import_module
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_the_stand_in_is_where_the_scripts_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    stand_in: Path = import_module("scale_pool").STAND_IN
    assert stand_in.is_file()
    assert "def install()" in stand_in.read_text(encoding="utf-8")
