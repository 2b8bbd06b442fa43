"""Rendered scenes of a model's objects, as messages of a camera and a detector."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..datasets.boxes import BoxSpec
from ..errors import DatasetError
from ..objects import ObjectModel, load_object_list
from ..rendering.background_files import find_images
from ..synth.held_out import RenderedFrame, held_out_frames
from .bag import BagFrame
from .bop_bag import bag_frame

# of its visible part, below which a detector is not expected to find an object
LEAST_VISIBLE = 0.35
BOX_JITTER = 0.08  # as inexact as the boxes of a trained detector


def scene_objects(model: Path) -> dict[int, ObjectModel]:
    """Return the objects that scenes of a model can be drawn of, by object id.

    :param model: directory with ``objects.yaml``, meshes and backgrounds.
    :raises DatasetError: when it has none of them.
    """
    for name in ('objects.yaml', 'backgrounds'):
        if not (model / name).exists():
            raise DatasetError(f'{model} has no {name}, so that no scenes can be drawn; '
                               'give a rosbag of images instead, or the model of the demo')
    return load_object_list(model / 'objects.yaml')


def draw_scenes(model: Path, count: int, seed: int) -> list[RenderedFrame]:
    """Draw scenes of the objects of a model in front of its backgrounds.

    :param model: directory with ``objects.yaml``, meshes and backgrounds.
    :return: frames whose targets are the objects that a detector is expected to find.
    :raises DatasetError: when the model has nothing to draw.
    """
    objects = list(scene_objects(model).values())
    return [dataclasses.replace(frame, targets=Counter(
                t.object_id for t in frame.ground_truth if t.visible_fraction >= LEAST_VISIBLE))
            for frame in held_out_frames(objects, count, upright=True, seed=seed, views=1,
                                         backgrounds=find_images([model / 'backgrounds']))]


def scene_messages(scenes: Sequence[RenderedFrame], objects: Mapping[int, ObjectModel],
                   boxes: BoxSpec) -> list[BagFrame]:
    """Return scenes as moments of a bag, stamped 1 ns, 2 ns and so on.

    :param objects: by object id.
    """
    labels = {i: o.label for i, o in objects.items()}
    return [bag_frame(scene, number, boxes, labels)
            for number, scene in enumerate(scenes, start=1)]


def drawn_frames(model: Path, count: int, seed: int) -> list[BagFrame]:
    """Draw scenes and make messages of them, with detections as inexact as a detector's.

    :raises DatasetError: when the model has nothing to draw.
    """
    return scene_messages(draw_scenes(model, count, seed), scene_objects(model),
                          BoxSpec(jitter=BOX_JITTER, seed=seed))
