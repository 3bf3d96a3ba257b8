"""Losses on pseudo labels and on another network's scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from wsipsm.psm.pseudo_label import IGNORED

ROBUSTNESS = 0.5
"""Exponent q of the generalised cross-entropy: 0 is cross-entropy, 1 the mean absolute error, which wrong labels affect
less."""
FOREGROUND_WEIGHT = 1.3
"""Weight of a pixel that is labelled 1 against one that is labelled 0."""
POSITIVE_WEIGHT = 0.7
"""Weight of the loss on the positive channel."""
_SQUARED_WEIGHT = 4.0
"""Weight of the squared error beside the cross-entropy."""


def generalised_cross_entropy(logits: Tensor, target: Tensor, q: float = ROBUSTNESS) -> Tensor:
    """Compute the weighted mean of (1 - p^q) / q of the labelled class over all pixels that are not ignored.

    The formula is that of Zhang & Sabuncu 2018.

    Parameters
    ----------
    logits
        Logits of one channel, shape (n, h, w).
    target
        Label of each pixel, 1, 0 or 255 (ignored), shape (n, h, w).
    q
        Exponent, 0..1; 0 is cross-entropy, the limit of the formula.
    """
    probability = torch.sigmoid(logits)
    of_label = torch.where(target == 1, probability, 1 - probability).clamp(1e-4, 1.0)
    weight = (target != IGNORED).float() * torch.where(target == 1, FOREGROUND_WEIGHT, 1.0)
    loss = -torch.log(of_label) if q == 0 else (1 - of_label**q) / q
    return (loss * weight).sum() / weight.sum().clamp_min(1.0)


def student_loss(logits: Tensor, nucleus: Tensor, distance: Tensor, positive: Tensor, q: float = ROBUSTNESS) -> Tensor:
    """Compute the student's loss on nucleus, distance, and positive where there is that channel.

    It takes the place of Eq. 8, with a loss that wrong labels affect less.

    Parameters
    ----------
    logits
        Logits of all channels, shape (n, outputs, h, w).
    nucleus, positive
        Labels, 1, 0 or 255 (ignored), shape (n, h, w).
    distance
        Distance to the outline, 0..1, shape (n, h, w).
    q
        Exponent of the generalised cross-entropy on nucleus and positive.
    """
    loss = generalised_cross_entropy(logits[:, 0], nucleus, q)
    known = (nucleus != IGNORED).float()
    error = functional.smooth_l1_loss(torch.sigmoid(logits[:, 1]), distance, reduction="none", beta=0.2)
    loss = loss + (error * known).sum() / known.sum().clamp_min(1.0)
    if logits.shape[1] > 2:
        loss = loss + POSITIVE_WEIGHT * generalised_cross_entropy(logits[:, 2], positive, q)
    return loss


def soft_loss(logits: Tensor, scores: Tensor) -> Tensor:
    """Compute the loss against another network's scores: cross-entropy plus the weighted squared error.

    Parameters
    ----------
    logits
        Logits of the trained network, shape (n, outputs, h, w).
    scores
        Scores of the other network, 0..1, shape (n, outputs, h, w).
    """
    error = (torch.sigmoid(logits) - scores).pow(2).mean()
    return functional.binary_cross_entropy_with_logits(logits, scores) + _SQUARED_WEIGHT * error


def detection_loss(logits: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """Compute the cross-entropy on a pseudo mask, the loss of the detector of Eq. 7.

    Parameters
    ----------
    logits
        Logits of all classes, shape (n, classes, h, w).
    targets
        One plane of classes, shape (n, h, w), 255 = ignored.
    """
    (mask,) = targets
    return _cross_entropy(logits, mask)


def segmentation_loss(logits: Tensor, targets: Sequence[Tensor], point_weight: float, balanced: bool = False) -> Tensor:
    """Compute Eq. 8: lambda times the cross-entropy on points and Voronoi edges, plus that on the mask's background.

    The mask's foreground is not used, since that is where pseudo masks are wrong.

    Parameters
    ----------
    logits
        Logits of background and nucleus, shape (n, 2, h, w).
    targets
        Pseudo mask, of which the value 0 is used, and Voronoi label (1, 0, 255 = ignored), (n, h, w) each.
    point_weight
        Weight lambda of the points in Eq. 8.
    balanced
        Whether points and edges have equal weights. There are many times more edge pixels than point pixels, so without
        it a short training learns only the centres of nuclei.
    """
    mask, voronoi = targets
    background = torch.where(mask == 0, 0, IGNORED)
    if balanced:
        edges = torch.where(voronoi == 0, 0, IGNORED)
        points = torch.where(voronoi == 1, 1, IGNORED)
        of_points = (_cross_entropy(logits, edges) + _cross_entropy(logits, points)) / 2
    else:
        of_points = _cross_entropy(logits, voronoi)
    return point_weight * of_points + _cross_entropy(logits, background)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Average over pixels that are not ignored; 0 where all are."""
    total = functional.cross_entropy(logits.float(), target.long(), ignore_index=IGNORED, reduction="sum")
    return total / (target != IGNORED).sum().clamp_min(1)
