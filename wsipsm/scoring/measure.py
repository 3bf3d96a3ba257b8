"""Stain and network scores of single nuclei."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsipsm.keys import Column

_MAP_COLUMNS = {"nucleus": Column.PROBABILITY, "positive": Column.POSITIVE_PROBABILITY}


def measure_nuclei(
    label_image: NDArray[np.int32],
    hematoxylin_od: NDArray[np.float32],
    dab_od: NDArray[np.float32] | None,
    maps: NDArray[np.float32],
    outputs: tuple[str, ...],
    labels: NDArray[np.integer] | None = None,
) -> dict[Column, NDArray[np.float64]]:
    """Average stain densities and network scores over the pixels of every nucleus.

    Parameters
    ----------
    label_image
        Label of each pixel, shape (height, width), int32; 0 is background.
    hematoxylin_od
        Hematoxylin optical density, shape (height, width), float32.
    dab_od
        DAB optical density, shape (height, width), float32; None on H&E.
    maps
        The network's scores, shape (n_outputs, height, width), float32, 0..1.
    outputs
        Names of the score maps; ``nucleus`` and, where there is one, ``positive`` are averaged.
    labels
        Labels to measure, in the wanted order; by default all in the image, ascending.

    Returns
    -------
    Columns of shape (n_labels,), float64: ``HEMATOXYLIN_OD``, ``DAB_OD`` unless on H&E, ``PROBABILITY`` and
    ``POSITIVE_PROBABILITY`` where the network has such a map. NaN for a label that has no pixel.
    """
    is_foreground = label_image.reshape(-1) > 0
    foreground = slice(None) if is_foreground.all() else np.flatnonzero(is_foreground)
    pixel_labels = label_image.reshape(-1)[foreground]
    n_bins = int(pixel_labels.max(initial=0)) + 1
    areas = np.bincount(pixel_labels, minlength=n_bins)
    wanted = np.flatnonzero(areas) if labels is None else np.asarray(labels, dtype=np.int64)
    present = (wanted > 0) & (wanted < n_bins)
    index = np.where(present, wanted, 0)

    def mean(values: NDArray[np.float32]) -> NDArray[np.float64]:
        # A weighted bin count sums in float64, in one pass for all nuclei.
        sums = np.bincount(pixel_labels, values.reshape(-1)[foreground], n_bins)[index]
        counts = np.where(present, areas[index], 0)
        means = np.full(len(wanted), np.nan)
        np.divide(sums, counts, out=means, where=counts > 0)
        return means

    columns = {Column.HEMATOXYLIN_OD: mean(hematoxylin_od)}
    if dab_od is not None:
        columns[Column.DAB_OD] = mean(dab_od)
    for name, values in zip(outputs, maps, strict=True):
        if name in _MAP_COLUMNS:
            columns[_MAP_COLUMNS[name]] = mean(values)
    return columns
