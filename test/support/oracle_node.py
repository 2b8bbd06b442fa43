"""The pose node with an estimator that knows the demo's scenes, for testing the demo itself.

Arguments: seed, number of scenes, error of its poses along the optical axis [m], then ROS's.
"""

import sys

import numpy as np

from mrcnet_ros.inference.poses import FrameResult, PoseEstimate
from mrcnet_ros.ros.pose_node import main
from mrcnet_ros.store.shared_files import shared_file
from mrcnet_ros.testbench.drawn_scenes import draw_scenes, scene_objects


class Oracle:
    """Recognises a scene by its pixels and returns its true poses, shifted."""

    def __init__(self, seed, count, error_m):
        folder = shared_file('models/demo')
        self.objects = {o.label: o for o in scene_objects(folder).values()}
        self._shift = np.array([0.0, 0.0, error_m])
        self._scenes = draw_scenes(folder, count, seed)

    def estimate(self, image_rgb, camera, detections, most=None):
        scene = next(s for s in self._scenes if np.array_equal(s.image_rgb, image_rgb))
        truth = {t.object_id: t.T_camera_object for t in scene.ground_truth}
        return FrameResult([self._pose(truth, d, i) for i, d in enumerate(detections)], [])

    def close(self):
        pass

    def _pose(self, truth, detection, index):
        item = self.objects[detection.label]
        T = truth[item.object_id] @ item.symmetries.transforms[-1]
        T[:3, 3] += self._shift
        return PoseEstimate(detection.label, item.object_id, T, 1.0, index,
                            detection.detection_id, detection.box_xyxy)


if __name__ == '__main__':
    seed, count, error_m = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    arguments = [sys.argv[0], *sys.argv[4:]]
    sys.exit(main(arguments, load=lambda parameters: Oracle(seed, count, error_m)))
