"""The picture of agreement: drawn for any values and names, and shows what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsipsm.agree.plot import AgreementPicture, draw_agreement
from wsipsm.metrics.agreement import limits_of_agreement


def picture(reference: list[float], cohort: list[float], names: list[str] | None = None) -> AgreementPicture:
    first, second = np.array(reference), np.array(cohort)
    limits = limits_of_agreement(first, second)
    slides = names or [f"case-{number}" for number in range(len(reference))]
    return AgreementPicture(slides, first, second, limits.bias, limits.lower, limits.upper, "%", (5.0, 20.0, 30.0))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def n_reddish(path: Path) -> int:
    red, green, blue = np.moveaxis(pixels(path), -1, 0)
    return int(((red > 150) & (green < 90) & (blue < 90)).sum())


def test_is_a_png_with_points_and_limits(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    draw_agreement(path, picture([1, 10, 20, 40, 80], [3, 9, 24, 38, 85]))
    assert path.read_bytes().startswith(b"\x89PNG")
    assert pixels(path).shape == (720, 1650, 3)
    assert n_reddish(path) > 500


def test_limits_that_fall_together_are_not_drawn(tmp_path: Path) -> None:
    draw_agreement(tmp_path / "plot.png", picture([1, 10, 20], [3, 12, 22]))
    assert n_reddish(tmp_path / "plot.png") == 0


@pytest.mark.parametrize("name", ["$x^", "a\\b_{", "症例七", "n" * 200, "two\nlines"])
def test_any_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    # The last is far outside the limits, and so is named.
    values = [float(number) for number in range(20)]
    draw_agreement(tmp_path / "plot.png", picture(values, [*values[:-1], 90.0], [*"abcdefghijklmnopqrs", name]))
    assert (tmp_path / "plot.png").stat().st_size > 10000


def test_the_same_values_give_the_same_picture(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_agreement(tmp_path / name, picture([1, 10, 20, 40], [3, 9, 24, 38]))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
