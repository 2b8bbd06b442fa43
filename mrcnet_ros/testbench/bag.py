"""Rosbags of image, camera_info, detections and ground truth, without rosbag2.

The four messages of a moment have the same stamp. The ground truth is a Detection3DArray with a
detection for each object that is to be found: ``class_id`` is its label, ``score`` the visible
fraction of it, ``id`` the numbers of its annotation, ``scene/image/object/instance`` in BOP.
"""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import vision_msgs
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray

from ..datasets.bop import RENDERED_FILE
from ..datasets.bop_results import DISTANCES_M
from ..errors import CameraError, DatasetError
from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..ros import messages
from ..ros.depth_image import DepthError, usable_depth
from ..ros.diagnostics import type_name

INPUTS = {'/image': Image, '/camera_info': CameraInfo, '/detections': Detection2DArray}
GROUND_TRUTH = '/ground_truth'
DEPTH = '/depth'  # a bag need not have it
TOPICS = {**INPUTS, GROUND_TRUTH: Detection3DArray}
NO_STAMPS = ('their driver does not set stamps, by which messages are matched: let it set '
             'header.stamp, and record again')
_QUATERNION_TOLERANCE = 0.01  # of its length; some writers round to few digits


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

    def image(self) -> NDArray[np.uint8]:
        """Return the photograph, (H, W, 3) uint8 RGB.

        :raises ImageError: when its encoding or size cannot be used.
        """
        return messages.rgb_from_image(deserialize_message(self.inputs['/image'], Image))


class BagFrames(Sequence[BagFrame]):
    """The moments of a bag for which all inputs are there, in the order of their stamps.

    :param incomplete: by topic, how many images have no message of it with their stamp.
    :param rendered: whether the images are rendered, so that objects are as large as their meshes.
    """

    def __init__(self, frames: Iterable[BagFrame], incomplete: Mapping[str, int], *,
                 rendered: bool = False) -> None:
        self._frames, self.incomplete = tuple(frames), dict(incomplete)
        self.rendered = rendered

    def __len__(self) -> int:
        return len(self._frames)

    @overload
    def __getitem__(self, index: int) -> BagFrame: ...

    @overload
    def __getitem__(self, index: slice) -> list[BagFrame]: ...

    def __getitem__(self, index: int | slice) -> BagFrame | list[BagFrame]:
        """Return one moment or several."""
        return list(self._frames[index]) if isinstance(index, slice) else self._frames[index]


def read_bag(path: Path | str) -> BagFrames:
    """Return the moments for which image, camera_info and detections are in a bag.

    Messages may be in any order: those of a moment have the same stamp. Images that lack another
    message are counted in the log.

    :raises DatasetError: when the bag cannot be read, has no such moment, has a camera_info or
        ground truth that cannot be used, or has two different messages of a topic with the same
        stamp.
    """
    if not Path(path).exists():
        raise DatasetError(f'bag {path}: there is no such bag')
    try:
        with Reader(Path(path)) as reader:
            _require_topics(path, {c.topic: c.msgtype for c in reader.connections})
            groups = _group(path, reader)
            frames = [_frame(path, stamp, group) for stamp, group in sorted(groups.items())
                      if INPUTS.keys() <= group.keys()]
    except DatasetError:
        raise
    except Exception as error:  # each storage has its own, and a damaged file any
        raise DatasetError(f'bag {path}: {error}; record or write it again') from error
    images = [group for group in groups.values() if '/image' in group]
    incomplete = {topic: missing for topic in INPUTS
                  if (missing := sum(topic not in group for group in images))}
    if not frames:
        raise DatasetError(f'bag {path}: no {", ".join(INPUTS)} with equal stamps; of '
                           f'{len(images)} images, {_told(incomplete)}'
                           + (f'. {", ".join(groups[0])} with the stamp 0: {NO_STAMPS}'
                              if 0 in groups else ''))
    if incomplete:
        logging.getLogger(__name__).warning('bag %s: of %d images, %s; they are left out', path,
                                            len(images), _told(incomplete))
    return BagFrames(frames, incomplete, rendered=(Path(path) / RENDERED_FILE).is_file())


def _told(incomplete: Mapping[str, int]) -> str:
    return ', '.join(f'{count} have no {topic} of their stamp'
                     for topic, count in incomplete.items()) or 'none'


def restamped(message: bytes, stamp: int) -> bytes:
    """Return a serialized message, whose first field is a header, with another stamp [ns]."""
    order = '<' if message[1] & 1 else '>'
    return message[:4] + struct.pack(order + 'iI', stamp // 10**9, stamp % 10**9) + message[12:]


def _require_topics(path: Path | str, present: dict[str, str]) -> None:
    """Make sure that topics have the types they are read as, those a bag may lack too."""
    for topic, kind in {**TOPICS, DEPTH: Image}.items():
        if present.get(topic, type_name(kind)) != type_name(kind):
            raise DatasetError(f'bag {path}: {topic} is of type {present[topic]}, expected '
                               f'{type_name(kind)}; convert it, or leave it out of the bag')
        if topic in INPUTS and topic not in present:
            raise DatasetError(
                f'bag {path}: needs the topic {topic} of type {type_name(kind)}; it has '
                + (', '.join(f'{t} ({k})' for t, k in sorted(present.items())) or 'none'))


def _group(path: Path | str, reader: Reader) -> dict[int, dict[str, bytes]]:
    """Return the messages of each stamp by topic."""
    groups: dict[int, dict[str, bytes]] = {}
    found: Counter[str] = Counter()
    connections = [c for c in reader.connections if c.topic in TOPICS or c.topic == DEPTH]
    for connection, _, data in reader.messages(connections):
        stamp = _stamp(data)
        group = groups.setdefault(stamp, {})
        if group.get(connection.topic, data) != data:
            raise DatasetError(f'bag {path}: has two different messages of {connection.topic} '
                               f'with the stamp {stamp} ns; ' + (
                                   'record the topics of one camera into a bag of their own'
                                   if stamp else NO_STAMPS))
        group[connection.topic] = bytes(data)
        found[connection.topic] += 1
    for connection in connections:
        if found[connection.topic] < connection.msgcount:
            logging.getLogger(__name__).warning(
                'bag %s: %d messages of %s are counted in its metadata, %d are there; the others '
                'are lost', path, connection.msgcount, connection.topic, found[connection.topic])
    return groups


def _frame(path: Path | str, stamp: int, group: dict[str, bytes]) -> BagFrame:
    truths = group.pop(GROUND_TRUTH, None)
    if DEPTH in group and not _sees(path, stamp, group):
        del group[DEPTH]  # as if there were none: the frame is answered from colour alone
    camera = {_frame_id(group[topic]) for topic in ('/image', '/camera_info')} - {''}
    frame = BagFrame(stamp, group, None if truths is None else _truths(path, truths, camera))
    try:
        frame.camera()
    except CameraError as error:
        raise DatasetError(f'bag {path}: /camera_info at {stamp} ns: {error}') from error
    return frame


def _sees(path: Path | str, stamp: int, group: Mapping[str, bytes]) -> bool:
    """Tell whether a depth image, which must fit its image, holds anything.

    :raises DatasetError: when its size, frame or unit is another.
    """
    depth, image = (deserialize_message(group[topic], Image) for topic in (DEPTH, '/image'))
    try:
        usable_depth(depth, (image.width, image.height), (image.header.frame_id,),
                     compressed=False)
    except DepthError as error:
        if error.reason == 'depth_empty':
            return False  # a camera may see nothing for a moment
        raise DatasetError(f'bag {path}: {DEPTH} at {stamp} ns: {error}') from error
    return True


def _stamp(message: bytes) -> int:
    sec, nanosec = struct.unpack(('<' if message[1] & 1 else '>') + 'iI', message[4:12])
    return int(sec) * 10**9 + int(nanosec)


def _frame_id(message: bytes) -> str:
    """Return the frame of a serialized message, whose first field is a header."""
    length = struct.unpack_from(('<' if message[1] & 1 else '>') + 'I', message, 12)[0]
    return message[16:16 + length].rstrip(b'\0').decode(errors='replace').lstrip('/')


def _truths(path: Path | str, data: bytes, camera: Collection[str]) -> list[Truth]:
    """Return what is to be found.

    :param camera: frames that image and camera_info name.
    :raises DatasetError: when an object has no label and pose, or an impossible pose, or one in
        another frame than the camera's.
    """
    truths, message = [], deserialize_message(data, Detection3DArray)
    for detection in message.detections:
        names = str(detection.id)
        for header in (message.header, detection.header):
            own = str(header.frame_id).lstrip('/')
            if own and camera and own not in camera:
                raise DatasetError(
                    f'bag {path}: ground truth {names!r} has the frame_id {own!r}, the image '
                    f'{", ".join(map(repr, sorted(camera)))}; poses must be in the frame of the '
                    'camera: transform them, and write the bag again')
        if not detection.results:
            raise DatasetError(f'bag {path}: ground truth {names!r} has no result, which must '
                               'hold its label and pose')
        pose, hypothesis = detection.results[0].pose.pose, detection.results[0].hypothesis
        q = pose.orientation
        length = float(np.linalg.norm([q.w, q.x, q.y, q.z]))
        if not abs(length - 1.0) < _QUATERNION_TOLERANCE:
            raise DatasetError(f'bag {path}: ground truth {names!r} has a quaternion of length '
                               f'{length:.3g}, expected 1')
        T = messages.transform_from_pose(pose)
        near, far = DISTANCES_M
        if not near < T[2, 3] < far or not np.isfinite(T).all():
            raise DatasetError(f'bag {path}: ground truth {names!r} is at z = {T[2, 3]:.4g} m, '
                               f'expected {near} to {far:g} m in front of the camera; messages '
                               'are in metres')
        truths.append(Truth(str(hypothesis.class_id), names, T, float(hypothesis.score)))
    return truths


def _type_store() -> Typestore:
    """Return the definitions of all messages in a bag; vision_msgs as it is installed here."""
    store = get_typestore(Stores.ROS2_KILTED)
    prefix = next(p for p in Path(vision_msgs.__file__).parents if (p / 'share').is_dir())
    types: dict[str, Any] = {}
    for path in sorted((prefix / 'share/vision_msgs/msg').glob('*.msg')):
        types |= get_types_from_msg(path.read_text(), f'vision_msgs/msg/{path.stem}')
    store.register(types)
    return store
