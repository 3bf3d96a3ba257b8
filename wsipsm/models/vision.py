"""A loader of torchvision that also works with a torch build that torchvision's compiled operators were not made for.

PyPI's torchvision is built for a torch with CUDA. With a CPU build of torch its operators cannot load, and
``import torchvision`` raises because ``torchvision::nms`` has no schema. No code of this package calls those operators,
so declaring their schemas is enough for the networks and feature extraction to work. A torchvision that imports without
this is left unchanged. Every module that needs torchvision imports it by this function; inference needs none.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from types import ModuleType

import torch

_MISSING_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@cache
def _declare_operators() -> torch.library.Library:
    # Cached because the declarations live only as long as the library object.
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _MISSING_OPERATORS:
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


def import_torchvision(submodule: str) -> ModuleType:
    """Import ``torchvision.<submodule>``, declaring missing operator schemas where they are needed.

    Raises
    ------
    RuntimeError
        When torchvision fails to import for another reason than the missing operators.
    """
    name = f"torchvision.{submodule}"
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for module in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
            del sys.modules[module]
        _declare_operators()
        return importlib.import_module(name)
