"""A check of focus: whether tissue shows as much fine detail as a sharp scan does."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from wsipsm.quality.finding import Finding, Verdict

FOCUS_MPP = 0.5
"""Pixel size at which patches are judged, um/px."""
SHARP_FROM = 0.38
"""Ratio from which a patch is sharp: detail of 0.5 to 1 um over detail of 1 to 2 um.

It was measured on 353 images of 17 sets (2026-11-29). The least sharp set, taken with a camera, has 0.43 and more in
98 % of its patches. Sets that were blurred by a Gaussian of 1.5 um have medians of 0.35 to 0.43; those blurred by one
of 3 um have at most 0.32 in 98 % of their patches."""
MIN_SHARE_IN_FOCUS = 0.7
"""Smallest share of sharp patches that is not flagged."""
_MIN_STRUCTURE_OD = 0.02
"""Smallest standard deviation of detail of 2 to 6 um, which nuclei show even when they are blurred; a paler patch has
no nuclei whose focus could be judged."""
_MIN_PATCHES = 4
"""Fewest patches with nuclei from which focus is judged."""
_MIN_TISSUE_PATCHES = 16
"""Where as many patches hold tissue, and hardly any shows nuclei, the tissue itself is flagged."""
_TISSUE_OD = 0.06
"""Mean optical density from which a patch counts as tissue."""
_COARSEST_MPP = 0.6
"""Pixel size above which the detail of ``FOCUS_MPP`` is missing from the slide, um/px."""

Picture = NDArray[np.uint8]
"""An RGB image of shape (height, width, 3), uint8."""


def detail(patch: Picture) -> float | None:
    """Measure fine detail against coarse detail, as a ratio of two band-pass filters.

    Blur removes fine detail first, and the ratio does not depend on how strongly the tissue is stained.

    Parameters
    ----------
    patch
        RGB at ``FOCUS_MPP``, shape (height, width, 3), uint8.

    Returns
    -------
    The ratio of standard deviations, 0 and more; None where the patch shows no structure of the size of nuclei.
    """
    density = -np.log10((patch.mean(axis=2) + 1) / 256).astype(np.float32)
    scales = [cv2.GaussianBlur(density, (0, 0), sigma) for sigma in (1.0, 2.0, 4.0, 12.0)]
    fine, middle, structure = (float(np.std(scales[i] - scales[i + 1])) for i in range(3))
    return fine / max(middle, 1e-6) if structure > _MIN_STRUCTURE_OD else None


def check_focus(patches: Sequence[Picture], mpp: float | None) -> Finding:
    """Check what share of the tissue is in focus.

    Parameters
    ----------
    patches
        RGB at ``FOCUS_MPP``, each of shape (height, width, 3), uint8, drawn from the tissue.
    mpp
        Pixel size that the patches really have, um/px: that of the slide where it is coarser; None: unknown.

    Returns
    -------
    Finding ``share_in_focus``: the share of sharp patches among those that show nuclei.
    """
    details = [value for patch in patches if (value := detail(patch)) is not None]
    if mpp is None or mpp > _COARSEST_MPP:
        size = "no stated pixel size" if mpp is None else f"{mpp:g} um/px"
        return _finding(None, Verdict.UNKNOWN, f"focus is judged at {FOCUS_MPP:g} um/px, and the slide has {size}.")
    if len(details) < _MIN_PATCHES:
        if _count_tissue(patches) < _MIN_TISSUE_PATCHES:
            return _finding(None, Verdict.UNKNOWN, "too little tissue was seen to judge focus.")
        text = "the tissue shows nothing of the size of nuclei: it is out of focus, or holds none. Look at the slide."
        return _finding(None, Verdict.FLAG, text)
    share = float(np.mean(np.asarray(details) >= SHARP_FROM))
    if share >= MIN_SHARE_IN_FOCUS:
        return _finding(share, Verdict.OK, f"{share:.0%} of the tissue is in focus.")
    text = (
        f"only {share:.0%} of the tissue is in focus: blurred nuclei are missed or run together. "
        "Scan the slide again, or score a sharp part with --roi."
    )
    return _finding(share, Verdict.FLAG, text)


def _count_tissue(patches: Sequence[Picture]) -> int:
    """Count patches whose mean is darker than the brightest part of any patch, which is glass where any is seen."""
    grey = [patch.mean(axis=2) for patch in patches]
    glass = max((float(np.quantile(one, 0.99)) for one in grey), default=255.0)
    return sum(float(np.log10((glass + 1) / (one.mean() + 1))) > _TISSUE_OD for one in grey)


def _finding(share: float | None, verdict: Verdict, text: str) -> Finding:
    value = None if share is None else round(share, 4)
    return Finding(name="share_in_focus", value=value, low=MIN_SHARE_IN_FOCUS, verdict=verdict, text=text)
