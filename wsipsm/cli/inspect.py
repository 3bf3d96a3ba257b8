"""``wsipsm info``, ``check`` and ``models``: describe slides, results and models without a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsipsm.cli.options import AsJson, ImageNumber, Mpp, QuPathFrameOption, SlidePath, check_mpp
from wsipsm.cli.terminal import show, show_json, show_lines
from wsipsm.errors import EXIT_UNEXPECTED, OutputError, UsageError
from wsipsm.keys import QuPathFrame
from wsipsm.paths import find_no_file

if TYPE_CHECKING:
    from wsipsm.export.geojson_check import OnSlide
    from wsipsm.models.card import ModelCard
    from wsipsm.slide.base import SlideImage, SlideInfo
    from wsipsm.stages.info import SlideReport

GeoJsonPath = Annotated[
    Path,
    typer.Argument(
        metavar="FILE|RESULT",
        help="GeoJSON file, .geojson or .geojson.gz; or the folder of a slide's results.",
        show_default=False,
    ),
]
OnSlidePath = Annotated[
    Path | None,
    typer.Option(
        "--slide", metavar="SLIDE", help="Slide that the file is for.", show_default="only the file is checked"
    ),
]

N_SHOWN_PROBLEMS = 20
"""Number of problems that are printed; a file often has the same problem in every feature."""


def info(slide: SlidePath, mpp: Mpp = None, image: ImageNumber = None, as_json: AsJson = False) -> None:
    """Describe a slide: size, pixel size, levels, tissue, stain, and the model a run would take.

    Example: wsipsm info slide.svs
    """
    check_mpp(mpp)
    from wsipsm.stages.info import describe_slide

    report = describe_slide(slide, mpp, image)
    if as_json:
        show_json(report.to_dict())
    else:
        show_lines(_lines_about(report))


def check(
    file: GeoJsonPath,
    slide: OnSlidePath = None,
    image: ImageNumber = None,
    qupath_frame: QuPathFrameOption = QuPathFrame.CROPPED,
    as_json: AsJson = False,
) -> None:
    """Check that QuPath reads a GeoJSON file correctly, or that all files of a slide's folder agree.

    With the slide, also check that every position lies where the slide holds pixels, in QuPath's coordinates. The exit
    code is 0 when there are no problems, and 1 when there are some.

    Example: wsipsm check wsipsm-out/slide/cells.geojson.gz --slide slide.svs

    Example: wsipsm check wsipsm-out/slide
    """
    if file.is_dir() and slide is None:
        _check_folder(file, as_json)
        return
    missing = find_no_file(file)
    if missing is not None:
        raise UsageError(f"{file}: {missing[0]}; a .geojson or .geojson.gz file is needed. {missing[1]}")
    from wsipsm.export.geojson_check import examine_geojson

    on_slide = None if slide is None else _on_slide(slide, image, qupath_frame)
    try:
        report = examine_geojson(file, slide=on_slide)
    except PermissionError as error:
        raise UsageError(f"{file}: {error.strerror}; a readable file is needed. Change its permissions.") from error
    problems = [*map(str, report.problems), *([f"and {report.n_more} more problems"] if report.n_more else [])]
    if as_json:
        frame = report.qupath_frame
        about = {"slide": str(slide) if slide else None, "qupath_frame": frame.value if frame else None}
        show_json({"path": str(file), **about, "ok": not problems, "problems": problems})
    elif not problems:
        on = f"on {slide}, in QuPath's {report.qupath_frame} frame" if slide else "drag it onto its slide in QuPath"
        show(f"{file}: no problems; {on}.")
    else:
        for problem in problems[:N_SHOWN_PROBLEMS]:
            show(f"{file}: {problem}")
        if len(problems) > N_SHOWN_PROBLEMS:
            show(f"{file}: and {len(problems) - N_SHOWN_PROBLEMS} more")
        if on_slide is not None and on_slide.frame.has_empty_canvas:
            show(f"{file}: checked in QuPath's {report.qupath_frame} frame; --qupath-frame chooses the other one.")
    if problems:
        raise typer.Exit(EXIT_UNEXPECTED)


def _check_folder(folder: Path, as_json: bool) -> None:
    """Check that the files of a slide's folder belong to one scoring."""
    from wsipsm.finished.check import check_result

    problems = check_result(folder)
    if as_json:
        show_json({"path": str(folder), "ok": not problems, "problems": problems})
    elif problems:
        show_lines(f"{folder}: {problem}" for problem in problems)
    else:
        show(f"{folder}: no problems; nuclei, classes, counts, region and pictures belong to one scoring.")
    if problems:
        raise typer.Exit(EXIT_UNEXPECTED)


def _on_slide(path: Path, image: int | None, qupath_frame: QuPathFrame) -> OnSlide:
    from wsipsm.export.geojson_check import OnSlide
    from wsipsm.slide.frame import SlideFrame
    from wsipsm.slide.open import open_slide

    with open_slide(path, image=image) as slide:
        return OnSlide(SlideFrame.of(slide.info, qupath_frame), slide.info.fingerprint)


def models(as_json: AsJson = False) -> None:
    """List the models in the package.

    Example: wsipsm models
    """
    from wsipsm.models.registry import list_models

    cards = list_models()
    if as_json:
        show_json({"models": [card.model_dump(mode="json") for card in cards]})
        return
    if not cards:
        raise OutputError("models: none in the package; two are shipped with it. Install wsipsm again.")
    for card in cards:
        show_lines(_lines_about_model(card))


def _lines_about(report: SlideReport) -> list[str]:
    from wsipsm.quality.finding import flags_of
    from wsipsm.slide.pixel_size import describe_statement

    facts = report.info
    power = "" if facts.objective_power is None else f", objective {facts.objective_power:g}x"
    if facts.mpp is None:
        mpp = "not stated; a run needs --mpp"
    elif report.mpp_is_plausible:
        mpp = f"{facts.mpp:.4f} um/px"
    else:
        mpp = f"{facts.mpp:g} um/px, at which no nucleus can be seen; a run needs --mpp"
    levels = ", ".join(f"{size.width} x {size.height}" for size in facts.level_sizes)
    tissue = "not known" if report.tissue_fraction is None else f"{report.tissue_fraction:.1%} of the slide"
    lines = [
        *(f"FLAG        {flag}" for flag in flags_of(report.findings)),
        f"slide       {facts.path}",
        f"reader      {facts.reader}" + (f", {facts.vendor}" if facts.vendor else "") + power,
        f"size        {facts.size.width} x {facts.size.height} px",
        f"pixel size  {mpp}",
        *(f"  stated    {describe_statement(statement)}" for statement in facts.mpp_statements),
        f"levels      {levels}",
    ]
    lines += _lines_about_images(facts)
    if facts.bounds is not None:
        box = facts.bounds
        lines.append(f"bounds      {box.width} x {box.height} px at {box.x}, {box.y}")
    lines += [
        f"tissue      {tissue}",
        f"stain       {report.stain or 'not known'}",
        f"model       {report.model or 'none fits; name one with --model'}",
    ]
    flags = flags_of(report.findings)
    lines += [f"check       {one.verdict}: {one.text}" for one in report.findings if one.text not in flags]
    return lines + [f"note        {note}" for note in report.notes]


def _lines_about_images(facts: SlideInfo) -> list[str]:
    """Describe every image of a file that holds several, and the pictures that are no scan, such as a label."""
    lines = [
        f"image {number:<6}{_sized(image)}{', the slide' if number == facts.image else ', left out'}"
        for number, image in enumerate(facts.images, start=1)
    ]
    return lines + [f"beside      {_sized(image)}" for image in facts.associated]


def _sized(image: SlideImage) -> str:
    name = f"{image.name}, " if image.name else ""
    levels = f", {image.n_levels} levels" if image.n_levels > 1 else ""
    return f"{name}{image.size.width} x {image.size.height} px{levels}"


def _lines_about_model(card: ModelCard) -> list[str]:
    data = ", ".join(f"{source.name} ({source.n_images} images, {source.terms})" for source in card.data)
    scores = ", ".join(f"{name} {value:.3f}" for name, value in card.scores.items())
    return [
        f"{card.name}: {card.stain}, {card.mpp:g} um/px, finds {', '.join(card.outputs)}",
        f"  trained without labels on {data or 'data that its card does not name'}",
        *([f"  {scores}"] if scores else []),
        f"  {card.licence}, sha256 {card.sha256[:12]}",
    ]
