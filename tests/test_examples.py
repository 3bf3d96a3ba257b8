"""The examples of the documentation, run as they stand there: on a drawn slide, with the stand-in network."""

from __future__ import annotations

import doctest
import inspect
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import shapely
from drawn_canvas import write_dense
from stand_in import draw_nuclei, draw_slide

import wsipsm
import wsipsm.geometry
import wsipsm.scoring.index
import wsipsm.training.pseudo_labels
from wsipsm.training.pretext_training import PretextOptions

PUBLIC = {name: getattr(wsipsm, name) for name in wsipsm.__all__}
FUNCTIONS: dict[str, Callable[..., Any]] = {name: one for name, one in PUBLIC.items() if inspect.isfunction(one)}
INNER = {
    "wilson_interval": wsipsm.scoring.index.wilson_interval,
    "Box.intersect": wsipsm.geometry.Box.intersect,
    "WorkingGrid.box_px0": wsipsm.geometry.WorkingGrid.box_px0,
}
"""Functions that are not public, but have an example."""


def examples_of(name: str, thing: object) -> list[doctest.DocTest]:
    """Find what a docstring has of examples; they see the names of the module that it stands in."""
    home = thing if inspect.ismodule(thing) else sys.modules[thing.__module__]
    found = doctest.DocTestFinder(recurse=False).find(thing, name, globs=dict(vars(home)))
    return [one for one in found if one.examples]


@pytest.mark.usefixtures("stand_in")
def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = partial(PretextOptions, steps=2, batch=2, crop_px=64)
    monkeypatch.setattr(wsipsm.training.pseudo_labels, "PretextOptions", short)
    write_dense(Path("case.tif"), draw_nuclei(512, 512, seed=3))
    draw_slide(Path("patch.png"), 160, 160, seed=4)
    shutil.copy(Path(__file__).parent / "training" / "tiny.toml", "recipe.toml")
    tumour = {
        "type": "Feature",
        "geometry": orjson.loads(shapely.to_geojson(shapely.box(50, 50, 350, 350))),
        "properties": {"objectType": "annotation", "classification": {"name": "Tumor"}},
    }
    Path("tumour.geojson").write_bytes(orjson.dumps({"type": "FeatureCollection", "features": [tumour]}))
    said: list[str] = []
    # That of the package comes first: it makes the results that others read.
    for name, thing in {"wsipsm": wsipsm, **FUNCTIONS, **INNER}.items():
        for examples in examples_of(name, thing):
            doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(examples, out=said.append)
    assert not said, "\n".join(said)


@pytest.mark.parametrize("name", sorted({"wsipsm", *FUNCTIONS, *INNER}))
def test_everything_public_has_an_example_that_is_not_skipped(name: str) -> None:
    thing = {"wsipsm": wsipsm, **FUNCTIONS, **INNER}[name]
    examples = [example for one in examples_of(name, thing) for example in one.examples]
    assert examples
    assert not any(doctest.SKIP in example.options for example in examples)
    assert any(example.want for example in examples)
