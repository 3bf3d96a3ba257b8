"""How many functions a reader meets who follows a slide from the command to its first shard.

Counted are the functions on the call stack when the shard is written, and those that each of them calls itself until
then: a reader of the path meets both. Properties and constructors are left out, since they only name or make a value,
and so are comprehensions and lambdas, which stand where they are called. At commit 0f8ef42 this gave 32.
"""

from __future__ import annotations

import inspect
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from stand_in import MPP, draw_slide
from typer.testing import CliRunner

import wsipsm
from wsipsm.cli.main import app

PACKAGE = str(Path(wsipsm.__file__).parent)
MOST_FUNCTIONS, MOST_UPWARDS = 24, 4
FIRST, LAST = ("wsipsm.cli.run", "run"), ("wsipsm.instances.shard", "write_shard")
Function = tuple[str, str]
"""Module and qualified name."""


class Watch:
    """Notes, as a profile function of Python's, who calls whom until a function returns for the first time."""

    def __init__(self) -> None:
        self.calls: list[tuple[Function, Function]] = []
        self.stack: list[Function] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event not in ("call", "return") or self.stack or not is_own(frame.f_code):
            return
        if event == "call":
            callers = own_frames(frame.f_back)
            if (caller := next(callers, None)) is not None:
                self.calls.append((function_of(caller), function_of(frame)))
        elif function_of(frame) == LAST:
            self.stack = [function_of(one) for one in own_frames(frame)][::-1]

    def path(self) -> list[Function]:
        """Functions on the stack from the command on."""
        return self.stack[self.stack.index(FIRST) :]

    def met(self) -> set[Function]:
        """Functions of the path, and those that they call themselves."""
        path = set(self.path())
        return path | {callee for caller, callee in self.calls if caller in path and is_function(callee)}


def is_own(code: CodeType) -> bool:
    """Whether it is a function of the package; bodies of modules and classes, which imports run, are none."""
    is_function = code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.startswith("<")
    return bool(is_function) and code.co_filename.startswith(PACKAGE)


def own_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Frames of the package's functions from one outwards, as far as an import that lies between."""
    while frame is not None and frame.f_code.co_name != "<module>":
        if is_own(frame.f_code):
            yield frame
        frame = frame.f_back


def function_of(frame: FrameType) -> Function:
    return frame.f_globals["__name__"], frame.f_code.co_qualname


def is_function(called: Function) -> bool:
    """Whether it is neither a property nor a constructor or another method that Python calls by itself."""
    module, qualname = called
    *owners, name = qualname.split(".")
    if "<locals>" in owners or not owners:
        return True
    owner: Any = sys.modules[module]
    for one in owners:
        owner = getattr(owner, one)
    is_hidden = name.startswith("__") and name != "__call__"
    return not is_hidden and not isinstance(inspect.getattr_static(owner, name), property)


def heights() -> dict[str, int]:
    """Give how high each room lies, by the layers that import-linter holds."""
    project = tomllib.loads((Path(PACKAGE).parent / "pyproject.toml").read_text(encoding="utf-8"))
    rooms = next(one for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers")
    layers = enumerate(reversed(rooms["layers"]))
    return {room.strip(): height for height, layer in layers for room in layer.split("|")}


@pytest.fixture
def watched(tmp_path: Path, stand_in: None) -> Watch:
    """Run the command on a small drawn slide, with what it shows to a user, and watch it."""
    slide = draw_slide(tmp_path / "slide.png", 200, 160)
    words = ["run", str(slide), "--out", str(tmp_path / "out"), "--workers", "0", "--mpp", str(MPP)]
    for module in ("wsipsm.stages.run", "wsipsm.models.predict", "rich.progress"):
        import_module(module)  # watched, it takes long
    watch, before = Watch(), sys.getprofile()
    sys.setprofile(watch)
    try:
        result = CliRunner().invoke(app, words)
    finally:
        sys.setprofile(before)
    assert result.exit_code == 0, result.output
    return watch


def test_a_reader_meets_few_functions_between_the_command_and_a_shard(watched: Watch) -> None:
    path = watched.path()
    assert ("wsipsm.stages.block", "segment_block") in path
    assert path[-1] == LAST
    met = sorted(".".join(one) for one in watched.met())
    assert len(met) <= MOST_FUNCTIONS, met


def test_few_functions_of_the_path_are_called_from_a_lower_room(watched: Watch) -> None:
    height = heights()
    upwards = {
        (caller, callee)
        for caller, callee in watched.calls
        if callee in watched.met() and height[room_of(callee)] > height[room_of(caller)]
    }
    # The executor calls the task that it was given, and the steps call the listener.
    assert any(callee[1] == "segment_block" for _, callee in upwards)
    assert len(upwards) <= MOST_UPWARDS, upwards


def room_of(function: Function) -> str:
    return function[0].split(".")[1]
