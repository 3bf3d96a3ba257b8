"""Mutation testing: small faults are put into the code one at a time, and the tests must notice each.

    scripts/mutate [ROOM ...] [--sample N] [--seed S] [--only TEXT] [--list]

Rooms are instances, scoring, markers, region, geometry, stain, rules (of QuPath's GeoJSON) and identity (which slide,
which code, which folder); all by default. A run first notes which functions each test enters, then draws N faults at
random, the same for the same seed and code, and runs against each the tests that enter its function, the quickest
first, until one fails. Tests that would take long are left out, which can only make more faults survive. The fault is
put in as the module is imported, in a process of its own: no file changes, and what the tests read of the sources is
whole. 200 faults take about twenty minutes of one core.

Printed are a table of rooms, and every fault that no test noticed: a test is missing there, or the fault changes
nothing that anybody could see. Not part of continuous integration.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import json
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType

import pytest
from mutants import Mutant, find_mutants, mutated_tree, noting_tree

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Room:
    """Source files, and the tests that should notice faults in them."""

    sources: tuple[str, ...]
    tests: tuple[str, ...]


ROOMS = {
    "instances": Room(("wsipsm/instances",), ("tests/instances",)),
    "scoring": Room(("wsipsm/scoring",), ("tests/scoring",)),
    "markers": Room(("wsipsm/markers",), ("tests/markers",)),
    "region": Room(("wsipsm/region",), ("tests/region", "tests/frame")),
    "geometry": Room(("wsipsm/geometry.py",), ("tests/geometry", "tests/tiling")),
    "stain": Room(("wsipsm/stain.py",), ("tests/stain", "tests/quality/test_brown.py", "tests/quality/test_hue.py")),
    "rules": Room(
        ("wsipsm/export/geojson_rules.py",),
        ("tests/export/test_geojson_rules.py", "tests/export/test_geojson_check.py", "tests/export/test_geojson.py"),
    ),
    "identity": Room(
        (
            "wsipsm/slide/fingerprint.py",
            "wsipsm/slide/dicom.py",
            "wsipsm/results/provenance.py",
            "wsipsm/results/closure.py",
            "wsipsm/stages/prepare.py",
            "wsipsm/cohort/ids.py",
            "wsipsm/results/slide_folder.py",
        ),
        (
            "tests/slide/test_fingerprint.py",
            "tests/results/test_identity_bounds.py",
            "tests/results/test_naming_rules.py",
            "tests/slide/test_dicom_slides.py",
            "tests/results/test_staleness.py",
            "tests/cohort/test_cohort_ids.py",
            "tests/results/test_slide_folder.py",
            "tests/stages/test_slide_replaced.py",
            "tests/stages/test_io_errors.py",
            "tests/results/test_folder_choice.py",
            "tests/stages/test_fixed_stain.py",
            "tests/stages/test_resume.py",
            "tests/stages/test_run_slide.py",
        ),
    ),
}
LONGEST_TEST_S = 5.0
"""Processor time above which a test is left out, since each fault would wait for it."""
LONGEST_FAULT_S = 20.0
"""Default of the processor time for all tests of one fault; tests beyond it are left out."""
_NOTE = "note_entered_function"
CPU_LIMIT_S = 30
"""Processor time that a fault's tests may take beyond three times their usual one, so that endless loops end."""
MEMORY_BYTES = 16 << 30
"""Largest address space of the tests of a fault."""
WAIT_FACTOR = 5
"""Wall-clock limit over processor-time limit, so that a process that waits for ever is ended."""


@dataclass(slots=True)
class Traced:
    """What a test or a fixture entered, and how long it took."""

    entered: set[tuple[str, str]] = field(default_factory=set)
    """File and name of the functions that were entered."""
    seconds: float = 0.0
    """Processor time, that of started programs included."""


class TracedTests:
    """Plugin that notes the processor time of each test, and which functions of some files it enters.

    What a fixture does that several tests share counts for each of them, since each would run it if it ran alone.
    """

    def __init__(self) -> None:
        self.tests: dict[str, Traced] = {}
        self._shared: dict[str, Traced] = {}
        self._open = [Traced()]
        setattr(builtins, _NOTE, lambda file, name: self._open[-1].entered.add((file, name)))

    @contextmanager
    def _traced(self) -> Iterator[Traced]:
        now, start = Traced(), _processor_s()
        self._open.append(now)
        try:
            yield now
        finally:
            self._open.pop()
            now.seconds += _processor_s() - start
            self._open[-1].seconds -= _processor_s() - start

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Iterator[object]:
        """Note what a fixture enters that is made once for several tests."""
        if fixturedef.scope == "function":
            return (yield)
        with self._traced() as traced:
            self._shared[fixturedef.argname] = traced
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[object]:
        """Note what a test enters, with its fixtures."""
        with self._traced() as traced:
            result = yield
        # Tests of a module run together: the last fixture of a name is the one that they share.
        for shared in (self._shared[name] for name in getattr(item, "fixturenames", ()) if name in self._shared):
            traced.entered |= shared.entered
            traced.seconds += shared.seconds
        self.tests[item.nodeid] = traced
        return result


def _processor_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class _EditedLoader(importlib.machinery.SourceFileLoader):
    """Loads a module from an edited source."""

    edit: Callable[[str], ast.Module]

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.edit(Path(self.path).read_text(encoding="utf-8")), self.path, "exec", dont_inherit=True)


class EditedImport(importlib.abc.MetaPathFinder):
    """Edits some modules as they are imported; their files stay as they are.

    Parameters
    ----------
    edits
        File, relative to the repository, to what makes its tree of its source.
    """

    def __init__(self, edits: dict[Path, Callable[[str], ast.Module]]) -> None:
        self._edits = {_module_of(file): (file, edit) for file, edit in edits.items()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a module that is to be edited; leave others to the usual import."""
        if fullname not in self._edits:
            return None
        file, edit = self._edits[fullname]
        loader = _EditedLoader(fullname, str(ROOT / file))
        loader.edit = edit
        # A package needs to know where its modules lie.
        inner = [str((ROOT / file).parent)] if file.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            fullname, ROOT / file, loader=loader, submodule_search_locations=inner
        )


def _module_of(file: Path) -> str:
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


def run_tests(tests: Sequence[str], plugins: Sequence[object] = ()) -> int:
    """Run tests in this process, quietly, the properties with few examples and always the same."""
    import hypothesis

    every_check = list(hypothesis.HealthCheck)
    hypothesis.settings.register_profile(
        "mutation", derandomize=True, database=None, deadline=None, max_examples=25, suppress_health_check=every_check
    )
    hypothesis.settings.load_profile("mutation")
    # Hypothesis is loaded before pytest could rewrite its assertions, which it has none of.
    quiet = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*quiet, *tests], plugins=list(plugins)))


def in_a_process(act: Callable[[], int], cpu_s: int, log: Path) -> int | None:
    """Run a function in a forked process; return its exit status, or None when a limit or a signal ended it."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        with open(log, "wb", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        signal.alarm(WAIT_FACTOR * cpu_s)
        status = 99
        try:
            status = act()
        except BaseException:  # noqa: BLE001  a fault may raise anything, and the process ends here
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else None


def trace_tests(room: Room, log: Path) -> tuple[dict[tuple[str, str], list[str]], dict[str, float]]:
    """Run the tests without a fault: which enter each function, and how long each takes. Libraries are then loaded."""
    notes = log.with_suffix(".json")

    def act() -> int:
        traced = TracedTests()
        edits = {file: functools.partial(noting_tree, file=file.as_posix(), note=_NOTE) for file in files_of(room)}
        sys.meta_path.insert(0, EditedImport(edits))
        code = run_tests(room.tests, [traced])
        entered = {test: sorted(one.entered) for test, one in traced.tests.items()}
        seconds = {test: one.seconds for test, one in traced.tests.items()}
        loaded = [name for name in sys.modules if name.partition(".")[0] not in ("wsipsm", "tests", "__main__")]
        notes.write_text(json.dumps([entered, seconds, loaded]))
        return code

    code = in_a_process(act, 3600, log)
    if code != 0:
        raise SystemExit(f"the tests fail without a fault (exit {code}):\n{log.read_text()[-3000:]}")
    entered, seconds, loaded = json.loads(notes.read_text())
    home = str(ROOT)
    for name in loaded:
        # Libraries are imported once before the forks; modules of this project are not, since faults are put into them.
        with suppress(Exception):
            spec = importlib.util.find_spec(name)
            if spec and spec.origin and not (spec.origin.startswith(home) and "site-packages" not in spec.origin):
                importlib.import_module(name)
    by_function: dict[tuple[str, str], list[str]] = defaultdict(list)
    for test, functions in entered.items():
        if seconds[test] <= LONGEST_TEST_S:
            for file, name in functions:
                by_function[file, name].append(test)
    return by_function, seconds


def tests_of(
    mutant: Mutant, by_function: dict[tuple[str, str], list[str]], seconds: dict[str, float], longest_s: float
) -> list[str]:
    """Tests that enter a fault's function, the quickest first; of one outside functions, all that enter the file.

    Those with which the processor time would become longer than ``longest_s`` are left out.
    """
    file = mutant.file.as_posix()
    if mutant.function:
        chosen = set(by_function.get((file, mutant.function), ()))
    else:
        chosen = {test for (other, _), tests in by_function.items() if other == file for test in tests}
    ordered = sorted(chosen, key=lambda test: (seconds[test], test))
    total = itertools.accumulate(seconds[test] for test in ordered)
    return [test for test, so_far in zip(ordered, total, strict=True) if so_far <= longest_s]


def run_against(mutant: Mutant, tests: Sequence[str], log: Path, cpu_s: int) -> str:
    """Run tests against a fault; return 'killed', 'survived', 'timeout' or 'no test'."""
    if not tests:
        return "no test"

    def act() -> int:
        edit = functools.partial(mutated_tree, number=mutant.number)
        sys.meta_path.insert(0, EditedImport({mutant.file: edit}))
        return run_tests(tests)

    code = in_a_process(act, cpu_s, log)
    if code is None:
        return "timeout"
    return "survived" if code == 0 else "killed"


def files_of(room: Room) -> list[Path]:
    """Files of a room, relative to the repository."""
    places = [Path(source) for source in room.sources]
    return [file for place in places for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]


def draw_sample(rooms: Sequence[str], n: int, seed: int) -> list[tuple[str, Mutant]]:
    """Draw faults at random over rooms, each as often as its code is long; in the order of rooms."""
    every = []
    for room in rooms:
        every += [(room, mutant) for file in files_of(ROOMS[room]) for mutant in find_mutants(file)]
    chosen = random.Random(seed).sample(range(len(every)), min(n, len(every)))
    print(f"{len(every)} faults can be put in; {len(chosen)} are, seed {seed}", flush=True)
    return [every[index] for index in sorted(chosen)]


def print_results(results: Sequence[tuple[str, Mutant, str]]) -> None:
    """Print the table of rooms and what survived."""
    print("\n| room | faults | killed | survived | no test | timeout |\n|---|---|---|---|---|---|")
    for room in [*dict.fromkeys(room for room, _, _ in results), "all"]:
        count = Counter(verdict for name, _, verdict in results if room in (name, "all"))
        row = [sum(count.values()), *(count[verdict] for verdict in ("killed", "survived", "no test", "timeout"))]
        print(f"| {room} | " + " | ".join(map(str, row)) + " |")
    left = [(mutant, verdict) for _, mutant, verdict in results if verdict in ("survived", "no test")]
    print(f"\n{len(left)} of {len(results)} survive ({len(left) / max(len(results), 1):.1%}):")
    for mutant, verdict in left:
        print(f"  {verdict}: {mutant}")


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", choices=[*ROOMS, []], help=", ".join(ROOMS))
    parser.add_argument("--sample", type=int, default=200, help="faults to try (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="which are drawn")
    parser.add_argument(
        "--seconds", type=float, default=LONGEST_FAULT_S, help="processor time of the tests of one fault (default 20)"
    )
    parser.add_argument(
        "--only", action="append", help="of those drawn, faults whose line (file:line: ...) holds this text; repeatable"
    )
    parser.add_argument("--list", action="store_true", help="print the faults that would be tried, and stop")
    given = parser.parse_args()
    os.chdir(ROOT)
    rooms = given.rooms or list(ROOMS)
    wanted = given.only or [""]
    drawn = draw_sample(rooms, given.sample, given.seed)
    sample = [one for one in drawn if any(text in str(one[1]) for text in wanted)]
    if given.list:
        print(*(mutant for _, mutant in sample), sep="\n")
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        for room in rooms:
            faults = [mutant for name, mutant in sample if name == room]
            if not faults:
                continue
            by_function, seconds = trace_tests(ROOMS[room], log)
            for mutant in faults:
                tests = tests_of(mutant, by_function, seconds, given.seconds)
                cpu_s = CPU_LIMIT_S + int(3 * sum(seconds[test] for test in tests))
                results.append((room, mutant, run_against(mutant, tests, log, cpu_s)))
                print(f"{room}: {results[-1][2]}: {mutant}", flush=True)
    print_results(results)


if __name__ == "__main__":
    main()
