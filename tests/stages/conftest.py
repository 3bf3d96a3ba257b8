"""A stand-in network in place of a model, for the time of a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stand_in import load_no_describer, load_stand_in, resolve_stand_in

import wsipsm.quality.picture_size
import wsipsm.stages.block
import wsipsm.stages.plan
import wsipsm.stages.prepare
from wsipsm.stages.block import release_worker


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(wsipsm.stages.block, "load_predictor", load_stand_in)
    monkeypatch.setattr(wsipsm.quality.picture_size, "load_describer", load_no_describer)
    monkeypatch.setattr(wsipsm.stages.plan, "resolve_model", resolve_stand_in)
    monkeypatch.setattr(wsipsm.stages.prepare, "resolve_model", resolve_stand_in)
    release_worker()
    yield
    release_worker()
