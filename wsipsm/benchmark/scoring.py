"""Computes the scores of one image, and of a set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsipsm.benchmark.images import PointImage
from wsipsm.metrics.detection import DetectionScore, match_points, nearest_within
from wsipsm.metrics.segmentation import (
    aji,
    aji_plus,
    dice,
    foreground_iou,
    measure_overlap,
    object_dice,
    panoptic_quality,
)

CENTROID_RADIUS_PX = 12
"""Match radius of centroids on MoNuSeg, pixels: 3 um at 0.25 um/px, as for HoVer-Net."""


def score_labels(
    truth: NDArray[np.int32], predicted: NDArray[np.int32], radius_px: float = CENTROID_RADIUS_PX
) -> dict[str, float]:
    """Score a label image: AJI, AJI+, PQ, SQ, DQ, Dice, IoU, object Dice, and detection by IoU and by centroids.

    ``P``, ``R`` and ``F1`` count instances matched at IoU above 0.5; ``P_c``, ``R_c`` and ``F1_c`` count centroids
    matched within ``radius_px``; both match one to one. The counts ``n_...`` are needed to pool detection over images.
    """
    overlap = measure_overlap(truth, predicted)
    quality = panoptic_quality(overlap)
    by_iou = DetectionScore(quality.n_matched, quality.n_truth, quality.n_predicted)
    by_centroid = match_points(centroids(truth), centroids(predicted), radius_px).score
    return {
        "AJI": aji(overlap),
        "AJI+": aji_plus(overlap),
        "PQ": quality.pq,
        "SQ": quality.sq,
        "DQ": quality.dq,
        "Dice": dice(truth, predicted),
        "IoU": foreground_iou(truth, predicted),
        "Dice_obj": object_dice(overlap),
        "P": by_iou.precision,
        "R": by_iou.recall,
        "F1": by_iou.f1,
        "P_c": by_centroid.precision,
        "R_c": by_centroid.recall,
        "F1_c": by_centroid.f1,
        "n_matched": by_iou.n_matched,
        "n_matched_c": by_centroid.n_matched,
        "n_truth": quality.n_truth,
        "n_predicted": quality.n_predicted,
    }


def centroids(labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Compute the centroid of each instance, (x, y), corner convention, shape (n, 2)."""
    ids = np.unique(labels[labels > 0])
    if ids.size == 0:
        return np.empty((0, 2))
    centres: NDArray[np.float64] = np.array(ndimage.center_of_mass(labels > 0, labels, ids))[:, ::-1] + 0.5
    return centres


def mean_scores(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    """Average every score over the images, sum the counts, and pool detection (``P_pool`` and so on)."""
    rows = list(rows)
    out = {k: float(np.mean([r[k] for r in rows])) for k in rows[0] if not k.startswith("n_")}
    totals = {k: int(sum(r[k] for r in rows)) for k in rows[0] if k.startswith("n_")}
    for suffix, matched in (("", "n_matched"), ("_c", "n_matched_c")):
        pooled = DetectionScore(totals[matched], totals["n_truth"], totals["n_predicted"])
        out |= {f"P{suffix}_pool": pooled.precision, f"R{suffix}_pool": pooled.recall, f"F1{suffix}_pool": pooled.f1}
    return out | totals


@dataclass(frozen=True)
class PointScore:
    """Scores of one point-labelled image."""

    positive: DetectionScore
    negative: DetectionScore
    any: DetectionScore
    """Detection of nuclei of any class."""

    @property
    def index(self) -> float | None:
        """True labelling index, 0..1; None without labels."""
        return _share(self.positive.n_truth, self.negative.n_truth)

    @property
    def predicted_index(self) -> float | None:
        """Predicted labelling index, 0..1; None when nothing was found."""
        return _share(self.positive.n_predicted, self.negative.n_predicted)

    def row(self) -> dict[str, float | None]:
        """Make the flat row of a per-image table."""
        kinds = {"pos": self.positive, "neg": self.negative, "any": self.any}
        out: dict[str, float | None] = {}
        for name, s in kinds.items():
            out |= {f"P_{name}": s.precision, f"R_{name}": s.recall, f"F1_{name}": s.f1}
            out |= {
                f"n_matched_{name}": s.n_matched,
                f"n_truth_{name}": s.n_truth,
                f"n_predicted_{name}": s.n_predicted,
            }
        return out | {"index": self.index, "predicted_index": self.predicted_index}


def score_points(
    image: PointImage, positive_xy: NDArray[np.float64], negative_xy: NDArray[np.float64], radius_px: float
) -> PointScore:
    """Score detected points of an image, matched one to one within a radius, by class and with classes merged.

    Labels and predictions outside the mask are left out; then predictions whose nearest label within the radius is
    one to ignore are dropped. All points are (x, y) in pixels, corner convention, shape (n, 2).
    """
    truth = {"positive": _inside(image.positive, image.mask), "negative": _inside(image.negative, image.mask)}
    scored = np.concatenate([truth["positive"], truth["negative"]])
    found = {
        kind: _drop_ignored(_inside(xy, image.mask), scored, image.ignore, radius_px)
        for kind, xy in (("positive", positive_xy), ("negative", negative_xy))
    }
    return PointScore(
        match_points(truth["positive"], found["positive"], radius_px).score,
        match_points(truth["negative"], found["negative"], radius_px).score,
        match_points(scored, np.concatenate([found["positive"], found["negative"]]), radius_px).score,
    )


def pool_points(scores: Iterable[PointScore]) -> dict[str, float]:
    """Pool the scores of all images into those of the set.

    ``P``, ``R`` and ``F1`` are pooled over images. ``MP`` and ``MN`` are mean absolute errors of the counts per image.
    The error and bias (predicted - true) of the labelling index are means over images with labels, in percentage
    points; an image in which nothing was found has an index of 0.
    """
    scores = list(scores)
    out: dict[str, float] = {}
    for name, kind in (("pos", "positive"), ("neg", "negative"), ("any", "any")):
        total = sum((getattr(s, kind) for s in scores), DetectionScore(0, 0, 0))
        out |= {f"P_{name}": total.precision, f"R_{name}": total.recall, f"F1_{name}": total.f1}
        out |= {f"n_truth_{name}": total.n_truth, f"n_predicted_{name}": total.n_predicted}
    out["MP"] = float(np.mean([abs(s.positive.n_predicted - s.positive.n_truth) for s in scores]))
    out["MN"] = float(np.mean([abs(s.negative.n_predicted - s.negative.n_truth) for s in scores]))
    errors = np.array([100 * ((s.predicted_index or 0) - s.index) for s in scores if s.index is not None])
    out["index_error"] = float(np.abs(errors).mean()) if errors.size else float("nan")
    out["index_bias"] = float(errors.mean()) if errors.size else float("nan")
    out["index_true"] = 100 * (_share(out["n_truth_pos"], out["n_truth_neg"]) or 0)
    out["index_predicted"] = 100 * (_share(out["n_predicted_pos"], out["n_predicted_neg"]) or 0)
    return out


def _share(n_positive: float, n_negative: float) -> float | None:
    total = n_positive + n_negative
    return n_positive / total if total else None


def _inside(xy: NDArray[np.float64], mask: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    if mask is None:
        return xy
    column = np.clip(np.floor(xy[:, 0]).astype(int), 0, mask.shape[1] - 1)
    row = np.clip(np.floor(xy[:, 1]).astype(int), 0, mask.shape[0] - 1)
    kept: NDArray[np.float64] = xy[mask[row, column]]
    return kept


def _drop_ignored(
    xy: NDArray[np.float64], scored: NDArray[np.float64], ignore: NDArray[np.float64], radius_px: float
) -> NDArray[np.float64]:
    if not len(ignore):
        return xy
    nearest = nearest_within(xy, np.concatenate([scored, ignore]), radius_px)
    kept: NDArray[np.float64] = xy[nearest < len(scored)]
    return kept
