"""Sequences: one camera that moves, objects that move, images at a steady rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .layout import PlacedObject
from .motion import draw_camera_motion, draw_object_motions
from .painter import lamp_direction
from .scene_maker import AnnotatedPicture, SceneMaker

LIGHT, ROOM, TABLE, NOISE = range(1_000_001, 1_000_005)  # far from the numbers of images


class SequenceMaker(SceneMaker):
    """Makes scenes whose images are steps in time; see :class:`.SceneMaker`.

    Light, room, table and exposure stay as they are through a scene; noise is new in each image.
    The first objects of a scene rest, slide over the table and are carried above it, in turns.
    """

    def photograph(self, placed: Sequence[PlacedObject], scene: int,
                   image: int) -> AnnotatedPicture:
        """Look at a scene at the time of an image.

        :param placed: of :meth:`arrange`.
        """
        time_s = image / self._spec.rate_hz if self._spec.rate_hz else 0.0
        rng = self._rng(scene)
        moving = [motion.at(time_s) for motion in draw_object_motions(placed, self._meshes, rng)]
        T_camera_world = draw_camera_motion(rng, self._layout).at(time_s)
        return self._shoot(
            moving, T_camera_world, lamp_direction(self._rng(scene, LIGHT)),
            self._rng(scene, ROOM), (self._rng(scene, TABLE), self._rng(scene, NOISE, image)))

    def _rng(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self._spec.seed, *numbers])
