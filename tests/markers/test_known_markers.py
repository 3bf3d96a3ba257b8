"""Markers are found by every name of theirs, and each says where its numbers come from."""

from __future__ import annotations

import numpy as np
import pytest

from wsipsm.markers.bands import Band, BandSet, Limit
from wsipsm.markers.known import known_markers
from wsipsm.markers.marker import Place
from wsipsm.markers.registry import is_marker_name, marker_of
from wsipsm.quality.brown import check_solidity


@pytest.mark.usefixtures("marker_er")
@pytest.mark.parametrize("text", ["ER", "er", "SP1", "sp-1", "Estrogen Receptor"])
def test_a_marker_is_found_by_every_name_of_it(text: str) -> None:
    assert marker_of(text).name == "ER"
    assert marker_of("ki67").name == "Ki-67"


def test_what_is_not_known_has_its_name_and_nothing_more() -> None:
    marker = marker_of(" p53  wild ")
    assert (marker.name, marker.bands, marker.compared_by, marker.figures) == ("P53 WILD", (), (), ())
    assert (marker.place, marker.min_nuclei) == (Place.UNSTATED, 500)
    assert marker_of(marker.name) == marker


def test_each_marker_says_why_brown_elsewhere_gives_no_index() -> None:
    ragged = np.full(100, 0.8)
    assert "since Ki-67 stains nuclei." in check_solidity(ragged, marker_of("mib1")).text
    told = check_solidity(ragged, marker_of("pr")).text
    assert "since an index counts stained nuclei." in told
    assert "Ki-67" not in told


@pytest.mark.usefixtures("marker_er")
def test_known_markers_are_told_apart_and_say_where_their_numbers_come_from() -> None:
    markers = known_markers()
    assert [marker.key for marker in markers] == ["ki67", "er"]
    spellings = [one for marker in markers for one in marker.spellings]
    assert len(spellings) == len(set(spellings))
    for marker in markers:
        assert is_marker_name(marker.key)
        assert marker_of(marker.name) is marker, "its name leads back to it"
        assert marker.min_nuclei_reference
        assert all(limits.reference for limits in (*marker.bands, *(one.bands for one in marker.compared_by)))
        assert all(one.words.endswith(".") for one in marker.compared_by)


@pytest.mark.parametrize("values", [(), (0.2, 0.1), (0.1, 0.1), (0.0, 0.5), (0.5, 1.0)])
def test_limits_that_do_not_divide_are_refused(values: tuple[float, ...]) -> None:
    bands = tuple(Band(str(n), "", "") for n in range(max(3, len(values) + 1)))
    with pytest.raises(ValueError, match="limits"):
        BandSet("drawn", bands, tuple(Limit(value, starts_upper=True) for value in values), "none")
