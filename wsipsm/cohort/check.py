"""The check of a whole cohort before work starts: every slide that cannot be used is named at once.

Slides are opened in processes of their own. A file that crashes or hangs the decoder's native code takes down one of
these processes and nothing else. Since a process opens one slide at a time, the damaged file is known.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from pydantic import InstanceOf, TypeAdapter

import wsipsm
from wsipsm.cohort.discover import CohortSlide, Problem
from wsipsm.config import RunOptions
from wsipsm.errors import ModelError, RoiError, UsageError, WsipsmError, one_line
from wsipsm.keys import QuPathFrame
from wsipsm.models.registry import resolve_model
from wsipsm.paths import CHECK_THE_PATH, find_no_file
from wsipsm.region import RoiRules, read_roi
from wsipsm.remote.address import check_url
from wsipsm.remote.cache import SlideCache
from wsipsm.slide.open import open_slide, require_mpp

N_PROCESSES = 4
"""Processes that open slides, also where there are fewer processors: opening waits for the disk most of the time."""
PATIENCE_S = 300.0
"""Seconds that one slide may take to open; on a slow network share this takes some seconds."""
_SLIDES_A_PROCESS = 16
"""Slides for which one more process is started, since its start takes about as long as opening that many slides."""
_N_TRIES = 2
_JOIN_S = 10.0


def check_slides(
    slides: Sequence[CohortSlide],
    options: RunOptions,
    cache: SlideCache | None = None,
    announce: Callable[[int, int], None] | None = None,
    n_processes: int = N_PROCESSES,
    patience_s: float = PATIENCE_S,
) -> list[Problem]:
    """Find out which slides of a cohort cannot be used, without reading their pixels.

    Each slide is opened, and its pixel size, region and model are checked. Of a slide that is given by its address
    only the size is requested from the server; the run opens it once it has been fetched.

    Parameters
    ----------
    slides
        Slides of the cohort.
    options
        Options of the run; a slide's own mpp, image, model and roi take their place.
    cache
        Cache that requests the sizes of slides by address; None leaves these slides unchecked.
    announce
        Function that is called in this thread with two numbers: the slides checked so far, and all slides.
    n_processes
        Largest number of slides that are opened at a time.
    patience_s
        Seconds after which a slide that has not opened counts as unusable.

    Returns
    -------
    One problem for each reason why a slide cannot be used, in the order of the slides.

    Raises
    ------
    ModelError
        When the model of ``options`` is unusable, since then no slide can be analysed.
    UsageError
        When processes that open slides cannot be started, or addresses cannot be read here.
    """
    if options.model is not None:
        resolve_model(options.model)
    models = _unusable_models(slides)
    reasons: dict[int, list[str]] = {}
    n = max(1, min(n_processes, -(-len(slides) // _SLIDES_A_PROCESS)))
    openers = [_Opener(patience_s) for _ in range(n)]
    with closing(_each(slides, options, cache, openers)) as answers:
        for n_done, (place, found) in enumerate(answers, start=1):
            if found:
                reasons[place] = found
            if announce is not None:
                announce(n_done, len(slides))
    problems = []
    for place, slide in enumerate(slides):
        found = reasons.get(place, [])
        if slide.model in models:
            found = [*found, models[slide.model]]
        where = f"{slide.origin}: " if slide.origin else ""
        problems += [Problem(slide.id, slide.source, f"{where}{reason}") for reason in found]
    return problems


def _unusable_models(slides: Sequence[CohortSlide]) -> dict[str | None, str]:
    """Check each model that a manifest names once, and return the reasons why some cannot be used."""
    reasons: dict[str | None, str] = {}
    for model in dict.fromkeys(slide.model for slide in slides if slide.model is not None):
        try:
            resolve_model(model)
        except ModelError as error:
            reasons[model] = one_line(error)
    return reasons


def _each(
    slides: Sequence[CohortSlide], options: RunOptions, cache: SlideCache | None, openers: Sequence[_Opener]
) -> Generator[tuple[int, list[str]], None, None]:
    """Yield position and reasons of each slide as they come; every thread has one opener and takes the next slide."""
    todo = iter(enumerate(slides))
    taking = threading.Lock()
    answers: queue.SimpleQueue[tuple[int, list[str]] | Exception] = queue.SimpleQueue()
    stopped = threading.Event()

    def work(opener: _Opener) -> None:
        try:
            while not stopped.is_set():
                with taking:
                    place, slide = next(todo, (-1, None))
                if slide is None:
                    return
                answers.put((place, _check(slide, options, cache, opener)))
        except Exception as error:  # noqa: BLE001  raised in the caller's thread
            answers.put(error)

    threads = [threading.Thread(target=work, args=(opener,), daemon=True) for opener in openers]
    try:
        for thread in threads:
            thread.start()
        for _ in slides:
            answer = answers.get()
            if isinstance(answer, Exception):
                raise answer
            yield answer
    finally:
        stopped.set()
        for opener in openers:
            opener.close()
        for thread in threads:
            thread.join(timeout=_JOIN_S)
        for opener in openers:
            opener.end()


def _check(slide: CohortSlide, options: RunOptions, cache: SlideCache | None, opener: _Opener) -> list[str]:
    """Find the reasons why a slide cannot be used."""
    roi = slide.roi or options.roi
    if slide.url is not None:
        reasons = [] if roi is None or roi.is_file() else [_no_roi(roi)]
        if cache is not None and _is_valid(slide.url):
            try:
                cache.size_of(slide.url)
            except UsageError:  # a library is missing, which concerns the whole cohort
                raise
            except WsipsmError as error:
                reasons.append(one_line(error))
        return reasons
    mpp = slide.mpp if slide.mpp is not None else options.mpp
    image = options.image if slide.image is None else slide.image
    own_roi = str(roi) if roi else None
    return opener.ask(Question(str(slide.path), mpp, own_roi, options.roi_rules(), image, options.qupath_frame))


def _is_valid(url: str) -> bool:
    """Find out whether an address is valid; if not, reading the manifest has reported it already."""
    try:
        check_url(url)
    except UsageError:
        return False
    return True


class _Opener:
    """A process that opens slides; a new one is started when a slide has crashed it."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[bytes] | None = None
        self._closing = False

    def ask(self, question: Question) -> list[str]:
        """Return the reasons why a slide cannot be used; a slide that crashes the process is tried once more."""
        exits = []
        for _ in range(_N_TRIES):
            process = self._process or self._start()
            gave_up = threading.Event()

            def give_up(process: subprocess.Popen[str] = process, gave_up: threading.Event = gave_up) -> None:
                gave_up.set()
                process.kill()

            timer = threading.Timer(self._patience_s, give_up)
            timer.start()
            try:
                answer = _exchange(process, json.dumps(asdict(question)))
            finally:
                timer.cancel()
            if answer:
                return list(json.loads(answer))
            code = self.end()
            if gave_up.is_set():
                return [
                    f"{question.path}: it did not open within {self._patience_s:g} s; a slide that opens is needed. "
                    "Check the disk, or copy the slide again."
                ]
            exits.append(_exit_text(code))
        return [
            f"{question.path}: opening it crashed the decoder ({exits[-1]}), {_N_TRIES} times; an undamaged file is "
            "needed. Copy it again from its source."
        ]

    def _start(self) -> subprocess.Popen[str]:
        if self._closing:
            raise UsageError("check: it was stopped.")
        # multiprocessing would run the caller's script again. With -P nothing in the current folder is imported.
        package = str(Path(wsipsm.__file__).parent.parent)
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from wsipsm.cohort.check import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        if not _exchange(process, "ready?"):
            self._errors.seek(0)
            lines = self._errors.read()[-2000:].decode(errors="replace").strip().splitlines()
            self.end()
            raise UsageError(
                f"check: no process that opens slides can be started ({lines[-1] if lines else 'it printed nothing'}); "
                "one is needed. See 'wsipsm doctor'."
            )
        return process

    def end(self) -> int:
        """End the process, close its files, and return its exit code; 0 when there is none."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        try:
            code = process.wait(timeout=_JOIN_S)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL  # the process hangs on an absent disk, and ends when the disk is back
        for stream in (process.stdin, process.stdout, self._errors):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue  # the process never read the last line written to it
        return code

    def close(self) -> None:
        """End the process from another thread; a call of :meth:`ask` that is waiting then ends."""
        self._closing = True
        process = self._process
        if process is not None:
            process.kill()


def _exchange(process: subprocess.Popen[str], line: str) -> str:
    """Send a line to a process and return its answer; an empty text when the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except OSError:
        return ""
    return answer if answer.endswith("\n") else ""


def _exit_text(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def serve() -> None:
    """Answer one question per line of standard input until it ends; this runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process decides when to stop
    # What libraries print goes to standard error, so that standard output holds nothing but answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        reasons = [] if line.startswith("ready?") else reasons_against(Question.from_json(line))
        answers.write(json.dumps(reasons) + "\n")
        answers.flush()


@dataclass(frozen=True, slots=True)
class Question:
    """A question to a process that opens slides, whether a slide can be used with these options."""

    path: InstanceOf[str]
    """Path of the slide, which need not be UTF-8."""
    mpp: float | None = None
    """Pixel size in place of the file's, um/px."""
    roi: InstanceOf[str] | None = None
    """GeoJSON of its region."""
    rules: RoiRules = field(default_factory=RoiRules)
    """Rules on which annotations of that GeoJSON count."""
    image: int | None = None
    """Number of the image in the file, from 1; None stands for the largest pyramid."""
    qupath_frame: QuPathFrame = QuPathFrame.CROPPED
    """What QuPath showed of the slide when the region was drawn."""

    @classmethod
    def from_json(cls, line: str) -> Question:
        """Read the question from a line that another process wrote."""
        return TypeAdapter(cls).validate_python(json.loads(line))  # orjson would refuse names that are not UTF-8


def reasons_against(question: Question) -> list[str]:
    """Find the reasons why a slide cannot be used with a pixel size and a region; none when it can."""
    path, roi = question.path, question.roi
    reasons, info = [], None
    try:
        with open_slide(path, question.mpp, question.image, identify=False) as slide:
            info = slide.info
        require_mpp(info)
    except WsipsmError as error:
        reasons.append(one_line(error))
    except Exception as error:  # noqa: BLE001  one slide's failure must not end the check of the others
        reasons.append(f"{path}: unexpected {type(error).__name__}: {one_line(error)}")
    if roi is None:
        return reasons
    try:
        if info is not None:
            read_roi(roi, info, question.rules, qupath_frame=question.qupath_frame)
        elif not Path(roi).is_file():
            reasons.append(_no_roi(Path(roi)))
    except RoiError as error:
        reasons.append(one_line(error))
    return reasons


def _no_roi(roi: Path) -> str:
    found, remedy = find_no_file(roi) or ("no such file", CHECK_THE_PATH)
    return f"{roi}: {found}; the GeoJSON of the slide's region is needed. {remedy}"
