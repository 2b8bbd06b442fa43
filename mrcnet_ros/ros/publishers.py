"""The output topics of the node."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from cv_bridge import CvBridge
from geometry_msgs.msg import PoseStamped
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import String
from tf2_ros import TransformBroadcaster
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import MarkerArray

from ..objects import ObjectModel
from ..rendering.pose_overlay import DrawnObject, PoseOverlay, pose_text
from . import qos
from .frame_queue import FrameQueue
from .frames import Answer
from .markers import Markers
from .params import NodeParameters
from .pose_topics import PoseTopics, symmetries_message
from .rclpy_types import NodeHandle, PublisherHandle
from .timings import Timings


class Publishers:
    """Publishes answers; used by the worker's thread.

    :param on_peers: told that a subscriber has come or gone.
    """

    def __init__(self, node: NodeHandle, on_peers: Callable[[], None]) -> None:
        def publisher(kind: type, topic: str, profile: QoSProfile) -> PublisherHandle:
            return node.create_publisher(
                kind, topic, profile,
                event_callbacks=PublisherEventCallbacks(matched=lambda _: on_peers()))

        self._poses = publisher(PoseStamped, 'object_poses', qos.OUTPUT)
        self._detections = publisher(Detection3DArray, 'object_detections', qos.OUTPUT)
        self._found = publisher(Detection2DArray, '~/detections', qos.OUTPUT)
        self._broadcaster = TransformBroadcaster(node)
        self._pose_topics = PoseTopics(node)
        self._symmetries = node.create_publisher(String, '~/object_symmetries', qos.LATCHED)
        self.markers = publisher(MarkerArray, 'markers', qos.PICTURE)
        self.overlay = publisher(Image, 'overlay', qos.PICTURE)
        self.publishers = (self._poses, self._detections, self._found,
                           self._broadcaster.pub_tf, self.markers, self.overlay)

    def publish_symmetries(self, objects: Mapping[str, ObjectModel]) -> None:
        """Publish the symmetries of a model's objects, also for those who come later."""
        self._symmetries.publish(symmetries_message(objects))

    def publish(self, answer: Answer, *, with_covariance: bool = False) -> None:
        """Publish what other nodes work with.

        :param with_covariance: also on a topic for each instance.
        """
        if with_covariance:
            self._pose_topics.publish(answer.header, dict(zip(
                answer.scene.names, answer.scene.estimates, strict=True)), answer.handler.objects)
        if answer.found is not None:
            self._found.publish(answer.found)
        for pose in answer.poses:
            self._poses.publish(pose)
        if answer.transforms:
            self._broadcaster.sendTransform(answer.transforms)
        self._detections.publish(answer.detections)


class Pictures:
    """Draws answers for people, while people look.

    The overlay has a thread of its own, which makes and owns its renderer: poses wait neither for
    OpenGL to start nor for a drawing.

    :param objects: by label.
    :param timings: told how long markers and overlay took.
    :param failed: told why nothing can be drawn.
    """

    def __init__(self, publishers: Publishers, objects: Mapping[str, ObjectModel],
                 timings: Timings, failed: Callable[[Exception], None]) -> None:
        self._publishers, self._objects = publishers, objects
        self._timings, self._failed = timings, failed
        self._markers = Markers()
        self._waiting: FrameQueue[Answer] = FrameQueue(1, replace=True)
        self._drawn_s = float('-inf')
        self._thread = threading.Thread(target=self._draw_waiting, name='overlay', daemon=True)
        self._thread.start()

    def publish(self, answer: Answer, parameters: NodeParameters) -> None:
        """Publish markers and have the overlay drawn, as far as they are wanted."""
        start = time.perf_counter()
        if not parameters.publish_markers:
            self.take_back()
        elif self._publishers.markers.get_subscription_count():
            self._publishers.markers.publish(self._markers.message(
                answer.header, answer.scene, self._objects,
                lifetime_s=parameters.marker_lifetime_s,
                mesh_folder=parameters.marker_mesh_folder))
            self._timings.add({'markers': time.perf_counter() - start})
        due = start - self._drawn_s >= 1.0 / parameters.overlay_rate_hz
        seen = self._publishers.overlay.get_subscription_count()
        if due and parameters.publish_overlay and seen:
            self._drawn_s = start
            self._waiting.put(answer)

    def take_back(self) -> None:
        """Take all markers back, which may have been meant to stay for ever."""
        message = self._markers.farewell()
        if message.markers:
            self._publishers.markers.publish(message)

    def close(self) -> None:
        """Free the renderer, when the picture being drawn is done."""
        self._waiting.close()
        self._thread.join()

    def _draw_waiting(self) -> None:
        overlay: PoseOverlay | None = None
        while (answer := self._waiting.get()) is not None:
            start = time.perf_counter()
            try:
                overlay = overlay or PoseOverlay(self._objects)
                self._publishers.overlay.publish(_drawn(overlay, answer))
                self._timings.add({'overlay': time.perf_counter() - start})
            except Exception as error:  # the next picture may be possible
                self._failed(error)
        if overlay is not None:
            overlay.close()


def _drawn(overlay: PoseOverlay, answer: Answer) -> Image:
    scene = answer.scene
    picture = overlay.draw(scene.image_rgb, scene.camera, [
        DrawnObject(e.label, e.T_camera_object, pose_text(name, e.score, e.residual_m))
        for name, e in zip(scene.names, scene.estimates, strict=True)])
    return CvBridge().cv2_to_imgmsg(picture, 'rgb8', answer.header)
