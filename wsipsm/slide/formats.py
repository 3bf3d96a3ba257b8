"""Formats of slides and the suffixes of their files, for opening, for searching folders and for messages."""

from __future__ import annotations

from types import MappingProxyType

PLAIN = MappingProxyType({"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "BMP": (".bmp",)})
"""Images that state no pixel size."""

TIFF = MappingProxyType({"TIFF": (".tif", ".tiff"), "OME-TIFF": (".ome.tif", ".ome.tiff")})

BY_TIATOOLBOX = MappingProxyType({"NGFF zarr": (".zarr", ".ome.zarr"), "JP2": (".jp2",)})

READ = MappingProxyType(
    {
        "SVS": (".svs",),
        "NDPI": (".ndpi",),
        "VMS": (".vms",),
        "VMU": (".vmu",),
        "MRXS": (".mrxs",),
        "SCN": (".scn",),
        "BIF": (".bif",),
        "SVSLIDE": (".svslide",),
        "CZI": (".czi",),
        "DICOM": (".dcm",),
        **TIFF,
        **BY_TIATOOLBOX,
        **PLAIN,
    }
)
"""Formats that are read, by their names in messages, with the suffixes of their files. Readers decide by the bytes: a
vendor's TIFF may have the suffix ``.tif``, and a file without a suffix may be a slide."""

NOT_READ = MappingProxyType(
    {
        ".vsi": "an Olympus VSI slide",
        ".isyntax": "a Philips iSyntax slide",
        ".kfb": "a KFBio slide",
        ".sdpc": "a TEKSQRAY SDPC slide",
        ".lif": "a Leica LIF file",
    }
)
"""Slides that no reader here supports."""

PARTS_NOT_READ = MappingProxyType({".ets": "a part of an Olympus VSI slide"})
"""Files that are no slide by themselves: opening one is refused, and a search of a folder skips them."""

INSTALL_TIATOOLBOX = (
    "pip install 'wsipsm[tiatoolbox-needs]', then pip install --no-deps tiatoolbox==2.1.3 (and glymur for JP2); "
    "or, in an environment of its own, pip install 'wsipsm[tiatoolbox]'"
)
"""The two ways to install tiatoolbox; docs/installation.md says when to use which."""


def single_suffixes(formats: MappingProxyType[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the suffixes of formats that have a single period, such as ``.tif`` and not ``.ome.tif``."""
    return tuple(suffix for suffixes in formats.values() for suffix in suffixes if suffix.count(".") == 1)


SLIDE_SUFFIXES = frozenset((*single_suffixes(READ), *NOT_READ))
"""Suffixes of the files that count as slides in a folder or a table; an unreadable one gets a row that says so."""

DOUBLE_SUFFIXES = tuple(suffix for suffixes in READ.values() for suffix in suffixes if suffix.count(".") > 1)
"""Suffixes with two periods, which are removed from a name together."""

READABLE = f"{', '.join(list(READ)[:-1])} and {list(READ)[-1]} are read"
"""End of the error messages about files that are no slides."""
