"""What each ingredient of ``nuclei-he`` gives: the recipe with one thing left out, at a smaller budget.

    python pipelines/ingredients.py MONUSEG_DIR encoder.safetensors OUT [--seeds 0] [--every 1] [--steps 200]

Writes OUT/ingredients.csv (a row an image) and OUT/ingredients.md. Everything is trained on the pixels of the images,
all or every Nth; their labels only score what came out, one look an image. OUT/work keeps the trainings: a killed run
goes on.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from nuclei_he import make_recipe
from numpy.typing import NDArray
from recipe import Recipe, Workshop, first_options, read_images, round_options, tell
from safetensors.torch import load_file
from torch import Tensor

from wsipsm.benchmark.classical import segment_he
from wsipsm.benchmark.images import LabelledImage
from wsipsm.benchmark.machine import describe_machine
from wsipsm.benchmark.monuseg import MPP, monuseg_images
from wsipsm.benchmark.scoring import score_labels
from wsipsm.benchmark.table import csv_text
from wsipsm.instances.decode import decode_instances
from wsipsm.keys import Stain
from wsipsm.models.card import OUTPUTS, DecodeSettings
from wsipsm.models.unet import NucleusUnet
from wsipsm.psm.pseudo_label import IGNORED, PseudoLabel
from wsipsm.rundir import write_aside
from wsipsm.training.augment import AugmentOptions
from wsipsm.training.pseudo_labels import StainedImage, make_pseudo_labels
from wsipsm.training.rounds import RoundOptions, relabel_images, score_at_scale
from wsipsm.training.student import PseudoLabelledImage, StudentOptions

SCORES = ("AJI", "AJI+", "PQ", "Dice", "P", "R")
Row = dict[str, object]


@dataclass(frozen=True)
class Study:
    """What every arm is given."""

    images: list[LabelledImage]
    stained: list[StainedImage]
    recipe: Recipe
    workshop: Workshop
    encoder: dict[str, Tensor]
    round_steps: int
    made: dict[float | None, list[PseudoLabelledImage]] = field(default_factory=dict)
    """First lessons by beta; they take minutes."""

    @property
    def pixels(self) -> list[NDArray[np.uint8]]:
        """What is learned from."""
        return [image.rgb for image in self.stained]

    def lessons(self, beta: float | None) -> list[PseudoLabelledImage]:
        """First lessons, with the stain weighing ``beta`` against the map."""
        if beta not in self.made:
            self.made[beta] = make_pseudo_labels(self.stained, Stain.HE, self.recipe.seed, tell, beta)
        return self.made[beta]

    def first(
        self,
        name: str,
        make: Callable[[], list[PseudoLabelledImage]],
        start: dict[str, Tensor] | None = None,
        **changes: object,
    ) -> NucleusUnet:
        """Train a first round of its own."""
        options: StudentOptions = replace(first_options(self.recipe), **changes)  # type: ignore[arg-type]
        return self.workshop.train(name, options, self.encoder if start is None else start, make, name)

    def further(self, name: str, network: NucleusUnet, scales: tuple[float, ...], pasted: bool) -> NucleusUnet:
        """Train one further round."""
        options = round_options(self.recipe, 1, self.round_steps)
        rounds = RoundOptions(scales=scales)

        def make() -> list[PseudoLabelledImage]:
            made = relabel_images(self.pixels, network, MPP, rounds, tell)
            return made if pasted else [replace(lesson, cutouts=()) for lesson in made]

        return self.workshop.train(name, options, network.state_dict(), make, name)


def run_arms(study: Study) -> Iterator[Row]:
    """Train and score every arm."""
    plain = AugmentOptions(log_gain=(0, 0), offset_od=(0, 0), log_gamma=0, scale=study.recipe.augment.scale)
    recipe_beta = study.recipe.beta
    fusions = {
        "stain alone": math.inf,
        "map alone": 0.0,
        "map at the paper's weight": None,
        "as the recipe": recipe_beta,
    }
    for name, beta in fusions.items():
        kept = [lesson.label.instances for lesson in study.lessons(beta)]
        yield from _rows(study, f"kept pseudo labels, {name}", kept)
    fused = study.first("recipe", lambda: study.lessons(recipe_beta))
    firsts = {
        "first round": fused,
        "labels of one threshold, no agreement": study.first("threshold", lambda: _threshold_lessons(study)),
        "labels of the stain alone": study.first("stain", lambda: study.lessons(math.inf)),
        "labels with the map at the paper's weight": study.first("paper", lambda: study.lessons(None)),
        "no change of stains": study.first("plain", lambda: study.lessons(recipe_beta), augment=plain),
        "encoder from random weights": study.first("random", lambda: study.lessons(recipe_beta), {}),
    }
    for name, network in firsts.items():
        yield from _network_rows(study, network, {name: DecodeSettings()})
    scales = RoundOptions().scales
    one_scale = study.further("one-scale", fused, (1.0,), pasted=False)
    yield from _network_rows(study, one_scale, {"another round, one scale, nothing pasted": DecodeSettings()})
    unpasted = study.further("unpasted", fused, scales, pasted=False)
    yield from _network_rows(study, unpasted, {"another round, four scales, nothing pasted": DecodeSettings()})
    pasted = study.further("pasted", fused, scales, pasted=True)
    decodings = {
        "another round, four scales, nuclei pasted": DecodeSettings(),
        "the last, decoded by shape": study.recipe.decode,
    }
    yield from _network_rows(study, pasted, decodings)


def _threshold_lessons(study: Study) -> list[PseudoLabelledImage]:
    """Take the no-network floor as labels: every pixel is taught."""
    lessons = []
    for image in study.stained:
        found = segment_he(image.rgb)
        nothing = np.full(found.shape, IGNORED, np.uint8)
        label = PseudoLabel((found > 0).astype(np.uint8), found, nothing, np.empty((0, 2)))
        lessons.append(PseudoLabelledImage(image.rgb, label))
    return lessons


def _network_rows(study: Study, network: NucleusUnet, decodings: Mapping[str, DecodeSettings]) -> Iterator[Row]:
    scores = [score_at_scale(network, rgb, 1.0) for rgb in study.pixels]
    for name, settings in decodings.items():
        yield from _rows(study, name, [decode_instances(maps, OUTPUTS[Stain.HE], settings, MPP) for maps in scores])


def _rows(study: Study, name: str, found: Sequence[NDArray[np.int32]]) -> Iterator[Row]:
    for image, labels in zip(study.images, found, strict=True):
        scores = score_labels(image.truth, labels)
        told: Row = {"setting": name, "seed": study.recipe.seed, "image": image.name}
        yield told | {score: scores[score] for score in SCORES}


def summarise(rows: Sequence[Row]) -> str:
    """Means over images; over several seeds, their mean and standard deviation."""
    lines = ["| setting | " + " | ".join(SCORES) + " |", "|---|" + "---|" * len(SCORES)]
    seeds = sorted({str(row["seed"]) for row in rows})
    for name in dict.fromkeys(str(row["setting"]) for row in rows):
        cells = []
        for score in SCORES:
            means = [
                fmean(float(str(row[score])) for row in rows if row["setting"] == name and str(row["seed"]) == seed)
                for seed in seeds
            ]
            cells.append(f"{fmean(means):.3f}" + (f" ± {stdev(means):.3f}" if len(means) > 1 else ""))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="MONUSEG_DIR")
    parser.add_argument("encoder", type=Path)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth image only (default 1)")
    parser.add_argument("--steps", type=int, default=200, help="of a first round")
    parser.add_argument("--round-steps", type=int, default=150, help="of a further round")
    args = parser.parse_args()
    images = monuseg_images(args.folder)[:: args.every]
    rows: list[Row] = []
    for seed in args.seeds:
        recipe = replace(make_recipe([image.path for image in images], seed), steps=args.steps)
        stained = read_images(recipe)
        workshop = Workshop.of(args.out / "work", recipe, stained)
        rows += run_arms(Study(images, stained, recipe, workshop, load_file(args.encoder), args.round_steps))
    facts = describe_machine()
    about = f"{facts['date']}, {facts['machine']}, seeds {args.seeds}, {len(images)} images, "
    about += f"{args.steps} and {args.round_steps} steps."
    for name, text in (("ingredients.csv", csv_text(rows)), ("ingredients.md", f"{about}\n\n{summarise(rows)}")):
        with write_aside(args.out / name) as temporary:
            temporary.write_text(text)
    print(summarise(rows))


if __name__ == "__main__":
    main()
