"""From the messages of any detector to detections in pixels of the image, and back."""

from __future__ import annotations

import difflib
import importlib
import math
import unicodedata
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from ..errors import SpecError
from ..geometry.se3 import Array
from ..inference.poses import Detection
from .message_types import DetectionsMessage, HeaderMessage

# the parameter detections_type: module and class of the message
MESSAGES = {'vision_msgs': ('vision_msgs.msg', 'Detection2DArray'),
            'yolo_msgs': ('yolo_msgs.msg', 'DetectionArray')}
# How an image was fitted into the network's input: stretched to it; scaled with its shape kept,
# with equal bars on both sides (Isaac ROS's image encoder, Ultralytics); or with bars at the
# bottom or on the right only (Isaac ROS's RT-DETR).
FITS = ('stretch', 'letterbox', 'pad')
# detections_size of boxes in parts of the image, from 0 to 1
PARTS = (1, 1)
# A hint shows no more characters of a name; names of classes are shorter.
LONGEST_NAME = 200
# theta of a box is in radians; what is beyond a full turn is in degrees.
LARGEST_TURN_RAD = 2.001 * math.pi


@dataclass(frozen=True)
class DetectionSettings:
    """How the boxes and names of a detector are read.

    :param label_map: from the detector's name or number of a class to our label.
    :param size: width and height [px] of the picture that the boxes are in; None: the image,
        ``PARTS``: parts of the image.
    :param fit: how the image was fitted into it, one of ``FITS``.
    """

    label_map: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    size: tuple[int, int] | None = None
    fit: str = 'stretch'


def settings_from(label_map: tuple[str, ...], size: tuple[int, ...], fit: str
                  ) -> DetectionSettings:
    """Return the settings that parameters of the node ask for.

    :raises SpecError: naming the parameter that cannot be used.
    """
    return DetectionSettings(parsed_label_map(label_map), _parsed_size(size), fit)


@lru_cache(maxsize=16)
def parsed_label_map(entries: tuple[str, ...]) -> Mapping[str, str]:
    """Return labels by the detector's name.

    :param entries: ``name=label``; what is before the last equals sign is the detector's name.
        Empty entries count for nothing.
    :raises SpecError: when an entry has another form, or a name has two labels.
    """
    labels: dict[str, str] = {}
    for entry in filter(None, map(str.strip, entries)):
        name, _, label = (part.strip() for part in entry.rpartition('='))
        if not name or not label:
            raise SpecError(f'parameter label_map has the entry {entry!r}; expected the name '
                            "or number of the detector's class, an equals sign and a label, for "
                            "instance '0=can'")
        if labels.setdefault(name, label) != label:
            raise SpecError(f'parameter label_map gives {name!r} two labels, {labels[name]!r} and '
                            f'{label!r}; leave one out')
    return MappingProxyType(labels)


def _parsed_size(size: tuple[int, ...]) -> tuple[int, int] | None:
    if not size or size == (0, 0):
        return None
    if len(size) != 2 or min(size) < (1 if size == PARTS else 2):
        raise SpecError(f'parameter detections_size is {list(size)}; expected width and height '
                        'in pixels, for instance [640, 640], [] for those of the image, or '
                        '[1, 1] for boxes as fractions of it')
    return size[0], size[1]


def check_labels(label_map: Mapping[str, str], known: Iterable[str]) -> None:
    """Make sure that a map only leads to labels of the model.

    :raises SpecError: naming the others and the known ones.
    """
    labels = sorted(known)
    wrong = [f'{name}={label}' for name, label in label_map.items() if label not in labels]
    if wrong:
        raise SpecError(f'parameter label_map has {", ".join(map(repr, wrong))} but the model '
                        f'does not know such a label; it knows: {", ".join(labels)}. '
                        '~/set_model takes a model and its label_map together')


def message_type(detections_type: str) -> type:
    """Return the type of the messages, from the package that defines it.

    :param detections_type: one of ``MESSAGES``.
    :raises SpecError: when the package is not installed.
    """
    module, name = MESSAGES[detections_type]
    try:
        found: type = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SpecError(
            f'parameter detections_type is {detections_type!r} but {module}.{name} cannot be '
            f'imported ({error}); install the package {detections_type} and source its workspace '
            'before the node starts, or set another detections_type') from error
    return found


def detections_from_message(message: DetectionsMessage, settings: DetectionSettings | None = None,
                            *, known: Container[str] | None = None,
                            image_size: tuple[int, int] = (0, 0)) -> tuple[list[Detection], int]:
    """Return the detections and how many had no hypothesis and therefore no label.

    Convention: of several hypotheses the one with the best score counts among those whose label
    is known, else the best of all. Of a turned box the upright one around it is taken. Frame
    names are not read: boxes are of the image that has the message's stamp.

    :param message: vision_msgs/Detection2DArray or yolo_msgs/DetectionArray.
    :param known: labels of the model; None: all are.
    :param image_size: width and height of the image [px], used when the settings have a size.
    """
    settings = settings or DetectionSettings()
    found = [_detection(d, settings, known, image_size) for d in message.detections]
    detections = [d for d in found if d is not None]
    return detections, len(found) - len(detections)


def _detection(message: Any, settings: DetectionSettings, known: Container[str] | None,
               image_size: tuple[int, int]) -> Detection | None:
    hypotheses = [(_label(names, settings.label_map), score)
                  for names, score in _hypotheses(message)]
    if not hypotheses:
        return None
    label, score = max(hypotheses, key=lambda h: (
        known is None or h[0] in known, h[1] if math.isfinite(h[1]) else -math.inf))
    box_xyxy = image_box(_upright_box(message.bbox), settings, image_size)
    return Detection(label, box_xyxy, score, str(message.id))


def _hypotheses(message: Any) -> list[tuple[tuple[str, ...], float]]:
    """Return what an object may be called, and how sure the detector is, for each hypothesis."""
    if hasattr(message, 'results'):
        return [((str(r.hypothesis.class_id).strip(),), float(r.hypothesis.score))
                for r in message.results]
    number, name = str(message.class_id), str(message.class_name).strip()
    names = (name, number) if name else (number,)
    return [(names, float(message.score))]


def _label(names: tuple[str, ...], label_map: Mapping[str, str]) -> str:
    return next((label_map[name] for name in names if name in label_map), names[0])


def _upright_box(bbox: Any) -> Array:
    """Return the upright box around one that may be turned, (4,) float64 [px] x1, y1, x2, y2.

    It is nan when the box is turned by more than radians can mean.
    """
    width, height = ((bbox.size_x, bbox.size_y) if hasattr(bbox, 'size_x')
                     else (bbox.size.x, bbox.size.y))
    centre = bbox.center.position
    theta = bbox.center.theta if abs(bbox.center.theta) <= LARGEST_TURN_RAD else math.nan
    with np.errstate(all='ignore'):  # what is not finite is counted later
        cos, sin = abs(np.cos(theta)), abs(np.sin(theta))
        half_x, half_y = (cos * width + sin * height) / 2, (sin * width + cos * height) / 2
        return np.array([centre.x - half_x, centre.y - half_y,
                         centre.x + half_x, centre.y + half_y])


def image_box(box_xyxy: Array, settings: DetectionSettings, image_size: tuple[int, int]) -> Array:
    """Return a box in pixels of the image.

    Pixel (0, 0) has its centre at (0, 0) in both pictures, so that their upper left corners are
    at (-0.5, -0.5). Parts of the image begin at its upper left corner.

    :param box_xyxy: (4,) [px] in the picture that the settings describe.
    :param image_size: width and height of the image [px].
    """
    if settings.size in (None, image_size):
        return box_xyxy
    image, picture = np.asarray(image_size, float), np.asarray(settings.size, float)
    scale = picture / image
    if settings.fit != 'stretch':
        scale = np.full(2, scale.min())
    bars = (picture - scale * image) / 2 if settings.fit == 'letterbox' else np.zeros(2)
    first = 0.0 if settings.size == PARTS else 0.5  # from the border to where 0 is
    corners: Array = (box_xyxy.reshape(2, 2) + first - bars) / scale - 0.5
    return corners.ravel()


def label_hint(label: str, known: Iterable[str]) -> str:
    """Return what to do about a label that the model does not know.

    :param label: as the detector sent it.
    """
    return _label_hint(label[:LONGEST_NAME], tuple(sorted(known)))


@lru_cache(maxsize=256)  # a detector sends the same names again and again
def _label_hint(label: str, known: tuple[str, ...]) -> str:
    if not label.strip():
        return 'the detector names no class; it must fill class_id'
    if alike := [name for name in known if _folded(name) == _folded(label)]:
        return (f'it differs from {alike[0]!r} only in case, spaces or the form of its letters; '
                f'map it in label_map, for instance [{f"{label}={alike[0]}"!r}]')
    near = [*difflib.get_close_matches(label, known, n=1), *known, 'LABEL']
    example = f'{label}={near[0]}'
    if label.strip().isdecimal():
        return ('the detector sends numbers of classes; map them to labels in '
                f'label_map, for instance [{example!r}]')
    return f'if it is one of these, map it in label_map, for instance [{example!r}]'


def _folded(name: str) -> str:
    """Return a name without what is hard to see: case, spaces, dashes, composed letters."""
    folded = unicodedata.normalize('NFKC', name).casefold()
    return ''.join(letter for letter in folded if not letter.isspace() and letter not in '-_')


def detections_2d(header: HeaderMessage, detections: Iterable[Detection]) -> Detection2DArray:
    """Return detections as a message; class ids are the model's labels."""
    return Detection2DArray(header=header, detections=[_detection_2d(header, d)
                                                       for d in detections])


def _detection_2d(header: HeaderMessage, detection: Detection) -> Detection2D:
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = detection.label
    hypothesis.hypothesis.score = float(detection.score)
    message = Detection2D(header=header, results=[hypothesis], id=detection.detection_id)
    x1, y1, x2, y2 = map(float, detection.box_xyxy)
    message.bbox.center.position.x, message.bbox.center.position.y = (x1 + x2) / 2, (y1 + y2) / 2
    message.bbox.size_x, message.bbox.size_y = x2 - x1, y2 - y1
    return message
