"""As much of a DICOM file as tells which slide it belongs to."""

from __future__ import annotations

from pathlib import Path

EXPLICIT, IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
WHOLE_SLIDE, TOMOGRAPHY = "1.2.840.10008.5.1.4.1.1.77.1.6", "1.2.840.10008.5.1.4.1.1.2"


def element(group: int, number: int, kind: str, value: bytes, syntax: str = EXPLICIT) -> bytes:
    order = "big" if syntax == BIG_ENDIAN else "little"
    tag = group.to_bytes(2, order) + number.to_bytes(2, order)
    value += b"\0" * (len(value) % 2)
    if syntax == IMPLICIT:
        return tag + len(value).to_bytes(4, order) + value
    if kind in ("SQ", "UN", "OB"):
        return tag + kind.encode() + b"\0\0" + len(value).to_bytes(4, order) + value
    return tag + kind.encode() + len(value).to_bytes(2, order) + value


def dicom(
    series: str, padding: int = 0, *, sop_class: str = WHOLE_SLIDE, syntax: str = EXPLICIT, before: bytes = b""
) -> bytes:
    """Bytes of a file; ``before`` stands between its class and its series."""
    head = b"\0" * 128 + b"DICM" + element(0x0002, 0x0010, "UI", syntax.encode())
    head += element(0x0008, 0x0016, "UI", sop_class.encode(), syntax) + before
    if series:
        head += element(0x0020, 0x000E, "UI", series.encode(), syntax)
    return head + element(0x7FE0, 0x0010, "OB", b"\0" * padding, syntax)


def draw_dicom(path: Path, series: str, padding: int = 0, *, sop_class: str = WHOLE_SLIDE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dicom(series, padding, sop_class=sop_class))
    return path
