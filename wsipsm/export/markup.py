"""Elements of a page, built as a tree, so that every text is escaped when it is written."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

_UNSEEN = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)), "\ufffd")
"""Control characters, which no page may hold."""


def add(parent: Element, tag: str, text: str | None = None, **attributes: object) -> Element:
    """Add an element.

    Parameters
    ----------
    parent
        That it is put into, last.
    tag
        Its kind.
    text
        Inside, before any child.
    attributes
        An underscore at the end of a name is dropped (``class_``), one inside is a hyphen. None leaves it out.
    """
    told = {
        name.rstrip("_").replace("_", "-"): plain(str(value)) for name, value in attributes.items() if value is not None
    }
    made = SubElement(parent, tag, told)
    made.text = None if text is None else plain(text)
    return made


def plain(text: str) -> str:
    """Text without control characters."""
    return text.translate(_UNSEEN)


def page_bytes(root: Element) -> bytes:
    """Write a tree as HTML, UTF-8; lone surrogates, which a file name may hold, as what they stand for."""
    return b"<!DOCTYPE html>\n" + tostring(root, "unicode", method="html").encode(errors="backslashreplace") + b"\n"
