"""Frames of the demo's scenes, ready to be sent to the node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rclpy.serialization import serialize_message

from ..datasets.boxes import jittered
from ..errors import DatasetError
from ..inference.poses import Detection
from ..objects import ObjectModel, load_object_list
from ..ros.messages import header_at
from ..testbench.bag import BagFrame
from ..testbench.input_messages import detections_message, image_message, info_message
from .camera_process import FRAME_ID
from .scenes import DemoScene, DemoSceneMaker
from .surroundings import load_environments

BOX_JITTER = 0.08


def demo_frames(model: Path, count: int, seed: int) -> list[BagFrame]:
    """Draw scenes and make messages of them, with detections as inexact as a detector's.

    :param model: directory with ``objects.yaml``, meshes and backgrounds.
    :raises DatasetError: when it has none of them.
    """
    for name in ('objects.yaml', 'backgrounds'):
        if not (model / name).exists():
            raise DatasetError(f'{model} has no {name}, so that no scenes can be drawn; '
                               'give a rosbag of images instead, or the model of the demo')
    objects = {o.label: o for o in load_object_list(model / 'objects.yaml').values()}
    return [_frame(number, scene, seed)
            for number, scene in enumerate(draw_scenes(model, objects, count, seed), start=1)]


def draw_scenes(
    model: Path, objects: Mapping[str, ObjectModel], count: int, seed: int,
) -> list[DemoScene]:
    """Draw scenes of some objects before the backgrounds of a model."""
    meshes = {label: o.load_mesh() for label, o in objects.items()}
    with DemoSceneMaker(meshes, load_environments(model / 'backgrounds'), seed) as maker:
        return [maker.make(number) for number in range(count)]


def _frame(number: int, scene: DemoScene, seed: int) -> BagFrame:
    boxes = [Detection(o.label, jittered(o.box_xyxy, BOX_JITTER, (seed, number, i)))
             for i, o in enumerate(scene.objects)]
    header = header_at(number, FRAME_ID)
    messages = {'/image': image_message(header, scene.image_rgb),
                '/camera_info': info_message(header, scene.camera),
                '/detections': detections_message(header, boxes)}
    return BagFrame(number, {t: serialize_message(m) for t, m in messages.items()}, None)
