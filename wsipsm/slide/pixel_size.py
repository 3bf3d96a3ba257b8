"""The statements of a file about its pixel size, and the choice of the one that is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wsipsm.slide.base import PLAUSIBLE_MPP, MppStatement, MppVerdict
from wsipsm.slide.reader import agree_mpp
from wsipsm.text import clean_text

OPTION = "--mpp"
OBJECTIVE = "objective power"
TIFF_TAGS = "TIFF resolution tags"

UM_PER_UNIT = {
    name: um
    for um, names in (
        (1e-6, ("pm",)),
        (1e-4, ("å",)),
        (1e-3, ("nm", "nanometer", "nanometers", "nanometre", "nanometres")),
        (1.0, ("um", "µm", "μm", "\\u00b5m", "micron", "microns")),
        (1.0, ("micrometer", "micrometers", "micrometre", "micrometres")),
        (1e3, ("mm", "millimeter", "millimeters", "millimetre", "millimetres")),
        (1e4, ("cm", "centimeter", "centimeters", "centimetre", "centimetres")),
        (1e5, ("dm",)),
        (1e6, ("m", "meter", "meters", "metre", "metres")),
        (25.4, ("thou", "mil")),
        (25_400.0 / 72, ("pt",)),
        (25_400.0, ("in", "inch", "inches")),
        (304_800.0, ("ft", "foot", "feet")),
    )
    for name in names
}
"""Units of length as OME-XML and ImageJ write them, in lower case; ImageJ escapes the Greek letter."""

_SAME = 0.05
"""Relative difference up to which two statements agree."""
_CONTRADICTS = 1.8
"""Factor from which a pixel size contradicts the usual one of its objective; scanners of one power differ by a
quarter."""
_UM_AT_1X = 10.0
"""Pixel size times objective power of the usual scanner: 0.25 um/px at 40x."""


@dataclass(frozen=True, slots=True)
class StatedMpp:
    """The statement of one place of a file about the pixel size, before it is compared with the others."""

    source: str
    """Place of the statement, in words for the user."""
    value: float | None
    """um/px; None where the statement gives no length."""
    text: str = ""
    """How the statement was read, or why it gives no length."""
    is_uneven: bool = False
    """Whether width and height of a pixel differ by more than 1 %."""


def stated_mpp(source: str, mpp_x: float | None, mpp_y: float | None, text: str = "") -> list[StatedMpp]:
    """Make a statement of the width and height of a pixel in um/px; an empty list where the file states neither."""
    value, disagreement = agree_mpp(mpp_x, mpp_y)
    if value is None and disagreement is None:
        return []
    return [StatedMpp(source, value, disagreement or text, is_uneven=disagreement is not None)]


def um_per_unit(name: str) -> float | None:
    """Return the length of a named unit in um; None when it names no unit of length."""
    return UM_PER_UNIT.get(name.strip().lower())


def stated_by_tags(per_x: float | None, per_y: float | None, um: float | None, unit: str) -> list[StatedMpp]:
    """Read TIFF resolution tags, which are made for printers, so that the unit is often absent or wrong.

    Parameters
    ----------
    per_x, per_y
        Pixels per unit.
    um
        The unit in um; None when the file gives none.
    unit
        Name of the unit, or ``none`` or ``absent``.
    """
    if not per_x or not per_y or per_x < 0 or per_y < 0:
        return []
    if um is not None:
        return stated_mpp(TIFF_TAGS, um / per_x, um / per_y, f"per {unit}")
    if per_x == per_y == 1:
        return []  # writers put 1 where they know nothing
    if unit == "absent":
        text = "no ResolutionUnit, so the inch is assumed, as the TIFF standard says"
        return stated_mpp(TIFF_TAGS, UM_PER_UNIT["inch"] / per_x, UM_PER_UNIT["inch"] / per_y, text)
    guesses = ", ".join(f"{UM_PER_UNIT[name] / per_x:.4g} um/px if per {name}" for name in ("cm", "inch"))
    return [StatedMpp(TIFF_TAGS, None, f"{per_x:g} pixels per unit, and the unit is {unit} ({guesses})")]


def choose_mpp(
    stated: Sequence[StatedMpp], given: float | None, power: float | None = None
) -> tuple[float | None, tuple[MppStatement, ...]]:
    """Choose the pixel size, and compare every statement with it.

    Parameters
    ----------
    stated
        Statements of the file, the most trusted first.
    given
        Pixel size that the user gave, um/px; it overrides all statements.
    power
        Nominal magnification in the file; it is compared, and nothing is computed from it.

    Returns
    -------
    Pixel size in um/px: the user's, else the first plausible one, else the first (which a run refuses, with its
    value), else None; and all statements with their verdicts, of which the one that is used comes first.
    """
    values = [one.value for one in stated if one.value is not None]
    used = given if given is not None else next(filter(_is_plausible, values), values[0] if values else None)
    judged = [] if given is None else [MppStatement(OPTION, given, MppVerdict.USED, "given by the user")]
    for one in stated:
        is_first = all(item.verdict != MppVerdict.USED for item in judged)
        verdict = _verdict(one.value, used, is_overridden=given is not None, is_first=is_first)
        judged.append(MppStatement(clean_text(one.source), one.value, verdict, clean_text(one.text), one.is_uneven))
    if power is not None and power > 0:
        usual = _UM_AT_1X / power
        verdict = MppVerdict.AGREES
        if used is None:
            verdict = MppVerdict.NOT_USED
        elif factor_between(usual, used) > _CONTRADICTS:
            verdict = MppVerdict.CONTRADICTS
        judged.append(MppStatement(OBJECTIVE, usual, verdict, f"{power:g}x, usual pixel size of that power"))
    return used, tuple(sorted(judged, key=lambda item: item.verdict != MppVerdict.USED))


def factor_between(one: float, other: float) -> float:
    """Compute the factor by which two positive sizes differ, at least 1."""
    return max(one, other) / min(one, other)


def _is_plausible(value: float) -> bool:
    low, high = PLAUSIBLE_MPP
    return math.isfinite(value) and low <= value <= high


def _verdict(value: float | None, used: float | None, is_overridden: bool, is_first: bool) -> MppVerdict:
    if value is None or used is None or not _is_plausible(value):
        return MppVerdict.REFUSED
    if not is_overridden and value == used and is_first:
        return MppVerdict.USED
    if factor_between(value, used) <= 1 + _SAME:
        return MppVerdict.AGREES
    return MppVerdict.OVERRIDDEN if is_overridden else MppVerdict.CONTRADICTS


def describe_statement(one: MppStatement) -> str:
    """Describe a statement in one line: source, value, verdict."""
    value = "no length" if one.value is None else f"{one.value:.4g} um/px"
    text = f" ({one.text})" if one.text else ""
    return f"{one.source}: {value}, {_WORDS[one.verdict]}{text}"


def notes_on_mpp(statements: Sequence[MppStatement]) -> tuple[str, ...]:
    """Describe the statement that is used and those that contradict it; ``wsipsm info`` shows all."""
    shown = (MppVerdict.USED, MppVerdict.OVERRIDDEN, MppVerdict.CONTRADICTS)
    return tuple(
        f"pixel size: {describe_statement(one)}" for one in statements if one.verdict in shown or one.is_uneven
    )


_WORDS = {
    MppVerdict.USED: "used",
    MppVerdict.AGREES: "agrees",
    MppVerdict.CONTRADICTS: "contradicts the one that is used",
    MppVerdict.OVERRIDDEN: f"overridden by {OPTION}",
    MppVerdict.REFUSED: "refused: no pixel size at which nuclei can be outlined",
    MppVerdict.NOT_USED: "not used: a power is no pixel size",
}
