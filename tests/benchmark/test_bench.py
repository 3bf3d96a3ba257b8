"""Methods scored on a set: perfect and empty ones, protocols, tables, and the command."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner, Result

from wsipsm.benchmark.bench import Method, open_set, parse_methods, run_bench
from wsipsm.benchmark.names import BuiltIn, ScoringProtocol, SetName
from wsipsm.benchmark.table import markdown, write_tables
from wsipsm.cli.main import app
from wsipsm.errors import EXIT_USAGE, OutputError, UsageError

PERFECT = Method("perfect", lambda image: image.truth, lambda: "perfect: knows the truth.")
EMPTY = Method("empty", lambda image: np.zeros_like(image.truth))


@pytest.fixture
def monuseg(tmp_path: Path) -> Path:
    folder = tmp_path / "monuseg"
    (folder / "images").mkdir(parents=True)
    (folder / "labels_png").mkdir()
    y, x = np.mgrid[:520, :540]
    for number, name in enumerate("ab"):
        labels = np.zeros((520, 540), np.uint16)
        for i, cx in enumerate(range(30, 520, 40 + 10 * number)):
            labels[np.hypot(x - cx, y - 260) < 10] = i + 1
        rgb = np.where(labels[..., None] > 0, (70, 50, 120), (235, 190, 215)).astype(np.uint8)
        # Nuclei are domes, not plateaus: a plateau has more than one maximum.
        Image.fromarray(ndimage.gaussian_filter(rgb, (3, 3, 0))).save(folder / "images" / f"{name}.tif")
        Image.fromarray(labels).save(folder / "labels_png" / f"{name}.png")
    return folder


@pytest.fixture
def bcdata(tmp_path: Path) -> Path:
    folder = tmp_path / "bcdata"
    (folder / "images" / "test").mkdir(parents=True)
    y, x = np.mgrid[:200, :200]
    points = {"positive": [(50, 50), (150, 50)], "negative": [(50, 150), (150, 150), (100, 100)]}
    rgb = np.full((200, 200, 3), 235, np.uint8)
    for kind, colour in (("positive", (110, 70, 40)), ("negative", (110, 120, 190))):
        (folder / "annotations" / "test" / kind).mkdir(parents=True)
        for cx, cy in points[kind]:
            rgb[np.hypot(x - cx, y - cy) < 15] = colour
        for name in ("0", "1"):
            with h5py.File(folder / "annotations" / "test" / kind / f"{name}.h5", "w") as file:
                file["coordinates"] = points[kind]
    for name in ("0", "1"):
        Image.fromarray(ndimage.gaussian_filter(rgb, (4, 4, 0))).save(folder / "images" / "test" / f"{name}.png")
    return folder


def test_a_perfect_and_an_empty_method(monuseg: Path) -> None:
    lines: list[str] = []
    report = run_bench(open_set(SetName.MONUSEG, monuseg), [PERFECT, EMPTY], announce=lines.append)
    perfect, empty = report.results
    for name in ("AJI", "AJI+", "PQ", "SQ", "DQ", "Dice", "IoU", "Dice_obj", "F1", "F1_c"):
        assert perfect.scores[name] == 1
        assert empty.scores[name] == 0
    assert [row["image"] for row in perfect.rows] == ["a", "b"]
    assert lines == [f"{i}/2 {name}: perfect AJI 1.000, empty AJI 0.000" for i, name in ((1, "a"), (2, "b"))]
    assert "perfect: knows the truth." in report.header


def test_the_paper_protocol_scores_the_centre_and_names_its_flaws(monuseg: Path) -> None:
    seen: list[tuple[int, ...]] = []
    spy = Method("spy", lambda image: seen.append(image.rgb.shape) or image.truth)  # type: ignore[func-returns-value]
    report = run_bench(open_set(SetName.MONUSEG, monuseg, ScoringProtocol.PAPER), [spy])
    assert seen == [(512, 512, 3)] * 2
    text = markdown(report)
    assert "by organ" not in text  # the names are no barcodes
    assert "Its flaws: the central 512 px square alone" in text
    assert "PSM (printed) | without labels | Table 1 | 0.542 | 0.762" in text


def test_classical_methods_run_on_both_kinds_of_sets(monuseg: Path, bcdata: Path) -> None:
    classical = [BuiltIn.FLOOR, BuiltIn.CELLPROFILER, BuiltIn.FIJI]
    report = run_bench(open_set(SetName.MONUSEG, monuseg, limit=1), classical)
    assert {r.method: r.scores["F1_c"] == 1 for r in report.results} == dict.fromkeys(classical, True)
    report = run_bench(open_set(SetName.BCDATA, bcdata, limit=1), classical)
    names = ("F1_pos", "F1_neg", "MP", "MN", "index_error")
    assert {r.method: tuple(r.scores[n] for n in names) for r in report.results} == dict.fromkeys(
        classical, (1, 1, 0, 0, 0)
    )


def test_points_are_scored_by_class_within_the_radius(bcdata: Path) -> None:
    swapped = Method("swapped", lambda image: (image.negative, image.positive))
    right = np.array([1.0, 0.0])
    near = Method("near", lambda image: (image.positive + 9 * right, image.negative + 11 * right))
    result, shifted = run_bench(open_set(SetName.BCDATA, bcdata), [swapped, near]).results
    assert (result.scores["F1_pos"], result.scores["F1_neg"], result.scores["F1_any"]) == (0, 0, 1)
    assert (result.scores["MP"], result.scores["MN"], result.scores["index_bias"]) == pytest.approx((1, 1, 20))
    assert (shifted.scores["F1_pos"], shifted.scores["F1_neg"]) == (1, 0)


def test_tables_hold_methods_images_and_printed_rows(bcdata: Path, tmp_path: Path) -> None:
    report = run_bench(open_set(SetName.BCDATA, bcdata, limit=1), [Method("all", lambda i: (i.positive, i.negative))])
    written = write_tables(report, tmp_path / "deep" / "tables")
    assert [path.name for path in written] == ["bcdata-whole.md", "bcdata-whole.csv", "bcdata-whole-images.csv"]
    rows = list(csv.DictReader(written[1].read_text().splitlines()))
    assert [row["source"] for row in rows] == ["measured", *["printed, Table 2"] * 4]
    assert rows[0]["F1_pos"] == "1.0"
    assert (rows[-1]["method"], rows[-1]["printed_F1"], rows[-1]["F1_pos"]) == ("PSM", "0.811", "")
    assert [row["image"] for row in csv.DictReader(written[2].read_text().splitlines())] == ["0"]
    text = written[0].read_text()
    assert "match radius 10 px, one to one" in text
    assert "only the first 1." in text
    assert not list(written[0].parent.glob(".*"))


def test_a_place_that_cannot_be_written_is_told(bcdata: Path, tmp_path: Path) -> None:
    report = run_bench(open_set(SetName.BCDATA, bcdata), [Method("none", lambda i: (i.ignore, i.ignore))])
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_tables(report, tmp_path / "file" / "tables")


def test_what_does_not_fit_is_refused(bcdata: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--protocol paper: given for bcdata"):
        open_set(SetName.BCDATA, bcdata, ScoringProtocol.PAPER)
    with pytest.raises(UsageError, match="no folder"):
        open_set(SetName.MONUSEG, tmp_path / "gone")
    with pytest.raises(UsageError, match="each method once"):
        run_bench(open_set(SetName.BCDATA, bcdata), [])
    with pytest.raises(UsageError, match="none unknown"):
        parse_methods(" , ")
    assert parse_methods("floor, fiji") == [BuiltIn.FLOOR, BuiltIn.FIJI]


def test_odd_annotations_are_told_and_listed(monuseg: Path) -> None:
    (monuseg / "labels_png").rename(monuseg / "away")
    (monuseg / "xml").mkdir()
    region = "<Region><Vertices>{}</Vertices></Region>"
    vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ((5, 5), (20, 20), (20, 5), (5, 20)))
    for name in "ab":
        (monuseg / "xml" / f"{name}.xml").write_text(f"<A>{region.format(vertices)}{region.format('')}</A>")
    lines: list[str] = []
    report = run_bench(open_set(SetName.MONUSEG, monuseg), [PERFECT], announce=lines.append)
    assert lines[0].startswith("warning: a.xml: of 2 regions 1 with fewer than three vertices, dropped; 1 crossing")
    assert "Oddities" in markdown(report)


def command(*args: object) -> Result:
    return CliRunner().invoke(app, ["bench", *(str(arg) for arg in args)])


def test_the_command_prints_and_writes_the_table(monuseg: Path, tmp_path: Path) -> None:
    result = command("monuseg", monuseg, "--methods", "floor,fiji", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "| floor | " in result.stdout
    assert "1/2 a: floor AJI" in result.stderr
    assert (tmp_path / "out" / "monuseg-whole.md").read_text() in result.stdout


def test_the_gallery_shows_best_median_and_worst(monuseg: Path, bcdata: Path, tmp_path: Path) -> None:
    for name, folder, mark in (("monuseg", monuseg, (0, 230, 255)), ("bcdata", bcdata, (226, 26, 28))):
        result = command(name, folder, "--methods", "wsipsm", "--out", tmp_path / "out")
        assert result.exit_code == 0, result.output
        path = tmp_path / "out" / f"{name}-whole-gallery.png"
        assert f"wrote {path}" in result.stdout
        picture = np.asarray(Image.open(path))
        assert np.all(picture[:, picture.shape[1] // 2 :] == mark, axis=2).sum() > 500  # the truth, on the right
        assert not np.all(picture[40:-40, : picture.shape[1] // 2 - 8] == mark, axis=2).any()
    assert not list((tmp_path / "out").glob("floor*"))


def test_scores_by_organ(monuseg: Path) -> None:
    for folder in (monuseg / "images", monuseg / "labels_png"):
        for path in folder.iterdir():
            path.rename(path.with_stem({"a": "TCGA-A7-A13E-01Z-00-DX1", "b": "TCGA-B0-5698-01Z-00-DX1"}[path.stem]))
    first = Method("first", lambda image: image.truth * (image.organ == "breast"))
    text = markdown(run_bench(open_set(SetName.MONUSEG, monuseg), [PERFECT, first]))
    assert "| breast | 1 | 1.000 | 1.000 |" in text
    assert "| kidney | 1 | 1.000 | 0.000 |" in text


def test_the_command_refuses_in_one_line(monuseg: Path) -> None:
    result = command("monuseg", monuseg, "--methods", "floor,magic")
    assert result.exit_code == EXIT_USAGE
    assert "--methods floor,magic: magic unknown" in result.stderr
    assert "Example: wsipsm bench" in command("--help").stdout


@pytest.mark.slow
def test_the_installed_model_and_the_floor_on_real_images(data_dir: Path) -> None:
    opened = open_set(SetName.MONUSEG, data_dir / "monuseg" / "train", ScoringProtocol.PAPER, limit=1)
    report = run_bench(opened, [BuiltIn.FLOOR, BuiltIn.WSIPSM])
    assert report.results[1].scores["AJI"] > 0.4
    assert any("nuclei-he" in line for line in report.header)
