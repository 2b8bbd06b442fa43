"""The detector at run time: from what cells say to boxes."""

from __future__ import annotations

import numpy as np
import pytest

from mrcnet_ros.detector.decode import (
    FoundObject,
    TopBoxes,
    cell_grid,
    decode_detections,
    suppress,
)
from mrcnet_ros.geometry.boxes import ious

NO = -12.0


def answers(cells: np.ndarray, said: list[tuple[int, int, float, list[float]]]
            ) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and distances in which some cells propose boxes.

    :param said: row of the cell, class, logit, box.
    """
    logits = np.full((len(cells), 3), NO, np.float32)
    distances = np.ones((len(cells), 4), np.float32)
    for cell, row, logit, box in said:
        logits[cell, row] = logit
        middle = cells[cell, :2]
        distances[cell] = [*(middle - box[:2]), *(box[2:] - middle)]
    return logits, distances


def random_boxes(count: int, seed: int) -> np.ndarray:
    """Return boxes of all sizes, of which many overlap."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 60, (count, 2))
    return np.concatenate([low, low + rng.uniform(5, 40, (count, 2))], 1)


def test_cells_tile_the_image_at_every_level():
    """Their middles are inside, and their areas add up to the image three times."""
    cells = cell_grid(64, 96)
    assert len(cells) == 96 + 24 + 6
    assert (cells[:, :2] > 0).all() and (cells[:, 0] < 96).all() and (cells[:, 1] < 64).all()
    assert (cells[:, 2] ** 2).sum() == 3 * 64 * 96
    assert len(np.unique(cells, axis=0)) == len(cells)


def test_a_box_is_where_its_cell_says():
    """Class, score and box come back, the best first; quiet cells say nothing."""
    cells = cell_grid(64, 64)
    boxes = [[10.5, 3.0, 40.0, 33.0], [2.0, 20.0, 30.0, 62.0]]
    given = answers(cells, [(20, 2, 1.0, boxes[0]), (66, 0, 3.0, boxes[1])])
    found = decode_detections(*given, cells, 0.1)
    assert [f.class_index for f in found] == [0, 2]
    assert found[0].score == pytest.approx(1 / (1 + np.exp(-3.0)))
    np.testing.assert_allclose(found[0].box_xyxy, boxes[1], atol=1e-4)
    np.testing.assert_allclose(found[1].box_xyxy, boxes[0], atol=1e-4)


def test_a_cell_may_propose_one_box_for_two_classes():
    """Which of two objects alike it is, is left to whoever asks."""
    cells = cell_grid(64, 64)
    logits, distances = answers(cells, [(5, 0, 1.0, [0.0, 0.0, 20.0, 20.0])])
    logits[5, 1] = 0.5
    assert [f.class_index for f in decode_detections(logits, distances, cells, 0.3)] == [0, 1]


@pytest.mark.parametrize('least', [0.05, 0.5, 0.9])
def test_no_box_below_the_least_score_is_returned(least):
    """And all above it are, where none overlap."""
    cells = cell_grid(64, 64)
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (len(cells), 1)).astype(np.float32)
    distances = np.full((len(cells), 4), 0.1, np.float32)
    found = decode_detections(logits, distances, cells, least)
    expected = int((1 / (1 + np.exp(-logits.astype(float))) >= least).sum())
    assert len(found) == expected and all(f.score >= least - 1e-9 for f in found)
    assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)


@pytest.mark.parametrize('seed', range(4))
def test_of_boxes_that_overlap_the_best_of_a_class_stays(seed):
    """No two that stay overlap; each that goes overlaps a better one; classes do not meet."""
    boxes = random_boxes(300, seed)
    rows = np.random.default_rng(seed).integers(0, 2, 300)
    kept = suppress(boxes, rows)
    assert kept == sorted(kept) and len(kept) < 290
    for place, i in enumerate(kept):
        others = [j for j in kept[:place] if rows[j] == rows[i]]
        assert not len(others) or ious(boxes[others], boxes[i]).max() <= 0.6
    for i in set(range(300)) - set(kept):
        better = [j for j in kept if j < i and rows[j] == rows[i]]
        assert ious(boxes[better], boxes[i]).max() > 0.6
    for row in (0, 1):  # as if the other class were not there
        own = np.flatnonzero(rows == row)
        assert [int(own[i]) for i in suppress(boxes[own], rows[own])] == [
            i for i in kept if rows[i] == row]


def test_overlap_is_symmetric_and_one_only_for_the_same_box():
    """Its laws hold for random boxes, and for a box without an area."""
    boxes = random_boxes(20, 9)
    for i, box in enumerate(boxes):
        values = ious(boxes, box)
        assert values[i] == pytest.approx(1) and (np.delete(values, i) < 1).all()
        np.testing.assert_allclose(values, [ious(box[None], b)[0] for b in boxes])
    assert ious(np.array([[3.0, 3, 3, 3]]), np.array([3.0, 3, 3, 3]))[0] == 0


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
