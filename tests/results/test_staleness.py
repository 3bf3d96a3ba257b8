"""What makes results stale is derived: all code that a step runs, and every option that is not known to be harmless."""

from __future__ import annotations

import ast
import dataclasses
import shutil
import sys
from enum import EnumType
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, get_args

import pytest

import wsipsm
from wsipsm.cohort import flow
from wsipsm.config import FixedStain, RunOptions
from wsipsm.errors import RoiError
from wsipsm.geometry import Size
from wsipsm.models.inference import Inference
from wsipsm.results.closure import import_closure
from wsipsm.results.provenance import (
    DISTRIBUTIONS,
    RESULT_ROOTS,
    SHARD_ROOTS,
    WITHOUT_INFLUENCE,
    WORKER_ROOTS,
    code_digest,
    installed_version,
    libraries_of,
    library_versions,
    result_code,
)
from wsipsm.slide.base import SlideInfo
from wsipsm.stages.block import SlideJob
from wsipsm.stages.plan import NOT_IN_SHARD_KEY
from wsipsm.stages.prepare import NOT_IN_REQUEST, request_key

PACKAGE = Path(wsipsm.__file__).parent


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, to be edited and put back."""
    folder = tmp_path_factory.mktemp("copied") / "wsipsm"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    return folder


def digests(package: Path) -> tuple[str, str, str]:
    return tuple(code_digest.__wrapped__(roots, package) for roots in (SHARD_ROOTS, RESULT_ROOTS, WORKER_ROOTS))


def result_digest(package: Path) -> str:
    return str(code_digest.__wrapped__(RESULT_ROOTS, package))


def edited(package: Path, name: str) -> tuple[bool, bool, bool]:
    """Whether shards, results and workers are others once a line of a file was changed, which is then put back."""
    file, before = package / name, digests(package)
    text = file.read_bytes()
    file.write_bytes(text + b"\n# changed\n" if file.suffix == ".py" else text + b" ")
    after = digests(package)
    file.write_bytes(text)
    return tuple(one != other for one, other in zip(before, after, strict=True))


def names(roots: tuple[str, ...], package: Path = PACKAGE) -> set[str]:
    return {file.relative_to(package).as_posix() for file in import_closure(roots, package).files}


@pytest.mark.parametrize(
    ("name", "stale"),
    [
        ("slide/partial.py", (True, True, True)),
        ("stages/block.py", (True, True, True)),
        ("models/unet.py", (True, True, True)),
        ("slide/readers/openslide.py", (True, True, True)),
        ("scoring/__init__.py", (True, True, True)),
        ("zoo/ki67-ihc.json", (True, True, True)),
        ("quality/ruler.json", (True, True, True)),
        ("markers/known/ki67.py", (False, True, True)),
        ("stages/summarise.py", (False, True, True)),
        ("results/summary.py", (False, True, True)),
        ("stages/score.py", (False, True, True)),
        ("export/overview.py", (False, True, True)),
        ("executors/dask.py", (False, False, True)),
        ("cohort/flow.py", (False, False, True)),
        ("cli/run.py", (False, False, False)),
        ("cli/summary_text.py", (False, False, False)),
        ("training/fit.py", (False, False, False)),
        ("demo/draw.py", (False, False, False)),
    ],
)
def test_an_edit_makes_stale_what_runs_it(copied: Path, name: str, stale: tuple[bool, bool, bool]) -> None:
    assert edited(copied, name) == stale


@pytest.mark.slow
def test_every_module_of_a_closure_counts(copied: Path) -> None:
    first = result_digest(copied)
    for name in sorted(names(RESULT_ROOTS)):
        text = (copied / name).read_bytes()
        (copied / name).write_bytes(text + b"\n# changed\n")
        assert result_digest(copied) != first, name
        (copied / name).write_bytes(text)
    assert result_digest(copied) == first


def test_a_change_of_a_value_makes_stale(copied: Path) -> None:
    """The two that a list of files once missed."""
    before = digests(copied)
    partial = copied / "slide" / "partial.py"
    text = partial.read_text()
    partial.write_text(text.replace("RETRY_BOXES_PX = (512, 128)", "RETRY_BOXES_PX = (512, 256)"))
    assert partial.read_text() != text
    assert digests(copied)[0] != before[0]
    partial.write_text(text)
    assert digests(copied) == before
    report = copied / "stages" / "summarise.py"
    text = report.read_text()
    report.write_text(text.replace("n_nuclei=totals.n_nuclei,", "n_nuclei=totals.n_nuclei + 1,"))
    assert report.read_text() != text
    assert digests(copied)[1] != before[1]
    report.write_text(text)


def test_a_run_and_its_steps_reach_nothing_that_does_not_count() -> None:
    """Every step that is given to a process is a root, or reached from one."""
    steps = {flow.prepare_slide, flow.segment_block, flow.finish_slide, flow.finished_before}
    found = {function.__module__ for function in steps}
    reached = {".".join(["wsipsm", *Path(name).with_suffix("").parts]) for name in names(RESULT_ROOTS)}
    assert found <= reached
    assert not any(name.startswith("cli/") for name in names(WORKER_ROOTS))


def test_what_was_loaded_by_a_step_lies_in_its_closure() -> None:
    """The closure found in texts against what an interpreter loads."""
    import subprocess

    code = "import sys, wsipsm.stages.prepare, wsipsm.stages.block, wsipsm.stages.finish; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    own = {name for name in loaded if name.partition(".")[0] == "wsipsm"}
    reached = {
        ".".join(["wsipsm", *Path(name).with_suffix("").parts]).removesuffix(".__init__")
        for name in names(RESULT_ROOTS)
    }
    assert own <= reached
    imported = import_closure(RESULT_ROOTS, PACKAGE).libraries
    assert {"torch", "openvino", "skimage", "numpy", "tiatoolbox"} <= imported, "those loaded in functions too"


FORMS = {
    "top": "import pkg.found",
    "from": "from pkg.found import x",
    "from the package": "from pkg import found",
    "renamed": "import pkg.found as other",
    "in a function": "def f():\n    import pkg.found",
    "in a method": "class A:\n    def f(self):\n        from pkg.found import x",
    "in a try": "try:\n    import pkg.found\nexcept ImportError:\n    pass",
    "in a condition": "import sys\nif sys.platform == 'x':\n    import pkg.found",
    "else of type checking": "import typing\nif typing.TYPE_CHECKING:\n    pass\nelse:\n    import pkg.found",
    "relative": "from . import found",
    "relative name": "from .found import x",
    "by name": "import importlib\nimportlib.import_module('pkg.found')",
    "by name, imported": "from importlib import import_module as import_module\nimport_module('pkg.found')",
    "by builtin": "__import__('pkg.found')",
    "by computed name": "from importlib import import_module\nHOMES = {'a': 'pkg.found'}\nimport_module(HOMES['a'])",
    "through another": "import pkg.between",
    "through a package": "import pkg.inner.deep",
    "public name": "from pkg import Found",
    "public attribute": "import pkg\npkg.Found()",
    "lambda": "f = lambda: __import__('pkg.found')",
    "async": "async def f():\n    from pkg.found import x",
    "match": "match 1:\n    case 1:\n        import pkg.found",
    "last of many": "A = 1\nB = '''\ndef f():\n'''\nC = (\nA\n)\ndef g():\n    import pkg.found\nD = 2",
    "behind texts that look like code": "'''\nimport that\nclass A:\n'''\n@f\nclass B:\n    from pkg import found",
    "on a line of its own": "from pkg \\\n    import \\\n    found\nX = 1",
    "public attribute in brackets": "import pkg\nX = (\npkg\n# a word\n.Found\n)\nY = 1",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_imports_of_every_form_are_seen(tmp_path: Path, text: str) -> None:
    package = tmp_path / "pkg"
    (package / "inner").mkdir(parents=True)
    files = {
        "__init__.py": "HOMES = {'pkg.found': 'Found'}\ndef __getattr__(name):\n    return import_module(name)\n",
        "found.py": "x = 1",
        "between.py": "def f():\n    from pkg.found import x",
        "inner/__init__.py": "import pkg.found",
        "inner/deep.py": "",
        "other.py": "",
        "root.py": text,
    }
    for name, content in files.items():
        (package / name).write_text(content)
    found = names(("pkg.root",), package)
    assert {"__init__.py", "root.py", "found.py"} <= found
    assert "other.py" not in found


def test_a_package_that_lists_its_modules_reaches_them_all(tmp_path: Path) -> None:
    package = tmp_path / "pkg"
    (package / "all").mkdir(parents=True)
    listing = "from pkgutil import iter_modules\nfrom importlib import import_module\n"
    listing += "def f():\n    return [import_module(f'{__name__}.{one.name}') for one in iter_modules(__path__)]\n"
    files = {"__init__.py": "", "root.py": "from pkg.all import f", "all/__init__.py": listing, "all/one.py": ""}
    for name, content in {**files, "all/two.py": "import pkg.far", "far.py": "", "other.py": ""}.items():
        (package / name).write_text(content)
    reached = {"__init__.py", "root.py", "all/__init__.py", "all/one.py", "all/two.py", "far.py"}
    assert names(("pkg.root",), package) == reached


NOT_IMPORTED = [
    "",
    "# import pkg.found",
    "'''pkg.found'''",
    "X = 'pkg.found'",
    "import importlib\nX = 'pkg.found.'\nimportlib.import_module(X)",  # ends a sentence, and is no name
]


@pytest.mark.parametrize("text", NOT_IMPORTED)
def test_what_is_not_imported_is_not_reached(tmp_path: Path, text: str) -> None:
    for name, content in {"__init__.py": "HOMES = {'pkg.found': 1}", "found.py": "", "root.py": text}.items():
        (tmp_path / "pkg").mkdir(exist_ok=True)
        (tmp_path / "pkg" / name).write_text(content)
    checked = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pkg.found\n"
    assert names(("pkg.root",), tmp_path / "pkg") == {"__init__.py", "root.py"}
    (tmp_path / "pkg" / "root.py").write_text(checked)
    assert names(("pkg.root",), tmp_path / "pkg") == {"__init__.py", "root.py"}


def test_no_module_is_imported_by_a_name_that_texts_do_not_hold() -> None:
    """A computed name is followed through the texts of its module, or through the package that the module lists."""
    for name in names(WORKER_ROOTS):
        text = (PACKAGE / name).read_text()
        for node in () if "iter_modules(__path__)" in text else ast.walk(ast.parse(text)):
            called = getattr(node, "func", None)
            if getattr(called, "id", getattr(called, "attr", "")) in ("import_module", "__import__"):
                assert not isinstance(node.args[0], ast.JoinedStr | ast.BinOp), name  # type: ignore[attr-defined]


def test_libraries_are_known_by_the_distributions_they_come_in() -> None:
    known = packages_distributions()
    for module in import_closure(WORKER_ROOTS, PACKAGE).libraries - sys.stdlib_module_names:
        if module in known:
            named = DISTRIBUTIONS.get(module, (module,))
            assert named[0].lower() in {name.lower() for name in known[module]}, module
    assert {"numpy", "opencv-python-headless", "openslide-bin", "torch"} <= set(libraries_of(SHARD_ROOTS))
    assert set(WITHOUT_INFLUENCE).isdisjoint(libraries_of(RESULT_ROOTS))


INFO = SlideInfo("a.svs", "tiff", (Size(10, 10),), 0.5, "f" * 64)
STAIN = FixedStain(source="a", hematoxylin=(1, 0, 0), dab=(0, 1, 0), dab_cut_od=0.2)
GIVEN = {"stain": STAIN, "inference": Inference("torch", "cuda", "bfloat16"), "device": "cuda"}


def other_value(name: str, tmp_path: Path) -> Any:
    """Another value of an option than its default."""
    field = RunOptions.model_fields[name]
    if name in GIVEN:
        return GIVEN[name]
    if Path in (field.annotation, *get_args(field.annotation)):
        file = tmp_path / name
        file.write_text("{}")
        return file
    default = field.default
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return default * 2 or 1
    members = list(field.annotation) if isinstance(field.annotation, EnumType) else []
    for value in (*members, *get_args(field.annotation), "other", 3, 128, ("other",)):
        try:
            if getattr(RunOptions(**{name: value}), name) not in (None, default):
                return value
        except ValueError:
            continue
    raise AssertionError(f"no other value of {name} is known here")


@pytest.mark.parametrize("name", RunOptions.model_fields)
def test_an_option_makes_another_request_or_says_why_not(name: str, tmp_path: Path) -> None:
    if name == "model":
        keys = {request_key(INFO, RunOptions(model=model)) for model in (None, "ki67-ihc", "nuclei-he")}
        assert len(keys) == 3
        return
    changed = RunOptions(**{name: other_value(name, tmp_path)})
    is_same = request_key(INFO, changed) == request_key(INFO, RunOptions())
    assert is_same == (name in NOT_IN_REQUEST), f"{name}: make it part of the request, or say why not"


def test_only_options_that_exist_are_left_out() -> None:
    assert set(NOT_IN_REQUEST) <= set(RunOptions.model_fields)
    assert all(reason for reason in (*NOT_IN_REQUEST.values(), *NOT_IN_SHARD_KEY.values()))
    assert set(NOT_IN_SHARD_KEY) <= {field.name for field in dataclasses.fields(SlideJob)}


def test_a_file_that_an_option_names_counts_by_what_it_holds(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("{}")
    two.write_text("{}")
    first = request_key(INFO, RunOptions(roi=one))
    assert request_key(INFO, RunOptions(roi=two)) == first
    two.write_text("{ }")
    assert request_key(INFO, RunOptions(roi=two)) != first


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file whose reading fails is taken from /proc")
@pytest.mark.parametrize(
    ("path", "told"), [("/proc/self/mem", "cannot be read"), ("/absent", "no such file"), ("/", "a folder")]
)
def test_a_region_that_cannot_be_read_is_told(path: str, told: str) -> None:
    with pytest.raises(RoiError, match=rf"^{path}: {told}.*--roi needs a GeoJSON file"):
        request_key(INFO, RunOptions(roi=Path(path)))


def test_a_slide_without_a_fingerprint_has_no_request() -> None:
    with pytest.raises(ValueError, match="without a fingerprint"):
        request_key(dataclasses.replace(INFO, fingerprint=""), RunOptions())


@pytest.mark.parametrize("roots", [SHARD_ROOTS, RESULT_ROOTS])
def test_other_code_or_another_library_makes_another_request(
    roots: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, code, digest = request_key(INFO, RunOptions()), result_code(), code_digest(roots)
    assert digest in code
    for name in libraries_of(roots):
        number = installed_version(name)
        assert number is None or f"{name} {number}" in code
    other = {SHARD_ROOTS: code_digest(SHARD_ROOTS), RESULT_ROOTS: code_digest(RESULT_ROOTS), roots: "f" * 16}
    monkeypatch.setattr("wsipsm.results.provenance.code_digest", other.__getitem__)
    assert request_key(INFO, RunOptions()) != before
    monkeypatch.undo()
    assert request_key(INFO, RunOptions()) == before
    versions = {name: "0.0.1" for name in library_versions()}
    monkeypatch.setattr("wsipsm.results.provenance.library_versions", lambda: versions)
    assert request_key(INFO, RunOptions()) != before
