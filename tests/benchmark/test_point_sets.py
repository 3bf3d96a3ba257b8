"""BCData, SHIDC and DCIS: points as they stand in the files, and the line that each bad file gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from wsipsm.benchmark.sets.bcdata import bcdata_images, read_coordinates
from wsipsm.benchmark.sets.dcis import dcis_images
from wsipsm.benchmark.sets.shidc import shidc_images
from wsipsm.errors import UsageError


def write_image(path: Path, size: tuple[int, int] = (64, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), 220, np.uint8)).save(path)


def write_h5(path: Path, values: Any, name: str = "coordinates") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file[name] = values


@pytest.fixture
def bcdata(tmp_path: Path) -> Path:
    for name in ("0", "2", "10"):
        write_image(tmp_path / "images" / "test" / f"{name}.png")
        write_h5(tmp_path / "annotations" / "test" / "positive" / f"{name}.h5", np.array([[60, 7], [3, 40]]))
        write_h5(tmp_path / "annotations" / "test" / "negative" / f"{name}.h5", np.empty((0, 2), int))
    return tmp_path


def test_bcdata_points_are_pixel_centres_x_first(bcdata: Path) -> None:
    found = bcdata_images(bcdata)
    assert [image.name for image in found] == ["0", "2", "10"]
    assert found[0].positive.tolist() == [[60.5, 7.5], [3.5, 40.5]]
    assert found[0].negative.shape == (0, 2)
    assert found[0].rgb.shape == (48, 64, 3)
    assert found[0].notes == ()


def test_bcdata_names_what_is_missing(bcdata: Path) -> None:
    (bcdata / "annotations" / "test" / "negative" / "2.h5").unlink()
    with pytest.raises(UsageError, match=r"no negative \.h5 for 2\.png"):
        bcdata_images(bcdata)
    with pytest.raises(UsageError, match=r"validation: No such file"):
        bcdata_images(bcdata, "validation")


def test_points_outside_the_image_are_told(bcdata: Path) -> None:
    write_h5(bcdata / "annotations" / "test" / "positive" / "0.h5", np.array([[7, 60], [3, 40]]))
    assert bcdata_images(bcdata)[0].notes == ("0.h5: 1 of 2 points lie outside the image of 64 x 48 px.",)


BAD_H5 = {
    "other name": (lambda p: write_h5(p, np.zeros((2, 2)), "points"), "holds points; a dataset 'coordinates'"),
    "wrong shape": (lambda p: write_h5(p, np.zeros((2, 3))), r"shape \(2, 3\)"),
    "flat": (lambda p: write_h5(p, np.zeros(4)), r"shape \(4,\)"),
    "text": (lambda p: write_h5(p, "here and there"), "holds no numbers"),
    "group": (lambda p: write_h5(p, 1, "coordinates/x"), "holds no numbers"),
    "not finite": (lambda p: write_h5(p, np.array([[1.0, np.nan]])), "are no numbers"),
    "no HDF5": (lambda p: p.write_text("points"), "no HDF5 file that can be read"),
    "empty": (lambda p: p.write_bytes(b""), "no HDF5 file that can be read"),
}


@pytest.mark.parametrize("kind", BAD_H5)
def test_a_bad_h5_gets_its_line(tmp_path: Path, kind: str) -> None:
    make, line = BAD_H5[kind]
    make(tmp_path / "7.h5")
    with pytest.raises(UsageError, match=line) as caught:
        read_coordinates(tmp_path / "7.h5")
    assert "7.h5" in str(caught.value)


def test_shidc_classes_and_lymphocytes(tmp_path: Path) -> None:
    write_image(tmp_path / "p1.jpg")
    rows = [{"x": 1, "y": 2, "label_id": 1}, {"x": 3, "y": 4, "label_id": 3}, {"x": 5, "y": 6, "label_id": 2}]
    (tmp_path / "p1.json").write_text(json.dumps(rows))
    (image,) = shidc_images(tmp_path)
    assert (image.positive.tolist(), image.negative.tolist()) == ([[1.5, 2.5]], [[5.5, 6.5]])
    assert image.ignore.tolist() == [[3.5, 4.5]]


BAD_JSON = {
    '[{"x": 1, "y": 2, "label_id": 4}]': r"point 0 has label_id 4; one of 1 \(positive\)",
    '[{"x": 1, "y": 2, "label_id": true}]': "numbers x, y and label_id are needed",
    '[{"x": 1, "label_id": 1}]': "numbers x, y and label_id are needed",
    "[7]": "point 0 is 7",
    '{"x": 1}': "holds a dict; a list of points is needed",
    "[{]": "no JSON",
    "": "no JSON",
}


@pytest.mark.parametrize("text", BAD_JSON)
def test_a_bad_json_gets_its_line(tmp_path: Path, text: str) -> None:
    write_image(tmp_path / "p1.jpg")
    (tmp_path / "p1.json").write_text(text)
    with pytest.raises(UsageError, match=BAD_JSON[text]) as caught:
        shidc_images(tmp_path)
    assert "p1.json" in str(caught.value)


def test_dcis_points_and_mask(tmp_path: Path) -> None:
    write_image(tmp_path / "d.jpg")
    (tmp_path / "d.csv").write_text("x,y,class\n1.5,2,positive\n30,40,negative\n")
    mask = np.zeros((48, 64), np.uint8)
    mask[:10] = 255
    Image.fromarray(mask).save(tmp_path / "d_tumour.png")
    (image,) = dcis_images(tmp_path)
    assert image.positive.tolist() == [[1.5, 2.0]]
    assert image.mask is not None
    assert np.array_equal(image.mask, mask > 0)


@pytest.mark.parametrize("text", ["x,y\n1,2\n", "x,y,class\n1,2,other\n", "x,y,class\na,2,positive\n"])
def test_a_bad_csv_gets_its_line(tmp_path: Path, text: str) -> None:
    write_image(tmp_path / "d.jpg")
    (tmp_path / "d_tumour.png").write_bytes(b"")
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(UsageError, match=r"d\.csv: .*columns x, y and class"):
        dcis_images(tmp_path)


def test_the_real_samples_are_read(data_dir: Path) -> None:
    ki67 = data_dir / "ki67"
    counts = {}
    for name, read in (("bcdata", bcdata_images), ("shidc", shidc_images), ("dcis", dcis_images)):
        found = read(ki67 / name)
        counts[name] = len(found)
        assert sum(len(image.positive) for image in found) > 0
        assert all(image.notes == () for image in found)
    assert counts == {"bcdata": 13, "shidc": 14, "dcis": 10}
