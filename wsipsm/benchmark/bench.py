"""Scores methods on a published set."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsipsm.benchmark.cells import Cells, read_run_nuclei
from wsipsm.benchmark.classical import (
    Points,
    dab_cut,
    detect_ihc,
    segment_cellprofiler,
    segment_fiji,
    segment_he,
    split_by_dab,
)
from wsipsm.benchmark.images import LabelledImage, PointImage, PointSet, list_names
from wsipsm.benchmark.machine import describe_machine
from wsipsm.benchmark.names import BuiltIn, ScoringProtocol, SetName
from wsipsm.benchmark.scoring import (
    CENTROID_RADIUS_PX,
    PointScore,
    mean_scores,
    pool_points,
    score_labels,
    score_points,
)
from wsipsm.benchmark.sets.monuseg import MPP, PAPER_CROP_PX, monuseg_images, paper_view
from wsipsm.benchmark.table import BenchReport, MethodResult
from wsipsm.config import RunOptions
from wsipsm.errors import UsageError
from wsipsm.events import ignore_events
from wsipsm.keys import Stain
from wsipsm.stages.run import run_slide

BenchImage: TypeAlias = LabelledImage | PointImage


@dataclass(frozen=True)
class Method:
    """A method that can be scored."""

    name: str
    predict: Callable[[Any], Any]
    """Function that takes a `LabelledImage` and returns a label image of its pixels, or that takes a `PointImage` and
    returns the points (x, y), corner convention, of positive and of negative nuclei."""
    describe: Callable[[], str] = str
    """Function that is called after the last image; it returns a sentence for the table's header, or an empty text."""


@dataclass(frozen=True)
class OpenSet:
    """A set whose images and annotations were found; its pixels are not read yet."""

    name: SetName
    folder: Path
    protocol: ScoringProtocol
    images: Sequence[BenchImage]
    points: PointSet | None
    """Rules for the points of the set; None: the truth is a label image."""
    limit: int | None
    """Number of images that were chosen, from the first on; None: all."""

    @property
    def stain(self) -> Stain:
        """Stain of the set: sets with outlines are H&E, sets with points are IHC."""
        return Stain.HE if self.points is None else Stain.IHC

    @property
    def mpp(self) -> float:
        """Pixel size, um/px; assumed for point sets."""
        return MPP if self.points is None else self.points.mpp


def open_set(
    set_name: SetName, folder: Path, protocol: ScoringProtocol = ScoringProtocol.WHOLE, limit: int | None = None
) -> OpenSet:
    """Find the images and annotations of a set.

    Parameters
    ----------
    set_name, folder
        Name of the set, and the folder into which it was unpacked.
    protocol
        Pixels and true nuclei that are scored.
    limit
        Number of images to use, from the first on; None: all.

    Raises
    ------
    UsageError
        When files are missing or cannot be used, the set has no such protocol, or a package is not installed.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no folder; that of the unpacked set is needed. Check the path.")
    if set_name == SetName.MONUSEG:
        found = monuseg_images(folder)[:limit]
        chosen = found if protocol == ScoringProtocol.WHOLE else [paper_view(image) for image in found]
        return OpenSet(set_name, folder, protocol, chosen, None, limit)
    if protocol != ScoringProtocol.WHOLE:
        raise UsageError(
            f"--protocol {protocol}: given for {set_name}; how the paper scored points was never published, so it "
            f"is for {SetName.MONUSEG} alone. Use --protocol {ScoringProtocol.WHOLE}."
        )
    points = _point_set(set_name)
    return OpenSet(set_name, folder, protocol, points.read(folder)[:limit], points, limit)


def run_bench(
    opened: OpenSet,
    methods: Sequence[BuiltIn | Method],
    *,
    model: str | None = None,
    seed: int = 0,
    announce: Callable[[str], None] = lambda line: None,
) -> BenchReport:
    """Score methods on every image of a set.

    Parameters
    ----------
    opened
        Set of images that `open_set` returned.
    methods
        Methods in the order of the table's rows; built-in ones are given by name.
    model
        Weights of the built-in ``wsipsm``; None: the shipped model for the stain that each image shows.
    seed
        Seed of the sample of tissue pixels; the header of the table names it.
    announce
        Function that is called with a line of text for each image.

    Raises
    ------
    UsageError
        When an image or annotation cannot be used.
    WsipsmError
        When a method fails.
    """
    ready = [make_builtin(m, opened, model, seed) if isinstance(m, BuiltIn) else m for m in methods]
    names = [method.name for method in ready]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"--methods {','.join(names)}: each method once is needed. Name at least one.")
    by_method = [_MethodScores(opened, method) for method in ready]
    notes: list[str] = []
    for number, kept in enumerate(opened.images, 1):
        image = replace(kept)  # a copy, so that its pixels are freed after it was scored
        if opened.points is None and not image.rgb.shape[:2] == image.truth.shape:  # type: ignore[union-attr]
            raise UsageError(f"{image.path}: truth is of another size than the image. Get both again.")
        for note in image.notes:
            announce(f"warning: {note}")
            notes.append(note)
        added = [scores.add(image) for scores in by_method]
        announce(f"{number}/{len(opened.images)} {image.name}: {', '.join(added)}")
    results = [scores.result() for scores in by_method]
    about = [line for method in ready if (line := method.describe())]
    return BenchReport(opened.name, opened.protocol, results, [*_header(opened, seed), *about], notes)


def run_image(path: Path, mpp: float, model: str | None = None, seed: int = 0) -> Cells:
    """Find the nuclei of an image as ``wsipsm run PATH --mpp X --workers 0`` does, in a temporary folder.

    Parameters
    ----------
    path
        Image file.
    mpp
        Pixel size of the image, um/px.
    model
        Name or path of weights; None: the shipped model for the stain that the image shows.
    seed
        Seed of the sample of tissue pixels.
    """
    options = RunOptions(model=model, mpp=mpp, workers=0, seed=seed)
    with tempfile.TemporaryDirectory(prefix="wsipsm-bench-") as folder:
        summary = run_slide(path, folder, options, ignore_events)
        return read_run_nuclei(Path(summary.folder))


def parse_methods(text: str) -> list[BuiltIn]:
    """Parse the names of built-in methods, separated by commas.

    Raises
    ------
    UsageError
        When a name is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in list(BuiltIn)]
    if unknown or not names:
        raise UsageError(
            f"--methods {text}: {list_names(unknown) or 'none'} unknown; any of {', '.join(BuiltIn)} is needed."
        )
    return [BuiltIn(name) for name in names]


@dataclass
class _MethodScores:
    """Scores of one method, image by image."""

    opened: OpenSet
    method: Method
    rows: list[dict[str, Any]] = field(default_factory=list)
    labels: list[dict[str, float]] = field(default_factory=list)
    points: list[PointScore] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, image: BenchImage) -> str:
        """Score one image; return a text for the progress line."""
        start = time.perf_counter()
        predicted = self.method.predict(image)
        self.seconds += time.perf_counter() - start
        row: dict[str, Any] = {"set": str(self.opened.name), "method": self.method.name, "image": image.name}
        if isinstance(image, LabelledImage):
            row["organ"] = image.organ
            scores = score_labels(image.truth, predicted)
            self.labels.append(scores)
            self.rows.append(row | scores)
            return f"{self.method.name} AJI {scores['AJI']:.3f}"
        assert self.opened.points is not None  # the only sets that hold point images
        positive_xy, negative_xy = predicted
        score = score_points(image, positive_xy, negative_xy, self.opened.points.radius_px)
        self.points.append(score)
        self.rows.append(row | score.row())
        return f"{self.method.name} F1 {score.any.f1:.3f}"

    def result(self) -> MethodResult:
        """Compute the scores of the whole set."""
        scores = mean_scores(self.labels) if self.labels else pool_points(self.points)
        return MethodResult(self.method.name, scores, self.rows, self.seconds)


def _point_set(name: SetName) -> PointSet:
    # Imported here, so that only BCData needs h5py.
    if name == SetName.SHIDC:
        from wsipsm.benchmark.sets.shidc import SHIDC

        return SHIDC
    if name == SetName.DCIS:
        from wsipsm.benchmark.sets.dcis import DCIS

        return DCIS
    try:
        from wsipsm.benchmark.sets.bcdata import BCDATA
    except ModuleNotFoundError as error:
        if error.name != "h5py":
            raise
        raise UsageError(
            "bcdata: h5py is not installed; it reads the annotations. pip install 'wsipsm[bench]'"
        ) from error
    return BCDATA


def make_builtin(name: BuiltIn, opened: OpenSet, model: str | None, seed: int) -> Method:
    """Prepare a built-in method for a set; the parameters are those of `run_bench`."""
    if name == BuiltIn.WSIPSM:
        return _make_installed(opened, model, seed)
    if opened.points is None:
        segment = {
            BuiltIn.FLOOR: segment_he,
            BuiltIn.CELLPROFILER: segment_cellprofiler,
            BuiltIn.FIJI: segment_fiji,
        }[name]
        return Method(name.value, lambda image: segment(image.rgb))
    diameter_px = opened.points.diameter_px
    cut = dab_cut(replace(image).rgb for image in opened.images)

    def detect(image: PointImage) -> Points:
        if name == BuiltIn.FLOOR:
            return detect_ihc(image.rgb, diameter_px, cut)
        if name == BuiltIn.FIJI:
            return split_by_dab(segment_fiji(image.rgb, diameter_px, ihc=True), image.rgb, cut)
        # CellProfiler's default range of 10 to 40 px is for nuclei of 20 px.
        diameters_px = (diameter_px / 2, 2 * diameter_px)
        return split_by_dab(segment_cellprofiler(image.rgb, diameters_px, ihc=True), image.rgb, cut)

    return Method(name.value, detect, lambda: f"{name}: one DAB cut for the set, {cut:.3f} (Otsu, no labels).")


def _make_installed(opened: OpenSet, model: str | None, seed: int) -> Method:
    used: Counter[str] = Counter()

    def predict(image: BenchImage) -> NDArray[np.int32] | Points:
        with tempfile.TemporaryDirectory(prefix="wsipsm-bench-") as folder:
            path = image.path
            if isinstance(image, LabelledImage) and image.crop is not None:
                path = Path(folder) / f"{image.name}.png"
                Image.fromarray(image.rgb).save(path)
            cells = run_image(path, opened.mpp, model, seed)
        used[cells.model] += 1
        return cells.labels(image.size) if isinstance(image, LabelledImage) else cells.points()

    def describe() -> str:
        return "wsipsm: weights " + "; ".join(f"{name} on {n} images" for name, n in sorted(used.items())) + "."

    return Method(BuiltIn.WSIPSM.value, predict, describe)


def _header(opened: OpenSet, seed: int) -> list[str]:
    facts = describe_machine()
    n_images = len(opened.images)
    lines = [
        f"Date {facts['date']}. Seed {seed}. {facts['machine']}. {facts['versions']}.",
        f"Images: {n_images}"
        + (f", only the first {opened.limit}." if opened.limit is not None else ", all of the folder."),
        *(_label_rules(opened.protocol) if opened.points is None else _point_rules(opened.points)),
        "cellprofiler and fiji are re-creations of default pipelines with scikit-image, not the programs. Supervised "
        "references (StarDist, InstanSeg) have no row: their weights are downloads, and nothing is downloaded here.",
    ]
    return lines


def _label_rules(protocol: ScoringProtocol) -> list[str]:
    lines = [
        f"{MPP} um/px. Means over images; P, R and F1 pooled over images; centroids match one to one within "
        f"{CENTROID_RADIUS_PX} px ({CENTROID_RADIUS_PX * MPP:g} um).",
        "True outlines are drawn by MATLAB's poly2mask with X and Y as they stand in the XML; a pixel in several "
        "regions belongs to the earliest; label images are taken as they are. Predicted outlines are drawn by "
        "pixel centres.",
    ]
    if protocol == ScoringProtocol.PAPER:
        lines.append(
            f"Protocol paper, only to compare with the printed table. Its flaws: the central {PAPER_CROP_PX} px square "
            "alone is scored (a quarter of an image); true instances are the 8-connected components of the binary "
            "mask, so touching nuclei count as one and splitting them right is punished. The published code also "
            "chooses its epoch on the scored images; nothing is chosen here."
        )
    return lines


def _point_rules(points: PointSet) -> list[str]:
    return [
        f"{points.title}: match radius {points.radius_px:g} px, one to one, most pairs first; {points.mpp} um/px "
        f"assumed ({points.mpp_reason}). P, R and F1 pooled over images; MP, MN, index error and bias "
        "are means over images.",
        "Predictions on objects that are labelled to be ignored are dropped; with a mask, only what lies in it is "
        "scored.",
    ]
