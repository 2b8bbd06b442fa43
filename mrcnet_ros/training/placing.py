"""Where other objects stand in a training image, behind the object and in front of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry.se3 import Array
from ..geometry.view_prior import elevation_and_tilt
from ..specs import ViewPrior
from .table_plane import Table
from .view_bank import RELATIVE_SIZE, VIEW_PX, ViewBank

# Part of the others that stand on the table of the object, in true perspective; the rest is put
# anywhere in any size, since things also lie on one another, hang and reach in from outside.
STANDING = 0.6
# Part of the others that are plain bodies or other CAD models, where there are any.
DISTURBING = 0.5
# Views whose elevation is nearest to the one that is wanted, of which one is drawn.
NEAREST_VIEWS = 0.06
FLAT_SIZE = RELATIVE_SIZE * VIEW_PX


@dataclass(frozen=True, eq=False)
class PlacedView:
    """A view of an object put into the layout image.

    :param bank: row of the bank it is taken from.
    :param A_layout_view: (3, 3) image map.
    :param in_front: whether it hides the object of the sample.
    :param corners_m: (P, 3) of its hull in the camera when it stands on the table, else None.
    """

    bank: int
    view: int
    A_layout_view: Array
    in_front: bool
    corners_m: Array | None = None


class Placer:
    """Puts other objects around the one that an image is of."""

    def __init__(self, banks: Sequence[ViewBank], priors: Sequence[ViewPrior | None]) -> None:
        """Sort the views by elevation.

        :param banks: classes first, then bodies that only disturb.
        :param priors: of each class; with one, z of its object is up on a table.
        """
        self.banks, self.classes = banks, len(priors)
        self.upright = [c < len(priors) and priors[c] is not None for c in range(len(banks))]
        elevations = [elevation_and_tilt(b.R_camera_object)[0] for b in banks]
        self._order = [np.argsort(e) for e in elevations]
        self._sorted = [e[o] for e, o in zip(elevations, self._order, strict=True)]

    def place(self, rng: np.random.Generator, table: Table | None, K: Array, diameter_m: float,
              numbers: tuple[int, int]) -> list[PlacedView]:
        """Draw other objects, from back to front.

        :param table: that the object stands on, in the layout's camera, or None.
        :param K: (3, 3) of the layout image.
        :param diameter_m: of the object of the sample.
        :param numbers: how many behind it, how many in front.
        """
        behind, front = numbers
        found: list[tuple[float, PlacedView]] = []
        for in_front in [False] * behind + [True] * front:
            bank = self._draw_bank(rng)
            if table is not None and rng.random() < STANDING:
                depth, placed = self._standing(rng, bank, table, K, diameter_m, in_front)
                if placed is not None:
                    found.append((depth, placed))
                    continue
            found.append((rng.random(), self._anywhere(rng, bank, in_front)))
        return [p for _, p in sorted(found, key=lambda f: (f[1].in_front, -f[0]))]

    def _draw_bank(self, rng: np.random.Generator) -> int:
        if len(self.banks) > self.classes and rng.random() < DISTURBING:
            return int(rng.integers(self.classes, len(self.banks)))
        return int(rng.integers(self.classes))

    def _anywhere(self, rng: np.random.Generator, bank: int, in_front: bool) -> PlacedView:
        view = int(rng.integers(len(self.banks[bank].albedo)))
        direction = rng.uniform(-np.pi, np.pi)
        radius = rng.uniform(0.25 if in_front else 0.1, 0.7 if in_front else 0.75) * VIEW_PX
        A = similarity(rng.uniform(0.6, 1.6), rng.uniform(-0.9, 0.9),
                       radius * np.cos(direction), radius * np.sin(direction))
        return PlacedView(bank, view, A, in_front)

    def _standing(self, rng: np.random.Generator, bank: int, table: Table, K: Array,
                  diameter_m: float, in_front: bool) -> tuple[float, PlacedView | None]:
        """Stand an object on the table, nearer to the camera when it is to be in front."""
        other = self.banks[bank]
        toward = table.axes.T @ -table.point_m
        bearing = np.arctan2(toward[1], toward[0]) + (0 if in_front else np.pi)
        bearing += rng.uniform(-1.2, 1.2) if in_front else rng.uniform(-1.5, 1.5)
        apart = rng.uniform(0.35, 0.9) if in_front else rng.uniform(0.5, 1.6)
        apart *= (diameter_m + other.diameter_m) / 2
        foot = table.point_m + table.axes @ (apart * np.array([np.cos(bearing), np.sin(bearing)]))
        origin = foot - table.normal * float(other.hull[:, 2].min()) \
            if self.upright[bank] else foot + 0.4 * other.diameter_m * table.normal
        if origin[2] < 0.25 * table.point_m[2]:
            return 0.0, None
        sine = -float(origin @ table.normal) / float(np.linalg.norm(origin))
        view = self.view_from(rng, bank, sine)
        tilt = float(np.arctan2(table.normal[0], -table.normal[1]))
        scale = K[0, 0] * other.diameter_m / origin[2] / FLAT_SIZE
        middle = (K @ origin)[:2] / origin[2] - (VIEW_PX - 1) / 2
        R = roll(tilt) @ other.R_camera_object[view]
        corners = other.hull @ R.T + origin if self.upright[bank] else None
        A = similarity(float(scale), tilt, float(middle[0]), float(middle[1]))
        return float(origin[2]), PlacedView(bank, view, A, in_front, corners)

    def view_from(self, rng: np.random.Generator, bank: int, sine: float) -> int:
        """Draw a view of about the elevation from which the camera sees the object."""
        order, elevations = self._order[bank], self._sorted[bank]
        if not self.upright[bank]:
            return int(rng.integers(len(order)))
        middle = int(np.searchsorted(elevations, np.arcsin(np.clip(sine, -1, 1))))
        reach = max(2, int(NEAREST_VIEWS * len(order) / 2))
        low, high = max(0, middle - reach), min(len(order), middle + reach)
        if high <= low:
            low, high = max(0, len(order) - reach), len(order)
        return int(order[int(rng.integers(low, high))])


def similarity(scale: float, angle: float, dx: float, dy: float) -> Array:
    """Scale and turn about a view's centre, then shift [px], as a (3, 3) image map."""
    c, s, m = scale * np.cos(angle), scale * np.sin(angle), (VIEW_PX - 1) / 2
    return np.array([[c, -s, m - c * m + s * m + dx], [s, c, m - s * m - c * m + dy], [0, 0, 1.0]])


def widened(factor: float) -> Array:
    """Widen a view about its centre and make it lower, so that its area stays, (3, 3)."""
    w, m = float(np.sqrt(factor)), (VIEW_PX - 1) / 2
    return np.array([[w, 0.0, m * (1 - w)], [0.0, 1 / w, m * (1 - 1 / w)], [0.0, 0.0, 1.0]])


def roll(angle: float) -> NDArray[np.float64]:
    """Return the rotation about the optical axis, (3, 3)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
