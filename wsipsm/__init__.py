"""Label-free nucleus detection and Ki-67 scoring on whole-slide images.

Public names load when they are first used, so that ``import wsipsm`` stays light: it loads no torch, dask,
OpenSlide or geopandas.

>>> import wsipsm
>>> events = []
>>> summary = wsipsm.run_slide("case.tif", "results", wsipsm.RunOptions(workers=0), listener=events.append)
>>> len(wsipsm.read_cells("results/case")) == summary.n_nuclei
True
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsipsm.cohort.run import run_cohort
    from wsipsm.config import RunOptions
    from wsipsm.errors import (
        BudgetError,
        MissingMppError,
        ModelError,
        OutputError,
        RoiError,
        SlideError,
        SlideOpenError,
        SlideReadError,
        UnsupportedSlideError,
        UsageError,
        WsipsmError,
    )
    from wsipsm.export.geojson_check import check_geojson
    from wsipsm.geometry import Box, Size
    from wsipsm.keys import Artefact, Column, NucleusClass, Stain
    from wsipsm.models.card import ModelCard
    from wsipsm.models.predict import open_predictor
    from wsipsm.models.registry import list_models, resolve_model
    from wsipsm.region import read_roi
    from wsipsm.results.read import read_cells, read_score, read_summary
    from wsipsm.results.score_record import ScoreRecord
    from wsipsm.results.summary import RunSummary
    from wsipsm.scoring.index import labelling_index
    from wsipsm.slide.array import ArraySlide
    from wsipsm.slide.base import Slide, SlideInfo
    from wsipsm.slide.open import open_slide
    from wsipsm.slide.read import read_box
    from wsipsm.stages.run import run_slide
    from wsipsm.stain import fit_stain_profile
    from wsipsm.tissue import find_tissue
    from wsipsm.training.train import train_model

    __version__: str

_MODULES = MappingProxyType(
    {
        "wsipsm.config": ("RunOptions",),
        "wsipsm.errors": (
            "BudgetError",
            "MissingMppError",
            "ModelError",
            "OutputError",
            "RoiError",
            "SlideError",
            "SlideOpenError",
            "SlideReadError",
            "UnsupportedSlideError",
            "UsageError",
            "WsipsmError",
        ),
        "wsipsm.export.geojson_check": ("check_geojson",),
        "wsipsm.geometry": ("Box", "Size"),
        "wsipsm.keys": ("Artefact", "Column", "NucleusClass", "Stain"),
        "wsipsm.scoring.index": ("labelling_index",),
        "wsipsm.models.card": ("ModelCard",),
        "wsipsm.models.predict": ("open_predictor",),
        "wsipsm.models.registry": ("list_models", "resolve_model"),
        "wsipsm.region": ("read_roi",),
        "wsipsm.results.read": ("read_cells", "read_score", "read_summary"),
        "wsipsm.results.score_record": ("ScoreRecord",),
        "wsipsm.results.summary": ("RunSummary",),
        "wsipsm.slide.array": ("ArraySlide",),
        "wsipsm.slide.base": ("Slide", "SlideInfo"),
        "wsipsm.slide.open": ("open_slide",),
        "wsipsm.slide.read": ("read_box",),
        "wsipsm.cohort.run": ("run_cohort",),
        "wsipsm.stages.run": ("run_slide",),
        "wsipsm.training.train": ("train_model",),
        "wsipsm.stain": ("fit_stain_profile",),
        "wsipsm.tissue": ("find_tissue",),
    }
)
"""Module that defines each public name; the imports above say the same to type checkers (a test compares them)."""

__all__ = [
    "ArraySlide",
    "Artefact",
    "Box",
    "BudgetError",
    "Column",
    "MissingMppError",
    "ModelCard",
    "ModelError",
    "NucleusClass",
    "OutputError",
    "RoiError",
    "RunOptions",
    "RunSummary",
    "ScoreRecord",
    "Size",
    "Slide",
    "SlideError",
    "SlideInfo",
    "SlideOpenError",
    "SlideReadError",
    "Stain",
    "UnsupportedSlideError",
    "UsageError",
    "WsipsmError",
    "__version__",
    "check_geojson",
    "find_tissue",
    "fit_stain_profile",
    "labelling_index",
    "list_models",
    "open_predictor",
    "open_slide",
    "read_box",
    "read_cells",
    "read_roi",
    "read_score",
    "read_summary",
    "resolve_model",
    "run_cohort",
    "run_slide",
    "train_model",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use (PEP 562)."""
    if name == "__version__":
        # Reading the package's metadata costs more than all the rest of this module.
        value: Any = import_module("importlib.metadata").version("wsipsm")
    else:
        source = next((module for module, names in _MODULES.items() if name in names), None)
        if source is None:
            raise AttributeError(f"module 'wsipsm' has no attribute {name!r}")
        value = getattr(import_module(source), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
