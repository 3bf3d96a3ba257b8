"""The effect of each ingredient of ``nuclei-he``: its recipe with one ingredient left out, with shorter trainings.

    python pipelines/ingredients.py MONUSEG_DIR encoder.safetensors OUT [--seeds 0] [--every 1] [--steps 200]

The script writes OUT/ingredients.csv (a row for each image) and OUT/ingredients.md. It trains on the pixels of the
images, of all or of every Nth, and their labels serve only to score the results, with one view of each image. OUT/work
keeps the trainings, so that a run that was killed continues.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from wsipsm.benchmark.classical import segment_he
from wsipsm.benchmark.images import LabelledImage
from wsipsm.benchmark.machine import describe_machine
from wsipsm.benchmark.scoring import score_labels
from wsipsm.benchmark.sets.monuseg import MPP, monuseg_images
from wsipsm.benchmark.table import csv_text
from wsipsm.instances.decode import decode_instances
from wsipsm.keys import Stain
from wsipsm.models.card import OUTPUTS, DecodeSettings
from wsipsm.models.unet import NucleusUnet
from wsipsm.psm.cluster import BETA
from wsipsm.psm.pseudo_label import IGNORED, PseudoLabel
from wsipsm.rundir import write_aside
from wsipsm.stain import fit_stain_profile
from wsipsm.training.augment import AugmentOptions
from wsipsm.training.chain import Chain
from wsipsm.training.pseudo_labels import StainedImage, make_pseudo_labels
from wsipsm.training.recipe import Recipe
from wsipsm.training.recipe_file import make_recipe
from wsipsm.training.rounds import RoundOptions, relabel_images, score_at_scale
from wsipsm.training.student import PseudoLabelledImage, StudentOptions

SCORES = ("AJI", "AJI+", "PQ", "Dice", "P", "R")
Row = dict[str, object]


@dataclass(frozen=True)
class Study:
    """The images, weights and settings of every arm."""

    images: list[LabelledImage]
    chain: Chain
    encoder: dict[str, Tensor]
    round_steps: int
    made: dict[float, list[PseudoLabelledImage]] = field(default_factory=dict)
    """Pseudo labels of the first round by beta, which are kept since they take minutes to make."""

    @property
    def recipe(self) -> Recipe:
        """Recipe of `nuclei-he`, with fewer steps."""
        return self.chain.recipe

    @property
    def pixels(self) -> list[NDArray[np.uint8]]:
        """Pixels that networks are trained on."""
        return self.chain.pixels

    def labelled(self, beta: float) -> list[PseudoLabelledImage]:
        """Make the pseudo labels of the first round, with the weight ``beta`` of the stain against the map."""
        if beta not in self.made:
            self.made[beta] = make_pseudo_labels(self.chain.images, Stain.HE, self.recipe.seed, print, beta)
        return self.made[beta]

    def first(
        self,
        name: str,
        make: Callable[[], list[PseudoLabelledImage]],
        start: dict[str, Tensor] | None = None,
        **changes: object,
    ) -> NucleusUnet:
        """Train a first round with other pseudo labels or settings than the recipe's."""
        options: StudentOptions = replace(self.recipe.first_options(), **changes)  # type: ignore[arg-type]
        return self.chain.train_student(name, options, self.encoder if start is None else start, make, name)

    def further(self, name: str, network: NucleusUnet, scales: tuple[float, ...], pasted: bool) -> NucleusUnet:
        """Train one further round."""
        options = self.recipe.round_options(1, self.round_steps)
        rounds = RoundOptions(scales=scales)

        def make() -> list[PseudoLabelledImage]:
            made = relabel_images(self.pixels, network, MPP, rounds, print)
            return made if pasted else [replace(labelled, cutouts=()) for labelled in made]

        return self.chain.train_student(name, options, network.state_dict(), make, name)


def run_arms(study: Study) -> Iterator[Row]:
    """Train and score every arm."""
    scale = study.recipe.first.augment.scale
    plain = AugmentOptions(log_gain=(0, 0), offset_od=(0, 0), log_gamma=0, scale=scale)
    recipe_beta, paper_beta = study.recipe.first.beta, BETA[Stain.HE]
    fusions = {
        "stain alone": math.inf,
        "map alone": 0.0,
        "map at the paper's weight": paper_beta,
        "as the recipe": recipe_beta,
    }
    for name, beta in fusions.items():
        kept = [image.label.instances for image in study.labelled(beta)]
        yield from _rows(study, f"kept pseudo labels, {name}", kept)
    fused = study.first("recipe", lambda: study.labelled(recipe_beta))
    firsts = {
        "first round": fused,
        "labels of one threshold, no agreement": study.first("threshold", lambda: _threshold_labels(study)),
        "labels of the stain alone": study.first("stain", lambda: study.labelled(math.inf)),
        "labels with the map at the paper's weight": study.first("paper", lambda: study.labelled(paper_beta)),
        "no change of stains": study.first("plain", lambda: study.labelled(recipe_beta), augment=plain),
        "encoder from random weights": study.first("random", lambda: study.labelled(recipe_beta), {}),
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


def _threshold_labels(study: Study) -> list[PseudoLabelledImage]:
    """Make labels by thresholds alone, without a network; no pixel of them is ignored."""
    labelled = []
    for image in study.chain.images:
        found = segment_he(image.rgb)
        nothing = np.full(found.shape, IGNORED, np.uint8)
        label = PseudoLabel((found > 0).astype(np.uint8), found, nothing, np.empty((0, 2)))
        labelled.append(PseudoLabelledImage(image.rgb, label))
    return labelled


def _network_rows(study: Study, network: NucleusUnet, decodings: Mapping[str, DecodeSettings]) -> Iterator[Row]:
    scores = [score_at_scale(network, rgb, 1.0) for rgb in study.pixels]
    for name, settings in decodings.items():
        yield from _rows(study, name, [decode_instances(maps, OUTPUTS[Stain.HE], settings, MPP) for maps in scores])


def _rows(study: Study, name: str, found: Sequence[NDArray[np.int32]]) -> Iterator[Row]:
    for image, labels in zip(study.images, found, strict=True):
        scores = score_labels(image.truth, labels)
        row: Row = {"setting": name, "seed": study.recipe.seed, "image": image.name}
        yield row | {score: scores[score] for score in SCORES}


def summarise(rows: Sequence[Row]) -> str:
    """Write a table of means over images; over several seeds, with their mean and standard deviation."""
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
        recipe = make_recipe(Stain.HE, {}, steps=args.steps, seed=seed)
        stained = [
            StainedImage(image.rgb, fit_stain_profile(image.rgb.reshape(-1, 3)[::7], Stain.HE, seed))
            for image in images
        ]
        chain = Chain(args.out / "work", recipe, stained, [], print)
        rows += run_arms(Study(images, chain, load_file(args.encoder), args.round_steps))
    facts = describe_machine()
    about = f"{facts['date']}, {facts['machine']}, seeds {args.seeds}, {len(images)} images, "
    about += f"{args.steps} and {args.round_steps} steps."
    for name, text in (("ingredients.csv", csv_text(rows)), ("ingredients.md", f"{about}\n\n{summarise(rows)}")):
        with write_aside(args.out / name) as temporary:
            temporary.write_text(text)
    print(summarise(rows))


if __name__ == "__main__":
    main()
