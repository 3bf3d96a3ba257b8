"""The code that decides a result: all modules that are imported, directly or not, by those that make it.

Imports are read from the source text, so the answer is the same in every process, whatever modules it has loaded.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_BY_NAME = frozenset(("import_module", "__import__", "find_spec", "run_module", "resolve_name"))
"""Functions that import what a text names."""
_BY_LISTING = frozenset(("iter_modules", "walk_packages"))
"""Functions that list a package's modules, to import them."""
_BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")
"""Fields of a statement that hold other statements."""


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
    """Number of dots and name of each relative import."""
    texts: tuple[str, ...]
    """Dotted names in any text of the module; they count where it imports a module by a name that is computed."""
    by_computed_name: bool
    lists_modules: bool
    """Whether it lists a package's modules, as a module does that imports all modules beside it."""


def import_closure(roots: tuple[str, ...], package: Path) -> Closure:
    """Find every module of a package that root modules import, directly or not, also inside functions.

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
    modules = _modules_in(package)
    found: set[Path] = set()
    names: set[str] = set()
    waiting = list(roots)
    for root in roots:
        if root not in modules:
            raise FileNotFoundError(f"{package}: no module {root}")
    while waiting:
        name = waiting.pop()
        if name in names:
            continue
        names.add(name)
        if name.partition(".")[0] != package.name:
            continue
        for file in _files_on_the_way(name, modules):
            if file not in found:
                found.add(file)
                waiting += _imported_by(file, package, modules)
        if name.count(".") == 1 and name not in modules:
            # A public name, which the package's ``__getattr__`` loads on demand.
            waiting += _homes_of_public_names(package, modules)
    libraries = {name.partition(".")[0] for name in names} - {package.name}
    return Closure(tuple(sorted(found)), frozenset(libraries))


def _modules_in(package: Path) -> dict[str, Path]:
    """List the files of a package by the dotted names of their modules; a folder goes before a file of its name."""
    modules: dict[str, Path] = {}
    for folder, _, files in os.walk(package):
        place = Path(folder)
        parts = [package.name, *place.relative_to(package).parts]
        for file in files:
            stem, ending = os.path.splitext(file)
            if ending == ".py" and stem != "__init__":
                modules.setdefault(".".join([*parts, stem]), place / file)
        if "__init__.py" in files:
            modules[".".join(parts)] = place / "__init__.py"
    return modules


def _imported_by(file: Path, package: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    imports = _read_imports(file.read_text(encoding="utf-8"), package.name)
    yield from imports.modules
    parts = [package.name, *file.relative_to(package).with_suffix("").parts]
    own = parts[:-1]
    for dots, name in imports.relative:
        base = own[: len(own) - (dots - 1)]
        yield ".".join([*base, name] if name else base)
    if imports.by_computed_name:
        is_root = file == package / "__init__.py"
        yield from () if is_root else (text for text in imports.texts if text in modules)
    if imports.lists_modules:
        yield from (".".join([*own, beside.stem]) for beside in sorted(file.parent.glob("*.py")) if beside != file)


def _homes_of_public_names(package: Path, modules: Mapping[str, Path]) -> list[str]:
    imports = _read_imports((package / "__init__.py").read_text(encoding="utf-8"), package.name)
    return [text for text in imports.texts if text in modules]


def _files_on_the_way(name: str, modules: Mapping[str, Path]) -> Iterator[Path]:
    """List the files of a module, or of the module of a name, and of the packages around it, which run before."""
    parts = name.split(".")
    for n in range(1, len(parts) + 1):
        file = modules.get(".".join(parts[:n]))
        if file is not None:
            yield file


@lru_cache(maxsize=1024)
def _read_imports(source: str, package: str) -> _Imports:
    """Read the imports of a module's text; the result is cached, so the same text is parsed once."""
    modules: list[str] = []
    relative: list[tuple[int, str]] = []
    texts: list[str] = []
    by_computed_name = lists_modules = False
    with_expressions = _may_name_modules(source, package)
    tree = ast.parse(source) if with_expressions else _parsed_as_far_as_imports_go(source)
    for node in _nodes_that_run(tree, with_expressions):
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


def _may_name_modules(source: str, package: str) -> bool:
    """Tell whether an expression may name a module: by a function, by a text, or as an attribute of the package."""
    texts = (f'"{package}.', f"'{package}.", *_BY_NAME, *_BY_LISTING)
    return any(text in source for text in texts) or bool(
        re.search(rf"import[\s\\]*[^\n]*\b{package}\b", source)  # which makes it a name
    )


def _parsed_as_far_as_imports_go(source: str) -> ast.Module:
    """Parse a text up to the statement after the last word ``import``: mostly a few lines of many.

    A text that is cut between statements means the same as far as it goes; one that is cut in the midst of a
    statement is no Python.
    """
    behind = re.compile(r"^(?=[^\W\d]|@)", re.MULTILINE).search(source, source.rfind("import") + 1)
    if behind is not None:
        try:
            return ast.parse(source[: behind.start()])
        except SyntaxError:
            pass  # what looked like a statement lies in a text or in brackets
    return ast.parse(source)


def _nodes_that_run(tree: ast.AST, with_expressions: bool) -> Iterator[ast.AST]:
    """Yield every statement, and every expression if asked to, except those under ``if TYPE_CHECKING``."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and _asks_for_type_checking(node.test):
            waiting += node.orelse
        elif with_expressions:
            waiting += ast.iter_child_nodes(node)
        else:
            waiting += (inner for name in _BLOCKS for inner in getattr(node, name, ()))


def _asks_for_type_checking(test: ast.expr) -> bool:
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
    return False
