"""The recipe of a model: all settings of its trainings, from pseudo labels to a faster student, checked as one object.

The student of the first round learns from pseudo labels. Each further self-training round learns from the nuclei that
the network of the round before finds at several scales. Consistency distillation makes the results depend less on how a
slide was scanned. Distilling makes a faster student. Any of these steps may be left out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from wsipsm.keys import Stain
from wsipsm.models.card import DecodeSettings
from wsipsm.training.augment import AugmentOptions
from wsipsm.training.bounds import Batch, CropPx, NotNegative, Positive, Score, Sigma, Steps
from wsipsm.training.consistency import ConsistencyOptions
from wsipsm.training.distil import DistilOptions
from wsipsm.training.paste import PasteOptions
from wsipsm.training.rounds import RoundOptions
from wsipsm.training.student import StudentOptions

WORKING_MPP = 0.25
"""Pixel size at which images are read and networks are trained, um/px; a distilled student works at a multiple of
it."""
OWN_TERMS = "the user's own"
_SEED_STEP = 1000
"""Difference between the seeds of two rounds, so large that recipes of other seeds do not use the same ones."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageSource(_Settings):
    """Images of one kind below the data folder."""

    files: Annotated[tuple[str, ...], Field(min_length=1)]
    """Patterns of files below the data folder, such as `monuseg/train/images/*.tif`; `**` matches all subfolders."""
    name: Annotated[str, Field(min_length=1)]
    """Name in the model card; sources of one name and terms are one entry there."""
    terms: str = OWN_TERMS
    """Terms of use of the images, for the model card."""
    mpp: Positive | None = None
    """Pixel size, um/px, in place of the file's; needed where the file states none."""
    every: PositiveInt = 1
    """Number N where only every Nth file is used, in the order of their paths; the others remain for scoring."""
    whole: bool = False
    """Whether images are used whole, with stains fitted on pixels of the whole image; else patches of tissue are
    used."""
    part: Literal["every training", "consistency"] = "every training"
    """Trainings that use the images; those for consistency distillation alone may be of lower quality than the
    others."""

    @field_validator("files")
    @classmethod
    def _below_the_folder(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            path = PurePosixPath(pattern)
            if not pattern or path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{pattern!r} does not lie below the data folder")
        return patterns

    @model_validator(mode="after")
    def _whole_for_consistency(self) -> Self:
        if self.part == "consistency" and not self.whole:
            raise ValueError("images for consistency distillation are taken whole; whole = true is needed")
        return self


class FirstRound(_Settings):
    """Pseudo labels from self-activation maps and stains, and the student that learns from them."""

    steps: NonNegativeInt = 600
    """Number of steps; 0 leaves this round out, and the next step continues with the model that was started from."""
    beta: NotNegative
    """Weight of the stain against the self-activation map (Eq. 5); infinite: the stain alone."""
    learning_rate: Positive = 2e-3
    augment: AugmentOptions = AugmentOptions()


class FurtherRound(_Settings):
    """A self-training round: the network learns from what it finds again at several scales."""

    steps: Steps = 300
    labels: RoundOptions = RoundOptions()
    """Settings of the pseudo labels; their smoothing is the recipe's."""


class Recipe(_Settings):
    """All settings of a model's trainings; only the pixels and the first weights are not part of it."""

    stain: Stain
    seed: NonNegativeInt = 0
    """Seed of all random choices."""
    sources: tuple[ImageSource, ...] = ()
    """Images below a data folder; where there are none, those that the command names are used."""
    hold_back_every: NonNegativeInt = 5
    """Number N where every Nth image is kept from all trainings, to compare the model with its start on; 0: none."""
    batch: Batch = 6
    crop_px: CropPx = 256
    input_sigma_px: Sigma = 0.0
    """Smoothing of the input in the first round and the further ones, working pixels."""
    first: FirstRound
    rounds: tuple[FurtherRound, ...] = ()
    round_learning_rate: Positive = 1e-3
    round_augment: AugmentOptions = AugmentOptions()
    round_paste: PasteOptions = PasteOptions()
    consistency: tuple[ConsistencyOptions, ...] = ()
    """Consistency distillations, one after the other. The network of the last round is the teacher of all of them, and
    each starts from the result of the one before. Their seeds are added to the recipe's; the model has the last one's
    smoothing."""
    distil: DistilOptions | None = None
    """Settings of a faster student at coarser pixels; None: there is none. Its seed is added to the recipe's."""
    distilled_min_distance: Score | None = None
    """The faster student's `decode.min_distance`; it is lower, since coarse pixels show less of a small nucleus'
    middle."""
    decode: DecodeSettings = DecodeSettings()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.hold_back_every == 1:
            raise ValueError("hold_back_every = 1 keeps every image from training; 0, or 2 and more, is needed")
        if not (self.first.steps or self.rounds or self.consistency or self.distil):
            raise ValueError("no step trains anything; first.steps, rounds, consistency or distil is needed")
        if any(further.labels.input_sigma_px for further in self.rounds):
            raise ValueError("rounds.labels.input_sigma_px is the recipe's input_sigma_px; leave it out")
        if self.distil is not None and self.card_sigma_px:
            raise ValueError("a network that smooths its input cannot be distilled; input_sigma_px = 0 is needed")
        if self.distilled_min_distance is not None and self.distil is None:
            raise ValueError("distilled_min_distance is of a distilled student; distil is needed beside it")
        return self

    @property
    def card_sigma_px(self) -> float:
        """Smoothing of the finished network's input, working pixels."""
        return self.consistency[-1].input_sigma_px if self.consistency else self.input_sigma_px

    @property
    def only_distils(self) -> bool:
        """Whether the recipe only distils the network that it starts from."""
        return not (self.first.steps or self.rounds or self.consistency)

    def first_options(self) -> StudentOptions:
        """Make the training settings of the first round."""
        return StudentOptions(
            steps=self.first.steps,
            batch=self.batch,
            crop_px=self.crop_px,
            learning_rate=self.first.learning_rate,
            seed=self.seed,
            augment=self.first.augment,
            input_sigma_px=self.input_sigma_px,
        )

    def round_options(self, number: int, steps: int) -> StudentOptions:
        """Make the training settings of a further round; ``number`` counts from 1."""
        return StudentOptions(
            steps=steps,
            batch=self.batch,
            crop_px=self.crop_px,
            learning_rate=self.round_learning_rate,
            seed=self.seed + _SEED_STEP * number,
            augment=self.round_augment,
            paste=self.round_paste,
            input_sigma_px=self.input_sigma_px,
            robustness=0.0,  # these labels are few and reliable; with cross-entropy not all scores end near 0 or 1
        )

    def round_labels(self, further: FurtherRound) -> RoundOptions:
        """Make the settings of a further round's pseudo labels."""
        return replace(further.labels, input_sigma_px=self.input_sigma_px)

    def consistency_options(self) -> list[ConsistencyOptions]:
        """Make the settings of each consistency distillation; the recipe's seed is added to theirs."""
        return [replace(given, seed=self.seed + given.seed) for given in self.consistency]

    def distil_options(self) -> DistilOptions | None:
        """Make the settings of distilling, where there is one; the recipe's seed is added to its own."""
        return None if self.distil is None else replace(self.distil, seed=self.seed + self.distil.seed)
