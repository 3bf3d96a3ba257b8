"""What pyproject.toml requires is what the package imports; no more, and nothing else."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import wsipsm
from wsipsm.doctor import LIBRARIES
from wsipsm.slide.formats import INSTALL_TIATOOLBOX

PACKAGE = Path(wsipsm.__file__).parent
ROOT = PACKAGE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DEVELOPMENT = {"dev", "pretrained"}
"""Extras of tests and of pipelines/, which are no part of the package."""
LOADED_BY_OTHERS = {"openslide-bin": "openslide-python"}
"""Hard requirements that the package need not import: the library without which openslide-python cannot be loaded."""
LOADERS = {"import_module", "find_spec", "import_torchvision"}
LOOKED_AT_BY_DOCTOR = {"openslide-python", "openslide-bin", "torch", "torchvision", "openvino"}
"""With a check of their own."""


def spelled(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names_of(requirements: list[str]) -> set[str]:
    """Distributions that are required by name, or as an extra of one: dask[distributed] is dask and distributed."""
    found = [Requirement(requirement) for requirement in requirements]
    return {spelled(one.name) for one in found}.union(
        *(of_extra(one.name, extra) for one in found for extra in one.extras)
    )


def of_extra(distribution: str, extra: str) -> set[str]:
    needed = [Requirement(requirement) for requirement in requires(distribution) or []]
    return {
        spelled(one.name)
        for one in needed
        if one.marker and not one.marker.evaluate({"extra": ""}) and one.marker.evaluate({"extra": extra})
    }


def modules_in(tree: ast.AST) -> Iterator[str]:
    """Modules that are imported, also within functions and by a name that is given to a loader."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
        elif isinstance(node, ast.Call):
            loader = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given = node.args[0] if node.args else None
            if loader in LOADERS and isinstance(given, ast.Constant) and isinstance(given.value, str):
                yield "torchvision" if loader == "import_torchvision" else given.value


def imported_by_package() -> set[str]:
    files = PACKAGE.rglob("*.py")
    found = {module.partition(".")[0] for file in files for module in modules_in(ast.parse(file.read_text("utf-8")))}
    return found - set(sys.stdlib_module_names) - {"wsipsm", "__future__"}


def test_every_hard_requirement_is_imported() -> None:
    owners = packages_distributions()
    imported = {spelled(name) for module in imported_by_package() for name in owners.get(module, [])}
    unused = names_of(PROJECT["dependencies"]) - imported - set(LOADED_BY_OTHERS)
    assert unused == set(), "required and imported nowhere in wsipsm"
    assert set(LOADED_BY_OTHERS.values()) <= imported


def test_every_import_is_a_requirement_or_an_extra() -> None:
    owners = packages_distributions()
    known = names_of(PROJECT["dependencies"]).union(
        *(names_of(extra) for name, extra in EXTRAS.items() if name not in DEVELOPMENT)
    )
    # An extra that is not installed here is known by its name alone.
    unknown = {
        module
        for module in imported_by_package()
        if known.isdisjoint({spelled(module), *(spelled(name) for name in owners.get(module, []))})
    }
    assert unknown == set()


@pytest.mark.parametrize(
    ("code", "module"),
    [
        ("import torch.nn as nn", "torch.nn"),
        ("def f():\n    from skimage.measure import label", "skimage.measure"),
        ("importlib.import_module('timm')", "timm"),
        ("import_torchvision('models')", "torchvision"),
        ("if TYPE_CHECKING:\n    import dask", "dask"),
    ],
)
def test_imports_of_every_form_are_seen(code: str, module: str) -> None:
    assert module in set(modules_in(ast.parse(code)))
    assert set(modules_in(ast.parse("from . import text\nimport_module(name)\nprint('torch')"))) == set()


def test_doctor_looks_at_every_hard_requirement() -> None:
    looked_at = {name for name, _ in LIBRARIES} | LOOKED_AT_BY_DOCTOR
    assert looked_at == names_of(PROJECT["dependencies"])


def test_tiatoolbox_has_one_version() -> None:
    (requirement,) = EXTRAS["tiatoolbox"]
    assert requirement in INSTALL_TIATOOLBOX


def test_extras_without_constraints_are_extras() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["wsipsm"]
    assert set(tool["without-constraints"]) < set(EXTRAS)
