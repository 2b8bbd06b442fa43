"""Which poses of an image count: as many of each object as it shows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from mrcnet_ros.datasets.boxes import FoundBox
from mrcnet_ros.evaluation.runner import Run, run_frames
from mrcnet_ros.inference.detection_choice import Choice
from mrcnet_ros.inference.poses import Detection, FrameResult, PoseEstimate, Skipped


class Judge:
    """Scores a pose by how far its box is to the right."""

    objects: ClassVar = {'can': SimpleNamespace(object_id=5), 'cup': SimpleNamespace(object_id=6)}

    def estimate(self, image: Any, camera: Any, detections: list[Detection],
                 most: dict[str, int] | None = None) -> FrameResult:
        """Answer every detection, and return the best poses."""
        poses = [PoseEstimate(d.label, self.objects[d.label].object_id, np.eye(4),
                              d.box_xyxy[0] / 100, i, '', d.box_xyxy)
                 for i, d in enumerate(detections)]
        choice = Choice(detections, most or {}, self.objects)  # type: ignore[arg-type]
        best = choice.best(poses)
        return FrameResult(best, [Skipped(p.detection_index, 'outranked', '')
                                  for p in poses if p not in best])


class Boxes:
    """Finds the same boxes in every image."""

    def __init__(self, *found: tuple[int, float, float]) -> None:
        """Keep object id, left side and score of each."""
        self.seconds_an_image = 0.0
        self.found = [FoundBox(i, np.array([x, 0.0, x + 9, 9.0]), s) for i, x, s in found]

    def find(self, frame: Any) -> list[FoundBox]:
        """Return them."""
        return self.found

    def seconds(self, frame: Any) -> float:
        """Return the time that a test has set."""
        return self.seconds_an_image


def answered(targets: dict[int, int], *found: tuple[int, float, float], seconds: float = 0.0
             ) -> Run:
    """Answer an image with such targets, whose boxes took so long."""
    boxes = Boxes(*found)
    boxes.seconds_an_image = seconds
    frame = SimpleNamespace(scene_id=1, image_id=1, camera=None, targets=targets,
                            targets_unknown=not targets, load_image=lambda: None)
    run = Run()
    run_frames([frame], Judge(), boxes, None, run)  # type: ignore[list-item, arg-type]
    return run


def test_of_more_boxes_than_targets_the_poses_choose() -> None:
    """One can is there: of two boxes of about the same score the one with the better pose."""
    run = answered({5: 1}, (5, 10, 0.6), (5, 60, 0.5))
    assert [row.score for row in run.rows] == [0.6]
    assert [p.score for p in run.poses] == [0.6] and not run.skipped


def test_a_target_without_a_box_is_counted_whatever_others_have() -> None:
    """Three boxes of the can do not hide that there is none of the cup."""
    run = answered({5: 1, 6: 1}, (5, 10, 0.6), (5, 20, 0.5), (5, 30, 0.5))
    assert run.skipped == {'no_box': 1} and len(run.rows) == 1


def test_spare_boxes_of_an_object_that_the_model_lacks_are_no_targets() -> None:
    """Two of it are there and have four boxes."""
    run = answered({5: 1, 9: 2}, (5, 10, 0.6), *((9, x, 0.5) for x in (20.0, 30.0, 40.0, 50.0)))
    assert run.skipped == {'not_in_model': 2}


def test_times_are_those_of_detector_and_poses() -> None:
    """In the figures as in the file; without a detector there is no stage of it."""
    run = answered({5: 1}, (5, 10, 0.6), seconds=2.0)
    assert run.seconds == [run.rows[0].time_s] and run.seconds[0] >= 2.0
    assert run.stage_seconds == [{'detection': 2.0}]
    assert answered({5: 1}, (5, 10, 0.6)).stage_seconds == [{}]


def test_where_nobody_says_what_is_there_every_box_counts() -> None:
    """An image without targets keeps all poses."""
    assert len(answered({}, (5, 10, 0.6), (5, 20, 0.1), (6, 30, 0.5)).rows) == 3
