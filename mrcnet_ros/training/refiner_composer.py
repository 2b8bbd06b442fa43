"""Training images of the refiner: crops made for poses that are about as wrong as answers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry.crop import CropCamera
from ..geometry.pose_crop import directions_seen, pose_crop
from ..geometry.rotation_grid import grid_of
from ..geometry.se3 import Array, exp_so3, make_transform
from ..specs import RefinerSpec, ViewPrior
from .composer import Composer
from .painting import ComposedScene

# Standard deviations of the errors that starts have at size 1: turn about each axis, distance,
# and offset across the ray in each direction in diameters. About those of the answers of stage 2
# to training images, whose median turn is 5.4 degrees.
TURN_RAD, DISTANCE, OFFSET_DIAMETERS = float(np.radians(5.5)), 0.025, 0.018
# Sizes of the errors: most starts are better or worse by some, and a few are far worse, as answers
# to hidden objects are.
USUAL_SIZES, LARGE_SIZES, CHANCE_OF_USUAL = (0.3, 1.5), (1.5, 5.0), 0.85


class RefinerComposer(Composer):
    """Makes samples whose crops show an object as a template would at a pose near the true one.

    :param refiner: says how crops are made.
    :param arguments: of :class:`Composer`.
    """

    def __init__(self, refiner: RefinerSpec, priors: Sequence[ViewPrior | None],
                 **arguments: Any) -> None:
        super().__init__(priors=priors, **arguments)
        self._refiner, self._grid = refiner, grid_of(refiner.bins)
        known: dict[ViewPrior | None, NDArray[np.bool_]] = {}
        for prior in priors:
            if prior not in known:
                known[prior] = directions_seen(refiner, prior)
        self._seen = [known[prior] for prior in priors]

    def _crop(self, rng: np.random.Generator, visible: NDArray[np.bool_],
              scene: ComposedScene) -> tuple[CropCamera, int]:
        bank = self.banks[scene.class_index]
        start = start_near(rng, scene.R_layout_object, float(bank.distance_m[scene.view]),
                           bank.diameter_m)
        return pose_crop(start, bank.diameter_m, self._refiner.template, self._grid,
                         self._seen[scene.class_index])


def start_near(rng: np.random.Generator, R_camera_object: Array, distance_m: float,
               diameter_m: float) -> Array:
    """Draw a pose near that of an object on the optical axis, (4, 4) [m]."""
    usual = rng.random() < CHANCE_OF_USUAL
    size = np.exp(rng.uniform(*np.log(USUAL_SIZES if usual else LARGE_SIZES)))
    R = exp_so3(TURN_RAD * size * rng.standard_normal(3)) @ R_camera_object
    z = distance_m * np.exp(DISTANCE * size * rng.standard_normal())
    offset_m = OFFSET_DIAMETERS * size * diameter_m * rng.standard_normal(2)
    return make_transform(R, np.array([*offset_m, z]))
