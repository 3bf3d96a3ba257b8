"""Work on many images side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar, TypeVarTuple

import joblib

Given = TypeVarTuple("Given")
Made = TypeVar("Made")
_WORTH_A_PROCESS = 4
"""The number of images that are worth a process, which takes some seconds to start."""


def map_images(work: Callable[[*Given], Made], given: Iterable[tuple[*Given]], n_images: int) -> Iterator[Made]:
    """Yield what ``work`` makes of each image, in order, from as many processes as this one may use processors.

    Parameters
    ----------
    work
        Function of a module, which is called with one item of ``given``.
    given
        Arguments, an image at a time; drawn in this process, not far ahead.
    n_images
        Number of images in ``given``; where no process is worth its start, they are worked on here.
    """
    n_processes = min(joblib.cpu_count(), n_images // _WORTH_A_PROCESS)
    if n_processes < 2:
        yield from (work(*one) for one in given)
        return
    # Arrays travel in the message: mapped from a file they would be read-only.
    parallel = joblib.Parallel(n_jobs=n_processes, return_as="generator", max_nbytes=None, pre_dispatch="1.5*n_jobs")
    yield from parallel(joblib.delayed(work)(*one) for one in given)
