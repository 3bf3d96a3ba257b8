"""Score the shipped models, and the no-network floors, on the labelled sets.

    python benchmarks/accuracy.py --data DIR [--sets monuseg bcdata shidc dcis] [--model NAME_OR_PATH]
                                  [--out results.md|results.csv] [--limit N] [--no-floor]

Every image goes through `wsipsm.stages.run.run_slide`, as ``wsipsm run IMAGE --mpp X`` does. To score another
predictor, call `evaluate_labels` or `evaluate_points` with a function from an image to a label image, or to the
points of positive and of negative nuclei.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import floor
import numpy as np
from datasets import MONUSEG_MPP, POINT_SETS, LabelledImage, PointImage, monuseg_images
from machine import describe_machine
from numpy.typing import NDArray
from scoring import PointScore, mean_scores, pool_points, score_labels, score_points

SETS = ("monuseg", *POINT_SETS)
LABEL_COLUMNS = ("AJI", "AJI+", "PQ", "SQ", "DQ", "Dice", "IoU", "P_pool", "R_pool", "F1_pool", "F1_c_pool")
POINT_COLUMNS = (
    *(f"{score}_{kind}" for kind in ("pos", "neg", "any") for score in ("P", "R", "F1")),
    *("MP", "MN", "index_error", "index_bias", "index_true", "index_predicted"),
)

Points: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
PredictLabels: TypeAlias = Callable[[LabelledImage], NDArray[np.int32]]
PredictPoints: TypeAlias = Callable[[PointImage], Points]


@dataclass(frozen=True)
class Result:
    """Scores of one predictor on one set."""

    set_name: str
    method: str
    scores: dict[str, float]
    rows: list[dict[str, Any]]
    """One an image."""
    seconds: float
    models: Counter[str] = field(default_factory=Counter)
    """Weights that were used, and on how many images: the stain of each is told from its colours."""


def evaluate_labels(
    images: Iterable[LabelledImage], predict: PredictLabels, method: str, progress: bool = False
) -> Result:
    """Score a predictor of label images; means over images."""
    start = time.perf_counter()
    all_scores: list[dict[str, float]] = []
    rows: list[dict[str, Any]] = []
    for image in images:
        scores = score_labels(image.truth, predict(image))
        all_scores.append(scores)
        rows.append({"set": "monuseg", "method": method, "image": image.name, **scores})
        if progress:
            print(f"  {method} {image.name}: AJI {scores['AJI']:.3f}", flush=True)
    return Result("monuseg", method, mean_scores(all_scores), rows, time.perf_counter() - start)


def evaluate_points(
    set_name: str, images: Iterable[PointImage], predict: PredictPoints, method: str, progress: bool = False
) -> Result:
    """Score a predictor of positive and negative nuclei; pooled over images."""
    start, radius_px = time.perf_counter(), POINT_SETS[set_name].radius_px
    scores: list[PointScore] = []
    rows: list[dict[str, Any]] = []
    for image in images:
        score = score_points(image, *predict(image), radius_px)
        scores.append(score)
        rows.append({"set": set_name, "method": method, "image": image.name, **score.row()})
        if progress:
            print(f"  {method} {image.name}: F1 any {score.any.f1:.3f}", flush=True)
    return Result(set_name, method, pool_points(scores), rows, time.perf_counter() - start)


def evaluate_monuseg(data: Path, model: str | None, limit: int | None, with_floor: bool) -> list[Result]:
    """Score floor and model on the MoNuSeg training images."""
    from prediction import run_image

    used: Counter[str] = Counter()

    def predict(image: LabelledImage) -> NDArray[np.int32]:
        cells = run_image(image.path, MONUSEG_MPP, model)
        used[cells.model] += 1
        return cells.labels(image.size)

    methods: dict[str, PredictLabels] = {"floor": lambda image: floor.segment_he(image.rgb)} if with_floor else {}
    methods["wsipsm"] = predict
    results = [
        evaluate_labels(islice(monuseg_images(data), limit), method, name, progress=True)
        for name, method in methods.items()
    ]
    results[-1].models.update(used)
    return results


def evaluate_ki67(set_name: str, data: Path, model: str | None, limit: int | None, with_floor: bool) -> list[Result]:
    """Score floor and model on one set of points."""
    from prediction import run_image

    used: Counter[str] = Counter()
    chosen = POINT_SETS[set_name]

    def predict(image: PointImage) -> Points:
        cells = run_image(image.path, chosen.mpp, model)
        used[cells.model] += 1
        return cells.points()

    methods: dict[str, PredictPoints] = {}
    if with_floor:
        cut = floor.dab_cut(image.rgb for image in islice(chosen.read(data), limit))
        methods["floor"] = lambda image: floor.detect_ihc(image.rgb, chosen.diameter_px, cut)
    methods["wsipsm"] = predict
    results = [
        evaluate_points(set_name, islice(chosen.read(data), limit), method, name, progress=True)
        for name, method in methods.items()
    ]
    results[-1].models.update(used)
    return results


def write_report(results: Sequence[Result], out: Path | None, limit: int | None) -> str:
    """Markdown of the results; also written to ``out``, with a CSV of every image beside it."""
    text = "\n".join([*_header(results, limit), "", *_label_table(results), "", *_point_table(results), ""])
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_suffix(".md").write_text(text)
        _write_rows(results, out.with_suffix(".csv"))
    return text


def _header(results: Sequence[Result], limit: int | None) -> list[str]:
    facts = describe_machine()
    models = [
        f"{result.set_name}: {name} on {n} of {len(result.rows)} images"
        for result in results
        for name, n in sorted(result.models.items())
    ]
    lines = [
        f"Date {facts['date']}. Seed 0. {facts['machine']}. {facts['versions']}.",
        f"Weights: {'; '.join(models) or 'none'}.",
        f"MoNuSeg: training images at {MONUSEG_MPP} um/px, labels by the organisers' MATLAB rules; means over images; "
        "AJI is the organisers' (a prediction may be used again), AJI+ one-to-one; PQ, P, R, F1 at IoU above 0.5; "
        "F1_c by centroids within 12 px; P, R and F1 pooled.",
        "Ki-67: pooled over images, one-to-one within the radius; MP, MN: mean absolute error of counts an image; "
        "index error and bias: means over images, in points; index: pooled, %.",
        *(f"{s.name}: radius {s.radius_px:g} px, {s.mpp} um/px assumed ({s.mpp_reason})." for s in POINT_SETS.values()),
    ]
    if limit is not None:
        lines.append(f"Only the first {limit} images of each set.")
    return lines


def _label_table(results: Sequence[Result]) -> list[str]:
    chosen = [result for result in results if result.set_name == "monuseg"]
    return _table(chosen, LABEL_COLUMNS, lambda name, value: f"{value:.3f}")


def _point_table(results: Sequence[Result]) -> list[str]:
    chosen = [result for result in results if result.set_name in POINT_SETS]

    def told(name: str, value: float) -> str:
        return f"{value:.1f}" if name.startswith(("M", "index")) else f"{100 * value:.1f}"

    return _table(chosen, POINT_COLUMNS, told)


def _table(results: Sequence[Result], columns: Sequence[str], told: Callable[[str, float], str]) -> list[str]:
    if not results:
        return []
    head = ["set", "method", "images", *(c.removesuffix("_pool") for c in columns), "s an image"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for r in results:
        n = len(r.rows)
        cells = [r.set_name, r.method, str(n), *(told(c, r.scores[c]) for c in columns), f"{r.seconds / n:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _write_rows(results: Sequence[Result], path: Path) -> None:
    rows = [row for result in results for row in result.rows]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with monuseg/ and ki67/")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--model", help="name or path of weights; default: by the stain that each image shows")
    parser.add_argument("--out", type=Path, help="results.md; a CSV with a row an image lies beside it")
    parser.add_argument("--limit", type=int, help="only the first N images of each set")
    parser.add_argument("--no-floor", action="store_true", help="score the model alone")
    args = parser.parse_args(arguments)
    results: list[Result] = []
    for name in args.sets:
        print(name, flush=True)
        with_floor = not args.no_floor
        if name == "monuseg":
            results += evaluate_monuseg(args.data, args.model, args.limit, with_floor)
        else:
            results += evaluate_ki67(name, args.data, args.model, args.limit, with_floor)
    print(write_report(results, args.out, args.limit))


if __name__ == "__main__":
    main()
