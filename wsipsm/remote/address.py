"""Addresses of slides: which are read, which are refused, and which part of one is shown.

Addresses come from manifests and may be malicious, so only known schemes are followed and no protocols are chained.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from wsipsm.errors import UsageError

SCHEMES = ("https", "http", "s3", "gs", "file")
_MAX_LENGTH = 4000
_PARTS = {
    ".mrxs": "the data folder beside the file belongs to an MRXS slide",
    ".vms": "the JPEG files beside it belong to a VMS slide",
    ".vmu": "the files beside it belong to a VMU slide",
    ".vsi": "the data folder beside the file belongs to a VSI slide",
    ".dcm": "a DICOM slide is a folder of files",
    ".zarr": "an NGFF image is a folder",
    "": "it names no file; a DICOM slide, for example, is a folder",
}
_ANY_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]+):/{1,2}((?!:)(?=/*[^\s/])[^\s'\")>]*[^\s'\")>:;,.])")
"""Pattern of an address in a text; a punctuation mark at its end belongs to the sentence around it."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[A-Za-z][A-Za-z0-9+.-]*)*://")


def is_url(text: str) -> bool:
    """Check whether a text is an address and not a path."""
    return _URL.match(text) is not None


def shown_url(url: str) -> str:
    """Return an address without its secrets: user, password, and the query, which may hold a signature.

    Every address that is shown or written anywhere goes through this, or :func:`without_secrets`.
    """
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    if scheme.lower() != "file":
        place, path = place.partition("?")[0], path.partition("?")[0]
    if scheme.lower() in ("http", "https"):
        place, path = place.partition("#")[0], path.partition("#")[0]
    host, colon, port = place.rpartition("@")[2].partition(":")
    if colon and not port.isdigit() and not host.startswith("["):  # the password has a slash in it
        port = "..."
        path = path.rpartition("@")[2]
    shown = f"{scheme}://{host}{colon}{port}{slash}{path}"
    return "".join(char if char.isprintable() else "?" for char in shown)[:400]


def without_secrets(text: str) -> str:
    """Return a text in which every address is replaced by its :func:`shown_url`, also one that was taken for a path."""
    return _ANY_URL.sub(lambda found: shown_url(f"{found[1]}://{found[2]}"), text)


def check_url(url: str, schemes: Collection[str] = SCHEMES) -> None:
    """Refuse addresses that cannot be those of a slide, without a request to any server.

    Raises
    ------
    UsageError
        For other schemes, chained protocols, passwords, patterns, and slides of several files.
    """
    shown = shown_url(url)
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in schemes:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UsageError(f"{shown}: {scheme[:40]}:// is not read; {known} or a path is needed. Copy the slide.")
    if len(url) > _MAX_LENGTH or any(ord(char) < 32 or ord(char) == 127 for char in url) or "::" in rest:
        raise UsageError(f"{shown}: no plain address; scheme://place/name is needed. Correct it.")
    place, _, path = rest.partition("/")
    if "@" in place:
        raise UsageError(
            f"{shown}: it holds a user or password, which would be written to results; an address without is needed. "
            "Keep credentials where the storage's own tools read them, such as ~/.netrc or ~/.aws."
        )
    if scheme.lower() == "file":
        if place not in ("", "localhost"):
            raise UsageError(f"{shown}: names another host; file:///path is needed. Mount the share.")
        return
    if not place or "*" in path or not _is_place(scheme, place):
        raise UsageError(f"{shown}: not the address of one slide; that is needed. List every slide in a manifest.")
    suffix = Path(url_name(url)).suffix.lower()
    if suffix in _PARTS:
        raise UsageError(
            f"{shown}: {_PARTS[suffix]}; by address only slides of one file are read. Copy it with all its files to a "
            "disk and name it by its path."
        )


def _is_place(scheme: str, place: str) -> bool:
    """Check whether the part before the path is a host with a possible port."""
    if scheme.lower() not in ("http", "https"):
        return True
    try:
        parts = urlsplit(f"//{place}")
        return bool(parts.hostname) and parts.port != 0 and "\\" not in place
    except ValueError:
        return False


def url_name(url: str) -> str:
    """Return the file name at the end of an address; it may be empty, and may hold any characters."""
    path = url.partition("://")[2].partition("/")[2]
    if url.lower().startswith(("http:", "https:")):
        path = unquote(urlsplit(url).path)
    return path.rpartition("/")[2]


def file_of(url: str) -> Path | None:
    """Return the path of a file:// address, which is read without a download; None for any other address."""
    return Path(url2pathname(urlsplit(url).path)) if url.lower().startswith("file://") else None
