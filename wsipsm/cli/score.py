"""``wsipsm score``: scores stored nuclei again, with another region, cut or marker, in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsipsm.cli.options import ABOUT_BANDS, FRAME_HELP, AsJson
from wsipsm.cli.region_table import lines_about_annotations
from wsipsm.cli.run_options import ExcludeClass, RoiClass, TmaCores, check_roi_options, split_classes
from wsipsm.cli.score_text import lines_about_index
from wsipsm.cli.terminal import show, show_json, show_lines
from wsipsm.errors import EXIT_COHORT_PARTIAL, DiskFullError, WsipsmError, one_line
from wsipsm.keys import QuPathFrame

if TYPE_CHECKING:
    from wsipsm.stages.score import Scored

Results = Annotated[
    list[Path],
    typer.Argument(metavar="RESULT...", help="Folders of finished slides, e.g. wsipsm-out/slide.", show_default=False),
]
Roi = Annotated[
    Path | None,
    typer.Option(
        "--roi",
        metavar="FILE",
        help="GeoJSON from QuPath; nuclei inside it are scored.",
        show_default="the run's own region",
    ),
]
ScoreFrame = Annotated[
    QuPathFrame | None,
    typer.Option("--qupath-frame", metavar="cropped|full", help=FRAME_HELP, show_default="the run's own"),
]
DabCut = Annotated[
    float | None,
    typer.Option(
        "--dab-cut",
        min=0.0,
        max=3.0,
        metavar="OD",
        help="Mean DAB optical density from which a nucleus is positive.",
        show_default="the run's own",
    ),
]
ScoreMarker = Annotated[
    str | None,
    typer.Option(
        "--marker",
        metavar="NAME",
        help=f"Nuclear marker that DAB shows; {ABOUT_BANDS}.",
        show_default="the run's own",
    ),
]


def score(
    results: Results,
    roi: Roi = None,
    roi_class: RoiClass = None,
    exclude_class: ExcludeClass = None,
    tma_cores: TmaCores = False,
    qupath_frame: ScoreFrame = None,
    dab_cut: DabCut = None,
    marker: ScoreMarker = None,
    as_json: AsJson = False,
) -> None:
    """Score Ki-67 again, with a region drawn in QuPath, another cut or another marker.

    The network is not run again. Afterwards all files of a slide's folder show the new scoring: nuclei and their
    classes, numbers and pictures. Without options they show the run's own scoring again. The folder scores keeps every
    scoring. Of several paths, those without results are skipped. The exit code is 5 when some of several could not be
    scored.

    Example: wsipsm score wsipsm-out/slide --roi tumour.geojson
    """
    check_roi_options(roi, roi_class, exclude_class, tma_cores)
    from wsipsm.finished.rescore import score_result
    from wsipsm.region import RoiRules

    rules = RoiRules(split_classes(roi_class), split_classes(exclude_class), tma_cores)
    rows: list[object] = []
    failed = False
    folders = _folders_of(results)
    for folder in folders:
        try:
            one = score_result(folder, roi, dab_cut, rules, qupath_frame, marker)
        except WsipsmError as error:
            if len(folders) == 1 or isinstance(error, DiskFullError):
                raise
            failed = True
            show(f"error: {one_line(error)}", err=True)
            rows.append({"folder": str(folder), "error": one_line(error)})
            continue
        rows.append({"folder": str(one.folder), "key": one.key, **one.record.figures_only()})
        if not as_json:
            show_lines(lines_about_score(one))
    if as_json:
        show_json(rows)
    if failed:
        raise typer.Exit(EXIT_COHORT_PARTIAL)


def _folders_of(results: list[Path]) -> list[Path]:
    """Choose the folders with results, since a shell expands ``results/*`` to other files too, which are skipped."""
    from wsipsm.finished.rescore import holds_result

    found = [path for path in results if holds_result(path)]
    if not found:
        return results[:1]  # scoring it raises an error that says what is wrong
    for path in results:
        if path not in found:
            show(f"skipped: {path}: no results of a slide in it", err=True)
    return found


def lines_about_score(scored: Scored) -> list[str]:
    """Write a score as a few lines of text."""
    from wsipsm.results.summary import ScoreFacts

    found = scored.score
    index = found.index
    lines = [f"{scored.folder.name}: {index.region}"]
    lines += [f"  FLAG: {flag}" for flag in scored.flags]
    if scored.withheld is not None:
        lines.append("  index withheld; the counts are in summary.json")
    else:
        lines += [f"  {line}" for line in lines_about_index(index, ScoreFacts.of(found), scored.scoring.marker)]
    near = f"{found.share_near_cut:.1%} of nuclei within 0.05" if found.share_near_cut is not None else "no nuclei"
    lines.append(f"  DAB cut {found.cut_od:.3f} OD, {found.cut_from}; {near}")
    lines += lines_about_annotations(scored.record.annotations)
    shown_flags = () if scored.withheld is not None else index.flags
    limits = [limit for limit in scored.limits if limit not in shown_flags]
    lines += [f"  note: {note}" for note in (*scored.record.notes, *limits)]
    lines.append(_line_about_cohort(scored))
    shown = f"  shown by all of {scored.folder}; research use only, not for diagnosis"
    return [*(line for line in lines if line), shown]


def _line_about_cohort(scored: Scored) -> str:
    """Say that a cohort's table is not updated; empty without a table, or where the run's own scoring is shown."""
    from wsipsm.cohort.table import CSV_NAME

    table = scored.folder.parent / CSV_NAME
    if scored.scoring.made_by == "run" or not table.is_file():
        return ""
    return f"  note: {table} keeps the run's own scoring, which is in scores/run."
