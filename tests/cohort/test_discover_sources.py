"""What sources mean beyond files and folders: patterns, addresses, and manifests that say more of a slide."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from drawn_dicom import dicom

from wsipsm.cohort.discover import CohortSlide, list_slides, read_cohort, refusal
from wsipsm.errors import UsageError


def touch(root: Path, *names: str, content: bytes = b"") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def found(root: Path, *sources: str) -> list[str]:
    return [str(slide.path.relative_to(root)) for slide in list_slides(sources, root / "out")]


def manifest(folder: Path, content: str, name: str = "cohort.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def test_patterns_find_what_folders_do(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "a.svs",
        "x/b.svs",
        "x/y/c.SVS",
        "x/notes.txt",
        "x/.hidden.svs",
        ".cache/d.svs",
        "m.mrxs",
        "m/Slidedat.ini",
        "m/preview.svs",
        "_scan_/stack/frame.tif",
        "vms/v.vms",
        "vms/v_map.jpg",
        "z.zarr/0/inner.tif",
        "out/e.svs",
    )
    assert found(tmp_path, f"{tmp_path}/**/*.svs") == ["a.svs", "x/b.svs"]
    assert found(tmp_path, f"{tmp_path}/**/*.[sS][vV][sS]") == ["a.svs", "x/b.svs", "x/y/c.SVS"]
    assert found(tmp_path, f"{tmp_path}/x/*") == ["x/b.svs", "x/y/c.SVS"]
    assert found(tmp_path, f"{tmp_path}/**/*.jpg", f"{tmp_path}/a.*") == ["a.svs"]
    everything = ["a.svs", "m.mrxs", "vms/v.vms", "x/b.svs", "x/y/c.SVS", "z.zarr"]
    assert sorted(found(tmp_path, f"{tmp_path}/**/*")) == everything == sorted(found(tmp_path, str(tmp_path)))
    with pytest.raises(UsageError, match="no slide found"):
        found(tmp_path, f"{tmp_path}/**/*.ndpi")
    with pytest.raises(UsageError, match="cannot be used as a pattern"):
        found(tmp_path, f"{tmp_path}/**.svs")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    touch(tmp_path, "case [1].svs", "case 1.svs")
    assert found(tmp_path, f"{tmp_path}/case [1].svs") == ["case [1].svs"]


def test_a_dicom_series_counts_once_whatever_lies_beside_it(tmp_path: Path) -> None:
    touch(tmp_path, "pure/1.dcm", "pure/2.dcm", content=dicom("1.2.3"))
    touch(tmp_path, "mixed/readme.txt")
    touch(tmp_path, "mixed/level1.dcm", "mixed/label.dcm", content=dicom("1.2.4"))
    touch(tmp_path, "mixed/level0.dcm", content=dicom("1.2.4", padding=900))
    touch(tmp_path, "mixed/other.dcm", content=dicom("1.2.5"))
    assert found(tmp_path, str(tmp_path)) == ["mixed/level0.dcm", "mixed/other.dcm", "pure"]
    assert found(tmp_path, f"{tmp_path}/**/*.dcm") == ["mixed/level0.dcm", "mixed/other.dcm", "pure"]
    touch(tmp_path, "pure/3.dcm", content=dicom("1.2.6"))
    assert len(found(tmp_path, f"{tmp_path}/pure")) == 2


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.svs")
    os.symlink(tmp_path, tmp_path / "x" / "back")
    os.symlink(tmp_path / "x" / "a.svs", tmp_path / "x" / "same.svs")
    assert found(tmp_path, str(tmp_path)) == ["x/a.svs"]
    assert found(tmp_path, f"{tmp_path}/**/*.svs") == ["x/a.svs"]


def test_a_manifest_says_more_of_slides_that_are_also_found(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "b.svs")
    path = manifest(tmp_path, "slide,id,patient,age\na.svs,first,p1,51\na.svs,again,p1,51\n")
    slides = list_slides([tmp_path, path], tmp_path / "out")
    assert [(slide.id, slide.patient, slide.extra) for slide in slides] == [
        ("b", "", ()),
        ("first", "p1", (("age", "51"),)),
        ("again", "p1", (("age", "51"),)),
    ]


def test_every_fault_of_manifests_is_told_at_once_and_every_slide_kept(tmp_path: Path) -> None:
    one = manifest(
        tmp_path,
        "slide,id,mpp,group\na.svs,x,0_25,\nb.svs,X,,\nftp://h/c.svs,,inf,\nd.svs,,,tumour\nd.svs,,,normal\nd.svs,,,normal\ne.svs,,,\n",
    )
    cohort = read_cohort([one], tmp_path / "out")
    assert [slide.path.name for slide in cohort.slides] == ["a.svs", "b.svs", "c.svs", "d.svs", "d.svs", "e.svs"]
    ids = [slide.id for slide in cohort.slides]
    assert len({name.casefold() for name in ids}) == 6
    assert [problem.slide_id for problem in cohort.problems] == ids[:5]
    told = str(refusal(cohort.problems, len(cohort.slides)))
    assert told.startswith("5 of 6 slides cannot be used")
    for reason in (
        "line 2: mpp '0_25'",
        "line 2: id 'x' occurs 2 times",
        "line 3: id 'X' occurs 2 times",
        "line 4: ftp://h/c.svs: ftp:// is not read",
        "mpp 'inf'",
        f"{one}, line 5 and {one}, line 6 contradict each other about {tmp_path / 'd.svs'}",
    ):
        assert reason in told
    with pytest.raises(UsageError, match="--skip-bad"):
        list_slides([one], tmp_path / "out")


def test_one_slide_ten_thousand_times(tmp_path: Path) -> None:
    """Neither time nor names grow with the square of what a hostile manifest repeats."""
    rows = "".join(f"a.svs,{n}\n" for n in range(10_000))
    cohort = read_cohort([manifest(tmp_path, "slide,x\n" + rows)], tmp_path / "out")
    assert len({slide.id for slide in cohort.slides}) == len(cohort.problems) == 10_000
    assert max(len(slide.id) for slide in cohort.slides) < 30


def test_addresses(tmp_path: Path) -> None:
    secret = "https://host/data/case%201.svs?X-Signature=secret"
    path = manifest(
        tmp_path,
        f"slide,id\ns3://bucket/deep/a.svs,\n{secret},\nfile://{tmp_path}/with%20blank.svs,\ngs://b/x.tif,p/1\n",
    )
    first, second, third, fourth = list_slides([path], tmp_path / "out")
    assert (first.url, first.id, first.source) == ("s3://bucket/deep/a.svs", "a", "s3://bucket/deep/a.svs")
    assert (second.url, second.source) == (secret, "https://host/data/case%201.svs")
    assert "secret" not in second.id
    assert (third.url, third.path, third.id) == (None, tmp_path / "with blank.svs", "with blank")
    assert (fourth.url, fourth.id) == ("gs://b/x.tif", "p_1")
    (alone,) = list_slides(["https://host/a.svs"], tmp_path / "out")
    assert (alone.url, alone.id) == ("https://host/a.svs", "a")
    for refused in ("https://host/cohort.csv", "memory://a.svs", "zip://a.svs::s3://b/c.zip", "s3://b/*.svs"):
        with pytest.raises(UsageError):
            list_slides([refused], tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("cohort.csv", "_cohort.csv"),
        ("Wsipsm.lock", "_Wsipsm.lock"),
        (".", "a"),
        ("a\u0301", "\u00e1"),
        ("\u6f22" * 100, "\u6f22" * 40),
        ("=1+1", "=1+1"),
    ],
)
def test_ids_become_names_of_folders(tmp_path: Path, given: str, becomes: str) -> None:
    (slide,) = list_slides([manifest(tmp_path, f"slide,id\na.svs,{given}\n")], tmp_path / "out")
    assert slide.id == becomes
    assert len(slide.id.encode()) <= 120


def test_models_of_a_manifest_lie_beside_it_or_have_a_name(tmp_path: Path) -> None:
    path = manifest(tmp_path, "slide,model\na.svs,mine.safetensors\nb.svs,nuclei-he\n")
    assert [slide.model for slide in list_slides([path], tmp_path)] == [
        str(tmp_path / "mine.safetensors"),
        "nuclei-he",
    ]


def test_names_that_are_no_text_are_shown_as_text() -> None:
    slide = CohortSlide(Path(os.fsdecode(b"caf\xe9.svs")))
    assert slide.source.encode() == b"caf\\xe9.svs"
