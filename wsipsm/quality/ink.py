"""A check of how much of the tissue is covered by ink."""

from __future__ import annotations

from wsipsm.quality.finding import Finding, Verdict

MAX_INK = 0.1
"""Largest share of the tissue under ink that is not flagged; above it the rest may not represent the slide."""


def check_ink(ink_fraction: float) -> Finding:
    """Check what share of the tissue is covered by ink; neither the search nor the area includes that part.

    Parameters
    ----------
    ink_fraction
        Share of the tissue, 0..1.

    Returns
    -------
    Finding ``ink_fraction``.
    """
    share = f"{ink_fraction:.1%} of the tissue is covered by ink and was left out."
    if ink_fraction > MAX_INK:
        text, verdict = f"{share} The rest may not represent the slide.", Verdict.FLAG
    else:
        text, verdict = share if ink_fraction > 0 else "no ink was found on the tissue.", Verdict.OK
    return Finding(name="ink_fraction", value=round(ink_fraction, 4), high=MAX_INK, verdict=verdict, text=text)
