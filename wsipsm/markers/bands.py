"""The place of an index among the limits of a marker, and whether its interval decides the question."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Band:
    """The range between two limits."""

    word: str
    """One or two words, such as 'low'."""
    span: str
    """Words for the range, such as 'below 20 %'."""
    meaning: str
    """Meaning of the band in plain words, with the limits."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit between two bands."""

    value: float
    """Fraction, 0..1."""
    starts_upper: bool
    """Whether an index that is exactly the limit lies in the upper band."""

    def is_below(self, index: float) -> bool:
        """Tell whether the limit lies below an index, that is whether the index lies in the upper band."""
        return index >= self.value if self.starts_upper else index > self.value


@dataclass(frozen=True, slots=True)
class BandCall:
    """An index against one set of limits."""

    name: str
    band: str
    meaning: str
    """Meaning of the band, in plain words."""
    limits: tuple[float, ...]
    straddled: tuple[float, ...]
    """Limits that the interval reaches across: on this count the band is not certain."""
    reference: str
    certain: bool
    """Whether the whole interval lies in the band."""


@dataclass(frozen=True, slots=True)
class BandSet:
    """Limits that answer one question about an index, and what they make of it."""

    name: str
    bands: tuple[Band, ...]
    """Bands from the lowest, one more than there are limits."""
    limits: tuple[Limit, ...]
    """Limits in ascending order."""
    reference: str
    """Publication or approval that the limits are taken from."""

    def __post_init__(self) -> None:
        """Refuse limits that do not divide the bands.

        Raises
        ------
        ValueError
            Unless the limits ascend between 0 and 1 and there is one band more than there are limits.
        """
        values = [limit.value for limit in self.limits]
        ascends = all(low < high for low, high in zip([0.0, *values], [*values, 1.0], strict=True))
        if not ascends or len(self.bands) != len(values) + 1:
            raise ValueError(
                f"{self.name}: {len(self.bands)} bands with limits {values}; limits that ascend between 0 and 1 are "
                "needed, and one band more than limits."
            )

    def call(self, value: float, low: float, high: float) -> BandCall:
        """Place an index among the limits.

        Parameters
        ----------
        value
            Index as a fraction.
        low, high
            Interval of the index as fractions; the block-bootstrap one is the honest choice.

        Raises
        ------
        ValueError
            Unless 0 <= low <= value <= high <= 1.
        """
        if not 0 <= low <= value <= high <= 1:
            raise ValueError(
                f"bands: {value} in {low} to {high}; fractions with 0 <= low <= value <= high <= 1 are needed."
            )
        band = self.bands[sum(limit.is_below(value) for limit in self.limits)]
        # An interval that only touches the limit from the side where the limit itself lies is not across.
        straddled = tuple(limit.value for limit in self.limits if limit.is_below(low) != limit.is_below(high))
        return BandCall(
            name=self.name,
            band=band.word,
            meaning=band.meaning,
            limits=tuple(limit.value for limit in self.limits),
            straddled=straddled,
            reference=self.reference,
            certain=not straddled,
        )


@dataclass(frozen=True, slots=True)
class ComparedBands:
    """Limits by which two indices of a slide are compared, and how a comparison names them."""

    bands: BandSet
    title: str
    """Title of the comparison in reports."""
    column: str
    """Name of the column in tables, behind ``reference_`` and ``cohort_``."""
    words: str
    """One sentence about the limits and their source."""
