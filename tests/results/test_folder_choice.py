"""``wsipsm run`` without a name: each slide has a folder, and one that was moved or renamed keeps its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from stand_in import draw_slide
from typer.testing import CliRunner

from wsipsm.cli.main import app

pytestmark = pytest.mark.usefixtures("stand_in")


def drawn(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return draw_slide(path, 200, 160, seed)


def run(path: Path, out: Path, *more: str) -> tuple[str, str, int]:
    """Run the command; gives the folder's name, the request and the nuclei."""
    command = ["run", str(path), "--mpp", "0.5", "--workers", "0", "--out", str(out), "--json", *more]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    values: dict[str, Any] = json.loads(done.stdout)
    return Path(values["folder"]).name, values["request_key"], values["n_nuclei"]


def test_two_slides_of_one_name_have_two_results(tmp_path: Path) -> None:
    out = tmp_path / "out"
    one, two = drawn(tmp_path / "a" / "slide.png", 1), drawn(tmp_path / "b" / "slide.png", 2)
    first, second = run(one, out), run(two, out)
    assert first[0] == "slide"
    assert second[0].startswith("slide-")
    assert first[1:] != second[1:]
    assert (run(one, out), run(two, out)) == (first, second)
    three = run(drawn(tmp_path / "c" / "slide.tiff", 3), out)
    assert three[0] not in (first[0], second[0])


def test_two_images_of_one_file_have_two_results(tmp_path: Path) -> None:
    path, out = tmp_path / "slide.tiff", tmp_path / "out"
    pages = [np.asarray(Image.open(drawn(tmp_path / f"{seed}.png", seed)).convert("RGB")) for seed in (1, 2)]
    tifffile.imwrite(path, pages[0], photometric="rgb")
    tifffile.imwrite(path, pages[1][:120], photometric="rgb", append=True)
    first, second = run(path, out), run(path, out, "--image", "2")
    assert (first[0], second[0]) == ("slide", "slide-image-2")
    assert first[1] != second[1]
    assert (run(path, out), run(path, out, "--image", "2")) == (first, second)


def test_the_second_image_of_a_moved_file_does_not_replace_the_first(tmp_path: Path) -> None:
    path, out = tmp_path / "slide.tiff", tmp_path / "out"
    for seed in (1, 2):
        page = np.asarray(Image.open(drawn(tmp_path / f"{seed}.png", seed)).convert("RGB"))
        tifffile.imwrite(path, page[: 160 // seed], photometric="rgb", append=seed > 1)
    first = run(path, out)
    path = path.rename(tmp_path / "renamed.tiff")
    second = run(path, out, "--image", "2")
    assert (first[0], second[0]) == ("slide", "renamed-image-2")
    path = path.rename(tmp_path / "again.tiff")
    assert (run(path, out), run(path, out, "--image", "2")) == (first, second)


def test_a_replaced_slide_stays_in_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    one, two = drawn(tmp_path / "a" / "slide.png", 1), drawn(tmp_path / "b" / "slide.png", 2)
    first, second = run(one, out), run(two, out)
    drawn(two, 5)
    third = run(two, out)
    assert third[0] == second[0]
    assert third[1] not in (first[1], second[1])


def test_a_slide_that_was_moved_or_renamed_is_found_again(tmp_path: Path) -> None:
    out, one = tmp_path / "out", drawn(tmp_path / "a" / "slide.png", 1)
    drawn(tmp_path / "a" / "other.png", 2)
    run(tmp_path / "a" / "other.png", out)
    first = run(one, out)
    written = (out / "slide" / "cells.parquet").stat()
    one = one.rename(tmp_path / "renamed.png")
    assert run(one, out) == first
    copied = tmp_path / "c" / "slide.png"
    copied.parent.mkdir()
    shutil.copyfile(one, copied)
    assert run(copied, out) == first
    assert (out / "slide" / "cells.parquet").stat() == written


def test_a_renamed_slide_does_not_take_the_folder_of_its_original(tmp_path: Path) -> None:
    out, one = tmp_path / "out", drawn(tmp_path / "slide.png", 1)
    first = run(one, out)
    copied = Path(shutil.copyfile(one, tmp_path / "copy.png"))
    assert run(copied, out) == ("copy", *first[1:]), "both are there, so both have results"
