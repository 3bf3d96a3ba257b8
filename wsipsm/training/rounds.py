"""The pseudo labels of the next self-training round: nuclei that a trained network finds at several scales.

At a single scale a network divides large nuclei or joins small ones; nuclei on which several scales agree are whole.
All else that the network finds is ignored, so that the next network does not learn its errors, and outlines are
smoothed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from wsipsm.instances.decode import decode_instances
from wsipsm.instances.labels import keep_labels
from wsipsm.keys import Stain
from wsipsm.models.card import OUTPUTS, DecodeSettings
from wsipsm.models.padding import pad_aligned
from wsipsm.models.smooth_batch import smooth_batch
from wsipsm.models.unet import ENCODER_STRIDE, NucleusUnet
from wsipsm.psm.pseudo_label import make_pseudo_label
from wsipsm.psm.recurrence import Agreement, take_greedily
from wsipsm.training.bounds import CHECKED, Cuts, OpeningShare, Scales, Score, Sigma
from wsipsm.training.device import find_compute
from wsipsm.training.many import map_images
from wsipsm.training.paste import cut_out
from wsipsm.training.student import PseudoLabelledImage

_SURE_CLASS = 0.65
_RIM_PX = 32


@dataclass(frozen=True, slots=True, config=CHECKED)
class RoundOptions:
    """Settings of making pseudo labels of the next round from a network's scores."""

    scales: Scales = (0.5, 0.7, 1.0, 1.4)
    """Factors by which each image is resized for the network."""
    cuts: Cuts = (0.55, 0.75)
    """Nucleus scores from which a pixel belongs to a nucleus; objects are compared across all scales and cuts."""
    maybe: Score = 0.5
    """Score above which a pixel may be nucleus, at any scale; such a pixel is ignored where no kept nucleus covers
    it."""
    opening_share: OpeningShare = 0.18
    """The ``opening_share`` of decoding, as in a model card."""
    min_distance: Score = 0.5
    """Smallest distance score that an object must reach; the network does not take a lower one for a whole nucleus."""
    input_sigma_px: Sigma = 0.0
    """Sigma of the smoothing of the network's input, pixels, as in the model card."""

    def __post_init__(self) -> None:
        if len(self.scales) * len(self.cuts) < 2:
            raise ValueError("one scale and one cut; nuclei must be found again at another of either")


def relabel_images(
    images: Sequence[NDArray[np.uint8]],
    network: NucleusUnet,
    mpp: float,
    options: RoundOptions,
    report: Callable[[str], None],
) -> list[PseudoLabelledImage]:
    """Make the pseudo labels of another self-training round from a network's scores.

    Parameters
    ----------
    images
        RGB, each of shape (h, w, 3), uint8.
    network
        Trained network with 2 outputs (H&E) or 3 (IHC).
    mpp
        Pixel size of the images, um/px.
    options
        Settings of the round.
    report
        Function that is given a line of text for each image.

    Returns
    -------
    One pseudo-labelled image for each, in order, with nuclei to paste.
    """
    network = copy.deepcopy(network).to(find_compute().device)
    seen = (
        (rgb, [score_at_scale(network, rgb, scale, options.input_sigma_px) for scale in options.scales], mpp, options)
        for rgb in images
    )
    made = []
    for labelled in map_images(_relabel, seen, len(images)):
        made.append(labelled)
        kept, pasted = len(labelled.label.points_xy), len(labelled.cutouts)
        report(f"pseudo labels {len(made)}/{len(images)}: {kept} nuclei kept, {pasted} to paste")
    return made


def _relabel(
    rgb: NDArray[np.uint8], scores: Sequence[NDArray[np.float32]], mpp: float, options: RoundOptions
) -> PseudoLabelledImage:
    label = make_pseudo_label(_agreements(scores, mpp, options), refined=True)
    return PseudoLabelledImage(rgb, label, cut_out(rgb, label.instances, label.positive))


def score_at_scale(
    network: NucleusUnet, rgb: NDArray[np.uint8], scale: float, input_sigma_px: float = 0.0
) -> NDArray[np.float32]:
    """Score a resized and then smoothed image; the scores, 0..1, have the image's own size: (outputs, h, w)."""
    height, width = rgb.shape[:2]
    size = (max(ENCODER_STRIDE, round(width * scale)), max(ENCODER_STRIDE, round(height * scale)))
    soft = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    seen = cv2.resize(rgb, size, interpolation=soft) if scale != 1 else rgb
    device = next(network.parameters()).device
    image = smooth_batch(torch.from_numpy(seen.copy()).to(device).permute(2, 0, 1)[None].float(), input_sigma_px)
    network.eval()
    with torch.inference_mode():
        padded, (rows, columns) = pad_aligned(image, _RIM_PX, ENCODER_STRIDE)
        logits = network(padded.contiguous(memory_format=torch.channels_last))
        scores = torch.sigmoid(logits)[0, :, rows, columns].cpu().numpy()
    planes = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in scores]
    return np.stack(planes).astype(np.float32)


def _agreements(
    scores: Sequence[NDArray[np.float32]], mpp: float, options: RoundOptions
) -> list[tuple[Agreement, bool | None]]:
    """Find the objects on which scales and cuts agree, for each class of nuclei."""
    outputs = OUTPUTS[Stain.HE if len(scores[0]) == len(OUTPUTS[Stain.HE]) else Stain.IHC]
    decodings = [
        DecodeSettings(foreground=cut, opening_share=options.opening_share, min_distance=options.min_distance)
        for cut in options.cuts
    ]
    seedings = [decode_instances(maps, outputs, settings, mpp) for maps in scores for settings in decodings]
    labels, confidence = take_greedily(seedings)
    generous = np.max([maps[0] for maps in scores], axis=0) > options.maybe
    found = Agreement(labels, confidence, generous)
    if outputs == OUTPUTS[Stain.HE]:
        return [(found, None)]
    positive = found.means(np.mean([maps[2] for maps in scores], axis=0))
    return [(_only(found, positive > _SURE_CLASS), True), (_only(found, positive < 1 - _SURE_CLASS), False)]


def _only(agreement: Agreement, chosen: NDArray[np.bool_]) -> Agreement:
    confidence = np.concatenate([[0.0], agreement.confidence[chosen]])
    return Agreement(keep_labels(agreement.labels, chosen), confidence, agreement.generous)
