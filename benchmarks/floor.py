"""The no-network floors that a model has to beat: plain stain thresholds and a watershed.

They are scored by `accuracy.py` beside the model. Settings are those of the data README; none is tuned here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import disk, h_maxima, opening, remove_small_objects
from skimage.segmentation import watershed


def segment_he(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Label nuclei on H&E by Otsu's threshold of the hematoxylin channel, then a watershed."""
    hematoxylin = gaussian(rgb2hed(rgb)[..., 0], 1)
    mask = ndimage.binary_fill_holes(hematoxylin > threshold_otsu(hematoxylin))
    mask = opening(mask, disk(2))
    mask = remove_small_objects(mask, max_size=59)
    return split_touching(mask, sigma=1, height=0.75)


def split_touching(mask: NDArray[np.bool_], sigma: float, height: float) -> NDArray[np.int32]:
    """Split a mask at the waists of its distance transform."""
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), sigma)
    peaks = h_maxima(distance, height)
    seeds = ndimage.label(peaks, structure=np.ones((3, 3)))[0]
    return watershed(-distance, seeds, mask=mask).astype(np.int32)
