"""The recipes that made the shipped models, but for their images: what `wsipsm train` follows when no file is given."""

from __future__ import annotations

from dataclasses import replace

from wsipsm.keys import Stain
from wsipsm.models.card import DecodeSettings
from wsipsm.psm.cluster import BETA
from wsipsm.training.augment import AugmentOptions
from wsipsm.training.consistency import ConsistencyOptions
from wsipsm.training.recipe import FirstRound, FurtherRound, Recipe
from wsipsm.training.rounds import RoundOptions


def default_recipe(stain: Stain) -> Recipe:
    """Give the recipe of a stain's shipped model, without its images."""
    return _he() if stain == Stain.HE else _ihc()


def _he() -> Recipe:
    # Cut tight from the first, nuclei shrink and pale ones are lost (docs/accuracy.md).
    loose = FurtherRound(labels=RoundOptions(cuts=(0.4, 0.6), maybe=0.4, opening_share=0.0, min_distance=0.0))
    tighter = FurtherRound(labels=RoundOptions(cuts=(0.65, 0.85), min_distance=0.0))
    # Stains, focus and compression of other laboratories.
    any_scan = AugmentOptions(
        log_gain=(-0.7, 0.6),
        scale=(0.6, 1.6),
        blur_share=0.5,
        blur_sigma_px=(0.5, 2.0),
        jpeg_share=0.7,
        jpeg_quality=(35, 95),
    )
    return Recipe(
        stain=Stain.HE,
        # The map of some seeds opposes the stain on some images, so that it may only nudge (docs/accuracy.md).
        first=FirstRound(beta=8.0, augment=AugmentOptions(scale=(0.7, 1.5))),
        rounds=(loose, loose, loose, tighter, FurtherRound(), FurtherRound(), FurtherRound()),
        round_augment=AugmentOptions(scale=(0.5, 1.6)),
        # A paler view finds fewer false nuclei; the student learns to see it in any stain.
        consistency=(ConsistencyOptions(view_gains=(0.6, 0.8, 0.6, 0.8), augment=any_scan),),
        # The later rounds shrink outlines a little: a low cut gives it back (docs/accuracy.md, round by round).
        decode=DecodeSettings(foreground=0.4, saddle_share=0.8, opening_share=0.18, min_distance=0.6),
    )


def _ihc() -> Recipe:
    # Ki-67 images come at stated pixel sizes that differ from their nuclei's by more than those of H&E.
    wide = AugmentOptions(scale=(0.6, 1.8))
    # Pale negatives score low and come out without a clear middle: what asks for more loses them.
    loose = FurtherRound(labels=RoundOptions(cuts=(0.4, 0.6), maybe=0.4, min_distance=0.0))
    mild = replace(ConsistencyOptions().augment, scale=wide.scale)
    # The teacher sees what it was trained on, smoothed by 1.5 px; on sharper crops it wavers (docs/accuracy.md).
    steady = ConsistencyOptions(steps=800, input_sigma_px=1.5, teacher_sigma_px=1.5, augment=mild)
    return Recipe(
        stain=Stain.IHC,
        input_sigma_px=1.5,
        first=FirstRound(beta=BETA[Stain.IHC], augment=wide),
        rounds=(loose, loose),
        round_augment=wide,
        consistency=(steady, replace(steady, steps=400, seed=2, input_sigma_px=2.0)),
        # A disc of 4 um across, less than a lymphocyte's nucleus: smaller spots are debris or fragments.
        decode=DecodeSettings(
            foreground=0.75,
            distance_sigma_px=3.0,
            peak_radius_px=7,
            saddle_share=0.75,
            opening_share=0.05,
            min_area_um2=12.0,
        ),
    )
