"""Outlines to label images: MATLAB's rule against the organisers' labels, pixel centres against a slow rule."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wsipsm.errors import UsageError
from wsipsm.geometry import Size
from wsipsm.instances.trace import trace_outlines
from wsipsm.metrics.labels import aperio_labels, poly2mask_pixels, polygon_labels, read_aperio_xml
from wsipsm.metrics.segmentation import aji, measure_overlap

XML_NAMES = ("TCGA-B0-5710-01Z-00-DX1", "TCGA-CH-5767-01Z-00-DX1")


@pytest.mark.parametrize("name", XML_NAMES)
def test_the_organisers_labels_come_back_to_the_pixel(data_dir, name):
    folder = data_dir / "monuseg" / "train"
    expected = np.asarray(Image.open(folder / "labels_png" / f"{name}.png")).astype(np.int32)
    labels = aperio_labels(read_aperio_xml(folder / "xml" / f"{name}.xml"), Size(1000, 1000))
    assert np.array_equal(labels, expected)
    assert aji(measure_overlap(expected, labels)) > 0.995


def _mask(vertices: list[tuple[float, float]], size: Size) -> np.ndarray:
    mask = np.zeros((size.height, size.width), bool)
    mask[poly2mask_pixels(np.array(vertices, float), size)] = True
    return mask


def test_poly2mask_with_vertices_on_pixel_centres_takes_the_lower_right_ones():
    mask = _mask([(2, 2), (2, 4), (4, 4), (4, 2)], Size(5, 5))
    assert np.argwhere(mask).tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]


def test_poly2mask_of_whole_pixels_is_exact():
    # MATLAB's pixel 1 spans 0.5..1.5.
    mask = _mask([(1.5, 2.5), (4.5, 2.5), (4.5, 6.5), (1.5, 6.5)], Size(8, 9))
    expected = np.zeros((9, 8), bool)
    expected[2:6, 1:4] = True
    assert np.array_equal(mask, expected)


coordinates = st.floats(1, 24, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=7), st.integers(1, 5))
def test_poly2mask_moves_with_whole_pixels_and_is_cut_at_the_edge(vertices, step):
    large = _mask([(x + step, y + step) for x, y in vertices], Size(40, 40))
    small = _mask(vertices, Size(20, 20))
    assert np.array_equal(large[step : 20 + step, step : 20 + step], small)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=7))
def test_poly2mask_is_near_the_exact_polygon(vertices):
    shape = shapely.Polygon(vertices)
    if not shape.is_valid:
        return
    mask = _mask([(x + 0.5, y + 0.5) for x, y in vertices], Size(30, 30))
    assert abs(int(mask.sum()) - shape.area) <= shape.length + 1


def test_the_earliest_region_wins_and_regions_without_pixels_are_not_numbered():
    square = np.array([(2.5, 2.5), (6.5, 2.5), (6.5, 6.5), (2.5, 6.5)])
    regions = [square, np.array([(1.0, 1.0), (2.0, 1.0)]), square, square + 2]
    labels = aperio_labels(regions, Size(12, 12))
    expected = np.zeros((12, 12), np.int32)
    expected[4:8, 4:8] = 2
    expected[2:6, 2:6] = 1
    assert np.array_equal(labels, expected)


def test_files_that_are_no_aperio_xml_are_refused(tmp_path):
    path = tmp_path / "wrong.xml"
    path.write_text("<Annotations><Region>")
    with pytest.raises(UsageError, match="Aperio annotation XML is needed"):
        read_aperio_xml(path)
    path.write_text('<A><Region><Vertices><Vertex X="1"/></Vertices></Region></A>')
    with pytest.raises(UsageError, match="'Y'"):
        read_aperio_xml(path)


def test_all_layers_of_a_file_are_read(tmp_path):
    region = "<Region><Vertices>" + '<Vertex X="1.5" Y="2" Z="0"/>' * 3 + "</Vertices></Region>"
    path = tmp_path / "layers.xml"
    path.write_text(f"<Annotations><Annotation>{region}</Annotation><Annotation>{region}</Annotation></Annotations>")
    assert [r.tolist() for r in read_aperio_xml(path)] == [[[1.5, 2.0]] * 3] * 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=6))
def test_polygon_pixels_are_those_whose_centre_is_inside(vertices):
    shape = shapely.Polygon(vertices)
    if not shape.is_valid or shape.is_empty:
        return
    labels = polygon_labels([shape], Size(18, 16))
    expected = [[int(shape.contains(shapely.Point(x + 0.5, y + 0.5))) for x in range(18)] for y in range(16)]
    assert labels.tolist() == expected


def test_outlines_of_whole_pixels_come_back_exactly():
    seeds = np.random.default_rng(3).uniform(0, 120, (40, 2))
    y, x = np.mgrid[:120, :120]
    distance = np.hypot(x[..., None] - seeds[:, 0], y[..., None] - seeds[:, 1])
    # Discs cut where they meet: touching nuclei without holes.
    truth = np.where(distance.min(-1) < 9, distance.argmin(-1) + 1, 0).astype(np.int32)
    outlines = trace_outlines(truth, (0, 0), 1.0)
    drawn = polygon_labels(list(outlines.polygons), Size(120, 120))
    assert np.array_equal(np.concatenate([[0], outlines.labels])[drawn], truth)


def test_the_first_polygon_wins_and_labels_follow_positions():
    shapes = [shapely.box(-3, -3, 4, 4), shapely.Polygon(), shapely.box(2, 2, 30, 6), shapely.box(50, 50, 60, 60)]
    labels = polygon_labels(shapes, Size(10, 8))
    expected = np.zeros((8, 10), np.int32)
    expected[2:6, 2:] = 3
    expected[:4, :4] = 1
    assert np.array_equal(labels, expected)
