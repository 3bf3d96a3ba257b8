"""Fills the templates of pages: every value is escaped, and no script but the page's own runs.

Names, reasons and notes come from files and manifests, so they are always text here and never markup.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from urllib.parse import quote

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from wsipsm.text import MAX_JSON_CHARS, clean_text, range_text

_FOLDER = "templates"
_BASE = "base.html.j2"
_STYLE = "style.css"


def render(name: str, **values: object) -> bytes:
    """Fill the template of a page.

    Parameters
    ----------
    name
        Name of the page: ``<name>.html.j2`` is its template, ``<name>.js`` its script, where there is one.
    values
        Values that the template shows. Charts are ``Markup``; every other text is cleaned and escaped.

    Returns
    -------
    The page as HTML, UTF-8.

    Raises
    ------
    jinja2.UndefinedError
        When a value that the template uses is missing.
    """
    folder = files("wsipsm.pages") / _FOLDER
    templates = {one: (folder / one).read_text("utf-8") for one in (_BASE, f"{name}.html.j2")}
    script = (folder / f"{name}.js").read_text("utf-8") if (folder / f"{name}.js").is_file() else ""
    filled = _environment(templates).get_template(f"{name}.html.j2")
    page = filled.render(
        **values, style=Markup((folder / _STYLE).read_text("utf-8")), script=Markup(script), policy=_policy(script)
    )
    return page.encode()


def _environment(templates: dict[str, str]) -> Environment:
    made = Environment(
        loader=DictLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=plain,
    )
    made.filters.update(percent=percent, interval=interval, number=number, address=address)
    return made


def _policy(script: str) -> str:
    """Write the content security policy of a page, by which only its own script runs and nothing is sent anywhere."""
    allowed = "'none'"
    if script:
        allowed = f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    return f"script-src {allowed}; connect-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'"


def plain(value: object) -> object:
    """Remove from each line of a text what could mislead a reader; return markup and other values unchanged."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(clean_text(line, MAX_JSON_CHARS) for line in value.split("\n"))


def percent(value: float | None, decimals: int = 1) -> str:
    """Write a share of 0..1 as percent; None gives an empty text."""
    return "" if value is None else f"{value:.{decimals}%}".replace("%", " %")


def interval(ends: tuple[float | None, float | None]) -> str:
    """Write the interval of a share as percent; without one the text is empty."""
    return range_text(*ends).replace("%", " %")


def number(value: float | None, form: str = ",.0f") -> str:
    """Write a number in one of Python's formats; None gives an empty text."""
    return "" if value is None else format(value, form)


def address(path: str) -> str:
    """Quote a relative path for use as the address of a link."""
    return quote(path)
