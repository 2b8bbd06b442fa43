"""The real node with an estimator that is known to the digit, as a program.

``python stand_in_node.py --ros-args ...`` has :class:`BoxEstimator` in place of a trained model;
``python stand_in_node.py BAG SHIFT_M MODELS_DIR --ros-args ...`` has :class:`TruthEstimator`; with
``slow`` before ``--ros-args`` it takes minutes to load.
"""

from __future__ import annotations

import atexit
import logging
import shutil
import sys
import tempfile
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np

DIAMETERS_M = {'duck': 0.1, 'can': 0.2, 'brick': 0.1}
HALF_SIZE_M = np.array([0.01, 0.02, 0.03])
SLOW_LABEL_S = {'can': 0.3}
SURE = np.diag([1e-6, 1e-6, 1e-4, 0.01, 0.01, 0.02]) + 1e-7


def box_object(folder: Path, label: str):
    """Write the mesh of a box that is not centred and return an object; a brick has two faces.

    A brick looks the same after half a turn about z.
    """
    from mrcnet_ros.geometry.symmetry import Symmetries
    from mrcnet_ros.objects import ObjectModel

    bounds = np.stack([-HALF_SIZE_M, 2 * HALF_SIZE_M])
    path = folder / f'{label}.ply'
    path.write_text(box_ply(1000 * bounds))
    turns = [np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0])] if label == 'brick' else [np.eye(4)]
    return ObjectModel(
        object_id=9, label=label, mesh_path=path, symmetries=Symmetries(np.array(turns)),
        diameter_m=float(np.linalg.norm(bounds[1] - bounds[0])), bounds_m=bounds)


def box_ply(bounds):
    """Return the text of a PLY of a box, made without a library: the node is to start quickly."""
    corners = [(x, y, z) for x in bounds[:, 0] for y in bounds[:, 1] for z in bounds[:, 2]]
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = [t for a, b, c, d in sides for t in ((a, b, c), (a, c, d))]
    return '\n'.join([
        'ply', 'format ascii 1.0', 'element vertex 8',
        *(f'property float {axis}' for axis in 'xyz'), 'element face 12',
        'property list uchar int vertex_indices', 'end_header',
        *('{:g} {:g} {:g}'.format(*corner) for corner in corners),
        *('3 {} {} {}'.format(*triangle) for triangle in triangles), ''])


class BoxEstimator:
    """Places an object on the ray through its box, at the depth its height in pixels tells.

    Knows ``DIAMETERS_M``; a frame that has a can takes ``SLOW_LABEL_S`` longer. A duck with the
    id ``nan`` gets a pose that is not finite, one with the id ``boom`` raises; R = I, or half a
    turn about z with the id ``flip``. One with the id ``sure`` gets the covariance ``SURE``, one
    with the id ``unsure`` one that is not finite. One with the id ``hold:PATH`` makes the file
    PATH and waits until that is gone again.
    """

    follows_by = 'stage 2'

    def __init__(self):
        folder = Path(tempfile.mkdtemp(prefix='mrcnet_boxes_'))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self.objects = {label: box_object(folder, label) for label in DIAMETERS_M}
        self.model = SimpleNamespace(name='boxes', path=folder)
        self.backend = SimpleNamespace(name='none', device='cpu')
        self.depth_factor = 1.0

    def estimate(self, image_rgb, camera, detections, depth_m=None, most=None):
        """Return a pose for each detection that can have one; depth, if any, sets its distance."""
        from mrcnet_ros.errors import UnknownLabelError
        from mrcnet_ros.inference.detection_choice import Choice
        from mrcnet_ros.inference.poses import FrameResult, Skipped

        poses, skipped = [], []
        for index, detection in enumerate(detections):
            time.sleep(SLOW_LABEL_S.get(detection.label, 0.0))
            if detection.detection_id.startswith('hold:'):
                hold(detection.detection_id.removeprefix('hold:'))
            if detection.detection_id == 'boom':
                raise RuntimeError('this estimator was told to fail')
            if detection.label not in DIAMETERS_M:
                text = str(UnknownLabelError(detection.label, self.objects))
                skipped.append(Skipped(index, 'unknown_label', text))
            elif detection.box_xyxy[2] <= 0 or detection.box_xyxy[0] >= camera.width:
                skipped.append(Skipped(index, 'box_outside', f'{detection.box_xyxy} is outside'))
            else:
                poses.append(self._pose(camera, index, detection))
        if depth_m is not None:
            poses = [measured(pose, depth_m) for pose in poses]
        best = Choice(detections, most or {}, self.objects).best(poses)
        chosen = {pose.detection_index for pose in best}
        skipped += [Skipped(pose.detection_index, 'outranked', '')
                    for pose in poses if pose.detection_index not in chosen]
        return FrameResult(best, skipped, {'crop': 0.001, 'stage1': 0.002}, len(poses), 0)

    def follow(self, image_rgb, camera, starts, depth_m=None, support_plane=None):
        """Answer each start with itself, a millimetre to the right; a white image has nothing."""
        from mrcnet_ros.inference.poses import FrameResult, PoseEstimate

        poses = []
        for index, start in enumerate(starts):
            T = np.array(start.T_camera_object)
            T[0, 3] += 0.001
            score = 0.01 if image_rgb.min() == 255 else 0.7
            poses.append(PoseEstimate(start.label, 9, T, score, index, start.detection_id,
                                      np.zeros(4), covariance=SURE))
        return FrameResult(poses, [], {'stage2': 0.001})

    def close(self):
        """Do nothing: there is nothing to let go of."""

    def _pose(self, camera, index, detection):
        from mrcnet_ros.inference.poses import PoseEstimate

        x1, y1, x2, y2 = detection.box_xyxy
        depth = self.depth_factor * DIAMETERS_M[detection.label] * camera.K[1, 1] / (y2 - y1)
        T = np.eye(4)
        T[:3, 3] = camera.unproject(((x1 + x2) / 2, (y1 + y2) / 2)) * depth
        if detection.detection_id == 'flip':
            T[:2, :2] *= -1
        if detection.detection_id == 'nan':
            T[2, 3] = np.nan
        covariance = {'sure': SURE, 'unsure': np.full((6, 6), np.nan)}.get(detection.detection_id)
        return PoseEstimate(detection.label, 9, T, np.float32(0.75), index,
                            detection.detection_id, detection.box_xyxy, covariance=covariance)


def hold(path):
    """Make a file and wait until somebody removes it."""
    gate = Path(path)
    gate.touch()
    while gate.exists():
        time.sleep(0.01)


def measured(pose, depth_m):
    """Move a pose along its ray to the depth in the middle of its box."""
    import dataclasses

    from mrcnet_ros.inference.depth_alignment import DepthFit

    x1, y1, x2, y2 = pose.box_xyxy
    z = float(depth_m[int((y1 + y2) / 2), int((x1 + x2) / 2)])
    T = pose.T_camera_object.copy()
    T[:3, 3] *= z / T[2, 3]
    fit = DepthFit(T, 'pose', 1.0, 0.0015, 100, np.eye(6))
    return dataclasses.replace(pose, T_camera_object=T, depth=fit)


class TruthEstimator:
    """Knows the ground truth of a bag and is wrong by a shift along the optical axis.

    :param bag: made with the labels obj_000001 and so on.
    :param models_dir: BOP models folder of its objects.
    """

    def __init__(self, bag, shift_m, models_dir):
        from rclpy.serialization import deserialize_message
        from sensor_msgs.msg import Image

        from mrcnet_ros.objects import load_bop_objects
        from mrcnet_ros.ros.messages import rgb_from_image
        from mrcnet_ros.testbench.bag import read_bag

        self.objects = {o.label: o for o in load_bop_objects(models_dir).values()}
        self._shift = np.array([0.0, 0.0, shift_m])
        self._truths = {
            rgb_from_image(deserialize_message(f.inputs['/image'], Image)).tobytes(): f.truths
            for f in read_bag(bag)}

    def estimate(self, image_rgb, camera, detections, most=None):
        """Return the true pose for each detection, in the order of the annotations."""
        from mrcnet_ros.inference.poses import FrameResult, PoseEstimate

        truths = list(self._truths[image_rgb.tobytes()])
        poses = []
        for index, detection in enumerate(detections):
            truth = next(t for t in truths if t.label == detection.label)
            truths.remove(truth)
            T = truth.T_camera_object.copy()
            T[:3, 3] += self._shift
            poses.append(PoseEstimate(
                truth.label, self.objects[truth.label].object_id, T, 0.9, index,
                detection.detection_id, detection.box_xyxy))
        return FrameResult(poses, [])

    def close(self):
        """Do nothing: there is nothing to let go of."""


if __name__ == '__main__':
    from mrcnet_ros.errors import ModelError
    from mrcnet_ros.ros.pose_node import main

    log = logging.getLogger('mrcnet_ros.stand_in')
    start = sys.argv.index('--ros-args')
    own, for_ros = sys.argv[1:start], [sys.argv[0], *sys.argv[start:]]

    def load(parameters):
        """Make the estimator that the program's own arguments, or the name of a model, ask for.

        ``far`` doubles all depths; ``far:PATH`` does so, and makes the file PATH and waits until
        that is gone before it is loaded; ``bad`` cannot be loaded; ``endless`` takes too long.
        What it does meanwhile is logged.
        """
        if own == ['slow']:
            print('loading', flush=True)
            time.sleep(120)
        if len(own) > 1:
            return TruthEstimator(own[0], float(own[1]), own[2])
        estimator = BoxEstimator()
        if parameters.model == 'bad':
            raise ModelError(parameters.model, 'it is damaged')
        weakref.finalize(estimator, print, 'the estimator was freed', flush=True)
        if parameters.model.startswith('far'):
            log.info('drawing the far ducks')
            if ':' in parameters.model:
                hold(parameters.model.removeprefix('far:'))
            estimator.model.name, estimator.depth_factor = 'far', 2.0
        if parameters.model == 'endless':
            log.info('loading the ducks one by one')
            time.sleep(120)
        return estimator

    sys.exit(main(for_ros, load=load))
