"""The pictures of docs/method.md, all of a drawn slide, so that no image of a patient is shown.

    python pipelines/method_figures.py docs/figures

The script writes method-labels.png (from pixels to pseudo labels), method-paste.png (pasted nuclei) and
method-decode.png (from scores to nuclei), with seed 0.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wsipsm.demo.draw import draw_array
from wsipsm.instances.decode import decode_instances
from wsipsm.keys import Stain
from wsipsm.models.registry import resolve_model
from wsipsm.models.weights import build_network
from wsipsm.psm.activation import activation_weights, central_patch, orient_maps, self_activation_map
from wsipsm.psm.cluster import BETA, fuse, hematoxylin_densities
from wsipsm.psm.pseudo_label import IGNORED, PseudoLabel, make_pseudo_label
from wsipsm.psm.recurrence import find_agreement
from wsipsm.stain import fit_stain_profile, optical_density
from wsipsm.training.paste import Canvas, Cutout, PasteOptions, cut_out, paste_nuclei, to_density, to_rgb
from wsipsm.training.pretext_training import PretextOptions, train_pretext
from wsipsm.training.rounds import score_at_scale

SIDE_PX = 1024
SHOWN = (slice(384, 640), slice(384, 640))
PRETEXT_STEPS = 60
_LABEL_COLOURS = {0: (255, 255, 255), 1: (0, 140, 70), IGNORED: (200, 200, 200)}
Picture = NDArray[np.generic]


def main() -> None:
    """Draw all three pictures."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    rgb, _ = draw_array(seed=0, size=(SIDE_PX, SIDE_PX), n_nuclei=700, touching_fraction=0.3, stain=Stain.HE)
    draw_labels(rgb, out / "method-labels.png")
    draw_decoding(rgb, out / "method-decode.png")


def draw_labels(rgb: NDArray[np.uint8], path: Path) -> None:
    """Draw the steps from pixels to pseudo labels, and the same crop with nuclei pasted into it."""
    network, _ = train_pretext([rgb], PretextOptions(seed=0, steps=PRETEXT_STEPS))
    weights = activation_weights(network, [central_patch(rgb, 224)])
    profile = fit_stain_profile(rgb.reshape(-1, 3)[::7], Stain.HE, 0)
    dark = optical_density(rgb, profile.background)[..., 0]
    activation = orient_maps([self_activation_map(network, weights, rgb)], [dark])[0]
    fused = [fuse(activation, density, BETA[Stain.HE]) for density in hematoxylin_densities(rgb, profile)]
    label = make_pseudo_label([(find_agreement(fused, 0), None)])
    panels = [
        ("pixels", rgb[SHOWN]),
        ("self-activation map (Eq. 4)", activation[SHOWN]),
        ("map and stain fused (Eq. 5)", fused[0][SHOWN]),
        ("pseudo label; grey is ignored", _coloured(label.nucleus[SHOWN])),
    ]
    _save(panels, path)
    cutouts = cut_out(rgb, label.instances, label.positive)
    # The number of pasted nuclei is random as well, so the crop with the most of twelve is shown.
    canvas = max(
        (_paste(rgb, label, cutouts, seed) for seed in range(12)), key=lambda made: len(np.unique(made.instances))
    )
    pasted = [
        ("the crop", rgb[SHOWN]),
        ("with nuclei pasted", to_rgb(canvas.od)),
        ("it teaches: instances", _instances(canvas.instances)),
        ("it teaches: nucleus, background", _coloured(canvas.nucleus)),
    ]
    _save(pasted, path.with_name("method-paste.png"))


def _paste(rgb: NDArray[np.uint8], label: PseudoLabel, cutouts: Sequence[Cutout], seed: int) -> Canvas:
    parts = (part[SHOWN].copy() for part in (label.nucleus, label.instances, label.positive))
    canvas = Canvas(to_density(rgb[SHOWN]), *parts)  # type: ignore[arg-type]
    paste_nuclei(canvas, cutouts, 1.0, PasteOptions(share=1.0), np.random.default_rng(seed))
    return canvas


def draw_decoding(rgb: NDArray[np.uint8], path: Path) -> None:
    """Draw the steps from the scores of the shipped model to nuclei."""
    weights, card = resolve_model("nuclei-he")
    scores = score_at_scale(build_network(card, weights), rgb, 1.0)
    labels = decode_instances(scores, card.outputs, card.decode, card.mpp)
    panels: list[tuple[str, Picture]] = [
        ("pixels", rgb[SHOWN]),
        ("nucleus score", scores[0][SHOWN]),
        ("distance score", scores[1][SHOWN]),
        ("divided, opened, kept", _outlined(rgb[SHOWN], labels[SHOWN])),
    ]
    _save(panels, path)


def _coloured(nucleus: NDArray[np.uint8]) -> NDArray[np.uint8]:
    picture = np.zeros((*nucleus.shape, 3), np.uint8)
    for value, colour in _LABEL_COLOURS.items():
        picture[nucleus == value] = colour
    return picture


def _instances(labels: NDArray[np.int32]) -> NDArray[np.uint8]:
    colours = np.random.default_rng(0).integers(40, 220, (int(labels.max()) + 1, 3)).astype(np.uint8)
    colours[0] = 255
    return np.asarray(colours[labels])


def _outlined(rgb: NDArray[np.uint8], labels: NDArray[np.int32]) -> NDArray[np.uint8]:
    picture = rgb.copy()
    for label in np.unique(labels[labels > 0]):
        contours, _ = cv2.findContours((labels == label).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, (255, 220, 0), 1)
    return picture


def _save(panels: Sequence[tuple[str, Picture]], path: Path) -> None:
    figure = Figure(figsize=(3.1 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, picture) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), number)
        axes.imshow(picture, cmap="magma", interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    figure.savefig(path, dpi=90)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
