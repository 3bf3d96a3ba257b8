"""A recipe: everything that shapes a model, from pseudo labels to a faster student, in one checked object.

Pseudo labels teach the student of the first round; each further self-training round learns from what the network of the
round before finds again at several scales; consistency distillation makes the network steady from scan to scan; and
distilling, where it is asked for, makes a faster student of it. Any of these steps may be left out.
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
"""Pixel size that images are read at and networks learn at, um/px; a distilled student works at a multiple."""
OWN_TERMS = "the user's own"
_SEED_STEP = 1000
"""The step between the seeds of two rounds, which the seeds of other recipes should not meet."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageSource(_Settings):
    """Images of one kind below the data folder."""

    files: Annotated[tuple[str, ...], Field(min_length=1)]
    """Patterns below the data folder, such as `monuseg/train/images/*.tif`; `**` goes through folders."""
    name: Annotated[str, Field(min_length=1)]
    """The name in the model card; sources of one name and terms are one entry there."""
    terms: str = OWN_TERMS
    mpp: Positive | None = None
    """Pixel size, um/px, in place of the file's; needed where the file states none."""
    every: PositiveInt = 1
    """Take every Nth file in the order of their paths; the others stay for scoring."""
    whole: bool = False
    """Whether images are taken whole, with stains fitted on all of their pixels; else by patches of tissue."""
    part: Literal["every training", "consistency"] = "every training"
    """Which trainings see them; images for consistency distillation alone need not be of the quality of the others."""

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
    """0 leaves this round out: the model that is started from goes on as it is."""
    beta: NotNegative
    """Weight of the stain against the self-activation map (Eq. 5); infinite: the stain alone."""
    learning_rate: Positive = 2e-3
    augment: AugmentOptions = AugmentOptions()


class FurtherRound(_Settings):
    """A self-training round: the network learns from what it finds again at several scales."""

    steps: Steps = 300
    labels: RoundOptions = RoundOptions()
    """How its scores become pseudo labels; the smoothing is the recipe's."""


class Recipe(_Settings):
    """Everything that shapes a model but the pixels and the weights it starts from."""

    stain: Stain
    seed: NonNegativeInt = 0
    """The seed of everything random."""
    sources: tuple[ImageSource, ...] = ()
    """Images below a data folder; none: those that the command names."""
    hold_back_every: NonNegativeInt = 5
    """Every Nth image is kept from all trainings, to compare the model with its start on; 0: none."""
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
    """The network of the last round teaches all of them, and each starts where the one before ended. Seeds are added to
    the recipe's; the model has the last one's smoothing."""
    distil: DistilOptions | None = None
    """A faster student at coarser pixels; None: the model is the network itself. The seed is added to the recipe's."""
    distilled_min_distance: Score | None = None
    """The faster student's `decode.min_distance`: coarse pixels show less of a small nucleus' middle."""
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
        """Whether the network that is distilled is the one that is started from, as it is."""
        return not (self.first.steps or self.rounds or self.consistency)

    def first_options(self) -> StudentOptions:
        """Give the training settings of the first round."""
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
        """Give the training settings of a further round, numbered from 1."""
        return StudentOptions(
            steps=steps,
            batch=self.batch,
            crop_px=self.crop_px,
            learning_rate=self.round_learning_rate,
            seed=self.seed + _SEED_STEP * number,
            augment=self.round_augment,
            paste=self.round_paste,
            input_sigma_px=self.input_sigma_px,
            robustness=0.0,  # these labels are few and good; cross-entropy keeps the scores between 0 and 1
        )

    def round_labels(self, further: FurtherRound) -> RoundOptions:
        """Give how a further round makes its pseudo labels."""
        return replace(further.labels, input_sigma_px=self.input_sigma_px)

    def consistency_options(self) -> list[ConsistencyOptions]:
        """Give the settings of each consistency distillation, with the recipe's seed."""
        return [replace(given, seed=self.seed + given.seed) for given in self.consistency]

    def distil_options(self) -> DistilOptions | None:
        """Give the settings of distilling, with the recipe's seed."""
        return None if self.distil is None else replace(self.distil, seed=self.seed + self.distil.seed)
