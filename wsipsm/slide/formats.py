"""The files that are slides, by their names: opening, searching folders and what messages say go by it."""

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
"""Formats that are read, as messages call them, and how names of such files end. Readers look at the bytes: a vendor's
TIFF may be called ``.tif``, and a file without a suffix may be a slide."""

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
"""What is no slide by itself: named alone it is refused, and a search of a folder passes it over."""

INSTALL_TIATOOLBOX = (
    "pip install 'wsipsm[tiatoolbox-needs]', then pip install --no-deps tiatoolbox==2.1.3 (and glymur for JP2); "
    "or, in an environment of its own, pip install 'wsipsm[tiatoolbox]'"
)
"""The two ways; docs/installation.md says when which is wanted."""


def single_suffixes(formats: MappingProxyType[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Give the last suffixes by which files of some formats are known, such as ``.tif`` and not ``.ome.tif``."""
    return tuple(suffix for suffixes in formats.values() for suffix in suffixes if suffix.count(".") == 1)


SLIDE_SUFFIXES = frozenset((*single_suffixes(READ), *NOT_READ))
"""What counts as a slide in a folder or a table; one that is not readable gets a row that says so."""

DOUBLE_SUFFIXES = tuple(suffix for suffixes in READ.values() for suffix in suffixes if suffix.count(".") > 1)
"""Endings that are left out of a name as a whole."""

READABLE = f"{', '.join(list(READ)[:-1])} and {list(READ)[-1]} are read"
"""The end of the sentence of an error about what is no slide."""
