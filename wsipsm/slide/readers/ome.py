"""The images that the OME-XML of a TIFF describes, and which of them lie in this file.

Each file of a multi-file OME-TIFF describes the images of all files. The page numbers of an image in another file refer
to that file; used in this one they would give the pixels of another image.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import PurePath
from xml.etree import ElementTree

from wsipsm.errors import SlideOpenError
from wsipsm.geometry import Size
from wsipsm.text import clean_text

_MAX_NAME_CHARS = 200


@dataclass(frozen=True, slots=True)
class OmeImage:
    """One image that OME-XML describes."""

    name: str
    size: Size
    place: int
    """Index of the element among the images of the XML, from 0."""
    first_page: int
    """Index of its first page in the file, from 0."""
    files: tuple[str, ...]
    """Names of the other files that hold it, or a part of it; empty when it lies in this one."""


def read_ome_images(xml: str, path: PurePath) -> list[OmeImage]:
    """List the images that have pixels, in the order of the XML.

    Parameters
    ----------
    xml
        OME-XML of the file.
    path
        Path of the file, whose name is compared with those in the XML.

    Raises
    ------
    SlideOpenError
        When the text is no XML, or only names the file that describes this one; the message is the reason alone.
    """
    root = _parsed(xml)
    for element in root:
        if _tag(element) == "BinaryOnly":
            where = clean_text(element.get("MetadataFile", "another file"), _MAX_NAME_CHARS)
            raise SlideOpenError(f"a part of a multi-file OME-TIFF, whose description lies in {where}")
    found = []
    for place, image in enumerate(_images(root)):
        pixels = next((child for child in image if _tag(child) == "Pixels"), None)
        data = [] if pixels is None else [child for child in pixels if _tag(child) == "TiffData"]
        if pixels is None or not data:
            continue
        try:
            size = Size(int(pixels.get("SizeX", "")), int(pixels.get("SizeY", "")))
            first_page = min(int(one.get("IFD", "0")) for one in data)
        except ValueError:
            continue
        files = (_other_file(one, root.get("UUID"), path.name) for one in data)
        elsewhere = tuple(dict.fromkeys(name for name in files if name is not None))
        name = clean_text(image.get("Name", ""), _MAX_NAME_CHARS)
        found.append(OmeImage(name, size, place, first_page, elsewhere))
    return found


def keep_ome_image(xml: str, image: OmeImage) -> str:
    """Return OME-XML that describes one image alone, as if all its pages lay in the file itself."""
    root = copy.deepcopy(_parsed(xml))
    for place, element in enumerate(_images(root)):
        if place != image.place:
            root.remove(element)
    for data in [element for element in root.iter() if _tag(element) == "TiffData"]:
        for child in list(data):
            data.remove(child)
    return ElementTree.tostring(root, "unicode")


def _parsed(xml: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError) as error:
        raise SlideOpenError(f"its OME-XML cannot be read: {error}") from error


def _images(root: ElementTree.Element) -> list[ElementTree.Element]:
    return [element for element in root if _tag(element) == "Image"]


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _other_file(data: ElementTree.Element, own_id: str | None, own_name: str) -> str | None:
    """Return the name of the file that holds a part of an image; None when it is this one."""
    named = next((child for child in data if _tag(child) == "UUID"), None)
    if named is None:
        return None
    file_name, text = named.get("FileName"), (named.text or "").strip()
    # Files are renamed and copied while their UUIDs stay, so a name decides only where one of the UUIDs is missing.
    is_own = text.lower() == own_id.strip().lower() if own_id and text else file_name in (None, own_name)
    return None if is_own else clean_text(file_name or text, _MAX_NAME_CHARS)
