"""Smooth motions of objects and camera over a table, for sequences of images.

World frame: the table is z = 0, z points up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..geometry.se3 import Array, exp_so3, make_transform
from ..geometry.view_prior import rotation_from_angles
from ..objects import Mesh
from .layout import LayoutSpec, PlacedObject

# One of so many objects rests. Of the others, one slides over the table and the next is carried
# above it and hides others.
RESTS = 3
# Highest speeds: of a slow conveyor or a hand that puts things down, and of a camera on an arm.
OBJECT_M_S, OBJECT_RAD_S = 0.12, 0.7
CAMERA_RAD_S, CAMERA_PART_S = 0.25, 0.08  # about the scene, and of its distance towards it
LIFT_DIAMETERS = 1.1  # of the mean diameter, carried objects pass above the others
# Objects that are taken away are so far above the table: no camera that looks down sees them, and
# their shadows fall beside the table.
AWAY_M = 100.0


@dataclass(frozen=True, eq=False)
class Swing:
    """A number that oscillates.

    :param amplitude: largest distance from its middle.
    :param speed: highest change per second.
    :param phase_rad: at time 0.
    """

    amplitude: float
    speed: float
    phase_rad: float

    def at(self, time_s: float) -> float:
        return float(self.amplitude * np.sin(
            self.speed / max(self.amplitude, 1e-9) * time_s + self.phase_rad))


@dataclass(frozen=True, eq=False)
class ObjectMotion:
    """How one object moves.

    :param start: its place without the motion.
    :param along: (2,) unit vector of the table.
    :param shift: [m] along it.
    :param turn: [rad] about the vertical axis.
    :param lift_m: above the table.
    :param away_s: from when until when it is taken out of the scene; None for never.
    """

    start: PlacedObject
    along: Array
    shift: Swing
    turn: Swing
    lift_m: float
    away_s: tuple[float, float] | None = None

    @property
    def reach_m(self) -> float:
        """Return the largest distance from the middle of the table."""
        ends = self.shift.amplitude * np.outer([-1.0, 1.0], self.along)
        return float(np.linalg.norm(self.start.T_world_object[:2, 3] + ends, axis=1).max())

    def at(self, time_s: float) -> PlacedObject:
        T = self.start.T_world_object
        shift_m, lift_m = self.shift.at(time_s), self.lift_m
        # the times of images are multiples of a period, which doubles hold inexactly
        if self.away_s and self.away_s[0] <= time_s + 1e-9 < self.away_s[1]:
            lift_m += AWAY_M
        R = exp_so3(np.array([0.0, 0.0, self.turn.at(time_s)])) @ T[:3, :3]
        return PlacedObject(self.start.key, make_transform(
            R, T[:3, 3] + np.array([*(shift_m * self.along), lift_m])))


@dataclass(frozen=True, eq=False)
class CameraMotion:
    """How the camera moves around the point it looks at.

    :param target_m: (3,) what it looks at.
    :param middle: mean azimuth, elevation, tilt [rad] and distance [m].
    :param swings: around these four; that of the distance as a part of it.
    """

    target_m: Array
    middle: tuple[float, float, float, float]
    swings: tuple[Swing, Swing, Swing, Swing]

    def at(self, time_s: float) -> Array:
        azimuth, elevation, tilt, part = (swing.at(time_s) for swing in self.swings)
        R = rotation_from_angles(self.middle[0] + azimuth, self.middle[1] + elevation,
                                 self.middle[2] + tilt)
        ahead = np.array([0.0, 0.0, self.middle[3] * (1.0 + part)])
        return make_transform(R, ahead - R @ self.target_m)


def draw_object_motions(placed: Sequence[PlacedObject], meshes: Mapping[str, Mesh],
                        rng: np.random.Generator,
                        away_s: tuple[float, float] | None = None) -> list[ObjectMotion]:
    """Draw a motion for each object of an arrangement.

    Moving objects swing through the middle of the table, so that their paths cross.

    :param meshes: by key.
    :param away_s: from when until when every second object is taken away.
    """
    diameters_m = [float(np.ptp(meshes[p.key].vertices, axis=0).max()) for p in placed]
    motions = []
    for number, p in enumerate(placed):
        kind = number % RESTS  # 0 rests, 1 slides, 2 is carried
        place = p.T_world_object[:2, 3]
        away_m = float(np.linalg.norm(place))
        along = place / away_m if away_m > 1e-6 else np.array([1.0, 0.0])
        centre = PlacedObject(p.key, p.T_world_object.copy())
        if kind:
            centre.T_world_object[:2, 3] = rng.uniform(-0.3, 0.3, 2) * diameters_m[number]
        motions.append(ObjectMotion(
            centre, along,
            Swing(max(away_m, diameters_m[number]) if kind else 0.0,
                  OBJECT_M_S * rng.uniform(0.6, 1.0), rng.uniform(-np.pi, np.pi)),
            Swing(rng.uniform(0.3, 1.2) if kind else 0.0, OBJECT_RAD_S * rng.uniform(0.3, 1.0),
                  rng.uniform(-np.pi, np.pi)),
            LIFT_DIAMETERS * float(np.mean(diameters_m)) if kind == 2 else 0.0,
            away_s if number % 2 else None))
    return motions


def draw_camera_motion(rng: np.random.Generator, spec: LayoutSpec) -> CameraMotion:
    """Draw how the camera moves, within the elevations and distances of single images."""
    low, high = np.radians(spec.elevation_deg)
    azimuth = rng.uniform(-np.pi, np.pi)
    elevation = rng.uniform(0.7 * low + 0.3 * high, 0.4 * low + 0.6 * high)
    tilt = np.radians(rng.normal(0, 0.5 * spec.tilt_deg))
    distance_m = rng.uniform(*spec.distance_m)
    reach = 0.25 * (high - low)

    def swing(amplitude: float, speed: float) -> Swing:
        return Swing(amplitude * rng.uniform(0.5, 1.0), speed * rng.uniform(0.4, 1.0),
                     rng.uniform(-np.pi, np.pi))

    swings = (swing(0.6, CAMERA_RAD_S), swing(reach, 0.5 * CAMERA_RAD_S),
              swing(0.1, 0.3 * CAMERA_RAD_S))
    part = swing(0.15, CAMERA_PART_S)
    near_m, far_m = spec.distance_m
    widest = min(part.amplitude, (far_m - near_m) / (far_m + near_m))
    part = replace(part, amplitude=widest, speed=part.speed * widest / part.amplitude)
    distance_m = float(np.clip(distance_m, near_m / (1.0 - widest), far_m / (1.0 + widest)))
    return CameraMotion(np.array([0.0, 0.0, spec.target_m[1]]),
                        (azimuth, elevation, tilt, distance_m), (*swings, part))
