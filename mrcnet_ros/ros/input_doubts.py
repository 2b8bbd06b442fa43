"""What looks wrong of inputs although frames are complete; used by the executor's thread."""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from sensor_msgs.msg import CameraInfo

from ..errors import CameraError, SpecError
from ..geometry.camera_doubts import middle_doubts, number_doubts
from ..geometry.se3 import POSE_TOLERANCE, checked_rotation, rotation_angle
from .message_types import CameraInfoMessage, StampedMessage
from .messages import camera_from_info, sensor_matrix, stamp_ns
from .timings import WINDOW_S

# Of R: a fifth of a degree is 3 mm at a metre; calibrations of one camera alone have none.
LEAST_TURN_DEG = 0.2


def camera_doubts(info: CameraInfoMessage, image_topic: str, *, rectified: bool) -> list[str]:
    """Return what makes poses doubtful, each with what to do; nothing of one that is refused.

    :param info: sensor_msgs/CameraInfo.
    :param image_topic: of the images, remapped.
    :param rectified: the parameter ``image_rectified``.
    """
    try:
        camera = camera_from_info(info, rectified=rectified)
    except CameraError:
        return []
    doubts = number_doubts(camera, 'camera_info',
                           ' (a cropped image needs roi)')
    if camera.part:
        doubts += middle_doubts(
            sensor_matrix(info, rectified=rectified), info.width, info.height, 'camera_info',
            ', its width and height; if its K or P is that of the roi alone, all poses are wrong: '
            'they must be those of the whole sensor, or roi zeros, and width and height those of '
            'the image')
    if rectified and not any(info.p) and any(info.d):
        doubts.append('image_rectified is true, but P of camera_info is zero, so the node uses K, '
                      'which belongs to raw images; fill P, or send raw images and set '
                      'image_rectified: false')
    name = image_topic.removesuffix('/compressed').rsplit('/', 1)[-1]  # without the transport
    if rectified and 'raw' in name and 'rect' not in name and any(info.d):
        doubts.append(f'image_rectified is true, but {image_topic} is named as raw images are, '
                      'and D of camera_info is not zero; set image_rectified: false, or remap '
                      'image')
    if not rectified and 'rect' in name and any(info.d):
        doubts.append(f'{image_topic} is named as rectified images are, but image_rectified is '
                      'false, and D of camera_info is not zero; set image_rectified: true, or '
                      'remap image')
    return doubts


def camera_remark(info: CameraInfoMessage, *, rectified: bool) -> str:
    """Return what to know of the frame that poses are in, '' for nothing.

    P of the second camera of a stereo pair takes points of the first camera's frame. The message
    asks for a frame_id of its own, but some drivers name the first camera's. R turns the frame of
    raw images into that of rectified ones.

    :param info: sensor_msgs/CameraInfo.
    :param rectified: the parameter ``image_rectified``.
    """
    if not rectified:
        turn_deg = _turn_deg(info.r)
        return '' if turn_deg < LEAST_TURN_DEG else (
            f'R of camera_info turns rectified images by {turn_deg:.2g} degrees; poses are in the '
            f'frame of the raw images: if {info.header.frame_id!r} is the frame of the rectified '
            'ones in /tf, give rectified images and set image_rectified')
    x, y = _offset_m(info.p)
    return '' if not (x or y) else (
        f'P of camera_info is of the second camera of a stereo pair, ({x:.3g}, {y:.3g}) m from '
        'the first one; poses are in the frame of the second camera: make sure that '
        f'{info.header.frame_id!r} is this frame and not that of the first camera')


def _turn_deg(r: Sequence[float]) -> float:
    """Return by how much a rotation, 9 numbers row by row, turns [deg]; 0 for no rotation."""
    R = np.array(r, dtype=np.float64).reshape(3, 3)
    try:
        return float(np.degrees(rotation_angle(checked_rotation(R, POSE_TOLERANCE, 'R'))))
    except SpecError:  # of cameras that were not calibrated it is all zero
        return 0.0


def _offset_m(p: Sequence[float]) -> tuple[float, float]:
    """Return where the optical centre is, from a projection matrix, 12 numbers row by row."""
    found = [-shift / focal if focal and shift else 0.0
             for focal, shift in ((p[0], p[3]), (p[5], p[7]))]
    x, y = (float(v) if math.isfinite(v) else 0.0 for v in found)
    return x, y


# Messages that are remembered; a driver that starts anew may name another frame once.
_REMEMBERED, _MOST_CHANGES = 100, 3
# Fewer stamps tell nothing of rates.
_FEWEST_IMAGES, _FEWEST_DETECTIONS = 10, 3


class InputDoubts:
    """Remembers the headers and cameras of recent messages.

    :param clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._frames: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
        self._stamps: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
        self._last_info: tuple[int, tuple[object, ...]] = -1, ()
        self._contradicted_s: float | None = None

    def saw(self, message: StampedMessage, name: str) -> None:
        """Note a message of an input."""
        if frame_id := str(message.header.frame_id).lstrip('/'):
            self._frames[name].append(frame_id)
        stamp = stamp_ns(message.header)
        self._stamps[name].append(stamp)
        if isinstance(message, CameraInfo):
            content = _content(message)
            if self._last_info[0] == stamp and self._last_info[1] != content:
                self._contradicted_s = self._clock()
            self._last_info = stamp, content

    def texts(self, slop_s: float, topics: Mapping[str, str]) -> list[str]:
        """Return what looks wrong, with what to do.

        :param slop_s: by how much stamps may differ.
        :param topics: of the inputs by name, remapped.
        """
        found = []
        for name, frames in self._frames.items():
            kinds, listed = sorted(set(frames)), list(frames)
            changes = sum(a != b for a, b in itertools.pairwise(listed))
            if changes >= _MOST_CHANGES:
                found.append(f'{name} has the frames {", ".join(map(repr, kinds[:4]))} in turn; '
                             f'do two cameras publish on {topics[name]}?')
        contradicted_s = self._contradicted_s
        if contradicted_s is not None and self._clock() - contradicted_s <= WINDOW_S:
            found.append('camera_info comes with different numbers for one stamp; do two nodes '
                         f'publish on {topics["camera_info"]}?')
        if slop_s > 0.0 and (text := self._loosely_paired(slop_s)):
            found.append(text)
        return found

    def _loosely_paired(self, slop_s: float) -> str:
        """Return that detections may be paired with another image than theirs, else ''."""
        images, detections = np.unique(self._stamps['image']), list(self._stamps['detections'])
        if len(images) < _FEWEST_IMAGES or len(detections) < _FEWEST_DETECTIONS:
            return ''
        period_s = float(np.median(np.diff(images))) * 1e-9
        if slop_s <= period_s / 2 or 2 * np.isin(detections, images).sum() >= len(detections):
            return ''
        return (f'sync_slop_s is {slop_s:g} s, images come each {period_s:.3g} s, and detections '
                'do not have their stamps: boxes may be of another image; give detections the '
                "stamp of their image, or set sync_slop_s below half the camera's period")


def _content(info: CameraInfoMessage) -> tuple[object, ...]:
    roi = info.roi
    return (info.width, info.height, str(info.distortion_model), tuple(info.d), tuple(info.k),
            tuple(info.p), info.binning_x, info.binning_y, roi.x_offset, roi.y_offset, roi.width,
            roi.height)
