"""Draws a small picture of a slide, its overview without the caption, for pages that show many slides."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from wsipsm.export.overview import caption_px
from wsipsm.rundir import write_aside

THUMBNAIL_NAME = "thumbnail.jpg"
_BOX_PX = (260, 150)
"""Largest width and height of the small picture, pixels."""
_QUALITY = 80


def write_thumbnail(overview: Path, path: Path) -> bool:
    """Write the small picture as a JPEG of some kilobytes.

    Parameters
    ----------
    overview
        PNG of the overview.
    path
        JPEG to be written; one that is newer than the overview is left as it is.

    Returns
    -------
    Whether the small picture exists now; it does not when the overview cannot be read.

    Raises
    ------
    OutputError
        When the disk is full or the place is not writable.
    """
    try:
        made_of = overview.stat().st_mtime_ns
        if path.is_file() and path.stat().st_mtime_ns >= made_of:
            return True
        content = np.fromfile(overview, np.uint8)
    except OSError:
        return False
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
    if picture is None:
        return False
    n_rows = len(picture) - caption_px(picture.shape[1])
    picture = picture[:n_rows] if n_rows > 0 else picture
    height, width = picture.shape[:2]
    scale = min(1.0, _BOX_PX[0] / width, _BOX_PX[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _, coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    with write_aside(path) as temporary:
        temporary.write_bytes(coded.tobytes())
    return True
