"""The code that decides a result: all modules that are imported, directly or not, by those that make it.

Imports are read from the source text, so the answer is the same in every process, whatever modules it has loaded.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_BY_NAME = frozenset(("import_module", "__import__", "find_spec", "run_module", "resolve_name"))
"""Functions that import what a text names."""
_BY_LISTING = frozenset(("iter_modules", "walk_packages"))
"""Functions that list a package's modules, to import them."""


@dataclass(frozen=True, slots=True)
class Closure:
    """Modules that some root modules import, directly or not, the roots included."""

    files: tuple[Path, ...]
    """Files of the package's modules, sorted."""
    libraries: frozenset[str]
    """Names of the other modules that are imported, up to the first dot."""


@dataclass(frozen=True, slots=True)
class _Imports:
    """The imports that the text of a module states."""

    modules: tuple[str, ...]
    """Dotted names; the last part may be a name in a module."""
    relative: tuple[tuple[int, str], ...]
    """Dots and name of each import that counts from the module's own package."""
    texts: tuple[str, ...]
    """Dotted names that stand in texts, wherever; they count where a module is imported by a name that is computed."""
    by_computed_name: bool
    lists_modules: bool
    """Whether it lists a package's modules, as one does that imports every module beside it."""


def import_closure(roots: tuple[str, ...], package: Path) -> Closure:
    """Find every module of a package that some of them reach, imports in functions included.

    Imports for type checkers alone are left out; so is what a package's ``__getattr__`` would load, unless a module
    asks the package for such a name.

    Parameters
    ----------
    roots
        Dotted names of the root modules, beginning with the package's name.
    package
        Folder of the package.

    Raises
    ------
    FileNotFoundError
        When a root does not exist.
    """
    found: dict[Path, None] = {}
    libraries: set[str] = set()
    waiting = list(roots)
    for root in roots:
        if not _file_of(root, package):
            raise FileNotFoundError(f"{package}: no module {root}")
    while waiting:
        name = waiting.pop()
        if name.partition(".")[0] != package.name:
            libraries.add(name.partition(".")[0])
            continue
        for file in _files_on_the_way(name, package):
            if file not in found:
                found[file] = None
                waiting += _imported_by(file, package)
        if name.count(".") == 1 and not _file_of(name, package):
            # A public name, which the package's ``__getattr__`` loads on demand.
            waiting += _homes_of_public_names(package)
    return Closure(tuple(sorted(found)), frozenset(libraries))


def _imported_by(file: Path, package: Path) -> Iterator[str]:
    imports = _read_imports(file.read_text(encoding="utf-8"), package.name)
    yield from imports.modules
    parts = [package.name, *file.relative_to(package).with_suffix("").parts]
    own = parts[:-1]
    for dots, name in imports.relative:
        base = own[: len(own) - (dots - 1)]
        yield ".".join([*base, name] if name else base)
    if imports.by_computed_name:
        is_root = file == package / "__init__.py"
        yield from () if is_root else (text for text in imports.texts if _file_of(text, package))
    if imports.lists_modules:
        yield from (".".join([*own, beside.stem]) for beside in sorted(file.parent.glob("*.py")) if beside != file)


def _homes_of_public_names(package: Path) -> list[str]:
    imports = _read_imports((package / "__init__.py").read_text(encoding="utf-8"), package.name)
    return [text for text in imports.texts if _file_of(text, package)]


def _files_on_the_way(name: str, package: Path) -> Iterator[Path]:
    """List the files of a module, or of the module of a name, and of the packages around it, which run before."""
    parts = name.split(".")
    for n in range(1, len(parts) + 1):
        file = _file_of(".".join(parts[:n]), package)
        if file is not None:
            yield file


def _file_of(name: str, package: Path) -> Path | None:
    head, *rest = name.split(".")
    if head != package.name or not all(part.isidentifier() for part in rest):
        return None
    place = package.joinpath(*rest)
    for file in (place / "__init__.py", place.with_suffix(".py")):
        if file.is_file():
            return file
    return None


@lru_cache(maxsize=1024)
def _read_imports(source: str, package: str) -> _Imports:
    """Read what a module imports; the same text is read once."""
    modules: list[str] = []
    relative: list[tuple[int, str]] = []
    texts: list[str] = []
    by_computed_name = lists_modules = False
    for node in _nodes_that_run(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                modules += [alias.name for alias in names]
            case ast.ImportFrom(module=module, names=names, level=0):
                modules += [f"{module}.{alias.name}" for alias in names]
            case ast.ImportFrom(module=module, names=names, level=dots):
                relative += [(dots, f"{module}.{alias.name}" if module else alias.name) for alias in names]
            case ast.Constant(value=str() as text) if text.startswith(f"{package}."):
                texts.append(text)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name == package and attribute[0] != "_":
                modules.append(f"{package}.{attribute}")
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[argument, *_]):
                lists_modules |= called in _BY_LISTING
                if called in _BY_NAME:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        modules.append(argument.value)
                    else:
                        by_computed_name = True
            case _:
                pass
    return _Imports(tuple(modules), tuple(relative), tuple(texts), by_computed_name, lists_modules)


def _nodes_that_run(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield every node except those under ``if TYPE_CHECKING``."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and _asks_for_type_checking(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _asks_for_type_checking(test: ast.expr) -> bool:
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
    return False
