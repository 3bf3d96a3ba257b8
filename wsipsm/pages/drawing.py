"""Draws SVG inside a page by matplotlib, in the page's own colours, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree.ElementTree import Element, fromstring, register_namespace, tostring

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, QUIET, RULE, BAR = "#010203", "#010204", "#010205", "#010206"
BAD, POSITIVE, NEGATIVE = "#010207", "#010208", "#010209"
"""Placeholder colours that drawings do not use otherwise; each is replaced by a colour of the style sheet."""
_NAMES = {
    INK: "ink",
    QUIET: "quiet",
    RULE: "rule",
    BAR: "bar",
    BAD: "bad",
    POSITIVE: "positive",
    NEGATIVE: "negative",
}
_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_USED = re.compile(r"#([\w-]+)")
_SETTINGS = {
    "svg.fonttype": "none",  # text stays text, which can be searched, read aloud and copied
    "svg.hashsalt": "wsipsm",  # the same figure gives the same bytes
    "text.parse_math": False,  # a slide's name may contain a dollar sign
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "xtick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.color": RULE,
    "ytick.labelcolor": INK,
}


@contextmanager
def drawn(
    width_in: float = 6.0, height_in: float = 2.2, label: str = "", name: str = "chart"
) -> Iterator[tuple[Axes, list[Markup]]]:
    """Give axes to draw on and an empty list, to which the drawing is added at the end of the block.

    Parameters
    ----------
    width_in, height_in
        Size of the drawing, in inches; a page scales it.
    label
        Description of the drawing for screen readers.
    name
        Prefix that makes the drawing's identifiers unique on the page.
    """
    made: list[Markup] = []
    with matplotlib.rc_context(_SETTINGS):  # type: ignore[arg-type]  # its keys are literals
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        axes = figure.add_subplot()
        yield axes, made
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    made.append(_for_a_page(written.getvalue(), label, name))


def _for_a_page(text: str, label: str, name: str) -> Markup:
    register_namespace("", _SVG)
    root = fromstring(text[text.index("<svg") :])
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    _keep_used_names(root, name)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-label", label)
    svg = tostring(root, "unicode")
    for colour, variable in _NAMES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return Markup(svg)


def _keep_used_names(root: Element, name: str) -> None:
    """Drop identifiers that nothing refers to, and add the drawing's name as a prefix to the others."""
    used = {found for one in root.iter() for value in one.attrib.values() for found in _USED.findall(value)}
    for one in root.iter():
        for key, value in list(one.attrib.items()):
            if key == "id":
                if value in used:
                    one.set(key, f"{name}-{value}")
                else:
                    del one.attrib[key]
            elif key == _LINK:
                del one.attrib[key]  # HTML needs the attribute without its namespace
                one.set("href", _USED.sub(rf"#{name}-\1", value))
            elif "url(#" in value:
                one.set(key, _USED.sub(rf"#{name}-\1", value))
