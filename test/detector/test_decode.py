"""The detector at run time: from what cells say to boxes."""

from __future__ import annotations

import numpy as np
import pytest

from mrcnet_ros.detector.decode import best_of_each, cell_grid, decode_detections
from mrcnet_ros.geometry.boxes import ious
from mrcnet_ros.specs import ANSWERING_CELLS

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


def sigmoid(logit: float) -> float:
    """Return the score of a logit."""
    return float(1 / (1 + np.exp(-logit)))


def test_a_box_is_where_its_cells_say():
    """Class and box come back, the best first; quiet cells say nothing."""
    cells = cell_grid(64, 64)
    boxes = [[10.5, 3.0, 40.0, 33.0], [2.0, 20.0, 30.0, 62.0]]
    said = [(20 + i, 2, 1.0, boxes[0]) for i in range(10)]
    said += [(66 + i, 0, 3.0, boxes[1]) for i in range(10)]
    found = decode_detections(*answers(cells, said), cells, 0.1)
    assert [f.class_index for f in found] == [0, 2]
    assert [f.score for f in found] == pytest.approx([sigmoid(3.0), sigmoid(1.0)], rel=1e-4)
    np.testing.assert_allclose(found[0].box_xyxy, boxes[1], atol=1e-4)
    np.testing.assert_allclose(found[1].box_xyxy, boxes[0], atol=1e-4)


@pytest.mark.parametrize('count', [1, 4, 10, 15])
def test_the_score_is_the_mean_of_those_that_should_answer(count):
    """One sure cell, with which no other agrees, says little; more than ten say no more."""
    cells = cell_grid(64, 64)
    box = [10.0, 10.0, 50.0, 50.0]
    said = [(20 + i, 0, 2.0 - 0.1 * i, box) for i in range(count)]
    found = decode_detections(*answers(cells, said), cells, 0.01)
    scores = [sigmoid(2.0 - 0.1 * i) for i in range(min(count, ANSWERING_CELLS))]
    assert [f.score for f in found] == pytest.approx([sum(scores) / ANSWERING_CELLS], rel=1e-4)


def test_a_small_box_needs_no_more_cells_than_lie_in_it():
    """A box of half a cell gets the whole score of the cell that proposes it."""
    cells = cell_grid(64, 64)
    found = decode_detections(*answers(cells, [(20, 1, 2.0, [34.0, 18.0, 38.0, 22.0])]), cells,
                              0.1)
    assert [f.score for f in found] == pytest.approx([sigmoid(2.0)], rel=1e-4)


def test_cells_that_agree_share_in_the_box():
    """Their boxes are averaged, those of surer cells more; cells that are unsure do not count."""
    cells = cell_grid(64, 64)
    said = [(20, 0, 2.0, [10.0, 10.0, 50.0, 50.0]), (21, 0, 1.0, [14.0, 10.0, 54.0, 50.0]),
            (22, 0, -2.0, [6.0, 10.0, 46.0, 50.0])]
    (found,) = decode_detections(*answers(cells, said), cells, 0.01)
    assert 10.0 < found.box_xyxy[0] < 12.0
    np.testing.assert_allclose(found.box_xyxy - found.box_xyxy[[0, 1, 0, 1]], [0, 0, 40, 40],
                               atol=1e-4)


def test_a_cell_counts_for_one_box_only():
    """A box that agrees with two others makes the better one better, and not the other."""
    cells = cell_grid(64, 64)
    said = [(20, 0, 2.0, [10.0, 10.0, 50.0, 50.0]), (21, 0, 1.0, [16.0, 10.0, 56.0, 50.0]),
            (22, 0, 0.5, [22.0, 10.0, 62.0, 50.0])]
    first, second = decode_detections(*answers(cells, said), cells, 0.01)
    assert first.score == pytest.approx((sigmoid(2.0) + sigmoid(1.0)) / ANSWERING_CELLS, rel=1e-4)
    assert second.score == pytest.approx(sigmoid(0.5) / ANSWERING_CELLS, rel=1e-4)
    np.testing.assert_allclose(second.box_xyxy, [22, 10, 62, 50], atol=1e-4)


@pytest.mark.parametrize('what', ['box', 'score of another class'])
@pytest.mark.parametrize('value', [np.inf, np.nan])
def test_a_cell_that_is_not_finite_hides_no_other(what, value):
    """As of a runtime in half precision that overflows."""
    cells = cell_grid(64, 64)
    boxes = [10.0, 10.0, 50.0, 50.0], [2.0, 40.0, 30.0, 62.0]
    said = [(20 + i, 0, 2.0, boxes[i % 2]) for i in range(6)]
    logits, distances = answers(cells, said)
    expected = decode_detections(*answers(cells, said[1:]), cells, 0.01)
    if what == 'box':
        distances[20] = value
    else:
        logits[20, 1] = value
    found = decode_detections(logits, distances, cells, 0.01)
    assert [f.score for f in found] == [f.score for f in expected] and len(found) == 2


def test_a_cell_may_propose_one_box_for_two_classes():
    """Which of two objects alike it is, is left to whoever asks."""
    cells = cell_grid(64, 64)
    logits, distances = answers(cells, [(5, 0, 1.0, [42.0, 2.0, 46.0, 6.0])])
    logits[5, 1] = 0.5
    first, second = decode_detections(logits, distances, cells, 0.3)
    assert (first.class_index, second.class_index) == (0, 1)
    share = sigmoid(1.0) / (sigmoid(1.0) + sigmoid(0.5))
    assert first.score == pytest.approx(sigmoid(1.0) * share ** 0.5, rel=1e-4)
    assert second.score == pytest.approx(sigmoid(0.5) * (1 - share) ** 0.5, rel=1e-4)


@pytest.mark.parametrize('least', [0.15, 0.5, 0.9])
def test_no_box_below_the_least_score_is_returned(least):
    """And all above it are, where none overlap and all are small."""
    cells = cell_grid(64, 64)
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (len(cells), 1)).astype(np.float32)
    distances = np.full((len(cells), 4), 0.1, np.float32)
    found = decode_detections(logits, distances, cells, least)
    expected = int((1 / (1 + np.exp(-logits.astype(float))) >= least).sum())
    assert len(found) == expected and all(f.score >= least - 1e-9 for f in found)
    assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)


@pytest.mark.parametrize('seed', range(4))
def test_of_boxes_that_overlap_the_best_stays(seed):
    """No two that stay overlap; each that goes overlaps a better one that stays."""
    boxes = random_boxes(150, seed)
    kept = best_of_each(boxes).tolist()
    assert kept == sorted(kept) and len(kept) < 145
    for place, i in enumerate(kept):
        assert not place or ious(boxes[kept[:place]], boxes[i]).max() <= 0.6
    for i in set(range(150)) - set(kept):
        assert ious(boxes[[j for j in kept if j < i]], boxes[i]).max() > 0.6


def test_overlap_is_symmetric_and_one_only_for_the_same_box():
    """Its laws hold for random boxes, and for a box without an area."""
    boxes = random_boxes(20, 9)
    for i, box in enumerate(boxes):
        values = ious(boxes, box)
        assert values[i] == pytest.approx(1) and (np.delete(values, i) < 1).all()
        np.testing.assert_allclose(values, [ious(box[None], b)[0] for b in boxes])
    assert ious(np.array([[3.0, 3, 3, 3]]), np.array([3.0, 3, 3, 3]))[0] == 0
