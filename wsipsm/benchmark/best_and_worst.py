"""Draws the worst, the median and the best image of a benchmark with their true and found nuclei."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from wsipsm.benchmark.bench import BenchImage, Method, OpenSet, make_builtin
from wsipsm.benchmark.images import LabelledImage
from wsipsm.benchmark.names import BuiltIn
from wsipsm.benchmark.table import BenchReport
from wsipsm.export.gallery import OutlinePanel, PointPanel, draw_gallery


def write_gallery(
    opened: OpenSet, report: BenchReport, out: Path, *, model: str | None = None, seed: int = 0
) -> Path | None:
    """Draw ``<set>-<protocol>-gallery.png`` for the installed model.

    The model is run again on these three images, since results are not kept while a set is scored.

    Parameters
    ----------
    opened, report
        The set, and its scores.
    out
        Folder to write the picture into.
    model, seed
        The same as in `run_bench`.

    Returns
    -------
    Path of the picture; None when the installed model was not scored.

    Raises
    ------
    OutputError
        When the disk is full or the place is not writable.
    """
    result = next((r for r in report.results if r.method == BuiltIn.WSIPSM.value), None)
    if result is None:
        return None
    score = "AJI" if opened.points is None else "F1_any"
    ranked = sorted((row[score], n) for n, row in enumerate(result.rows))
    method = make_builtin(BuiltIn.WSIPSM, opened, model, seed)
    chosen = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
    panels = [
        _panel(f"{kind} of {len(ranked)}: {opened.images[n].name}, {score} {value:.3f}", opened.images[n], method)
        for kind, (value, n) in chosen.items()
    ]
    path = out / f"{report.set_name}-{report.protocol}-gallery.png"
    draw_gallery(path, panels)
    return path


def _panel(title: str, kept: BenchImage, method: Method) -> OutlinePanel | PointPanel:
    image = replace(kept)  # a copy, so that its pixels are freed after it was drawn
    found = method.predict(image)
    if isinstance(image, LabelledImage):
        return OutlinePanel(title, image.rgb, image.truth, found)
    return PointPanel(title, image.rgb, (image.positive, image.negative), found)
