"""Ablations of the paper's engine on MoNuSeg: pretext (Table 3), depth (Fig. 3), beta (Eq. 5), lambda (Eq. 8).

    python pipelines/ablations.py pretext|depth|beta|lambda MONUSEG_DIR OUT [--seeds 0 1 2] [--every 3] [--steps 50]
                                  [--network NAME] [--lite0 lite0.safetensors]

Each writes OUT/<name>.csv (a row for each image), OUT/<name>.md and OUT/<name>.png. The chain is trained on the pixels
of the chosen images, and their labels serve only to score the results. The scores are the pixel AUC of the map, and AJI
and Dice of the pseudo mask (lambda: of the segmentation), once with its connected parts as nuclei and once divided by a
watershed.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from wsipsm.benchmark.images import LabelledImage
from wsipsm.benchmark.machine import describe_machine
from wsipsm.benchmark.sets.monuseg import monuseg_images
from wsipsm.config import ActivationSection, ClusterSection, PaperOptions, PretextSection, SegmentationSection
from wsipsm.metrics.segmentation import aji, dice, measure_overlap
from wsipsm.paper.engine import PaperMaps, fit_maps, train_maps, train_paper
from wsipsm.psm.recurrence import divide_touching

PRETEXTS = ("similarity", "contrast", "rotation", "simsiam", "none")
LITE0 = "tf_efficientnet_lite0"
BETAS = (0.0, 0.5, 1.0, 2.5, 4.0, 10.0)
LAMBDAS = (0.0, 0.25, 0.5, 1.0)
SCORES = ("AUC", "Dice", "AJI", "AJI watershed")
Row = dict[str, object]


@dataclass(frozen=True)
class Study:
    """The images and settings of every ablation."""

    images: list[LabelledImage]
    seeds: list[int]
    steps: int
    network: str
    lite0: Path | None

    @property
    def pixels(self) -> list[NDArray[np.uint8]]:
        """Pixels that the chain is trained on."""
        return [image.rgb for image in self.images]

    def options(self, seed: int, task: str = "similarity", network: str | None = None) -> PaperOptions:
        """Make the settings of one run, with short trainings for CPUs where the paper trains 100 epochs."""
        weights = self.lite0 if task == "imagenet" else None
        pretext = PretextSection(
            task=task, network=network or self.network, steps=self.steps, crop_px=128, weights=weights
        )
        return PaperOptions(pretext=pretext, seed=seed)


def pretext_rows(study: Study) -> Iterator[Row]:
    """Compare pretext tasks, with untrained networks as controls (Table 3)."""
    settings = [(task, study.network) for task in PRETEXTS]
    if study.lite0 is not None:
        settings += [("imagenet", LITE0), ("none", LITE0)]
    for seed in study.seeds:
        for task, network in settings:
            maps, log = train_maps(study.pixels, study.options(seed, task, network), None, print, _silent)
            name = f"{task}, {network}" + (" (collapsed)" if log.collapsed else "")
            yield from _score_maps(study, maps, name, seed)


def depth_rows(study: Study) -> Iterator[Row]:
    """Compare the stages that the map can be computed from (Fig. 3)."""
    for seed in study.seeds:
        options = study.options(seed)
        maps, _ = train_maps(study.pixels, options, None, print, _silent)
        for stage in (1, 2, 3, 4):
            changed = options.model_copy(update={"activation": ActivationSection(stage=stage)})
            yield from _score_maps(study, fit_maps(maps.network, study.pixels, changed), f"stage {stage}", seed)


def beta_rows(study: Study) -> Iterator[Row]:
    """Compare weights of the raw image (Eq. 5); with the weight 0 the map alone is clustered."""
    for seed in study.seeds:
        options = study.options(seed)
        maps, _ = train_maps(study.pixels, options, None, print, _silent)
        for beta in BETAS:
            changed = options.model_copy(update={"clusters": ClusterSection(beta=beta)})
            yield from _score_maps(study, fit_maps(maps.network, study.pixels, changed), f"beta {beta:g}", seed)


def lambda_rows(study: Study) -> Iterator[Row]:
    """Compare weights of points and Voronoi edges (Eq. 8)."""
    for seed in study.seeds:
        for weight in LAMBDAS:
            section = SegmentationSection(point_weight=weight, steps=2 * study.steps, crop_px=256)
            options = study.options(seed)
            detection = options.detection.model_copy(update={"steps": 2 * study.steps, "crop_px": 256})
            options = options.model_copy(update={"segmentation": section, "detection": detection})
            engine = train_paper(study.pixels, options, None, print, _silent)
            for image in study.images:
                found = engine.segment(image.rgb)
                yield _row(f"lambda {weight:g}", seed, image, found > 0, None)


def _score_maps(study: Study, maps: PaperMaps, name: str, seed: int) -> Iterator[Row]:
    for image in study.images:
        yield _row(name, seed, image, maps.pseudo_mask(image.rgb) > 0, maps.activation(image.rgb))


def _row(
    name: str, seed: int, image: LabelledImage, mask: NDArray[np.bool_], activation: NDArray[np.float32] | None
) -> Row:
    truth = image.truth
    step = 11
    auc = float("nan") if activation is None else roc_auc_score((truth > 0).ravel()[::step], activation.ravel()[::step])
    parts = np.asarray(ndimage.label(mask)[0], np.int32)
    scores = (
        auc,
        dice(truth, parts),
        aji(measure_overlap(truth, parts)),
        aji(measure_overlap(truth, divide_touching(mask, 2))),
    )
    return {"setting": name, "seed": seed, "image": image.name, **dict(zip(SCORES, scores, strict=True))}


def _silent(part: str, step: int, steps: int, loss: float) -> None:
    """Report nothing, since the trainings here are short."""


def summarise(rows: list[Row]) -> list[tuple[str, str, NDArray[np.float64]]]:
    """List each setting and score with its mean over images for each seed."""
    settings = list(dict.fromkeys(str(row["setting"]) for row in rows))
    seeds = sorted({int(str(row["seed"])) for row in rows})
    out = []
    for setting in settings:
        for score in SCORES:
            per_seed = [
                np.mean([float(str(r[score])) for r in rows if r["setting"] == setting and r["seed"] == seed])
                for seed in seeds
                if any(r["setting"] == setting and r["seed"] == seed for r in rows)
            ]
            out.append((setting, score, np.array(per_seed)))
    return out


def write(name: str, rows: list[Row], study: Study, out: Path) -> None:
    """Write table, CSV and plot."""
    with (out / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["setting", "seed", "image", *SCORES])
        writer.writeheader()
        writer.writerows(rows)
    summary = summarise(rows)
    facts = describe_machine()
    lines = [
        f"{facts['date']}, {facts['machine']}, {facts['versions']}.",
        f"{len(study.images)} MoNuSeg training images, seeds {study.seeds}, {study.network}, {study.steps} pretext "
        "steps of 4 crops of 128 px. Means over images; in brackets the range over seeds.",
        "",
        "| setting | " + " | ".join(SCORES) + " |",
        "|---|" + "---|" * len(SCORES),
    ]
    settings = list(dict.fromkeys(setting for setting, _, _ in summary))
    for setting in settings:
        cells = [f"{v.mean():.3f} ({np.ptp(v):.3f})" for s, _, v in summary if s == setting]
        lines.append(f"| {setting} | " + " | ".join(cells) + " |")
    text = "\n".join([*lines, ""])
    (out / f"{name}.md").write_text(text)
    print(text)
    figure = Figure(figsize=(11, 0.5 * len(settings) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    for number, score in enumerate(SCORES, 1):
        axes = figure.add_subplot(1, len(SCORES), number)
        for y, setting in enumerate(reversed(settings)):
            values = next(v for s, k, v in summary if s == setting and k == score)
            axes.plot(values, [y] * len(values), "o", color="#1f5fa8", alpha=0.7)
        axes.set_yticks(range(len(settings)), list(reversed(settings)) if number == 1 else [""] * len(settings))
        axes.set_title(score)
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(out / f"{name}.png", dpi=120)


ABLATIONS = {"pretext": pretext_rows, "depth": depth_rows, "beta": beta_rows, "lambda": lambda_rows}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=ABLATIONS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--every", type=int, default=3, help="every n-th image")
    parser.add_argument("--steps", type=int, default=50, help="of the pretext")
    parser.add_argument("--network", default="res2net101_26w_4s")
    parser.add_argument("--lite0", type=Path, help="from pipelines/imagenet_lite0.py")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    study = Study(monuseg_images(args.folder)[:: args.every], args.seeds, args.steps, args.network, args.lite0)
    rows: list[Row] = []
    for row in ABLATIONS[args.name](study):
        rows.append(row)
        if row["image"] == study.images[-1].name:
            print(f"{row['setting']}, seed {row['seed']} done", flush=True)
            write(args.name, rows, study, args.out)


if __name__ == "__main__":
    main()
