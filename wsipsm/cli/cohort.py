"""``wsipsm cohort``: runs all slides of a folder or manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsipsm.cli.options import AsJson, Quiet, says_how_to_continue
from wsipsm.cli.run_options import read_run_options, takes_run_options
from wsipsm.cli.terminal import show_json, show_lines
from wsipsm.errors import UsageError

if TYPE_CHECKING:
    from wsipsm.cohort.request import CohortRequest
    from wsipsm.cohort.table import CohortSummary

Sources = Annotated[
    list[str] | None,  # a path would turn https:// into https:/
    typer.Argument(
        metavar="SLIDE...|DIR|MANIFEST.csv",
        help="Slides, a folder of slides, a pattern in quotes, addresses (https://, s3://, gs://), or a CSV file with "
        "one row for each slide.",
        show_default="needed, unless --resume is given",
    ),
]
Retry = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="How often to try failed slides again, after all others, with a pause before each try."
    ),
]
MaxFailures = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Stop when more slides than this failed.", show_default="no limit"),
]
SkipBad = Annotated[
    bool,
    typer.Option(
        "--skip-bad",
        help="Continue without slides that cannot be used; their rows in the table say why.",
        show_default="no",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder that keeps slides fetched by address.", show_default="in the cohort's folder"
    ),
]
AllowPrivate = Annotated[
    bool,
    typer.Option(
        "--allow-private-addresses",
        help="Fetch slides also from servers on this machine and in private networks.",
        show_default="no",
    ),
]
CacheBytes = Annotated[int, typer.Option(min=1, metavar="N", help="Most bytes that the cache may hold.")]
StainFrom = Annotated[
    str | None,
    typer.Option(
        "--stain-from",
        metavar="SLIDE|batch",
        help="Use the same stains and DAB cut for all slides: those of this slide, or fitted once on the cohort.",
        show_default="fitted on each slide",
    ),
]
Slurm = Annotated[
    Path | None,
    typer.Option("--slurm", metavar="TOML", help="Run in SLURM jobs, as this profile describes.", show_default="none"),
]
Resume = Annotated[
    Path | None,
    typer.Option("--resume", metavar="DIR", help="Continue the cohort in this folder.", show_default="none"),
]
OutDir = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Folder for cohort.csv and for one folder of results for each slide.",
        show_default="needed, unless --resume is given",
    ),
]


@takes_run_options
def cohort(
    context: typer.Context,
    sources: Sources = None,
    out: OutDir = None,
    resume: Resume = None,
    slurm: Slurm = None,
    stain_from: StainFrom = None,
    retry: Retry = 1,
    max_failures: MaxFailures = None,
    skip_bad: SkipBad = False,
    cache: Cache = None,
    cache_bytes: CacheBytes = 100 * 2**30,
    allow_private_addresses: AllowPrivate = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Run many slides; write cohort.csv and cohort.parquet with one row for each slide.

    All slides are checked first, and every one that cannot be used is listed. Blocks of all slides share the workers.
    A slide that fails is tried again after all others; if it fails again, its row says why. The same command run again
    skips finished slides and blocks. Events are recorded in journal.jsonl. The exit code is 5 when some slides failed,
    and 7 when some are incomplete.

    Example: wsipsm cohort slides/ --out results

    Example: wsipsm cohort --resume results
    """
    options = read_run_options(context, needs_roi=False)
    from wsipsm.cli.progress import open_listener
    from wsipsm.cohort.request import CohortOptions, CohortRequest
    from wsipsm.cohort.run import run_cohort

    how = CohortOptions(
        retry,
        max_failures,
        skip_bad=skip_bad,
        cache=cache,
        cache_bytes=cache_bytes,
        stain_from=stain_from,
        slurm=slurm,
        allow_private_addresses=allow_private_addresses,
    )
    given = CohortRequest(sources=tuple(sources or ()), options=options, how=how)
    folder, request = _whole_request(given, out, resume)
    hint = f"Finished slides and blocks are kept; 'wsipsm cohort --resume {folder}' continues from them."
    with says_how_to_continue(hint), open_listener(silent=quiet or as_json) as listener:
        summary = run_cohort(request.sources, folder, request.options, listener, request.how)
    _show(summary, as_json, quiet)
    raise typer.Exit(summary.exit_code)


def _show(summary: CohortSummary, as_json: bool, quiet: bool) -> None:
    if as_json:
        shown = ("table", "page", "n_slides", "n_done", "n_failed")
        values = {name: getattr(summary, name) for name in shown}
        show_json({**values, "slides": summary.rows, "exit_code": summary.exit_code})
    elif not quiet:
        show_lines(_lines_about(summary))


def _whole_request(given: CohortRequest, out: Path | None, resume: Path | None) -> tuple[Path, CohortRequest]:
    """Return folder and request: those given, or with --resume the stored ones with the worker options given now."""
    from wsipsm.cohort.request import read_request

    if resume is None:
        if out is None or not given.sources:
            missing = "a slide, a folder or a manifest" if not given.sources else "--out DIR"
            raise UsageError(f"{missing} is needed, e.g. 'wsipsm cohort slides/ --out results'. See --help.")
        return out, given
    own = given.options.model_dump(exclude={"workers", "scheduler"}, exclude_defaults=True)
    if given.sources or out is not None or own or given.how.stain_from is not None:
        raise UsageError(
            f"--resume {resume}: the cohort continues with its first options; only --workers, --scheduler, --slurm, "
            "--quiet and --json may be given with it. For other options give the whole command with --out."
        )
    kept = read_request(resume)
    options, how = kept.options, kept.how
    if (given.options.workers, given.options.scheduler, given.how.slurm) != (None, None, None):
        chosen = {"workers": given.options.workers, "scheduler": given.options.scheduler}
        options, how = options.model_copy(update=chosen), replace(how, slurm=given.how.slurm)
    return resume, kept.model_copy(update={"options": options, "how": how})


def _lines_about(summary: CohortSummary) -> list[str]:
    lines = [f"{summary.n_slides} slides: {summary.n_done} done, {summary.n_failed} failed"]
    lines += [f"  failed: {slide}: {reason}" for slide, reason in summary.failures]
    n_flagged = sum(bool(row.flags) for row in summary.rows)
    if n_flagged:
        lines.append(f"FLAG: {n_flagged} of them; the column flags says why, and whether an index is withheld")
    return [*lines, f"table in {summary.table}", f"  page in {summary.page}"]
