"""Mutation testing: small faults are put into the code one at a time, and the tests must notice each.

    scripts/mutate [ROOM ...] [--sample N] [--seed S] [--list]

Rooms are instances, ki67, region, geometry, stain, rules (of QuPath's GeoJSON) and identity (which slide, which code,
which folder); all by default. A run first notes which functions each test enters, then draws N faults at random, the
same for the same seed and code, and runs against each the tests that enter its function, the quickest first, until one
fails. The fault is put in as the module is imported, in a process of its own: no file changes, and what the tests read
of the sources is whole. 200 faults take about twenty minutes of one core.

Printed are a table of rooms, and every fault that no test noticed: a test is missing there, or the fault changes
nothing that anybody could see. Not part of continuous integration.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, ModuleType

import pytest
from mutants import Mutant, find_mutants, mutated_tree

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Room:
    """Code, and the tests that are to hold it."""

    sources: tuple[str, ...]
    tests: tuple[str, ...]


ROOMS = {
    "instances": Room(("wsipsm/instances",), ("tests/instances",)),
    "ki67": Room(("wsipsm/ki67",), ("tests/ki67",)),
    "region": Room(("wsipsm/region",), ("tests/region", "tests/frame")),
    "geometry": Room(("wsipsm/geometry.py",), ("tests/geometry", "tests/tiling")),
    "stain": Room(("wsipsm/stain.py",), ("tests/stain",)),
    "rules": Room(
        ("wsipsm/export/geojson_rules.py",), ("tests/export/test_geojson_check.py", "tests/export/test_geojson.py")
    ),
    "identity": Room(
        (
            "wsipsm/slide/fingerprint.py",
            "wsipsm/slide/dicom.py",
            "wsipsm/stages/provenance.py",
            "wsipsm/stages/closure.py",
            "wsipsm/stages/prepare.py",
            "wsipsm/stages/study_ids.py",
            "wsipsm/stages/slide_folder.py",
        ),
        (
            "tests/slide/test_fingerprint.py",
            "tests/stages/test_dicom_slides.py",
            "tests/stages/test_staleness.py",
            "tests/stages/test_study_ids.py",
            "tests/stages/test_slide_folder.py",
            "tests/stages/test_slide_replaced.py",
            "tests/stages/test_io_errors.py",
        ),
    ),
}
LONGEST_TEST_S = 5.0
"""Processor time; tests that take more are left out, since each fault would wait for them."""
CPU_LIMIT_S = 60
"""Beyond what its tests took without it, a fault that makes a loop endless is ended here."""


class TracedTests:
    """Plugin that notes the processor time of each test, and the functions of the package that it enters."""

    def __init__(self) -> None:
        self.entered: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Trace a test with its fixtures."""
        package = str(ROOT / "wsipsm")
        seen: set[CodeType] = set()

        def note(frame: FrameType, event: str, argument: object) -> None:
            if event == "call":
                seen.add(frame.f_code)

        start = time.process_time()
        sys.setprofile(note)
        try:
            return (yield)
        finally:
            sys.setprofile(None)
            self.seconds[item.nodeid] = time.process_time() - start
            for code in seen:
                if code.co_filename.startswith(package):
                    name = code.co_qualname.partition(".<locals>")[0]
                    self.entered[item.nodeid].add((str(Path(code.co_filename).relative_to(ROOT)), name))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note failures."""
        if report.failed:
            self.failed.add(report.nodeid)


class _FaultyLoader(importlib.machinery.SourceFileLoader):
    """Loads a module with a fault in it."""

    number = 0

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text(encoding="utf-8")
        return compile(mutated_tree(source, self.number), self.path, "exec", dont_inherit=True)


class FaultyImport(importlib.abc.MetaPathFinder):
    """Puts a fault into one module as it is imported."""

    def __init__(self, mutant: Mutant) -> None:
        self.file = mutant.file
        self.number = mutant.number
        self.name = ".".join(mutant.file.with_suffix("").parts).removesuffix(".__init__")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find the module that is to be faulty; leave others to the usual import."""
        if fullname != self.name:
            return None
        loader = _FaultyLoader(fullname, str(ROOT / self.file))
        loader.number = self.number
        return importlib.util.spec_from_file_location(fullname, ROOT / self.file, loader=loader)


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
    """Fork, run, and give the exit status; None when the time was over or a signal came."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        with open(log, "wb", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
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


def trace_tests(tests: Sequence[str], log: Path) -> tuple[dict[tuple[str, str], list[str]], dict[str, float]]:
    """Run the tests without a fault: which enter each function, and how long each takes. Libraries are then loaded."""
    notes = log.with_suffix(".json")

    def act() -> int:
        traced = TracedTests()
        code = run_tests([test for test in tests if (ROOT / test).exists()], [traced])
        entered = {test: sorted(functions) for test, functions in traced.entered.items()}
        loaded = [name for name in sys.modules if name.partition(".")[0] not in ("wsipsm", "tests", "__main__")]
        notes.write_text(json.dumps([entered, traced.seconds, loaded]))
        return code

    code = in_a_process(act, 3600, log)
    if code != 0:
        raise SystemExit(f"the tests fail without a fault (exit {code}):\n{log.read_text()[-3000:]}")
    entered, seconds, loaded = json.loads(notes.read_text())
    home = str(ROOT)
    for name in loaded:
        # What every test would import again is imported once, before processes part; nothing of this project.
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


def tests_of(mutant: Mutant, by_function: dict[tuple[str, str], list[str]], seconds: dict[str, float]) -> list[str]:
    """Tests that enter a fault's function, the quickest first; of one outside functions, all that enter the file."""
    file = mutant.file.as_posix()
    if mutant.function:
        chosen = set(by_function.get((file, mutant.function), ()))
    else:
        chosen = {test for (other, _), tests in by_function.items() if other == file for test in tests}
    return sorted(chosen, key=lambda test: (seconds[test], test))


def judge(mutant: Mutant, tests: Sequence[str], log: Path, cpu_s: int) -> str:
    """Say what became of a fault: 'killed', 'survived', 'timeout', or 'no test'."""
    if not tests:
        return "no test"

    def act() -> int:
        sys.meta_path.insert(0, FaultyImport(mutant))
        return run_tests(tests)

    code = in_a_process(act, cpu_s, log)
    if code is None:
        return "timeout"
    return "survived" if code == 0 else "killed"


def draw_sample(rooms: Sequence[str], n: int, seed: int) -> list[tuple[str, Mutant]]:
    """Draw faults at random over rooms, each as often as its code is long; in the order of rooms."""
    every = []
    for room in rooms:
        for source in ROOMS[room].sources:
            place = ROOT / source
            for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
                os.chdir(ROOT)
                every += [(room, mutant) for mutant in find_mutants(file.relative_to(ROOT))]
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
    parser.add_argument("--only", default="", help="of those drawn, faults whose line (file:line: ...) holds this text")
    parser.add_argument("--list", action="store_true", help="print the faults that would be tried, and stop")
    given = parser.parse_args()
    rooms = given.rooms or list(ROOMS)
    sample = [one for one in draw_sample(rooms, given.sample, given.seed) if given.only in str(one[1])]
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
            by_function, seconds = trace_tests(ROOMS[room].tests, log)
            for mutant in faults:
                tests = tests_of(mutant, by_function, seconds)
                cpu_s = CPU_LIMIT_S + int(3 * sum(seconds[test] for test in tests))
                results.append((room, mutant, judge(mutant, tests, log, cpu_s)))
                print(f"{room}: {results[-1][2]}: {mutant}", flush=True)
    print_results(results)


if __name__ == "__main__":
    main()
