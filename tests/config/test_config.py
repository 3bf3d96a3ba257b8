"""Options of a run."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from wsipsm.config import RunOptions


@pytest.mark.parametrize("values", [{"workers": -1}, {"block_px": 0}, {"tile_px": 1}, {"nonsense": 1}])
def test_impossible_options_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        RunOptions(**values)


def test_options_do_not_change() -> None:
    with pytest.raises(ValidationError):
        RunOptions().seed = 1  # type: ignore[misc]
