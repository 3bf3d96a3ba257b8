"""Images worked on side by side give what one after the other gives, in order."""

from __future__ import annotations

import os

import numpy as np
import pytest
from numpy.typing import NDArray

from wsipsm.training.many import map_images


def double(image: NDArray[np.int64], add: int) -> tuple[int, NDArray[np.int64]]:
    image += add  # in a process of its own a copy, and not a read-only one
    return os.getpid(), image * 2


def fail(number: int) -> int:
    if number == 3:
        raise ValueError("image 3 is damaged")
    return number


@pytest.mark.parametrize("n_images", [0, 1, 3, 20])
def test_everything_comes_back_in_order(n_images: int) -> None:
    images = [np.full((300, 300), k, np.int64) for k in range(n_images)]
    made = list(map_images(double, ((image.copy(), 1) for image in images), n_images))
    assert len(made) == n_images
    for image, (_, result) in zip(images, made, strict=True):
        assert np.array_equal(result, (image + 1) * 2)


def test_many_images_take_more_processes_than_this_one() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor: nothing is worked on side by side")
    processes = {process for process, _ in map_images(double, ((np.zeros(3, int), k) for k in range(20)), 20)}
    assert os.getpid() not in processes


@pytest.mark.parametrize("n_images", [4, 20])
def test_an_error_comes_back_as_it_is(n_images: int) -> None:
    with pytest.raises(ValueError, match="image 3 is damaged"):
        list(map_images(fail, ((k,) for k in range(n_images)), n_images))
