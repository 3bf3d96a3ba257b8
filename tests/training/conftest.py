"""What trainings by a teacher are tested with."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from wsipsm.demo.draw import draw_array
from wsipsm.keys import Stain
from wsipsm.models.registry import resolve_model
from wsipsm.models.unet import NucleusUnet
from wsipsm.models.weights import build_network


@pytest.fixture(scope="module")
def teacher() -> NucleusUnet:
    weights, card = resolve_model("nuclei-he")
    return build_network(card, weights)


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return draw_array(seed=3, size=(160, 160), n_nuclei=20, stain=Stain.HE)[0]
