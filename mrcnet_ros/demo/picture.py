"""The picture the demo leaves: scenes with outlines of truth and estimate."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np

from ..evaluation.scores import TargetScore
from ..objects import ObjectModel
from ..rendering.drawing import Color, Image, draw_text
from ..rendering.pose_overlay import DrawnObject, PoseOverlay
from ..synth.held_out import RenderedFrame

# Bright colours that the objects of the demo do not have.
TRUTH_RGB: Color = (40, 255, 40)
ESTIMATE_RGB: Color = (255, 40, 255)
COLUMNS = 2  # four scenes make a square picture
LEGEND_CORNER, LINE_PX = (8, 24), 20  # pixels: upper left, one line of text


def draw_picture(scenes: Sequence[RenderedFrame], targets: Sequence[TargetScore],
                 objects: Mapping[int, ObjectModel]) -> Image:
    """Return a grid of scenes with outlines, truth green and estimate magenta.

    :param targets: what became of the objects of these and other scenes.
    :param objects: by object id.
    :return: (H, W, 3) uint8 RGB.
    """
    with contextlib.closing(PoseOverlay({o.label: o for o in objects.values()})) as overlay:
        tiles = [_tile(overlay, scene, [t for t in targets if t.scene_id == scene.scene_id],
                       objects) for scene in scenes]
    while len(tiles) % COLUMNS:
        tiles.append(np.zeros_like(tiles[0]))
    return np.vstack([np.hstack(tiles[i:i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)])


def _tile(overlay: PoseOverlay, scene: RenderedFrame, targets: Sequence[TargetScore],
          objects: Mapping[int, ObjectModel]) -> Image:
    truths = {t.object_id: t.T_camera_object for t in scene.target_ground_truth()}
    drawn = [DrawnObject(objects[i].label, T, objects[i].label, TRUTH_RGB, axes=False,
                         thickness=2) for i, T in truths.items()]
    drawn += [DrawnObject(objects[t.object_id].label, t.estimate.T_camera_object, '',
                          ESTIMATE_RGB, axes=False) for t in targets if t.estimate is not None]
    picture = overlay.draw(scene.image_rgb, scene.camera, drawn)
    u, v = LEGEND_CORNER
    draw_text(picture, (u, v), 'truth', TRUTH_RGB)
    draw_text(picture, (u, v + LINE_PX), 'estimate', ESTIMATE_RGB)
    return picture
