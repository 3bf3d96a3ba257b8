"""Makes small faults in a source text, one at a time, for mutation testing, which checks whether a test notices them.

Texts (messages, names, annotations, docstrings) and code inside a ``raise`` or an f-string stay unchanged, since tests
need not check the wording of every sentence.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMPARED = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_COMPUTED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_PAIRS = (
    ("min", "max"),
    ("minimum", "maximum"),
    ("fmin", "fmax"),
    ("argmin", "argmax"),
    ("floor", "ceil"),
    ("any", "all"),
    ("startswith", "endswith"),
    ("union", "intersection"),
)
_SMALL = 10
"""Largest number that is raised by one; larger ones are doubled, since 200,001 for 200,000 would change nothing."""
_OPPOSITE = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}


@dataclass(frozen=True, slots=True)
class Place:
    """A field of a node that holds an expression, a statement or a value, in a list or alone."""

    node: ast.AST
    field: str
    index: int | None

    def put(self, value: object) -> None:
        """Replace the value at this place."""
        if self.index is None:
            setattr(self.node, self.field, value)
        else:
            getattr(self.node, self.field)[self.index] = value


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: its place, the code there, and the code that replaces it."""

    file: Path
    line: int
    function: str
    """Qualified name of the outermost function around it; empty in the body of a module or a class."""
    before: str
    after: str
    number: int
    """Its position among the faults of the file."""

    def __str__(self) -> str:
        """``file:line: before -> after``, on one line."""
        return f"{self.file.as_posix()}:{self.line}: {_one_line(self.before)} -> {_one_line(self.after)}"


def find_mutants(file: Path) -> list[Mutant]:
    """List every fault that may be put into a file, in the order of its text."""
    return [
        Mutant(file, line, function, ast.unparse(ast.fix_missing_locations(before)), after, number)
        for number, (_, before, after, line, function) in enumerate(_faults(ast.parse(file.read_text())))
    ]


def mutated_tree(source: str, number: int) -> ast.Module:
    """Parse a source with one of its faults in it."""
    tree = ast.parse(source)
    for position, (replace, *_) in enumerate(_faults(tree)):
        if position == number:
            place, value = replace
            place.put(value)
            return ast.fix_missing_locations(tree)
    raise IndexError(number)


def noting_tree(source: str, file: str, note: str) -> ast.Module:
    """Parse a source in which every outermost function first calls ``note`` with the file and its qualified name."""
    tree = ast.parse(source)
    waiting: list[tuple[ast.Module | ast.ClassDef, str]] = [(tree, "")]
    while waiting:
        owner, name = waiting.pop()
        for child in owner.body:
            if isinstance(child, ast.ClassDef):
                waiting.append((child, f"{name}{child.name}."))
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                call = ast.parse(f"{note}({file!r}, {name + child.name!r})").body[0]
                child.body.insert(1 if ast.get_docstring(child) is not None else 0, call)
    return ast.fix_missing_locations(tree)


_Fault = tuple[tuple[Place, object], ast.AST, str, int, str]


def _faults(tree: ast.Module) -> Iterator[_Fault]:
    """Find every fault: place and value, the code before, the text after, line, and function."""
    for place, node, function in _walk(tree, ""):
        for value in _replacements(node):
            after = ast.unparse(ast.fix_missing_locations(ast.copy_location(value, node)))
            yield (place, value), node, after, node.lineno, function  # type: ignore[attr-defined]


def _walk(node: ast.AST, function: str) -> Iterator[tuple[Place, ast.AST, str]]:
    """Find every expression and statement that may get a fault."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom) or _is_for_type_checkers(node):
        return
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "bases", "type_params", "ctx", "op", "ops"):
            continue
        many = isinstance(value, list)
        for index, child in enumerate(value if many else [value]):
            if not isinstance(child, ast.AST):
                continue
            inner = function
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not _is_closed(function):
                name = f"{function}.{child.name}".lstrip(".")
                inner = name if isinstance(child, ast.ClassDef) else f"{name}()"
            if isinstance(child, ast.expr | ast.stmt):
                yield Place(node, field, index if many else None), child, inner.removesuffix("()") * _is_closed(inner)
            yield from _walk(child, inner)


def _is_closed(function: str) -> bool:
    """Tell whether a name is that of a function and not of a class around it."""
    return function.endswith("()")


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=[op]):
            for other in _COMPARED[type(op)]:
                yield ast.Compare(node.left, [other()], node.comparators)
        case ast.BinOp(op=op) if type(op) in _COMPUTED and not _is_text(node.left):
            yield ast.BinOp(node.left, _COMPUTED[type(op)](), node.right)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.And() if isinstance(op, ast.Or) else ast.Or(), values)
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1 if abs(value) <= _SMALL else value * 2)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=named) if name in _OPPOSITE:
            yield ast.Call(ast.Name(_OPPOSITE[name], ast.Load()), arguments, named)
        case ast.Call(func=ast.Attribute(value=owner, attr=name), args=arguments, keywords=named) if name in _OPPOSITE:
            yield ast.Call(ast.Attribute(owner, _OPPOSITE[name], ast.Load()), arguments, named)
        case ast.If(test=test, body=body, orelse=orelse) if not isinstance(test, ast.Compare | ast.UnaryOp):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Return(value=value) if value is not None and not _is_nothing(value):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Subscript() | ast.Attribute()]):
            yield ast.Pass()
        case _:
            pass


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_nothing(node: ast.expr) -> bool:
    """Tell whether a value is None, False or empty, so that None instead of it would hardly be noticed."""
    if isinstance(node, ast.Constant):
        return not node.value
    return isinstance(node, ast.List | ast.Tuple) and not node.elts


def _is_for_type_checkers(node: ast.AST) -> bool:
    """Tell whether a node is for type checkers only: a protocol, or code under ``if TYPE_CHECKING``."""
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.ClassDef(bases=bases):
            return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in bases)
    return False


def _one_line(text: str, most: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[:most]}..."
