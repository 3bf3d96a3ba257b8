"""Errors carry their facts as attributes, and keep them from one process to another."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tblib.pickling_support
import tifffile
from drawn_canvas import write_dense
from stand_in import draw_nuclei, draw_slide

import wsipsm
from wsipsm import RunOptions
from wsipsm.errors import (
    BudgetError,
    DiskFullError,
    MissingMppError,
    ModelError,
    OutputError,
    SlideOpenError,
    SlideReadError,
    UsageError,
    WsipsmError,
)
from wsipsm.events import ignore_events
from wsipsm.executors.budget import Budget, check_budget
from wsipsm.folderlock import hold_folder
from wsipsm.rundir import write_aside
from wsipsm.slide.base import PLAUSIBLE_MPP
from wsipsm.slide.formats import READABLE

# Dask's workers pickle an error with what caused it.
tblib.pickling_support.install()
IN_PROCESS = RunOptions(workers=0, block_px=256, tile_px=128)


@contextmanager
def refused(kind: type[WsipsmError]) -> Iterator[list[WsipsmError]]:
    """Catch an error of just this kind; checks that pickle keeps its message and all that it carries."""
    caught: list[WsipsmError] = []
    with pytest.raises(kind) as raised:
        yield caught
    error = raised.value
    assert type(error) is kind
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (str(copy), copy.exit_code) == (str(error), error.exit_code)
    assert facts(copy) == facts(error)
    # The message alone says the facts too.
    assert error.path is None or error.path in str(error)
    caught.append(error)


def facts(error: WsipsmError) -> tuple[object, ...]:
    return error.path, error.value, error.needed, error.option


def test_a_slide_without_a_pixel_size(tmp_path: Path) -> None:
    slide = draw_slide(tmp_path / "case.png", 200, 200)
    with refused(MissingMppError) as caught:
        wsipsm.run_slide(slide, tmp_path / "out", IN_PROCESS, ignore_events)
    assert facts(caught[0]) == (str(slide), None, PLAUSIBLE_MPP, "--mpp")


def test_a_pixel_size_of_an_overview(tmp_path: Path) -> None:
    slide = write_dense(tmp_path / "case.tif", draw_nuclei(300, 300), mpp=8.0)
    with refused(MissingMppError) as caught:
        wsipsm.run_slide(slide, tmp_path / "out", IN_PROCESS, ignore_events)
    assert caught[0].value == pytest.approx(8.0)
    assert (caught[0].path, caught[0].needed, caught[0].option) == (str(slide), PLAUSIBLE_MPP, "--mpp")


def test_a_pixel_size_that_is_given_and_cannot_be_one(tmp_path: Path) -> None:
    slide = draw_slide(tmp_path / "case.png", 200, 200)
    with refused(UsageError) as caught:
        wsipsm.open_slide(slide, mpp=50.0)
    assert facts(caught[0]) == (None, 50.0, PLAUSIBLE_MPP, "--mpp")


def test_what_is_no_slide(tmp_path: Path) -> None:
    empty, text, page = tmp_path / "empty.svs", tmp_path / "text.svs", tmp_path / "page.svs"
    empty.write_bytes(b"")
    text.write_text("a list of slides")
    page.write_text("<!DOCTYPE html><html></html>")
    for path, value in ((empty, "an empty file"), (text, "a text file"), (page, "an HTML page")):
        with refused(SlideOpenError) as caught:
            wsipsm.open_slide(path)
        error = caught[0]
        assert (error.path, error.needed) == (str(path), READABLE)
        assert str(error.value).startswith(value)
    with refused(SlideOpenError) as caught:
        wsipsm.open_slide(tmp_path / "absent.svs")
    assert facts(caught[0])[::2] == (str(tmp_path / "absent.svs"), "a slide")
    assert caught[0].value


def test_a_slide_that_was_cut_short(tmp_path: Path) -> None:
    slide = write_dense(tmp_path / "case.tif", draw_nuclei(600, 600))
    os.truncate(slide, slide.stat().st_size // 2)
    with refused(SlideOpenError) as caught:
        wsipsm.open_slide(slide)
    error = caught[0]
    assert (error.path, error.needed) == (str(slide), READABLE)
    # Each reader's reason is in it.
    assert all(f"{reader}: " in str(error.value) for reader in ("openslide", "tiff"))


def test_a_tile_that_is_damaged(tmp_path: Path) -> None:
    slide = write_dense(tmp_path / "case.tif", draw_nuclei(600, 600))
    with tifffile.TiffFile(slide) as tif:
        page = tif.pages.first
        start, n_bytes = page.dataoffsets[-1], page.databytecounts[-1]
    with slide.open("r+b") as file:
        file.seek(start)
        file.write(bytes(np.full(n_bytes, 0xFF, np.uint8)))
    with wsipsm.open_slide(slide) as opened, refused(SlideReadError) as caught:
        wsipsm.read_box(opened, wsipsm.Box(512, 512, 64, 64), scale=1.0)
    assert (caught[0].path, caught[0].needed) == (str(slide), "sound pixels")
    assert str(caught[0].value).startswith("level 0, ")
    with refused(SlideReadError) as caught:
        opened.read_level(0, wsipsm.Box(0, 0, 8, 8))
    assert (caught[0].path, caught[0].value) == (str(slide), "the slide is closed")


def test_models(tmp_path: Path) -> None:
    with refused(ModelError) as caught:
        wsipsm.resolve_model("ki76-ihc")
    assert facts(caught[0]) == (None, "ki76-ihc", "ki67-ihc, nuclei-he, nuclei-he-fast", "--model")
    pickled = tmp_path / "model.pt"
    pickled.write_bytes(b"")
    with refused(ModelError) as caught:
        wsipsm.resolve_model(pickled)
    assert (caught[0].path, caught[0].option) == (str(pickled), "--model")
    weights, card = wsipsm.resolve_model("nuclei-he-fast")
    other = tmp_path / "other.safetensors"
    shutil.copy(weights.with_suffix(".json"), other.with_suffix(".json"))
    other.write_bytes(b"other weights")
    with refused(ModelError) as caught:
        wsipsm.resolve_model(other)
    assert (caught[0].path, caught[0].needed) == (str(other), card.sha256)
    with refused(ModelError) as caught:
        wsipsm.open_predictor(weights, card, backend="onnx")
    assert facts(caught[0]) == (None, "onnx", "auto, openvino, torch", "--backend")


def test_a_folder_that_another_command_holds(tmp_path: Path) -> None:
    slide = write_dense(tmp_path / "case.tif", draw_nuclei(300, 300))
    folder = tmp_path / "out" / "case"
    with hold_folder(folder), refused(UsageError) as caught:
        wsipsm.run_slide(slide, tmp_path / "out", IN_PROCESS, ignore_events)
    assert (caught[0].path, caught[0].needed) == (str(folder), "one command at a time")
    assert str(caught[0].value).startswith(f"process {os.getpid()} on ")


def test_memory_and_disk_that_are_too_small(tmp_path: Path) -> None:
    budget = Budget(worker_bytes=2**30, client_bytes=2**28, disk_bytes=2**20)
    with refused(BudgetError) as caught:
        check_budget(budget, 4, 2**31, tmp_path)
    assert facts(caught[0]) == (None, 2**31, budget.total_bytes(4), "--workers")
    free = shutil.disk_usage(tmp_path).free
    with refused(BudgetError) as caught:
        check_budget(Budget(worker_bytes=1, client_bytes=1, disk_bytes=free * 4), 0, 2**31, tmp_path)
    assert (caught[0].path, caught[0].needed, caught[0].option) == (str(tmp_path), free * 4, "--out")
    assert isinstance(caught[0].value, int)


def test_a_place_that_takes_no_results(tmp_path: Path) -> None:
    slide = write_dense(tmp_path / "case.tif", draw_nuclei(300, 300))
    out = tmp_path / "out"
    out.write_text("a file where the folder should be")
    with refused(OutputError) as caught:
        wsipsm.run_slide(slide, out, IN_PROCESS, ignore_events)
    error = caught[0]
    assert str(error.path).startswith(str(out))
    assert (error.needed, error.option) == ("a writable folder", "--out")
    assert error.value in str(error)


def test_a_file_that_is_larger_than_allowed(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "cells.parquet"
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with refused(DiskFullError) as caught, write_aside(path) as temporary:
            temporary.write_bytes(bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught[0].path, caught[0].option) == (str(path), "--out")
    assert "4,096 bytes" in str(caught[0].value)


def test_an_error_of_words_alone_has_no_facts() -> None:
    error = WsipsmError("a: b; c is needed. Do d.")
    assert facts(error) == (None, None, None, None)
    assert str(error) == "a: b; c is needed. Do d."
