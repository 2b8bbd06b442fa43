"""A world that is known to the digit, in which instances are followed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.se3 import exp_so3, inverse, make_transform
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.inference.followed import TrackLimits, View
from mrcnet_ros.inference.poses import FrameResult, PoseEstimate
from mrcnet_ros.inference.tracking import Tracker
from mrcnet_ros.objects import ObjectModel

HZ = 30.0
SURE = np.diag([1e-6, 1e-6, 1e-5, 1e-3, 1e-3, 1e-3])
CAMERA = Camera(np.array([[80.0, 0, 15], [0, 80, 11], [0, 0, 1]]), 32, 24)
IMAGE = np.zeros((24, 32, 3), np.uint8)
LIMITS = TrackLimits()


class World:
    """Objects with known ways; answers a start with the nearest object of its label.

    The answer is the truth where the start is near it, and scores badly elsewhere.

    :param ways: label and function of time that returns T_world_object, None while it is hidden.
    """

    def __init__(self, *ways, camera=lambda t: np.eye(4)):
        """Start at time zero."""
        self.ways, self.camera, self.time_s, self.started = ways, camera, 0.0, []
        self.objects = {label: ObjectModel(
            object_id=1, label=label, mesh_path=Path('none'), mesh_sha256='', diameter_m=0.1,
            symmetries=Symmetries.none()) for label, _ in ways}

    def view(self, step: int, *, known_camera: bool = True) -> View:
        """Go to a step in time and look."""
        self.time_s = step / HZ
        T = self.camera(self.time_s) if known_camera else np.eye(4)
        return View(IMAGE, CAMERA, self.time_s, T)

    def poses(self, time_s: float):
        """Return label and T_camera_object of what can be seen."""
        return [(label, inverse(self.camera(time_s)) @ T) for label, way in self.ways
                if (T := way(time_s)) is not None]

    def estimates(self, time_s: float | None = None, score: float = 0.8, ids=()):
        """Return what a perfect detector and estimator say."""
        seen = self.poses(self.time_s if time_s is None else time_s)
        return [PoseEstimate(label, 1, T, score, i, ids[i] if ids else '', np.zeros(4),
                             covariance=SURE) for i, (label, T) in enumerate(seen)]

    def follow(self, image, camera, starts, depth_m=None, support_plane=None):
        """Answer starts."""
        self.started.append(len(starts))
        self.starts = starts
        poses = []
        for i, start in enumerate(starts):
            near = [T for label, T in self.poses(self.time_s) if label == start.label]
            near.sort(key=lambda T: np.linalg.norm(T[:3, 3] - start.T_camera_object[:3, 3]))
            good = near and np.linalg.norm(
                near[0][:3, 3] - start.T_camera_object[:3, 3]) < 0.03
            poses.append(PoseEstimate(
                start.label, 1, near[0] if good else start.T_camera_object, 0.8 if good else 0.05,
                i, start.detection_id, np.zeros(4), covariance=SURE))
        return FrameResult(poses, [])


def at(x: float, y: float = 0.0, z: float = 0.8, turn: float = 0.0) -> np.ndarray:
    """Return a pose in front of the camera."""
    return make_transform(exp_so3([0.0, turn, 0.0]), [x, y, z])


def moving(time_s: float) -> np.ndarray:
    """Return where a thing on a conveyor is: half a metre per second, half a turn in three."""
    return at(-0.3 + 0.5 * time_s, turn=time_s)


def begun(world: World, *, steps: int = 0, ids=(), score: float = 0.8) -> Tracker:
    """Return a tracker that has seen detections at step 0 and was used in some more images."""
    tracker = Tracker(world)
    tracker.observe(world.view(0), world.estimates(ids=ids, score=score), LIMITS)
    for step in range(1, steps + 1):
        tracker.follow(world.view(step), LIMITS)
    return tracker


def cans(*seen):
    """Return answers to detections of cans at places x with scores."""
    return [PoseEstimate('can', 1, at(x), score, i, '', np.zeros(4), covariance=SURE)
            for i, (x, score) in enumerate(seen)]
