"""Contours: text files, and masks against small cases by hand, the polygon's area and matplotlib."""

import re

import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from retable.data.formats.contours import coded, filled, inside, line, read_contour, scaled
from retable.errors import DataError

# Between the pixels' centres of a 6x5 image: rows 1 to 4 and columns 1 to 3 lie within.
BOX = np.array([(0.5, 0.5), (3.5, 0.5), (3.5, 4.5), (0.5, 4.5)])
CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 200)), np.sin(np.linspace(0, 2 * np.pi, 200))], 1)[:-1]


def area(points: np.ndarray) -> float:
    """The shoelace formula."""
    x, y = points.T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_points_are_x_and_y(tmp_path):
    path = tmp_path / "c.txt"
    path.write_text("120.50 137.50\n\n1 2 \r\n-0.25\t3e1\n")
    assert read_contour(path).tolist() == [[120.5, 137.5], [1, 2], [-0.25, 30]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": 0 points; accepted: at least three"),
        ("1 2\n3 4\n", ": 2 points; accepted: at least three"),
        ("1 2\n3 4\n5 six\n", ", row 3: '5 six'; accepted: two numbers"),
        ("1 2\n\n3 4 5\n", ", row 3: '3 4 5'; accepted: two numbers"),
        ("1 2\n3 nan\n5 6\n", ", row 2: '3 nan'; accepted: two finite numbers"),
    ],
)
def test_fault_names_file_and_row(tmp_path, text, message):
    path = tmp_path / "c.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=f"^{re.escape(str(path) + message)}"):
        read_contour(path)


def test_unreadable_file_is_named(tmp_path):
    path = tmp_path / "c.txt"
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: cannot be read"):
        read_contour(path)
    path.write_bytes(b"\xff\xfe1 2")
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: cannot be read"):
        read_contour(path)


def test_image_reaches_to_the_edges_of_its_pixels(tmp_path):
    corners = np.array([(-0.5, -0.5), (4.5, -0.5), (4.5, 5.5)])
    inside(corners, (6, 5), tmp_path / "c.txt", tmp_path / "i.dcm")
    corners[2, 0] += 0.1
    with pytest.raises(DataError, match=r"/c.txt: point 3 \(4.6, 5.5\) lies outside i.dcm of 5x6 pixels"):
        inside(corners, (6, 5), tmp_path / "c.txt", tmp_path / "i.dcm")


def test_region_by_hand():
    expected = np.zeros((6, 5), int)
    expected[1:5, 1:4] = 1
    assert filled(BOX, (6, 5)).tolist() == expected.tolist()
    assert filled(BOX[::-1], (6, 5)).tolist() == expected.tolist()  # in either direction


def test_scaling_maps_edges_to_edges():
    # A pixel of 6x5 becomes two columns by three rows of 18x10.
    expected = np.zeros((6, 5), int)
    expected[1:5, 1:4] = 1
    larger = filled(scaled(BOX, (6, 5), (18, 10)), (18, 10))
    assert larger.tolist() == expected.repeat(3, 0).repeat(2, 1).tolist()
    whole = np.array([(-0.5, -0.5), (4.5, 5.5)])
    assert scaled(whole, (6, 5), (216, 216)).tolist() == [[-0.5, -0.5], [215.5, 215.5]]


def test_line_by_hand():
    # Corners on pixels' centres, then the same a little off them.
    for offset in (0, 0.3, -0.3):
        drawn = line(np.array([(1, 1), (3, 1), (3, 4), (1, 4)]) + offset, (6, 5))
        assert ["".join(".#"[int(pixel)] for pixel in row) for row in drawn] == [
            ".....",
            ".###.",
            ".#.#.",
            ".#.#.",
            ".###.",
            ".....",
        ]


def test_codes_by_hand():
    region = filled(BOX, (6, 5))
    drawn = coded(region)  # the region's inner boundary: 4x3 pixels but for the inner two
    assert drawn.tolist() == [
        [0, 0, 0, 0, 0],
        [0, 3, 3, 3, 0],
        [0, 3, 1, 3, 0],
        [0, 3, 1, 3, 0],
        [0, 3, 3, 3, 0],
        [0, 0, 0, 0, 0],
    ]
    assert (drawn % 2 == region).all()
    own = np.zeros((6, 5), bool)
    own[0] = own[1] = True
    assert coded(region, own)[:3].tolist() == [[2, 2, 2, 2, 2], [2, 3, 3, 3, 2], [0, 1, 1, 1, 0]]


@pytest.mark.parametrize("radius", [9.3, 30.0, 71.4])
def test_area_of_a_circle(radius):
    points = CIRCLE * radius + (100.3, 90.8)
    # Pixels on the edge are in or out by chance, evenly: well below a quarter of a pixel an edge pixel.
    assert abs(filled(points, (216, 216)).sum() - area(points)) < 0.25 * 2 * np.pi * radius
    drawn = line(points, (216, 216))
    row, column = np.nonzero(drawn)
    distance = np.hypot(column - 100.3, row - 90.8) - radius
    assert np.abs(distance).max() < 0.72  # half a pixel's diagonal, and what 199 corners lack of a circle
    rows, columns = np.indices(drawn.shape)
    assert drawn[np.abs(np.hypot(columns - 100.3, rows - 90.8) - radius) < 0.3].all()  # unbroken


def test_real_contours_against_matplotlib(data_root):
    files = sorted(data_root.glob("sunnybrook/contourfiles/*/*/*.txt"))
    if not files:
        pytest.skip("no sunnybrook in RETABLE_DATA")
    assert [len(read_contour(path)) for path in files[:4]] == [150, 210, 178, 232]
    centres = np.stack(np.meshgrid(np.arange(216), np.arange(216)), -1).reshape(-1, 2)
    for path in files:
        points = read_contour(path)
        inside(points, (256, 256), path, path)
        here = scaled(points, (256, 256), (216, 216))
        region = filled(here, (216, 216))
        # Either side of the contour, whichever way it runs: centres on the contour itself may be in or out.
        sides = [Polygon(here).contains_points(centres, radius=r).reshape(216, 216) for r in (1e-6, -1e-6)]
        assert ((sides[0] & sides[1]) <= region).all()
        assert (region <= (sides[0] | sides[1])).all()
        assert np.count_nonzero(sides[0] != sides[1]) < 10
        assert region.sum() == pytest.approx(area(here), rel=0.025)
