"""The pose node with an estimator that knows the demo's scenes, for testing the demo itself.

Arguments: seed, number of scenes, error of its poses along the optical axis [m], then ROS's.
"""

import sys

import numpy as np

from mrcnet_ros.demo.assets import shared_file
from mrcnet_ros.demo.scenes import DemoSceneMaker
from mrcnet_ros.demo.surroundings import load_environments
from mrcnet_ros.inference.poses import FrameResult, PoseEstimate
from mrcnet_ros.objects import load_object_list
from mrcnet_ros.ros.pose_node import main


class Oracle:
    """Recognises a scene by its pixels and returns its true poses, shifted."""

    def __init__(self, seed, count, error_m):
        folder = shared_file('models/demo')
        self.objects = {o.label: o for o in load_object_list(folder / 'objects.yaml').values()}
        meshes = {label: o.load_mesh() for label, o in self.objects.items()}
        self._shift = np.array([0.0, 0.0, error_m])
        with DemoSceneMaker(meshes, load_environments(folder / 'backgrounds'), seed) as maker:
            self._scenes = [maker.make(number) for number in range(count)]

    def estimate(self, image_rgb, camera, detections):
        scene = next(s for s in self._scenes if np.array_equal(s.image_rgb, image_rgb))
        truth = {o.label: o.T_camera_object for o in scene.objects}
        return FrameResult([self._pose(truth, d, i) for i, d in enumerate(detections)], [])

    def close(self):
        pass

    def _pose(self, truth, detection, index):
        T = truth[detection.label] @ self.objects[detection.label].symmetries.transforms[-1]
        T[:3, 3] += self._shift
        return PoseEstimate(detection.label, self.objects[detection.label].object_id, T, 1.0,
                            index, detection.detection_id, detection.box_xyxy)


if __name__ == '__main__':
    seed, count, error_m = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    arguments = [sys.argv[0], *sys.argv[4:]]
    sys.exit(main(arguments, load=lambda parameters: Oracle(seed, count, error_m)))
