"""Which boxes of the detector are of objects that an image shows."""

from __future__ import annotations

import numpy as np

from mrcnet_ros.detector.decode import FoundObject
from mrcnet_ros.detector.matching import TopBoxes, which_fit


def test_an_object_has_the_first_box_that_fits_it():
    """A second one that fits as well has none; nor has a box that fits by less than a half."""
    a, b, far = np.array([[0.0, 0, 10, 10], [2, 0, 12, 10], [0, 4, 10, 14]])
    boxes = [FoundObject(0, score, box) for score, box in ((0.9, b), (0.8, a), (0.7, far))]
    assert which_fit(boxes, a[None]) == [0, -1, -1]
    assert which_fit(boxes, np.stack([a, b])) == [1, 0, -1]
    assert which_fit(boxes[2:], a[None]) == [-1]
    assert which_fit(boxes, np.zeros((0, 4))) == [-1] * 3


def test_the_best_boxes_count_as_many_as_objects_are_there():
    """A second box of a class counts where two are there; a worse one never does."""
    a, b, c = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    found = [FoundObject(0, 0.9, a), FoundObject(0, 0.8, b), FoundObject(1, 0.7, c)]
    top = TopBoxes(3)
    assert top.add(np.array([0, 0, 1]), np.array([a, b, a]), found) == [True, True, False]
    assert top.add(np.array([0]), b[None], found) == [False]
    assert top.add(np.array([2]), b[None], found) == [False]
    assert top.recalls(['x', 'y', 'z']) == {'x': 2 / 3, 'y': 0.0, 'z': 0.0, 'all': 2 / 5}
    assert TopBoxes(1).recalls(['x']) == {'all': 0.0}
