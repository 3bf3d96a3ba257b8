"""Recipe of ``nuclei-he``: H&E nuclei from the pixels of the MoNuSeg training images; no label file is opened.

python pipelines/imagenet_encoder.py encoder.safetensors
python pipelines/nuclei_he.py DATA encoder.safetensors nuclei-he.safetensors

A killed run goes on where it was when it is started again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recipe import Recipe, Source, make_model, parse_arguments

from wsipsm.keys import Stain
from wsipsm.models.card import DataSource, DecodeSettings
from wsipsm.training.augment import AugmentOptions

N_ROUNDS = 5


def make_recipe(images: Sequence[Path], seed: int) -> Recipe:
    """Give the recipe for images of 0.25 um/px."""
    terms = "CC BY-NC-SA 4.0 (pixels from TCGA)"
    return Recipe(
        stain=Stain.HE,
        sources=[Source(path, 0.25) for path in images],
        data=(DataSource(name="MoNuSeg 2018 training images, pixels only", n_images=len(images), terms=terms),),
        augment=AugmentOptions(scale=(0.7, 1.5)),
        steps=600,
        round_steps=(300,) * N_ROUNDS,
        round_augment=AugmentOptions(scale=(0.5, 1.6)),
        decode=DecodeSettings(opening_share=0.18, min_distance=0.55),
        seed=seed,
    )


if __name__ == "__main__":
    given = parse_arguments(__doc__)
    make_model(
        make_recipe(sorted((given.data / "monuseg/train/images").glob("*.tif")), given.seed), given.encoder, given.out
    )
