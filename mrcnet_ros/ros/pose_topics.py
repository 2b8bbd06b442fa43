"""A topic for the pose of each instance, with its covariance; made when it is first needed."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Collection, Mapping

import numpy as np
from geometry_msgs.msg import PoseWithCovariance, PoseWithCovarianceStamped
from std_msgs.msg import String

from ..inference.poses import PoseEstimate
from ..objects import ObjectModel
from . import qos
from .confirmation import label_of
from .message_types import HeaderMessage
from .messages import pose_from_transform
from .rclpy_types import NodeHandle, PublisherHandle

# Names of instances are bounded by what was ever seen at once; a detector gone wild is not.
MOST_TOPICS = 200


class PoseTopics:
    """Publishes PoseWithCovarianceStamped on ``~/pose/<instance>``; used by one worker."""

    def __init__(self, node: NodeHandle) -> None:
        self._node = node
        self._labels: Collection[str] = ()
        # The executor may be waiting for events of these, so its own thread destroys them.
        self._unused: deque[PublisherHandle] = deque()
        self._destroy = node.create_guard_condition(self._destroy_unused)
        self._publishers: dict[str, PublisherHandle] = {}
        self._names: dict[str, str] = {}

    def publish(self, header: HeaderMessage, poses: Mapping[str, PoseEstimate],
                labels: Collection[str]) -> None:
        """Publish poses that have a covariance; zeros would count as perfectly sure.

        :param poses: by name of the instance, as in /tf.
        :param labels: of the model, the same collection as long as that is the same one. Topics of
            objects that only a former model had end.
        """
        if labels is not self._labels:
            self._labels = labels
            self._end_others()
        for name, pose in poses.items():
            message, token = pose_with_covariance(header, pose), topic_token(name)
            if (owner := self._names.setdefault(token, name)) != name:
                self._node.get_logger().error(
                    f'{name!r} has no topic of its own, ~/pose/{token} is that of {owner!r}; '
                    'give one of them another label', throttle_duration_sec=60.0)
                continue
            if message is None:
                self._node.get_logger().error(
                    f'the pose of {name!r} has no covariance and is not published on '
                    f'~/pose/{token}; run mrcnet calibrate --write',
                    throttle_duration_sec=60.0)
            elif publisher := self._publisher(token):
                publisher.publish(message)

    def _end_others(self) -> None:
        """End topics of what is no instance of an object of the model."""
        for token, name in list(self._names.items()):
            if not label_of(name, self._labels):
                del self._names[token]
                if token in self._publishers:
                    self._unused.append(self._publishers.pop(token))
        self._destroy.trigger()

    def _destroy_unused(self) -> None:
        while self._unused:
            self._node.destroy_publisher(self._unused.popleft())

    def _publisher(self, token: str) -> PublisherHandle | None:
        if token not in self._publishers:
            if len(self._publishers) >= MOST_TOPICS:
                self._node.get_logger().error(
                    f'there are {MOST_TOPICS} topics ~/pose/... and no more; {token} has none',
                    throttle_duration_sec=60.0)
                return None
            self._publishers[token] = self._node.create_publisher(
                PoseWithCovarianceStamped, f'~/pose/{token}', qos.OUTPUT)
        return self._publishers[token]


def topic_token(name: str) -> str:
    """Return a name as a part of a topic: letters, digits and underscores, no digit in front.

    Letters that topics cannot have are told by their numbers: labels in Greek stay different.
    """
    name = re.sub(r'[^\x00-\x7f]', lambda letter: f'_u{ord(letter[0]):x}_', name)
    token = re.sub('_+', '_', re.sub('[^A-Za-z0-9_]', '_', name)).strip('_') or 'object'
    return f'object_{token}' if token[0].isdigit() else token


def pose_with_covariance(header: HeaderMessage, pose: PoseEstimate
                         ) -> PoseWithCovarianceStamped | None:
    """Return the pose of one object in the frame of the header, None without a covariance.

    Convention: the covariance is about the axes of that frame, as geometry_msgs says.
    """
    C = pose.covariance
    if C is None or not np.isfinite(C).all():
        return None
    return PoseWithCovarianceStamped(header=header, pose=PoseWithCovariance(
        pose=pose_from_transform(pose.T_camera_object),
        covariance=[float(value) for value in C.ravel()]))


def symmetries_message(objects: Mapping[str, ObjectModel]) -> String:
    """Return the symmetries of all objects as JSON.

    ``{"version": 1, "objects": [{"label", "object_id", "diameter_m", "transforms"}]}``:
    transforms are 4x4 matrices, row by row, lengths in metres, in the object frame; the pose
    ``T`` and ``T @ S`` look the same for each of them, the identity among them. A continuous
    symmetry is given by many of them.
    """
    listed = [{'label': label, 'object_id': item.object_id,
               'diameter_m': item.real_diameter_m,
               'transforms': [np.round(S, 9).ravel().tolist() for S in
                              item.real_symmetries.transforms]}
              for label, item in sorted(objects.items())]
    return String(data=json.dumps({'version': 1, 'objects': listed}, allow_nan=False))
