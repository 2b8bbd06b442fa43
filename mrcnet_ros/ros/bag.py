"""Rosbags of image, camera_info, detections and ground truth, without rosbag2.

The four messages of a moment have the same stamp. The ground truth is a Detection3DArray with a
detection for each object that is to be found: ``class_id`` is its label, ``score`` the visible
fraction of it, ``id`` the numbers of its annotation, ``scene/image/object/instance`` in BOP.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import vision_msgs
from cv_bridge import CvBridge
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import Reader, StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    Detection3D,
    Detection3DArray,
    ObjectHypothesisWithPose,
)

from ..errors import DatasetError
from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..inference.poses import Detection
from . import messages
from .diagnostics import type_name

INPUTS = {'/image': Image, '/camera_info': CameraInfo, '/detections': Detection2DArray}
GROUND_TRUTH = '/ground_truth'
TOPICS = {**INPUTS, GROUND_TRUTH: Detection3DArray}
STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
OPTICAL_FRAME = 'camera_optical_frame'


@dataclass(frozen=True, eq=False)
class Truth:
    """An object that is to be found.

    :param names: of the annotation, ``scene/image/object/instance``.
    :param T_camera_object: (4, 4) float64 [m].
    """

    label: str
    names: str
    T_camera_object: Array
    visible_fraction: float


@dataclass(frozen=True, eq=False)
class BagFrame:
    """The messages of one moment.

    :param inputs: serialized messages by topic, ready to be published.
    :param truths: None when the bag has no ground truth for the moment.
    """

    stamp_ns: int
    inputs: dict[str, bytes]
    truths: list[Truth] | None

    def camera(self) -> Camera:
        """Return the camera of the image.

        :raises CameraError: when camera_info cannot be used.
        """
        info = deserialize_message(self.inputs['/camera_info'], CameraInfo)
        return messages.camera_from_info(info)


class BagWriter:
    """Writes a new bag.

    :param path: folder to create.
    :param storage: ``mcap`` or ``sqlite3``.
    :raises DatasetError: when the folder exists.
    """

    def __init__(self, path: Path | str, storage: str = 'mcap') -> None:
        """Create the bag and its topics."""
        try:
            self._writer = Writer(Path(path), version=9, storage_plugin=STORAGES[storage])
            self._writer.open()
        except WriterError as error:
            raise DatasetError(f'bag {path}: {error}; remove it or choose another') from error
        store = _type_store()
        self._connections = {
            topic: self._writer.add_connection(topic, type_name(kind), typestore=store)
            for topic, kind in TOPICS.items()}

    def __enter__(self) -> BagWriter:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the bag."""
        self._writer.close()

    def write(
        self, stamp: int, image_rgb: NDArray[np.uint8], camera: Camera,
        detections: Sequence[Detection], truths: Sequence[Truth],
    ) -> None:
        """Append one moment.

        :param stamp: [ns].
        :param image_rgb: (H, W, 3) uint8.
        """
        header = messages.header_at(stamp, OPTICAL_FRAME)
        image = CvBridge().cv2_to_imgmsg(image_rgb, 'rgb8', header)
        boxes = Detection2DArray(header=header)
        boxes.detections = [_box_message(header, d) for d in detections]
        known = Detection3DArray(header=header)
        known.detections = [_truth_message(header, t) for t in truths]
        for topic, message in ((GROUND_TRUTH, known), ('/camera_info', _info(header, camera)),
                               ('/detections', boxes), ('/image', image)):
            self._writer.write(self._connections[topic], stamp, serialize_message(message))


def read_bag(path: Path | str) -> Iterator[BagFrame]:
    """Return the moments for which image, camera_info and detections are in a bag.

    :raises DatasetError: when the bag cannot be read or has no such moment.
    """
    found = False
    try:
        with Reader(Path(path)) as reader:
            _require_topics(path, {c.topic: c.msgtype for c in reader.connections})
            for frame in _group(reader):
                found = True
                yield frame
    except DatasetError:
        raise
    except Exception as error:  # each storage has its own, and a damaged file any
        raise DatasetError(f'bag {path}: {error}; record or write it again') from error
    if not found:
        raise DatasetError(f'bag {path}: no {", ".join(INPUTS)} with equal stamps')


def restamped(message: bytes, stamp: int) -> bytes:
    """Return a serialized message, whose first field is a header, with another stamp [ns]."""
    order = '<' if message[1] & 1 else '>'
    return message[:4] + struct.pack(order + 'iI', stamp // 10**9, stamp % 10**9) + message[12:]


def _require_topics(path: Path | str, present: dict[str, str]) -> None:
    for topic, kind in INPUTS.items():
        if present.get(topic) != type_name(kind):
            raise DatasetError(
                f'bag {path}: needs the topic {topic} of type {type_name(kind)}; it has '
                + (', '.join(f'{t} ({k})' for t, k in sorted(present.items())) or 'none'))


def _group(reader: Any) -> Iterator[BagFrame]:
    waiting: dict[int, dict[str, bytes]] = {}
    connections = [c for c in reader.connections if c.topic in TOPICS]
    for connection, _, data in reader.messages(connections):
        stamp = _stamp(data)
        group = waiting.setdefault(stamp, {})
        group[connection.topic] = bytes(data)
        if INPUTS.keys() <= group.keys():
            truths = group.pop(GROUND_TRUTH, None)
            yield BagFrame(stamp, waiting.pop(stamp), None if truths is None else _truths(truths))


def _stamp(message: bytes) -> int:
    sec, nanosec = struct.unpack(('<' if message[1] & 1 else '>') + 'iI', message[4:12])
    return int(sec) * 10**9 + int(nanosec)


def _truths(data: bytes) -> list[Truth]:
    return [
        Truth(str(d.results[0].hypothesis.class_id), str(d.id),
              messages.transform_from_pose(d.results[0].pose.pose),
              float(d.results[0].hypothesis.score))
        for d in deserialize_message(data, Detection3DArray).detections]


def _truth_message(header: Any, truth: Truth) -> Detection3D:
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = truth.label
    result.hypothesis.score = float(truth.visible_fraction)
    result.pose.pose = messages.pose_from_transform(truth.T_camera_object)
    return Detection3D(header=header, results=[result], id=truth.names)


def _box_message(header: Any, detection: Detection) -> Detection2D:
    x1, y1, x2, y2 = (float(v) for v in detection.box_xyxy)
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = detection.label
    result.hypothesis.score = float(detection.score)
    message = Detection2D(header=header, results=[result], id=detection.detection_id)
    message.bbox.center.position.x, message.bbox.center.position.y = (x1 + x2) / 2, (y1 + y2) / 2
    message.bbox.size_x, message.bbox.size_y = x2 - x1, y2 - y1
    return message


def _info(header: Any, camera: Camera) -> CameraInfo:
    K = [float(v) for v in camera.K.ravel()]
    model = 'plumb_bob' if camera.distortion_model == 'none' else camera.distortion_model
    return CameraInfo(
        header=header, width=camera.width, height=camera.height, distortion_model=model,
        d=array('d', camera.distortion or (0.0,) * 5), k=K, r=np.eye(3).ravel().tolist(),
        p=[*K[:3], 0.0, *K[3:6], 0.0, *K[6:], 0.0])


def _type_store() -> Any:
    """Return the definitions of all messages in a bag; vision_msgs as it is installed here."""
    store = get_typestore(Stores.ROS2_KILTED)
    prefix = next(p for p in Path(vision_msgs.__file__).parents if (p / 'share').is_dir())
    types: dict[str, Any] = {}
    for path in sorted((prefix / 'share/vision_msgs/msg').glob('*.msg')):
        types |= get_types_from_msg(path.read_text(), f'vision_msgs/msg/{path.stem}')
    store.register(types)
    return store
