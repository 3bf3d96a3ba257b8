"""The way from unlabelled images to the pseudo labels of the first round.

Pretext (Eq. 2) -> activation weights and maps (Eq. 3, 4) -> fusion with the stains (Eq. 5) -> clusters (Eq. 6)
-> objects on which seedings agree -> pseudo labels with Voronoi edges (Eq. 8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsipsm.keys import Stain
from wsipsm.psm.activation import activation_weights, central_patch, orient_maps, self_activation_map
from wsipsm.psm.cluster import BETA, fuse, hematoxylin_densities, marker_densities
from wsipsm.psm.pseudo_label import PseudoLabel, make_pseudo_label
from wsipsm.psm.recurrence import Agreement, find_agreement
from wsipsm.stain import DEFAULT_DAB_CUT_OD, StainProfile, optical_density
from wsipsm.training.many import map_images
from wsipsm.training.pretext_training import PretextOptions, train_pretext
from wsipsm.training.student import PseudoLabelledImage

_PATCH_PX = 224
_MAX_PATCHES = 32
_MIN_BLUE_OD, _DOUBTFUL_BLUE_OD = 0.07, 0.03
"""Red-channel density above the local background that a blue nucleus has at least, and from which a pixel may belong to
one. On the images that were examined, the texture of stroma has a standard deviation of 0.02 to 0.03, and the objects
that seedings agree on have a median of 0.1 to 0.17."""


@dataclass(frozen=True, slots=True)
class StainedImage:
    """Unlabelled pixels and the stain profile of the slide that they come from."""

    rgb: NDArray[np.uint8]
    profile: StainProfile


def make_pseudo_labels(
    images: Sequence[StainedImage], stain: Stain, seed: int, report: Callable[[str], None], beta: float | None = None
) -> list[PseudoLabelledImage]:
    """Make pseudo labels for a set of images, from their pixels alone.

    Parameters
    ----------
    images
        Images at the model's mpp, each of shape (h, w, 3), uint8.
    stain
        Stain of all images.
    seed
        Seed of the pretext training and of k-means.
    report
        Function that is called with lines of text on the progress.
    beta
        Weight of the stain against the self-activation map (Eq. 5); None: the paper's; infinite: the stain alone.

    Returns
    -------
    One pseudo-labelled image for each, in order.
    """
    weight = BETA[stain] if beta is None else beta
    pixels = [image.rgb for image in images]
    network, log = train_pretext(pixels, PretextOptions(seed=seed))
    state = "collapsed: its maps say little" if log.collapsed else f"embedding spread {log.spread:.3f}"
    report(f"pretext: loss {log.losses[0]:.2f} to {log.losses[-1]:.2f}, {state}")
    weights = activation_weights(network, [central_patch(rgb, _PATCH_PX) for rgb in pixels[:_MAX_PATCHES]])
    raw = [self_activation_map(network, weights, rgb) for rgb in pixels]
    dark = [optical_density(image.rgb, image.profile.background)[..., 0] for image in images]
    label_image = _label_he if stain == Stain.HE else _label_ihc
    given = (
        (image, activation, weight, seed) for image, activation in zip(images, orient_maps(raw, dark), strict=True)
    )
    labelled: list[PseudoLabelledImage] = []
    for image, label in zip(images, map_images(label_image, given, len(images)), strict=True):
        labelled.append(PseudoLabelledImage(image.rgb, label))
        report(f"pseudo labels {len(labelled)}/{len(images)}: {len(label.points_xy)} nuclei kept")
    return labelled


def _label_he(image: StainedImage, activation: NDArray[np.float32], beta: float, seed: int) -> PseudoLabel:
    fused = [fuse(activation, density, beta) for density in hematoxylin_densities(image.rgb, image.profile)]
    return make_pseudo_label([(find_agreement(fused, seed), None)])


def _label_ihc(image: StainedImage, activation: NDArray[np.float32], beta: float, seed: int) -> PseudoLabel:
    positives, negatives, brown = marker_densities(image.rgb, image.profile)
    cut = image.profile.dab_cut_od or DEFAULT_DAB_CUT_OD
    # K-means always finds a highest cluster, even in an image without nuclei of a colour. So the objects that are kept
    # must also reach a density that is the same for every image.
    positive = find_agreement([fuse(activation, density, beta) for density in positives], seed)
    positive = _confirmed(positive, positives[0], cut, brown)
    blue_activation = np.where(brown, 0, activation).astype(np.float32)
    negative = find_agreement([fuse(blue_activation, density, beta) for density in negatives], seed)
    negative = _confirmed(negative, negatives[0], _MIN_BLUE_OD, negative.generous & (negatives[0] > _DOUBTFUL_BLUE_OD))
    return make_pseudo_label([(positive, True), (negative, False)])


def _confirmed(
    found: Agreement, density: NDArray[np.float32], min_mean: float, generous: NDArray[np.bool_]
) -> Agreement:
    """Drop objects whose mean density is not above ``min_mean``, and replace the pixels where nuclei are possible."""
    keep = found.means(density) > min_mean
    labels = np.where(keep[found.labels], found.labels, 0).astype(np.int32)
    return Agreement(labels, found.confidence, generous)
