"""Every docstring of the package is a sentence, or the noun phrase that numpydoc has in its place."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import wsipsm

ROOT = Path(wsipsm.__file__).parent
FUNCTION, VALUE, THING = "function", "value", "thing"
"""A function's or method's summary; a field, constant, property or parameter; a class or module."""

_VERBS = """
accept add adjust admit allow announce answer append apply ask assemble assert assign attach average await balance
begin blend block blur bound bring build call cancel change check choose claim class clean clear clip close cluster
collect colour combine compare complete compress compute connect convert copy count create crop cut decide declare
decode delete describe detect dilate distinguish distribute divide do draw drop embed empty encode end enforce ensure
enter erode escape estimate evaluate exit expand explain export extend extract fetch fill find finish fit flag flatten
flip flush format forward fuse gather get give group grow guess halve handle have hold ignore import initialise
intersect invert join judge keep label lay leave let lighten limit list listen load lock look make map mark mask match
measure merge mirror move name normalise note offer open order pad parse paste pause pick place plan plot pool predict
prepare print project put quote raise read receive record reduce reflect refuse register release remove rename render
repeat replace report reserve resolve restore return reverse rotate round run sample save say scale score search
select send separate serve set shift show shut sign smooth solve sort split start stitch stop store submit subtract
sum summarise swap switch take tell test time trace train transform trim try turn undo unite update use validate
verify wait walk warm warn weigh widen wrap write yield
"""
VERBS = frozenset(_VERBS.split())
"""Imperatives that a function's summary may begin with. A verb that is missing is added here."""

_NO_START = """
about above after among apart around as asked at because before below beside besides between by called drawn ends
for found from given gives grows holds if in into is it's its knows likewise looked looks made makes named of off on
once only or out over refused says since so stands stays taken takes than that their they this those till to under
unless until upon when whose with within without
"""
NO_START = frozenset(_NO_START.split())
"""Nothing and nobody can be seen to be meant by a phrase that begins with one of these."""

_CLAUSE_START = """
how what where whether which who why
"""
CLAUSE_START = frozenset(_CLAUSE_START.split())
"""These begin a clause that may stand for a value, as in ``Whether the file is replaced.``, but for no class."""


class Text(NamedTuple):
    """One text to be judged, and where it stands."""

    kind: str
    place: str
    text: str


def fault(kind: str, text: str) -> str | None:
    """Say what is wrong with a summary or description; None where it reads as English."""
    sentence = re.split(r"(?<=[.?!])\s", " ".join(text.split()))[0]
    words = sentence.rstrip(".?!:;").split()
    if kind != VALUE and re.match(r"[a-z]", sentence):
        return "begins with no capital letter"
    if not sentence.endswith((".", "?")):
        return "ends with no period"
    first = words[0].strip("`,;:'\"").lower()
    if kind == FUNCTION:
        return None if first in VERBS else f"begins with no verb of the list ({words[0]})"
    if sentence.endswith("?"):
        return None
    if first in NO_START or (kind == THING and first in CLAUSE_START):
        return f"is a fragment ({words[0]} ...)"
    return "is too short to say anything" if len(words) < (3 if kind == THING else 2) else None


def texts(path: Path) -> Iterator[Text]:
    """Find every docstring of a module, and every description of a parameter in them."""
    yield from _texts_in(ast.parse(path.read_text(encoding="utf-8")), path.relative_to(ROOT).as_posix())


def _texts_in(node: ast.AST, place: str) -> Iterator[Text]:
    before: ast.AST | None = None
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        doc = ast.get_docstring(node)
        if doc is not None:
            yield Text(_kind(node), place, doc.split("\n\n")[0])
            for name, description in parameters(doc):
                yield Text(VALUE, f"{place}({name})", description)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _texts_in(child, f"{place}::{child.name}")
        elif isinstance(child, ast.stmt):
            if isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(child, ast.Expr):
                said = child.value.value if isinstance(child.value, ast.Constant) else None
                target = before.target if isinstance(before, ast.AnnAssign) else before.targets[0]
                if isinstance(said, str):
                    yield Text(VALUE, f"{place}::{ast.unparse(target)}", inspect.cleandoc(said).split("\n\n")[0])
            yield from _texts_in(child, place)
        before = child


def _kind(node: ast.AST) -> str:
    if isinstance(node, ast.Module | ast.ClassDef):
        return THING
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    decorators = {ast.unparse(one).split(".")[-1] for one in node.decorator_list}
    return VALUE if decorators & {"property", "cached_property"} else FUNCTION


def parameters(doc: str) -> Iterator[tuple[str, str]]:
    """Find names and descriptions of a numpydoc section on parameters."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-+$|\Z)", doc, re.MULTILINE | re.DOTALL)
    if section:
        for entry in re.finditer(r"^(\S[^\n]*)\n((?:[ \t]+\S[^\n]*\n?)+)", section[1], re.MULTILINE):
            yield entry[1], inspect.cleandoc(entry[2])


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_rule_of_a_section_is_a_line_of_its_own(path: Path) -> None:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds)]
    faults = [found[0] for node in nodes if (found := re.search(r"\S -{5,} .*", ast.get_docstring(node) or ""))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docstrings_are_sentences(path: Path) -> None:
    faults = [f"{one.place}: {one.text!r} {said}" for one in texts(path) if (said := fault(one.kind, one.text))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (VALUE, "Of the run."),
        (VALUE, "As in :func:`score`."),
        (VALUE, "Settings."),
        (VALUE, "Takes events."),
        (FUNCTION, "Rows of a table."),
        (FUNCTION, "Read the rows"),
        (THING, "What a run knows."),
        (THING, "Of the slide, in pixels."),
    ],
)
def test_a_fragment_is_found(kind: str, text: str) -> None:
    assert fault(kind, text) is not None


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (VALUE, "Options of the run."),
        (VALUE, "Whether a result that is there is replaced."),
        (FUNCTION, "Read the rows of a table."),
        (THING, "Options of a run."),
        (THING, "Does the staining drift? Control charts tell."),
    ],
)
def test_a_sentence_passes(kind: str, text: str) -> None:
    assert fault(kind, text) is None


def test_every_description_is_judged() -> None:
    module = ast.parse(
        '"""A module of three words."""\n\nN = 1\n"""Of it."""\n\ndef f(a, b):\n    """Do it.\n\n'
        "    Parameters\n"
        "    ----------\n    a\n        Of the run.\n    b\n        Two\n        lines.\n\n"
        "    Raises\n    ------\n    E\n"
        '        When.\n    """\n'
    )
    assert [(one.kind, one.text) for one in _texts_in(module, "m")] == [
        (THING, "A module of three words."),
        (VALUE, "Of it."),
        (FUNCTION, "Do it."),
        (VALUE, "Of the run."),
        (VALUE, "Two\nlines."),
    ]
