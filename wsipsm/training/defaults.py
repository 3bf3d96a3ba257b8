"""The recipes of the shipped models without their images; `wsipsm train` follows them when no file is given."""

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
    """Make the recipe of a stain's shipped model, without its images."""
    return _he() if stain == Stain.HE else _ihc()


def _he() -> Recipe:
    # With high cuts from the first round on, nuclei shrink and pale ones are lost (docs/accuracy.md).
    loose = FurtherRound(labels=RoundOptions(cuts=(0.4, 0.6), maybe=0.4, opening_share=0.0, min_distance=0.0))
    tighter = FurtherRound(labels=RoundOptions(cuts=(0.65, 0.85), min_distance=0.0))
    # These ranges include the stains, focus and compression of other laboratories.
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
        # With some seeds the map contradicts the stain on some images, so its weight is small (docs/accuracy.md).
        first=FirstRound(beta=8.0, augment=AugmentOptions(scale=(0.7, 1.5))),
        rounds=(loose, loose, loose, tighter, FurtherRound(), FurtherRound(), FurtherRound()),
        round_augment=AugmentOptions(scale=(0.5, 1.6)),
        # In paler views the teacher finds fewer false nuclei; the student learns the same scores at any stain strength.
        consistency=(ConsistencyOptions(view_gains=(0.6, 0.8, 0.6, 0.8), augment=any_scan),),
        # The later rounds shrink outlines a little, and the low cut enlarges them again (docs/accuracy.md, by round).
        decode=DecodeSettings(foreground=0.4, saddle_share=0.8, opening_share=0.18, min_distance=0.6),
    )


def _ihc() -> Recipe:
    # Stated pixel sizes of Ki-67 images fit their nuclei less well than those of H&E, so the range of scales is wider.
    wide = AugmentOptions(scale=(0.6, 1.8))
    # Pale negative nuclei have low scores and no clear middle, so that stricter settings lose them.
    loose = FurtherRound(labels=RoundOptions(cuts=(0.4, 0.6), maybe=0.4, min_distance=0.0))
    mild = replace(ConsistencyOptions().augment, scale=wide.scale)
    # The teacher's input is smoothed by 1.5 px, as in its training; on sharper crops its scores vary
    # (docs/accuracy.md).
    steady = ConsistencyOptions(steps=800, input_sigma_px=1.5, teacher_sigma_px=1.5, augment=mild)
    return Recipe(
        stain=Stain.IHC,
        input_sigma_px=1.5,
        first=FirstRound(beta=BETA[Stain.IHC], augment=wide),
        rounds=(loose, loose),
        round_augment=wide,
        consistency=(steady, replace(steady, steps=400, seed=2, input_sigma_px=2.0)),
        # The smallest area is that of a disc 4 um wide, less than a lymphocyte's nucleus; smaller spots are fragments.
        decode=DecodeSettings(
            foreground=0.75,
            distance_sigma_px=3.0,
            peak_radius_px=7,
            saddle_share=0.75,
            opening_share=0.05,
            min_area_um2=12.0,
        ),
    )
