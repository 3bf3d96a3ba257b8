"""Elements of a page, built as a tree, so that every text is escaped when it is written."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

from wsipsm.text import MAX_JSON_CHARS, clean_text


def add(parent: Element, tag: str, text: str | None = None, **attributes: object) -> Element:
    """Add an element.

    Parameters
    ----------
    parent
        Element that gets the new one as its last child.
    tag
        Name of the new element.
    text
        Inside, before any child.
    attributes
        An underscore at the end of a name is dropped (``class_``), one inside is a hyphen. None leaves it out.
    """
    written = {
        name.rstrip("_").replace("_", "-"): plain(str(value)) for name, value in attributes.items() if value is not None
    }
    made = SubElement(parent, tag, written)
    made.text = None if text is None else plain(text)
    return made


def plain(text: str) -> str:
    """Clean the text of one or more lines."""
    return "\n".join(clean_text(line, MAX_JSON_CHARS) for line in text.split("\n"))


def page_bytes(root: Element) -> bytes:
    """Write a tree as HTML, UTF-8."""
    return b"<!DOCTYPE html>\n" + tostring(root, "unicode", method="html").encode() + b"\n"
