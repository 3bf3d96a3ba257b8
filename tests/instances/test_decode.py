from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import euler_number

from wsipsm.instances.decode import _hole_counts, _quantised, _smoothed, decode, decode_instances
from wsipsm.models.card import DecodeSettings

OUTPUTS = ("nucleus", "distance")
MPP = 0.5
SETTINGS = DecodeSettings()
SHAPED = DecodeSettings(opening_share=0.18, min_distance=0.3)


def nuclei_maps(
    height: int, width: int, nuclei: list[tuple[float, float, float]], noise: float = 0.0, seed: int = 0
) -> NDArray[np.float32]:
    """Maps as a good network would give them, of discs (row, column, radius)."""
    maps = np.zeros((2, height, width))
    for row, column, radius in nuclei:
        top, left = max(0, int(row - 1.5 * radius)), max(0, int(column - 1.5 * radius))
        patch = maps[:, top : int(row + 1.5 * radius), left : int(column + 1.5 * radius)]
        rows, columns = np.mgrid[top : top + patch.shape[1], left : left + patch.shape[2]] + 0.5
        inward = 1 - np.hypot(rows - row, columns - column) / radius
        patch[0] = np.maximum(patch[0], 1 / (1 + np.exp(-20 * inward)))
        patch[1] = np.maximum(patch[1], np.clip(inward, 0, 1))
    maps += np.random.default_rng(seed).normal(0, noise, maps.shape)
    return maps.clip(0, 1).astype(np.float32)


def scattered(seed: int, n: int, size: int) -> list[tuple[float, float, float]]:
    rng = np.random.default_rng(seed)
    return [(*rng.uniform(0, size, 2), rng.uniform(4, 10)) for _ in range(n)]  # type: ignore[misc]


def test_lone_nuclei_keep_their_pixels() -> None:
    maps = nuclei_maps(60, 80, [(20, 20, 8), (40, 60, 6)])
    labels = decode_instances(maps, OUTPUTS, SETTINGS, MPP)
    assert labels.dtype == np.int32
    assert np.array_equal(labels > 0, maps[0] > 0.501)
    assert set(np.unique(labels)) == {0, 1, 2}


def test_touching_nuclei_are_divided_halfway() -> None:
    labels = decode_instances(nuclei_maps(40, 60, [(20, 20, 8), (20, 34, 8)]), OUTPUTS, SETTINGS, MPP)
    assert labels.max() == 2
    left, right = labels[20, 20], labels[20, 34]
    assert left != right
    assert abs(np.sum(labels == left) - np.sum(labels == right)) <= 8
    assert set(np.unique(labels[20, 14:25])) == {left}


def ridge_maps(high: float, low: float, saddle: float, valley_px: int) -> NDArray[np.float32]:
    """Maps of one part whose distance falls from a high peak to a saddle and rises to a low one."""
    maps = np.zeros((2, 13, 61), np.float32)
    maps[0, 2:11, 2:59] = 1
    columns = np.arange(61)
    inner = np.maximum(np.abs(columns - 30) - (valley_px - 1) / 2, 0) / (20 - (valley_px - 1) / 2)
    ridge = np.where(columns < 30, saddle + inner * (high - saddle), saddle + inner * (low - saddle))
    across = 1 - np.abs(np.arange(13) - 6) / 10
    maps[1] = np.where((columns >= 10) & (columns <= 50), ridge, 0) * across[:, None]
    return maps


@pytest.mark.parametrize("flip", [False, True], ids=["high first", "low first"])
@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("valley_px", [1, 5])
@pytest.mark.parametrize(
    ("high", "low", "saddle", "n"),
    [
        (1.0, 0.5, 0.435, 1),  # the bound is 0.85 of the lower peak: 0.425
        (1.0, 0.5, 0.415, 2),
        (1.0, 0.9, 0.775, 1),  # 0.765
        (1.0, 0.9, 0.755, 2),
        (0.6, 0.6, 0.52, 1),  # 0.51
        (0.6, 0.6, 0.50, 2),
    ],
)
def test_peaks_are_joined_where_the_saddle_is_hardly_lower_than_the_lower_peak(
    high: float, low: float, saddle: float, n: int, valley_px: int, upright: bool, flip: bool
) -> None:
    maps = ridge_maps(high, low, saddle, valley_px)
    maps = maps[:, :, ::-1] if flip else maps
    maps = np.ascontiguousarray(maps.swapaxes(1, 2) if upright else maps)
    chosen = DecodeSettings(distance_sigma_px=0, max_area_um2=400)
    labels = decode_instances(maps, OUTPUTS, chosen, MPP)
    assert labels.max() == n
    assert np.array_equal(labels > 0, maps[0] > 0.5)


def test_only_neighbours_with_a_high_saddle_are_joined() -> None:
    """Three peaks in a row: the first saddle divides, the second does not."""
    maps = np.zeros((2, 13, 100), np.float32)
    maps[0, 2:11, 2:98] = 1
    columns = [10, 30, 50, 70, 90]
    maps[1] = np.interp(np.arange(100), columns, [0.9, 0.3, 0.6, 0.55, 0.8], left=0, right=0)
    maps[1] *= 1 - np.abs(np.arange(13) - 6)[:, None] / 10
    labels = decode_instances(maps, OUTPUTS, DecodeSettings(distance_sigma_px=0, max_area_um2=400), MPP)
    first, second, third = labels[6, [10, 50, 90]]
    assert labels.max() == 2
    assert first != second
    assert second == third


def test_wide_plateau_gives_one_seed() -> None:
    maps = np.zeros((2, 30, 40), np.float32)
    maps[:, 8:22, 8:32] = 1.0
    assert decode_instances(maps, OUTPUTS, SETTINGS, MPP).max() == 1


def test_part_without_a_seed_stays_one_nucleus() -> None:
    maps = nuclei_maps(40, 40, [(20, 20, 7)])
    maps[1] = 0.1
    labels = decode_instances(maps, OUTPUTS, SETTINGS, MPP)
    assert labels.max() == 1
    assert np.array_equal(labels > 0, maps[0] > 0.501)


def test_small_hole_is_filled_and_large_one_in_a_nucleus_too() -> None:
    maps = nuclei_maps(60, 60, [(30, 30, 16)])
    whole = decode_instances(maps, OUTPUTS, SETTINGS, MPP)
    maps[0, 28:30, 28:30] = 0
    maps[0, 32:40, 30:38] = 0
    assert np.array_equal(decode_instances(maps, OUTPUTS, SETTINGS, MPP), whole)


def test_a_small_hole_between_two_nuclei_is_filled_and_a_large_one_is_not() -> None:
    maps = np.zeros((2, 30, 60), np.float32)
    maps[0, 5:25, 5:55] = 1
    maps[1] = maps[0] * np.interp(np.arange(60), [5, 17, 30, 43, 55], [0.1, 1, 0.2, 1, 0.1])
    maps[0, 13:16, 29:32] = 0
    labels = decode_instances(maps, OUTPUTS, DecodeSettings(max_area_um2=4000), MPP)
    assert labels.max() == 2
    assert labels[13:16, 29:32].all()
    maps[0, 10:19, 27:34] = 0  # 63 px, and 16 are filled
    labels = decode_instances(maps, OUTPUTS, DecodeSettings(max_area_um2=4000), MPP)
    assert labels.max() == 2
    assert not labels[10:19, 27:34].any()


@pytest.mark.parametrize("turns", range(4))
def test_a_bay_at_the_border_of_the_array_is_no_hole(turns: int) -> None:
    """More of the slide may lie beyond, so that a block must not fill what another leaves open."""
    maps = np.zeros((2, 40, 40), np.float32)
    maps[0, :25, 8:32] = 1
    maps[0, :3, 18:21] = 0
    maps[0, 10:13, 18:21] = 0
    labels = decode_instances(np.rot90(maps, turns, (1, 2)).copy(), OUTPUTS, SETTINGS, MPP)
    labels = np.rot90(labels, -turns)
    assert not labels[:3, 18:21].any()
    assert labels[10:13, 18:21].all()


@pytest.mark.parametrize(("sigma_px", "height"), [(1.0, 0.1592), (2.0, 0.0398)])
def test_peaks_are_those_of_the_distance_map_after_gaussian_smoothing(sigma_px: float, height: float) -> None:
    """A lone pixel of 1 becomes 1 / (2 pi sigma^2) high, and divides a part where that is enough."""
    maps = np.zeros((2, 30, 70), np.float32)
    maps[0, 5:25, 5:65] = 1
    maps[1, 15, [20, 50]] = 1
    for peak_min, n in ((height * 0.9, 2), (height * 1.1, 1)):
        chosen = DecodeSettings(distance_sigma_px=sigma_px, peak_min=peak_min, max_area_um2=4000)
        assert decode_instances(maps, OUTPUTS, chosen, MPP).max() == n


def test_pocket_open_at_a_corner_is_filled() -> None:
    maps = np.zeros((2, 20, 20), np.float32)
    maps[0, 4:14, 4:14] = 1
    maps[0, 5:8, 5:8] = 0
    maps[0, 4, 4] = 0  # background meets the pocket at one corner
    labels = decode_instances(maps, OUTPUTS, SETTINGS, 0.5)
    assert labels[6, 6] == 1
    assert labels[4, 4] == 0


def test_limits_in_um2() -> None:
    maps = nuclei_maps(80, 120, [(20, 20, 2), (40, 40, 8), (40, 90, 25)])
    decoded = decode(maps, OUTPUTS, DecodeSettings(min_area_um2=5, max_area_um2=300), MPP)
    assert decoded.labels.max() == 1
    assert decoded.labels[40, 40] == 1
    np.testing.assert_allclose(decoded.too_large_xy_px, [[90, 40]], atol=0.1)


def test_mean_probability_drops_faint_nuclei() -> None:
    maps = nuclei_maps(40, 80, [(20, 20, 8), (20, 60, 8)])
    maps[0, :, 40:] *= 0.7
    strict = DecodeSettings(min_mean_probability=0.7)
    assert decode_instances(maps, OUTPUTS, SETTINGS, MPP).max() == 2
    labels = decode_instances(maps, OUTPUTS, strict, MPP)
    assert labels.max() == 1
    assert labels[20, 20] == 1


def test_what_has_no_middle_is_dropped() -> None:
    maps = nuclei_maps(40, 80, [(20, 20, 8), (20, 60, 8)])
    maps[1, :, 40:] *= 0.5
    labels = decode_instances(maps, OUTPUTS, DecodeSettings(min_distance=0.6), MPP)
    assert labels.max() == 1
    assert labels[20, 20] == 1


def test_outlines_are_opened() -> None:
    maps = nuclei_maps(40, 80, [(20, 20, 8)])
    maps[0, 19:21, 20:60] = 1
    assert decode_instances(maps, OUTPUTS, SETTINGS, MPP)[20, 50] == 1
    labels = decode_instances(maps, OUTPUTS, DecodeSettings(opening_share=0.18), MPP)
    assert labels[20, 20] == 1
    assert not labels[:, 32:].any()


def test_channels_are_found_by_name() -> None:
    maps = nuclei_maps(40, 60, [(20, 20, 8), (20, 34, 8)])
    swapped = np.stack([np.zeros_like(maps[0]), maps[1], maps[0]])
    expected = decode_instances(maps, OUTPUTS, SETTINGS, MPP)
    assert np.array_equal(decode_instances(swapped, ("positive", "distance", "nucleus"), SETTINGS, MPP), expected)


@pytest.mark.parametrize("shape", [(2, 1, 1), (2, 3, 200), (2, 50, 50)])
def test_empty_maps_hold_nothing(shape: tuple[int, int, int]) -> None:
    labels = decode_instances(np.zeros(shape, np.float32), OUTPUTS, SETTINGS, MPP)
    assert labels.shape == shape[1:]
    assert not labels.any()


def test_unusable_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="'distance' is needed"):
        decode_instances(np.zeros((1, 9, 9), np.float32), ("nucleus",), SETTINGS, MPP)
    with pytest.raises(ValueError, match="one plane for each"):
        decode_instances(np.zeros((3, 9, 9), np.float32), OUTPUTS, SETTINGS, MPP)
    with pytest.raises(ValueError, match="not finite"):
        decode_instances(np.full((2, 9, 9), np.nan, np.float32), OUTPUTS, SETTINGS, MPP)


@given(
    seed=st.integers(0, 2**32 - 1),
    noise=st.sampled_from([0.02, 0.2, 0.4]),
    chosen=st.sampled_from([SETTINGS, SHAPED]),
)
@settings(max_examples=25, deadline=None)
def test_every_label_is_one_part_without_holes(seed: int, noise: float, chosen: DecodeSettings) -> None:
    maps = nuclei_maps(120, 120, scattered(seed, 40, 120), noise, seed)
    labels = decode_instances(maps, OUTPUTS, chosen, MPP)
    for label in range(1, labels.max() + 1):
        mask = np.pad(labels == label, 1)
        assert ndimage.label(mask)[1] == 1
        assert euler_number(mask, connectivity=2) == 1
        assert np.array_equal(ndimage.binary_fill_holes(mask), mask)
        assert 4.0 <= mask.sum() * MPP**2 <= 400.0


@pytest.mark.parametrize(("height", "n"), [(0.25, 2), (0.249, 1)])
def test_a_peak_of_just_the_lowest_height_divides(height: float, n: int) -> None:
    maps = np.zeros((2, 30, 70), np.float32)
    maps[0, 5:25, 5:65] = 1
    maps[1, 15, [20, 50]] = height
    chosen = DecodeSettings(distance_sigma_px=0, peak_min=0.25, max_area_um2=4000)
    assert decode_instances(maps, OUTPUTS, chosen, MPP).max() == n


@pytest.mark.parametrize("radius", [2, 3, 5])
@pytest.mark.parametrize("lower", [1.0, 0.8])
def test_of_two_peaks_within_the_radius_the_higher_is_the_seed(radius: int, lower: float) -> None:
    """Every offset of a disk and of the ring of pixels around it; it is flat in between, so nothing is joined."""
    chosen = DecodeSettings(distance_sigma_px=0, peak_min=0.1, peak_radius_px=radius, max_area_um2=4000)
    for dy, dx in np.argwhere(np.ones((2 * radius + 3, 2 * radius + 3))) - radius - 1:
        if max(abs(dy), abs(dx)) < 2:
            continue
        maps = np.zeros((2, 40, 40), np.float32)
        maps[0, 5:35, 5:35] = 1
        maps[1, 20, 20] = 1
        maps[1, 20 + dy, 20 + dx] = lower
        n = decode_instances(maps, OUTPUTS, chosen, MPP).max()
        assert n == (1 if dy * dy + dx * dx <= radius * radius else 2), (dy, dx)


@pytest.mark.parametrize("turns", range(4))
def test_a_lower_peak_does_not_link_two_higher_ones(turns: int) -> None:
    """Two that are farther apart than the radius are two seeds, though each has the lower one within it."""
    maps = np.zeros((2, 41, 41), np.float32)
    maps[0, 5:36, 5:36] = 1
    maps[1, 20, 20] = 0.8
    maps[1, 24, [17, 23]] = 1
    chosen = DecodeSettings(distance_sigma_px=0, peak_min=0.1, peak_radius_px=5, max_area_um2=4000)
    assert decode_instances(np.rot90(maps, turns, (1, 2)).copy(), OUTPUTS, chosen, MPP).max() == 2


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_holes_are_counted_as_euler_counts_them(seed: int) -> None:
    random = np.random.default_rng(seed)
    parts, n = ndimage.label(random.random((24, 24)) < random.uniform(0.4, 0.9), np.ones((3, 3)))
    labels = np.where(parts > 0, random.permutation(n)[parts - 1] + 1, 0).astype(np.int32)
    expected = [1 - euler_number(labels == label, connectivity=2) for label in range(1, n + 1)]
    assert _hole_counts(labels).tolist() == [0, *expected]
    with_gaps = np.ravel([[0] * n, expected], order="F").tolist()
    assert _hole_counts(2 * labels).tolist() == [0, *with_gaps], "a label that is absent has none"


def nuclei_away_from_border(labels: NDArray[np.int32], margin: int) -> set[bytes]:
    """Pixels of every nucleus that lies wholly inside the margin."""
    inner = labels[margin:-margin, margin:-margin]
    whole = np.bincount(inner.ravel(), minlength=labels.max() + 1) == np.bincount(labels.ravel())
    boxes = ndimage.find_objects(labels)
    return {
        (np.argwhere(labels[boxes[lab - 1]] == lab) + [axis.start for axis in boxes[lab - 1]]).tobytes()
        for lab in np.unique(inner)
        if lab and whole[lab]
    }


@given(
    seed=st.integers(0, 2**32 - 1),
    noise=st.sampled_from([0.0, 0.02, 0.1]),
    cut=st.tuples(st.integers(0, 80), st.integers(0, 80)),
    chosen=st.sampled_from([SETTINGS, SHAPED]),
)
@settings(max_examples=30, deadline=None)
def test_crop_gives_the_same_nuclei_as_the_whole(
    seed: int, noise: float, cut: tuple[int, int], chosen: DecodeSettings
) -> None:
    maps = nuclei_maps(300, 300, scattered(seed, 190, 300), noise, seed)
    crop = (slice(cut[0], cut[0] + 220), slice(cut[1], cut[1] + 220))
    whole = decode_instances(maps, OUTPUTS, chosen, MPP)[crop]
    part = decode_instances(maps[:, *crop], OUTPUTS, chosen, MPP)
    margin = 48  # a largest nucleus of 400 um2 is 45 px wide at 0.5 um/px
    nuclei = nuclei_away_from_border(part, margin)
    assert nuclei_away_from_border(whole, margin) == nuclei
    assert len(nuclei) > 5


def test_network_rounding_changes_next_to_nothing() -> None:
    maps = nuclei_maps(600, 600, scattered(1, 700, 600), 0.02)
    jitter = np.random.default_rng(2).uniform(-1e-6, 1e-6, maps.shape).astype(np.float32)
    first = nuclei_away_from_border(decode_instances(maps, OUTPUTS, SETTINGS, MPP), 1)
    second = nuclei_away_from_border(decode_instances(maps + jitter, OUTPUTS, SETTINGS, MPP), 1)
    assert len(first & second) > 0.98 * len(first)


@pytest.mark.parametrize("sigma_px", [0.5, 1.0, 1.7])
def test_smoothing_is_exact_up_to_the_highest_score(sigma_px: float) -> None:
    """Two halves smoothed and added are the whole smoothed, pixel for pixel: no sum is rounded anywhere."""
    whole = _quantised(np.random.default_rng(0).uniform(0.9, 1, (60, 70)).astype(np.float32))
    half = np.floor(whole / 2)
    added = _smoothed(half, sigma_px) + _smoothed(whole - half, sigma_px)
    np.testing.assert_array_equal(_smoothed(whole, sigma_px), added)
