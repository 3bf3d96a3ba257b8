"""The scoring that the top of a slide's folder shows, and how its files are replaced by those of another scoring.

``scores/run`` keeps all files of the run's own scoring. ``scores/<key>`` keeps the files of a later scoring without
its nuclei, which can be made again from those of the run. The top shows one of these scorings. ``summary.json`` is
removed first and written last, so that a command that ends in between, for whatever reason, leaves a folder that does
not count as finished; the next ``run`` or ``score`` repairs it from ``scores/run``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from wsipsm.errors import OutputError
from wsipsm.keys import Artefact
from wsipsm.results.summary import RunSummary
from wsipsm.rundir import TEMPORARY_PREFIX, RunDir, flush_folder, link_file, output_error

OWN = "run"
"""Name of the run's own scoring in the folder ``scores``."""
SHOWN = (
    Artefact.CELLS,
    Artefact.GEOJSON,
    Artefact.OVERVIEW,
    Artefact.SCORE,
    Artefact.SCORE_AREAS,
    Artefact.REGION,
    Artefact.TISSUE,
)
"""Files of a scoring besides its summary, where they exist."""
_BESIDE = (Artefact.RUN, Artefact.PICTURE)
"""Files of the run that are the same for every scoring."""
_NOT_KEPT = (Artefact.CELLS, Artefact.GEOJSON)
"""Files that are not kept: they follow from the run's nuclei, region and cut, and would fill a disk."""


def own_results(run_dir: RunDir) -> RunDir:
    """Return the folder of the run's own scoring in a slide's folder."""
    return RunDir(run_dir.path(Artefact.SCORES) / OWN)


def forget_results(run_dir: RunDir) -> None:
    """Mark a folder as unfinished before results of another run are put into it; later scorings stay.

    Raises
    ------
    OutputError
        When files cannot be removed.
    """
    own = own_results(run_dir)
    with _as_output_errors(run_dir):
        for folder in (run_dir, own):
            folder.remove(Artefact.SUMMARY)
            if folder.root.is_dir():
                flush_folder(folder.root)
        if own.root.exists():
            shutil.rmtree(own.root)


def finish_own(run_dir: RunDir, summary: RunSummary) -> None:
    """Keep the files at the top as the run's own scoring, then mark the folder as finished.

    Raises
    ------
    OutputError
        When files cannot be written.
    """
    with staged(run_dir) as aside, _as_output_errors(run_dir):
        for artefact in SHOWN:
            if run_dir.path(artefact).exists():
                link_file(run_dir.path(artefact), aside.path(artefact))
        checks = {"file_bytes": _sizes(run_dir), "nuclei_sha256": nuclei_sha256(run_dir)}
        summary.model_copy(update=checks).write(aside)
        _replace_folder(aside.root, own_results(run_dir).root)
        link_file(own_results(run_dir).path(Artefact.SUMMARY), run_dir.path(Artefact.SUMMARY))
        flush_folder(run_dir.root)


def _sizes(run_dir: RunDir) -> dict[str, int]:
    """Read the size of each file of the run's own scoring, by which a file that was cut off is recognised."""
    paths = {artefact: run_dir.path(artefact) for artefact in (*SHOWN, *_BESIDE)}
    return {artefact.value: path.stat().st_size for artefact, path in paths.items() if path.exists()}


def nuclei_sha256(folder: RunDir) -> dict[str, str]:
    """Compute the SHA-256 of the files of nuclei in a folder, by name, those that can be read."""
    found = {}
    for artefact in _NOT_KEPT:
        with suppress(OSError), open(folder.path(artefact), "rb") as stream:
            found[artefact.value] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def is_whole(run_dir: RunDir, file_bytes: Mapping[str, int]) -> bool:
    """Find out whether every file of the run's own scoring exists and has its full size.

    Parameters
    ----------
    run_dir
        Folder of the slide's run.
    file_bytes
        Sizes in bytes by name, from the summary of the run's own scoring; empty where an earlier version made it, and
        then the answer is False.
    """
    own = own_results(run_dir)
    try:
        return bool(file_bytes) and all(
            (run_dir if name in _BESIDE else own).root.joinpath(str(name)).stat().st_size == n_bytes
            for name, n_bytes in file_bytes.items()
        )
    except OSError:
        return False


def clear_aside(run_dir: RunDir) -> None:
    """Remove the files that killed commands prepared; the caller must hold the folder's lock."""
    scores = run_dir.path(Artefact.SCORES)
    for entry in scores.iterdir() if scores.is_dir() else ():
        if entry.name.startswith(TEMPORARY_PREFIX):
            shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def staged(run_dir: RunDir) -> Iterator[RunDir]:
    """Make a folder beside the kept scorings in which a new one is prepared; it is removed at the end.

    Raises
    ------
    OutputError
        When it cannot be made.
    """
    scores = run_dir.path(Artefact.SCORES)
    aside = scores / f"{TEMPORARY_PREFIX}aside"
    with _as_output_errors(run_dir):
        scores.mkdir(parents=True, exist_ok=True)
        clear_aside(run_dir)
        aside.mkdir()
    try:
        yield RunDir(aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def publish(run_dir: RunDir, aside: RunDir, key: str) -> None:
    """Keep prepared files as a scoring of its own, and show it at the top of the folder.

    Parameters
    ----------
    run_dir, aside
        Folder of the slide, and folder of the prepared files, which are moved.
    key
        Key of the scoring, which names its folder.

    Raises
    ------
    OutputError
        When files cannot be written.
    """
    kept = RunDir(aside.root / f"{TEMPORARY_PREFIX}kept")
    with _as_output_errors(run_dir):
        kept.root.mkdir()
        for artefact in (*(one for one in SHOWN if one not in _NOT_KEPT), Artefact.SUMMARY):
            if aside.path(artefact).exists():
                link_file(aside.path(artefact), kept.path(artefact))
        _replace_folder(kept.root, run_dir.path(Artefact.SCORES) / key)
    _show(run_dir, aside, move=True)


def show_own(run_dir: RunDir) -> None:
    """Show the run's own scoring at the top of a slide's folder.

    Raises
    ------
    OutputError
        When files cannot be written.
    """
    _show(run_dir, own_results(run_dir), move=False)


def shows_own(run_dir: RunDir) -> bool:
    """Find out whether every file at the top belongs to the run's own scoring."""
    own = own_results(run_dir)
    for artefact in (*SHOWN, Artefact.SUMMARY):
        with suppress(OSError):
            shown = os.stat(run_dir.path(artefact)) if run_dir.path(artefact).exists() else None
            kept = os.stat(own.path(artefact)) if own.path(artefact).exists() else None
            if (shown is None) != (kept is None):
                return False
            # On a file system without hard links the file is a copy, which keeps the time of the original.
            if shown and kept and (shown.st_size, shown.st_mtime_ns) != (kept.st_size, kept.st_mtime_ns):
                return False
    return True


def _show(run_dir: RunDir, source: RunDir, move: bool) -> None:
    with _as_output_errors(run_dir):
        run_dir.remove(Artefact.SUMMARY)
        flush_folder(run_dir.root)
        for artefact in SHOWN:
            if source.path(artefact).exists():
                _place(source.path(artefact), run_dir.path(artefact), move)
            else:
                run_dir.remove(artefact)
        flush_folder(run_dir.root)
        _place(source.path(Artefact.SUMMARY), run_dir.path(Artefact.SUMMARY), move)
        flush_folder(run_dir.root)


@contextmanager
def _as_output_errors(run_dir: RunDir) -> Iterator[None]:
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise output_error(run_dir.root, error) from error


def _place(source: Path, target: Path, move: bool) -> None:
    if move:
        os.replace(source, target)
    else:
        link_file(source, target)


def _replace_folder(source: Path, target: Path) -> None:
    """Give a complete folder its final name; an older folder of that name is removed."""
    flush_folder(source)
    if target.exists():
        old = target.with_name(f"{TEMPORARY_PREFIX}old-{target.name}")
        os.rename(target, old)
        os.rename(source, target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.rename(source, target)
    flush_folder(target.parent)
