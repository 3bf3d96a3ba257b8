"""Bands of a marker's index: in which one an index lies, and whether its interval lies in the same one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Band:
    """The range between two limits."""

    word: str
    """Name of the band in a few words, such as 'low'."""
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
        """Check whether an index, a fraction, lies in the upper of the two bands."""
        return index >= self.value if self.starts_upper else index > self.value


@dataclass(frozen=True, slots=True)
class BandCall:
    """The band of an index by one set of limits."""

    name: str
    """Name of the set of limits."""
    band: str
    """Name of the band that the index lies in."""
    meaning: str
    """Meaning of the band, in plain words."""
    limits: tuple[float, ...]
    straddled: tuple[float, ...]
    """Limits that lie within the interval, so that the band is not certain; empty when there are none."""
    reference: str
    """Publication or approval that the limits are taken from."""
    certain: bool
    """Whether the whole interval lies in the band."""


@dataclass(frozen=True, slots=True)
class BandSet:
    """Limits that answer one question about an index, with the bands between them."""

    name: str
    bands: tuple[Band, ...]
    """Bands from the lowest to the highest, one more than there are limits."""
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
        """Find the band of an index, and the limits that its interval straddles.

        Parameters
        ----------
        value
            Index as a fraction.
        low, high
            Both ends of the index's interval as fractions. Wilson's interval is too narrow for this, since it ignores
            that neighbouring nuclei are alike; the block-bootstrap one allows for it.

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
        # An interval that ends exactly at a limit straddles it only when the limit itself belongs to the other band.
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
    """Limits by which two indices of one slide are compared, and their names in the comparison."""

    bands: BandSet
    title: str
    """Title of the comparison in reports."""
    column: str
    """Name of the column in tables, after ``reference_`` and ``cohort_``."""
    words: str
    """One sentence about the limits and their source."""
