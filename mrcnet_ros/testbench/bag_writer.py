"""Writes rosbags of moments; see :mod:`.bag` for what is in them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from cv_bridge import CvBridge
from numpy.typing import NDArray
from rclpy.serialization import serialize_message
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

from ..datasets.bop import RENDERED_FILE
from ..errors import DatasetError
from ..geometry.camera import Camera
from ..inference.poses import Detection
from ..ros import messages
from ..ros.diagnostics import type_name
from ..ros.message_types import HeaderMessage
from ..store.atomic import writing
from .bag import DEPTH, GROUND_TRUTH, TOPICS, Truth, _type_store
from .input_messages import OPTICAL_FRAME, frame_messages

STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}


class BagWriter(AbstractContextManager['BagWriter']):
    """Writes a new bag, whose folder appears when it is complete.

    Until then it is within a folder beside it that is named like it with ``.part``. After an
    exception there is neither.

    :param storage: ``mcap`` or ``sqlite3``.
    :param rendered: whether the images are rendered; a file in the folder notes it.
    :raises DatasetError: when the folder exists, or cannot be made.
    """

    def __init__(self, path: Path | str, storage: str = 'mcap', *, rendered: bool = False) -> None:
        self._path, self._rendered = Path(path), rendered
        self._part = self._path.with_name(f'{self._path.name}.part')
        if self._path.exists():
            raise DatasetError(f'bag {path}: exists already; remove it or choose another')
        shutil.rmtree(self._part, ignore_errors=True)  # of a writer that was killed
        try:
            with writing(self._part):
                self._part.mkdir()
            self._writer = Writer(self._part / self._path.name, version=9,
                                  storage_plugin=STORAGES[storage])
            self._writer.open()
        except WriterError as error:
            raise DatasetError(f'bag {path}: {error}; choose another') from error
        self._store = _type_store()
        self._connections = {topic: self._connection(topic, kind)
                             for topic, kind in TOPICS.items()}

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._writer.close()
            if kind is None:
                if self._rendered:
                    (self._part / self._path.name / RENDERED_FILE).write_text('{}\n')
                (self._part / self._path.name).rename(self._path)
        finally:
            shutil.rmtree(self._part, ignore_errors=True)

    def _connection(self, topic: str, kind: type) -> Connection:
        return self._writer.add_connection(topic, type_name(kind), typestore=self._store)

    def write_depth(self, stamp: int, depth_m: NDArray[np.float32]) -> None:
        """Append the depth image of a moment, as 32FC1 in metres, which keeps every step.

        :param stamp: [ns].
        :param depth_m: (H, W) float32, registered to the image, 0 where nothing was measured.
        """
        if DEPTH not in self._connections:
            self._connections[DEPTH] = self._connection(DEPTH, Image)
        header = messages.header_at(stamp, OPTICAL_FRAME)
        measured = np.where(depth_m > 0, depth_m, np.nan).astype(np.float32)
        message = CvBridge().cv2_to_imgmsg(measured, '32FC1', header)
        self._writer.write(self._connections[DEPTH], stamp, serialize_message(message))

    def write(self, stamp: int, image_rgb: NDArray[np.uint8], camera: Camera,
              detections: Sequence[Detection], truths: Sequence[Truth]) -> None:
        """Append one moment.

        :param stamp: [ns].
        :param image_rgb: (H, W, 3) uint8.
        """
        header = messages.header_at(stamp, OPTICAL_FRAME)
        known = Detection3DArray(header=header)
        known.detections = [_truth_message(header, t) for t in truths]
        moment = {GROUND_TRUTH: known, **frame_messages(header, image_rgb, camera, detections)}
        for topic, message in moment.items():
            self._writer.write(self._connections[topic], stamp, serialize_message(message))


def _truth_message(header: HeaderMessage, truth: Truth) -> Detection3D:
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = truth.label
    result.hypothesis.score = float(truth.visible_fraction)
    result.pose.pose = messages.pose_from_transform(truth.T_camera_object)
    return Detection3D(header=header, results=[result], id=truth.names)
