"""The package as a whole: public names, lightness of import, size caps."""

from __future__ import annotations

import ast
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import wsipsm

PACKAGE = Path(wsipsm.__file__).parent
HEAVY = {"torch", "torchvision", "dask", "distributed", "openslide", "tiatoolbox", "geopandas", "openvino", "skimage"}
MAX_FUNCTION_LINES = 59
MAX_FILE_LINES = 399
MAX_ROOM_SHARE = 0.1

BARE_APP = "import typer; app = typer.Typer(); app.command()(lambda: None); app(['--help'], standalone_mode=False)"
RUN_HELP = "import sys; sys.argv = ['wsipsm', '--help']; from wsipsm.cli.main import main; main()"


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def least_cpu_s(code: str, n: int = 5) -> float:
    """Give the least processor time of some runs: a busy machine adds little to it, and never takes any away."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert python(code).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    return min(once() for _ in range(n))


def loaded_by(code: str) -> set[str]:
    tail = "\nimport json, sys; print('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    result = python(f"try:\n    {code}\nexcept SystemExit:\n    pass{tail}")
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_no_room_is_over_a_tenth_of_the_package() -> None:
    """Only a folder counts as a room here: a single module has a limit of its own."""

    def lines(folder: Path) -> int:
        return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*.py"))

    total = lines(PACKAGE)
    shares = {room.name: lines(room) / total for room in PACKAGE.iterdir() if room.is_dir()}
    assert {room: share for room, share in shares.items() if share > MAX_ROOM_SHARE} == {}


def test_every_public_name_loads() -> None:
    missing = [name for name in wsipsm.__all__ if getattr(wsipsm, name, None) is None]
    assert missing == []


def test_all_is_exactly_what_is_public() -> None:
    listed = {name for names in wsipsm._MODULES.values() for name in names}
    assert sorted(wsipsm.__all__) == sorted({*listed, "__version__"})
    for name in wsipsm.__all__:
        getattr(wsipsm, name)
    machinery = {"annotations", "import_module", "MappingProxyType", "TYPE_CHECKING", "Any"}
    modules = {path.stem for path in PACKAGE.iterdir()}
    public = {name for name in vars(wsipsm) if not name.startswith("_")} - machinery - modules
    assert public == {name for name in wsipsm.__all__ if not name.startswith("_")}
    assert set(wsipsm.__all__) <= set(dir(wsipsm))


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {
        str(node.module): tuple(sorted(alias.name for alias in node.names))
        for node in block.body
        if isinstance(node, ast.ImportFrom)
    }
    assert typed == {module: tuple(sorted(names)) for module, names in wsipsm._MODULES.items()}


def test_public_objects_are_those_of_their_homes() -> None:
    for home, names in wsipsm._MODULES.items():
        for name in names:
            assert getattr(wsipsm, name) is getattr(import_module(home), name)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        wsipsm.nonsense  # noqa: B018


def test_version_is_that_of_the_distribution() -> None:
    assert wsipsm.__version__ == import_module("importlib.metadata").version("wsipsm")


@pytest.mark.parametrize("code", ["import wsipsm", "import wsipsm.cli.main", RUN_HELP])
def test_start_loads_nothing_heavy(code: str) -> None:
    assert loaded_by(code) & HEAVY == set()


def test_import_costs_little_more_than_python() -> None:
    # A ratio, so that a slow machine does not decide.
    assert least_cpu_s("import wsipsm") < 2.5 * least_cpu_s("import typing, importlib")


def test_help_costs_little_more_than_typer() -> None:
    assert least_cpu_s(RUN_HELP) < 2.0 * least_cpu_s(BARE_APP)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            n_lines = int(node.end_lineno or 0) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                n_lines -= int(node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            yield f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}", n_lines


def test_functions_are_short() -> None:
    long = {name: n for path in PACKAGE.rglob("*.py") for name, n in functions(path) if n > MAX_FUNCTION_LINES}
    assert long == {}


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES} == {}
