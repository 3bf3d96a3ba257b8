"""Work on many images in several processes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar, TypeVarTuple

import joblib

Given = TypeVarTuple("Given")
Made = TypeVar("Made")
_WORTH_A_PROCESS = 4
"""Fewest images for each process, since a process takes some seconds to start."""


def map_images(work: Callable[[*Given], Made], given: Iterable[tuple[*Given]], n_images: int) -> Iterator[Made]:
    """Yield the result of ``work`` for each image, in order, from one process for each available processor.

    Parameters
    ----------
    work
        Function at the top level of a module, which is called with the arguments of one image.
    given
        Arguments of each image; they are made in this process, and only a few ahead.
    n_images
        Number of images in ``given``; a few images are worked on in this process alone.
    """
    n_processes = min(joblib.cpu_count(), n_images // _WORTH_A_PROCESS)
    if n_processes < 2:
        yield from (work(*one) for one in given)
        return
    # Arrays are sent in messages, since joblib's other way, a mapped file, makes them read-only.
    parallel = joblib.Parallel(n_jobs=n_processes, return_as="generator", max_nbytes=None, pre_dispatch="1.5*n_jobs")
    yield from parallel(joblib.delayed(work)(*one) for one in given)
