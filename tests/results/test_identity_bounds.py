"""Which slide, which code, which folder: rules by themselves, with nothing run, each where it changes."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from drawn_dicom import BIG_ENDIAN, EXPLICIT, IMPLICIT, TOMOGRAPHY, WHOLE_SLIDE, dicom, draw_dicom, element

from wsipsm.errors import SlideOpenError, UsageError
from wsipsm.geometry import Size
from wsipsm.keys import Artefact, QuPathFrame
from wsipsm.results.closure import import_closure
from wsipsm.results.file_facts import ScoringFileFacts
from wsipsm.results.provenance import (
    code_digest,
    installed_version,
    library_versions,
    machine_facts,
    package_version,
    result_code,
    shard_code,
    worker_code,
)
from wsipsm.results.scoring_key import Scoring
from wsipsm.results.slide_folder import choose_folder_name, claim_slide_folder, locked_slide_folder
from wsipsm.rundir import RunDir
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.dicom import DicomHead, largest_of, read_dicom_head, series_files, slides_in
from wsipsm.slide.fingerprint import FileStamp, fingerprint_slide, series_in_folder, slide_files, stamp_slide
from wsipsm.slide.frame import SlideFrame

LONG = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
SHORT = ("AE", "CS", "DA", "IS", "LO", "PN", "SH", "UI", "US")


def written(random: np.random.Generator, syntax: str, depth: int) -> bytes:
    """An element of a random form: short, long, or a sequence of stated or undefined length, nested."""
    order = ">" if syntax == BIG_ENDIAN else "<"

    def stated(kind: str, value: bytes, length: int | None = None) -> bytes:
        tag = struct.pack(f"{order}HH", 0x0008, 0x1100)
        number = len(value) if length is None else length
        if syntax == IMPLICIT:
            return tag + struct.pack(f"{order}I", number) + value
        if kind in LONG:
            return tag + kind.encode() + b"\0\0" + struct.pack(f"{order}I", number) + value
        return tag + kind.encode() + struct.pack(f"{order}H", number) + value

    def item(number: int, value: bytes, length: int) -> bytes:
        return struct.pack(f"{order}HHI", 0xFFFE, number, length) + value

    if depth == 0 or random.random() < 0.3:
        kind = str(random.choice(LONG + SHORT))
        return stated(
            "UN" if kind == "SQ" else kind, bytes(random.integers(0, 256, 2 * random.integers(0, 9)).tolist())
        )
    items = b""
    for _ in range(int(random.integers(0, 3))):
        inner = b"".join(written(random, syntax, depth - 1) for _ in range(int(random.integers(0, 3))))
        if random.random() < 0.5:
            items += item(0xE000, inner, len(inner))
        else:
            items += item(0xE000, inner, 0xFFFFFFFF) + item(0xE00D, b"", 0)
    if random.random() < 0.4:
        return stated("SQ", items)
    return stated("SQ", items + item(0xE0DD, b"", 0), 0xFFFFFFFF)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("seed", range(12))
def test_headers_of_every_form_are_walked_to_the_series(tmp_path: Path, syntax: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    before = b"".join(written(random, syntax, 3) for _ in range(int(random.integers(1, 6))))
    path = tmp_path / "a"
    path.write_bytes(dicom("1.2.3", syntax=syntax, before=before))
    assert read_dicom_head(path) == DicomHead(b"1.2.3", WHOLE_SLIDE.encode())
    path.write_bytes(dicom("", syntax=syntax, before=before))
    assert read_dicom_head(path) == DicomHead(b"", WHOLE_SLIDE.encode())
    # What tells the syntax is written in one syntax itself, also behind that element.
    plain, begin = (
        dicom("1.2.3", syntax=syntax, before=before),
        132 + len(element(0x0002, 0x0010, "UI", syntax.encode())),
    )
    path.write_bytes(plain[:begin] + element(0x0002, 0x0012, "UI", b"1.2.9") + plain[begin:])
    assert read_dicom_head(path) == DicomHead(b"1.2.3", WHOLE_SLIDE.encode())


@pytest.mark.parametrize(("depth", "series"), [(1, b"1.2.3"), (32, b"1.2.3"), (33, b"1.2.3"), (34, b"")])
def test_sequences_may_lie_33_deep(tmp_path: Path, depth: int, series: bytes) -> None:
    """One at the top, and 32 in each other; beyond that a header is not followed."""
    opening = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4)
    path = tmp_path / "a"
    path.write_bytes(dicom("1.2.3", before=opening * depth + closing * depth))
    head = read_dicom_head(path)
    assert head is not None
    assert head.series == series


@pytest.mark.parametrize(("kind", "series"), [(b"LO", b"1.2.3"), (b"L1", b""), (b"\0\0", b""), (b"  ", b"")])
def test_a_form_that_is_no_form_is_not_followed(tmp_path: Path, kind: bytes, series: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(dicom("1.2.3", before=b"\x08\x00\x70\x10" + kind + b"\x02\x00ab"))
    assert read_dicom_head(path) == DicomHead(series, WHOLE_SLIDE.encode() if series else b"")


def test_what_a_header_says_of_the_whole() -> None:
    whole = WHOLE_SLIDE.encode()
    for head, is_part in (
        (DicomHead(b"1", whole), True),
        (DicomHead(b"1", b""), True),
        (DicomHead(b"", whole), False),
        (DicomHead(b"1", TOMOGRAPHY.encode()), False),
    ):
        assert head.is_slide_part is is_part


def test_blanks_and_zeros_behind_a_name_are_no_part_of_it(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_bytes(dicom("1.2.3 \0"))
    two.write_bytes(dicom("1.2.3"))
    assert series_files(one) == [one, two]
    (tmp_path / ".hidden").write_bytes(dicom("1.2.3"))
    draw_dicom(tmp_path / "3", "1.2.30")
    draw_dicom(tmp_path / "4", "1.2.3", sop_class=TOMOGRAPHY)
    assert series_files(two) == [one, two]
    assert slides_in(tmp_path.iterdir()) == {b"1.2.3": [one, two], b"1.2.30": [tmp_path / "3"]}
    head = read_dicom_head(tmp_path / "4")
    assert head is not None
    assert head.sop_class == TOMOGRAPHY.encode()
    # Whose class is not an image of a slide's stands alone, or with itself.
    assert series_files(tmp_path / "4") == [one, two, tmp_path / "4"]


def test_the_largest_file_comes_first_and_of_equals_the_last(tmp_path: Path) -> None:
    paths = [draw_dicom(tmp_path / name, "1.2", n) for name, n in (("a", 20), ("c", 90), ("b", 90), ("d", 4))]
    assert largest_of(paths) == tmp_path / "c"
    assert series_in_folder(tmp_path) == [tmp_path / name for name in "cabd"]
    for n in range(6):
        draw_dicom(tmp_path / f"x{n}", f"1.3.{n}")
    with pytest.raises(SlideOpenError, match=r"7 DICOM series; .*: c, x0, x1, x2$"):
        series_in_folder(tmp_path)


def test_a_folder_of_pieces_is_named_by_names_and_digests(tmp_path: Path) -> None:
    """By hand: names in order, a zero, and the digest of each; also of a single file, whose name counts."""
    folder = tmp_path / "a.zarr"
    (folder / "0").mkdir(parents=True)
    content = {"0/b": b"1", ".zattrs": b"22", "0/a": b""}
    told = []
    for n, (name, text) in enumerate(content.items(), start=1):
        (folder / name).write_bytes(text)
        told = [(own, hashlib.sha256(content[own]).hexdigest()) for own in sorted(list(content)[:n])]
        whole = hashlib.sha256(b"".join(own.encode() + b"\0" + digest.encode() for own, digest in told))
        assert fingerprint_slide(folder) == whole.hexdigest()
    assert len(told) == 3
    assert [name for name, _ in slide_files(folder)] == [".zattrs", "0/a", "0/b"]
    stamps = stamp_slide(folder)
    assert stamps is not None
    assert [stamp.n_bytes for stamp in stamps] == [2], "of those at its top alone"
    series = tmp_path / "series"
    files = [draw_dicom(series / name, "1.2", n) for n, name in enumerate("ab")]
    digests = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    assert fingerprint_slide(series) == hashlib.sha256(b"".join(b"\0" + d.encode() for d in digests)).hexdigest()
    found = stamp_slide(series)
    assert found is not None
    assert [stamp.n_bytes for stamp in found] == [file.stat().st_size for file in reversed(files)]


def test_a_stamp_is_what_the_file_system_says(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    path.write_bytes(b"12345")
    stat = path.stat()
    (stamp,) = stamp_slide(path) or ()
    assert tuple(stamp) == (stat.st_dev, stat.st_ino, 5, stat.st_mtime_ns, stat.st_ctime_ns)


@pytest.mark.parametrize(("age_ns", "is_read_again"), [(3_000_000_000, True), (3_000_000_001, False)])
def test_a_file_is_remembered_once_it_was_left_alone_for_more_than_three_seconds(
    tmp_path: Path, age_ns: int, is_read_again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.svs"
    path.write_bytes(b"1")
    changed_ns = path.stat().st_ctime_ns
    stamp = FileStamp(0, age_ns, 1, 0, changed_ns)
    monkeypatch.setattr("wsipsm.slide.fingerprint._stamp", lambda _: stamp)
    monkeypatch.setattr("wsipsm.slide.fingerprint.time.time_ns", lambda: changed_ns + age_ns)
    first = fingerprint_slide(path)
    path.write_bytes(b"2")
    assert (fingerprint_slide(path) != first) is is_read_again


def test_files_that_an_index_names(tmp_path: Path) -> None:
    for name in ("x.vmu", "y.VMS"):
        index = tmp_path / name
        index.write_text("ImageFile=P.jpg\n")
        for beside in ("p.jpg", "q.jpg"):
            (tmp_path / beside).write_bytes(b"1")
        (tmp_path / "p").mkdir(exist_ok=True)  # a folder whose name stands in it is no picture
        assert slide_files(index) == [("", index), ("p.jpg", tmp_path / "p.jpg")]
    alone = tmp_path / "alone.mrxs"
    alone.write_bytes(b"1")
    assert slide_files(alone) == [("", alone)]


def test_imports_from_packages_around_are_found(tmp_path: Path) -> None:
    package = tmp_path / "pkg"
    texts = {
        "__init__.py": "",
        "top.py": "",
        "a/__init__.py": "",
        "a/side.py": "",
        "a/b/__init__.py": "import lib_b.deep",
        "a/b/near.py": "",
        "a/b/root.py": "from . import near\nfrom .. import side\nfrom ...top import x\nimport lib_a.x, pkg.absent.more",
        "a/b/other.py": "import lib_c",
    }
    for name, text in texts.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    found = import_closure(("pkg.a.b.root",), package)
    expected = ["__init__", "a/__init__", "a/b/__init__", "a/b/near", "a/b/root", "a/side", "top"]
    assert [file.relative_to(package).with_suffix("").as_posix() for file in found.files] == expected
    assert found.libraries == {"lib_a", "lib_b"}
    assert import_closure(("pkg.a.b.other", "pkg.top"), package).libraries == {"lib_b", "lib_c"}
    for absent in ("pkg.no", "other.x", "pkg.a.1"):
        with pytest.raises(FileNotFoundError, match="no module"):
            import_closure(("pkg.top", absent), package)


def test_code_is_named_by_its_files_and_data(tmp_path: Path) -> None:
    """By hand: of each file its place, its size and its bytes, in the order of places."""
    package = tmp_path / "wsipsm"
    texts = {
        "__init__.py": "",
        "root.py": "import wsipsm.other",
        "other.py": "x = 1",
        "never.py": "",
        "card.json": "{}",
        "deep/more.txt": "12",
        "w.safetensors": "0",
        "py.typed": "",
        "old.pyc": "0",
    }
    for name, text in texts.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    counted = sorted(["__init__.py", "root.py", "other.py", "card.json", "deep/more.txt"])
    told = "".join(f"{name} {len(texts[name])}\n{texts[name]}" for name in counted)
    found = code_digest.__wrapped__(("wsipsm.root",), package)
    assert found == hashlib.sha256(told.encode()).hexdigest()[:16]


def test_code_and_libraries_are_said() -> None:
    assert package_version() == (installed_version("wsipsm") or "0")
    assert installed_version("no-such-distribution") is None
    assert result_code().startswith(f"{shard_code()}; wsipsm {package_version()} (")
    assert result_code().count(f"wsipsm {package_version()} (") == 2
    versions = library_versions()
    assert versions["numpy"] == np.__version__
    assert f"numpy {np.__version__}" in shard_code().split("); ")[1]
    first, *others = worker_code().split(", ")
    assert first.startswith(f"wsipsm {package_version()} (")
    assert others == [f"{name} {number}" for name, number in versions.items()]
    facts = machine_facts()
    assert facts["n_cpus"] == os.cpu_count()
    assert facts["processor"]
    info = SlideInfo("a.svs", "tiff", (Size(10, 10),), 0.5, "f" * 64)
    scoring = Scoring("k", "run", "all nuclei", "h", 0.2, "fitted")
    own = ScoringFileFacts.of(info, SlideFrame.of(info, QuPathFrame.FULL), scoring)
    assert orjson.loads(orjson.dumps(own)) == {
        "software": f"wsipsm {package_version()}",
        "slide_fingerprint": "f" * 64,
        "qupath_frame": "full",
        "scoring": orjson.loads(orjson.dumps(scoring)),
    }


def slide_of(folder: Path, name: str, content: str = "1") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)
    return folder / name


def held_by(out: Path, name: str, source: Path, fingerprint: str, **more: Any) -> Path:
    """A folder with results of a slide."""
    folder = out / name
    folder.mkdir(parents=True)
    (folder / Artefact.SLIDE).write_bytes(orjson.dumps({"source": str(source), "fingerprint": fingerprint, **more}))
    (folder / Artefact.SUMMARY).write_text("{}")
    return folder


def own_mark(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_folders_are_chosen_by_place_then_by_bytes(tmp_path: Path) -> None:
    out, path = tmp_path / "out", slide_of(tmp_path / "in", "a.svs")
    mark = own_mark(path)
    assert choose_folder_name(path, "a", out) == "a", "no folder of results yet"
    held_by(out, "other", tmp_path / "in" / "o.svs", "0" * 64)
    (out / "file").write_text("")
    assert choose_folder_name(path, "a", out) == "a"
    held_by(out, "a", tmp_path / "gone.svs", "0" * 64)
    assert choose_folder_name(path, "a", out) == f"a-{mark[:6]}"
    held_by(out, "renamed", tmp_path / "gone2.svs", mark)
    assert choose_folder_name(path, "a", out) == "renamed", "by its bytes, where nothing lies at its old place"
    held_by(out, "a-123456", tmp_path / "in" / "o.svs", mark)
    (tmp_path / "in" / "o.svs").write_text("1")
    assert choose_folder_name(path, "a", out) == "a-123456", "under its own name even if the other place holds one"
    held_by(out, "a-654321", path, "0" * 64)
    assert choose_folder_name(path, "a", out) == "a-654321", "by its place, whatever it holds"
    assert choose_folder_name(path, "a", out, image=1) == f"a-{mark[:6]}", "another image is another slide"
    held_by(out, "a-00000f", path, mark, image=1)
    assert choose_folder_name(path, "a", out, image=1) == "a-00000f"
    # A name that only looks alike is another slide's.
    held_by(out, "b-12345", path, mark, image=2)
    held_by(out, "b-1234567", path, mark, image=2)
    assert choose_folder_name(path, "b", out, image=2) == "b"


def test_a_copy_elsewhere_is_another_slide_where_the_first_is_still_there(tmp_path: Path) -> None:
    out, first = tmp_path / "out", slide_of(tmp_path / "in", "a.svs")
    held_by(out, "first", first, own_mark(first))
    copied = slide_of(tmp_path / "b", "b.svs")
    assert choose_folder_name(copied, "b", out) == "b"
    first.unlink()
    assert choose_folder_name(copied, "b", out) == "first"
    # What cannot be read has the name of its file; whoever opens it says why.
    assert choose_folder_name(tmp_path / "absent.svs", "first", out) == "first"


def info_of(path: Path, fingerprint: str = "f" * 64) -> SlideInfo:
    return SlideInfo(str(path), "tiff", (Size(10, 10),), 0.5, fingerprint)


def test_a_folder_is_claimed_by_place_or_bytes(tmp_path: Path) -> None:
    path, other = tmp_path / "a.svs", tmp_path / "b.svs"
    run_dir = RunDir(tmp_path / "out" / "deep" / "x")
    claim_slide_folder(run_dir, info_of(path))
    noted = {"source": str(path), "fingerprint": "f" * 64}
    assert run_dir.read_json(Artefact.SLIDE) == noted
    # A note alone holds no folder; with a result it does.
    claim_slide_folder(run_dir, info_of(other, "e" * 64), "https://host/x", image=0)
    claimed = {"source": "https://host/x", "fingerprint": "e" * 64, "image": 0}
    assert run_dir.read_json(Artefact.SLIDE) == claimed
    (run_dir.root / Artefact.SUMMARY).write_text("{}")
    before = (run_dir.root / Artefact.SLIDE).stat()
    claim_slide_folder(run_dir, info_of(other, "e" * 64), "https://host/x", image=0)
    after = (run_dir.root / Artefact.SLIDE).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), "what is known is not noted again"
    for info, source, image, told in (
        (info_of(path, "1" * 64), "", 0, "another slide, https://host/x"),
        (info_of(path, "e" * 64), "", None, "another image of the file .--image 0."),
        (info_of(path, "e" * 64), "", 1, "another image of the file .--image 0."),
    ):
        with pytest.raises(UsageError, match=told):
            claim_slide_folder(run_dir, info, source, image)
    claim_slide_folder(run_dir, info_of(path, "e" * 64), image=0)
    claim_slide_folder(run_dir, info_of(path, "1" * 64), image=0)
    assert run_dir.read_json(Artefact.SLIDE) == {"source": str(path), "fingerprint": "1" * 64, "image": 0}


@pytest.mark.parametrize(("values", "named"), [({"source": "a"}, "fingerprint"), ({"fingerprint": 3}, "source")])
def test_a_note_that_does_not_say_whose_a_folder_is_is_refused(
    values: dict[str, object], named: str, tmp_path: Path
) -> None:
    slide, folder = slide_of(tmp_path / "in", "a.svs"), tmp_path / "out" / "a"
    folder.mkdir(parents=True)
    (folder / Artefact.SLIDE).write_bytes(orjson.dumps(values))
    (folder / Artefact.CELLS).touch()
    with pytest.raises(UsageError, match=rf"slide\.json: {named}: .*Remove the file"):
        claim_slide_folder(RunDir(folder), info_of(slide))
    assert orjson.loads((folder / Artefact.SLIDE).read_bytes()) == values
    # A folder beside it is no reason to stop.
    assert choose_folder_name(slide_of(tmp_path / "in", "b.svs"), "b", tmp_path / "out") == "b"


def test_a_folder_of_an_earlier_version_is_known_by_its_run(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "x")
    run_dir.root.mkdir()
    (run_dir.root / Artefact.RUN).write_bytes(
        orjson.dumps({"slide": {"path": str(tmp_path / "a.svs"), "fingerprint": "f" * 64}})
    )
    with pytest.raises(UsageError, match="another slide"):
        claim_slide_folder(run_dir, info_of(tmp_path / "b.svs", "e" * 64))
    assert run_dir.read_json(Artefact.SLIDE) is None
    claim_slide_folder(run_dir, info_of(tmp_path / "b.svs"))
    assert run_dir.read_json(Artefact.SLIDE) == {"source": str(tmp_path / "b.svs"), "fingerprint": "f" * 64}
    for text in ('{"slide": "a.svs"}', "{}"):
        other = RunDir(tmp_path / f"y{len(text)}")
        other.root.mkdir()
        (other.root / Artefact.RUN).write_text(text)
        claim_slide_folder(other, info_of(tmp_path / "b.svs"))
        assert other.read_json(Artefact.SLIDE) is not None


@pytest.mark.parametrize(
    ("left", "is_kept"), [((), False), (("shards/",), False), (("shards/0",), True), (("cells.parquet",), True)]
)
def test_a_folder_of_which_nothing_was_made_leaves_no_trace(
    tmp_path: Path, left: tuple[str, ...], is_kept: bool
) -> None:
    folder = tmp_path / "x"
    with locked_slide_folder(folder):
        (folder / Artefact.SLIDE).write_text("{}")
        for name in left:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).mkdir() if name.endswith("/") else (folder / name).write_text("")
    assert (folder / Artefact.SLIDE).exists() is is_kept
    assert (folder / Artefact.SHARDS).exists() is (is_kept and "shards/0" in left)
