"""Recipe of ``nuclei-he``: H&E nuclei from the pixels of the MoNuSeg training images; no label file is opened.

python pipelines/imagenet_encoder.py encoder.safetensors
python pipelines/nuclei_he.py DATA encoder.safetensors wsipsm/zoo/nuclei-he.safetensors [first.safetensors]

``first`` holds the weights of a first round that was run before.
"""

from __future__ import annotations

import sys
from pathlib import Path

from recipe import Recipe, Source, make_model

from wsipsm.keys import Stain
from wsipsm.models.card import DataSource, DecodeSettings
from wsipsm.training.augment import AugmentOptions


def main(data: Path, encoder: Path, out: Path, first: Path | None = None) -> None:
    """Train and write the model and its card."""
    images = sorted((data / "monuseg/train/images").glob("*.tif"))
    terms = "CC BY-NC-SA 4.0 (pixels from TCGA)"
    make_model(
        Recipe(
            stain=Stain.HE,
            sources=[Source(path, 0.25) for path in images],
            data=(DataSource(name="MoNuSeg 2018 training images, pixels only", n_images=len(images), terms=terms),),
            augment=AugmentOptions(scale=(0.7, 1.5)),
            steps=600,
            round_steps=(400, 300, 300),
            decode=DecodeSettings(foreground=0.65),
            round_augment=AugmentOptions(scale=(0.5, 1.6)),
        ),
        encoder,
        out,
        first,
    )


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:5]))
