"""The documents name files and rooms that exist, so that nothing is renamed behind their back."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import wsipsm

PACKAGE = Path(wsipsm.__file__).parent
ROOT = PACKAGE.parent
OTHER_DOCUMENTS = ("README.md", "CONTRIBUTING.md", "pipelines/README.md")
DOCUMENTS = (*sorted((ROOT / "docs").glob("*.md")), *(ROOT / name for name in OTHER_DOCUMENTS))
TOP_FOLDERS = frozenset({"wsipsm", "tests", "benchmarks", "pipelines", "scripts", "docs"})
ROOMS = frozenset(one.name for one in PACKAGE.iterdir() if one.is_dir())


def named_paths(text: str) -> Iterator[str]:
    """Find paths between backticks: of the repository, modules of a room, and the names of Python files."""
    for quoted in re.findall(r"`([^`\n]+)`", text):
        for path in re.findall(r"(?<![\w./-])[\w.-]+(?:/[\w.-]*)*", quoted):
            top, *below = path.split("/")
            # A run's folder is called results in every example, and a room is: there only modules are meant.
            if path.endswith(".py") or (below and top in TOP_FOLDERS) or (below and top in ROOMS - {"results"}):
                yield path.rstrip(".")


def exists(path: str) -> bool:
    """Look for a path in the repository and in the package; for the bare name of a file, anywhere in them."""
    if "/" not in path:
        return any(next((ROOT / top).rglob(path), None) for top in TOP_FOLDERS)
    return (ROOT / path).exists() or (PACKAGE / path).exists()


def rooms_of_table(text: str) -> list[str]:
    """Read the names of rooms in the first column of the table of rooms, from top to bottom."""
    table = re.search(r"^\| room \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table is not None
    return [name for row in table[1].splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_named_path_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert [path for path in named_paths(text) if not exists(path)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_table_of_rooms_is_the_list_that_imports_are_held_to() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    level = {room: number for number, layer in enumerate(layers) for room in layer.split(" | ")}

    rooms = rooms_of_table((ROOT / "docs" / "design.md").read_text(encoding="utf-8"))

    assert sorted(rooms) == sorted(level)
    assert [level[room] for room in rooms] == sorted(level[room] for room in rooms)


def test_paths_are_found_in_a_text() -> None:
    text = "`stages/look.py`, `look.py`, `wsipsm/zoo/`, `results/slide/` and `benchmarks/speed.py -h`; stages/x.py"
    assert list(named_paths(text)) == ["stages/look.py", "look.py", "wsipsm/zoo/", "benchmarks/speed.py"]
    assert [exists(path) for path in named_paths(text)] == [False, False, True, True]
