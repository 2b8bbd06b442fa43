"""The topics on which frames are answered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from cv_bridge import CvBridge
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import Image
from tf2_ros import TransformBroadcaster
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from ..objects import ObjectModel
from ..rendering.pose_overlay import DrawnObject, PoseOverlay
from . import qos
from .frame_handler import Answer
from .markers import Markers
from .params import NodeParameters


class Outputs:
    """Publishes answers; used by the worker's thread.

    :param node: that publishes.
    """

    def __init__(self, node: Any) -> None:
        """Create the publishers."""
        self._poses = node.create_publisher(PoseStamped, 'object_poses', qos.OUTPUT)
        self._detections = node.create_publisher(
            Detection3DArray, 'object_detections', qos.OUTPUT)
        self._broadcaster = TransformBroadcaster(node)
        self._markers = node.create_publisher(MarkerArray, 'markers', qos.PICTURE)
        self._overlay = node.create_publisher(Image, 'overlay', qos.PICTURE)

    def publish(self, answer: Answer, parameters: NodeParameters) -> None:
        """Publish what other nodes work with."""
        for pose in answer.poses:
            self._poses.publish(pose)
        framed = bool(answer.header.frame_id)
        if answer.transforms and framed and parameters.publish_tf:
            self._broadcaster.sendTransform(answer.transforms)
        self._detections.publish(answer.detections)

    def markers_wanted(self, parameters: NodeParameters) -> bool:
        """Tell whether markers would be seen."""
        return parameters.publish_markers and self._markers.get_subscription_count() > 0

    def overlay_wanted(self, parameters: NodeParameters) -> bool:
        """Tell whether an overlay would be seen."""
        return parameters.publish_overlay and self._overlay.get_subscription_count() > 0

    def publish_markers(self, markers: MarkerArray) -> None:
        """Publish meshes."""
        self._markers.publish(markers)

    def publish_overlay(self, overlay: Image) -> None:
        """Publish a picture."""
        self._overlay.publish(overlay)


class Pictures:
    """Draws answers for people, while people look; used by the worker's thread.

    :param objects: by label.
    """

    def __init__(self, outputs: Outputs, objects: Mapping[str, ObjectModel]) -> None:
        """Start without a renderer, which only an overlay needs."""
        self._outputs, self._objects = outputs, objects
        self._markers = Markers()
        self._overlay: PoseOverlay | None = None
        self._drawn_s = float('-inf')

    def publish(self, answer: Answer, parameters: NodeParameters) -> dict[str, float]:
        """Publish markers and overlay as far as they are wanted.

        :return: the time that each took [s].
        :raises MrcnetError: when a mesh or OpenGL cannot be used.
        """
        seconds = {}
        start = time.perf_counter()
        if self._outputs.markers_wanted(parameters):
            self._outputs.publish_markers(self._markers.message(
                answer.header, answer.scene, self._objects,
                lifetime_s=parameters.marker_lifetime_s,
                mesh_folder=parameters.marker_mesh_folder))
            seconds['markers'] = time.perf_counter() - start
        start = time.perf_counter()
        due = start - self._drawn_s >= 1.0 / parameters.overlay_rate_hz
        if due and self._outputs.overlay_wanted(parameters):
            self._drawn_s = start
            self._outputs.publish_overlay(self._draw(answer))
            seconds['overlay'] = time.perf_counter() - start
        return seconds

    def close(self) -> None:
        """Free the renderer."""
        if self._overlay is not None:
            self._overlay.close()
            self._overlay = None

    def _draw(self, answer: Answer) -> Image:
        if self._overlay is None:
            self._overlay = PoseOverlay(self._objects)
        scene = answer.scene
        picture = self._overlay.draw(scene.image_rgb, scene.camera, [
            DrawnObject(e.label, e.T_camera_object, f'{name} {e.score:.2f}')
            for name, e in zip(scene.names, scene.estimates, strict=True)])
        return CvBridge().cv2_to_imgmsg(picture, 'rgb8', answer.header)
