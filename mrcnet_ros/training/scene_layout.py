"""Where the objects of a whole scene stand: on a table in true perspective, or anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry.se3 import Array
from ..specs import ViewPrior
from .placing import FLAT_SIZE, Placer, roll, similarity, widened
from .table_plane import Table, up_direction
from .view_bank import VIEW_PX, ViewBank

# The table is seen from about here: lower, the objects behind are hidden; LM-O is between 25 and
# 70 degrees.
TABLE_ELEVATION_DEG = (12.0, 80.0)
# Part of the largest tilt of an object by which the camera is rolled.
ROLLED = 0.6
# Part of the objects that stand on the table; others lie on something, hang, or come from outside.
STANDING = 0.75
# Part of the standing objects that stand on something else, and how high that is at most.
LIFTED, HIGHEST_M = 0.25, 0.12
# Spread of a heap of objects on the table [m].
HEAP_M = (0.10, 0.24)
# Two objects stand apart by at least this part of the sum of their half diameters.
APART = 0.45
ATTEMPTS = 6  # at a free place; then the object is left out
# Bodies that only disturb have other sizes and widths than those they were rendered in: a pot is a
# large cup. Otherwise colour alone would tell a large body from an object of its colour. The
# diameter of none is more than half of the image, before its width is changed.
BODY_SIZE, BODY_WIDTH, WIDEST = (0.6, 2.4), (0.7, 1.4), 0.5


@dataclass(frozen=True, eq=False)
class SceneObject:
    """A view of a bank put into a scene.

    :param A_image_view: (3, 3) map of the view to the image.
    :param depth_m: of the origin; nearer objects hide those behind.
    :param corners_m: (P, 3) of its hull in the camera when it stands on the table, else None.
    """

    bank: int
    view: int
    A_image_view: Array
    depth_m: float
    corners_m: Array | None


@dataclass(frozen=True)
class Form:
    """How a thing differs from the mesh that it was rendered from.

    :param size: its size over that of the mesh.
    :param width: its width over its height in the image, over the same ratio of the mesh.
    """

    size: float
    width: float


AS_IT_IS = Form(1.0, 1.0)


class SceneLayout:
    """Draws scenes: a table and what is on it."""

    def __init__(self, banks: Sequence[ViewBank], priors: Sequence[ViewPrior | None],
                 distance_m: tuple[float, float]) -> None:
        """Sort the views by elevation.

        :param banks: classes first, then bodies that only disturb.
        :param distance_m: nearest and farthest objects.
        """
        self.banks, self.priors, self.distance_m = banks, priors, distance_m
        self.placer = Placer(banks, priors)

    def table(self, rng: np.random.Generator) -> Table:
        """Draw the plane of a table."""
        elevation = np.radians(rng.uniform(*TABLE_ELEVATION_DEG))
        tilts = [p.tilt_max_deg for p in self.priors if p is not None]
        tilt = np.radians(ROLLED * (max(tilts) if tilts else 30.0)) * rng.uniform(-1, 1)
        normal = up_direction(elevation, tilt)
        near, far = self.distance_m
        distance = np.exp(rng.uniform(*np.log([near + 0.15 * (far - near), 0.9 * far])))
        return Table.drawn(rng, np.array([0.0, 0.0, distance]), normal)

    def place(self, rng: np.random.Generator, table: Table, K: Array,
              chosen: Sequence[int]) -> list[SceneObject]:
        """Put objects into a scene, from back to front.

        :param K: (3, 3) of the image.
        """
        spread = rng.uniform(*HEAP_M)
        feet: list[tuple[Array, float]] = []
        found = []
        for bank in chosen:
            form = self._form(rng, bank)
            placed = None
            if rng.random() < STANDING:
                placed = self._stand(rng, table, K, bank, form, spread, feet)
            found.append(placed or self._anywhere(rng, K, bank, form))
        return sorted(found, key=lambda o: -o.depth_m)

    def _form(self, rng: np.random.Generator, bank: int) -> Form:
        """Draw the form of a body; objects are as they are."""
        if bank < len(self.priors):
            return AS_IT_IS
        size, width = (float(np.exp(rng.uniform(*np.log(r)))) for r in (BODY_SIZE, BODY_WIDTH))
        return Form(size, width)

    def _stand(self, rng: np.random.Generator, table: Table, K: Array, bank: int, form: Form,
               spread: float, feet: list[tuple[Array, float]]) -> SceneObject | None:
        half = form.size * self.banks[bank].diameter_m / 2
        for _ in range(ATTEMPTS):
            place = rng.normal(0, spread, 2)
            if all(np.linalg.norm(place - p) > APART * (half + h) for p, h in feet):
                break
        else:
            return None
        placed = self._on_table(rng, table, K, bank, form, place)
        if placed is not None:
            feet.append((place, half))
        return placed

    def _on_table(self, rng: np.random.Generator, table: Table, K: Array, bank: int, form: Form,
                  place: Array) -> SceneObject | None:
        own, upright = self.banks[bank], self.placer.upright[bank]
        height = -float(own.hull[:, 2].min()) if upright else 0.4 * form.size * own.diameter_m
        lift = rng.uniform(0, HIGHEST_M) if rng.random() < LIFTED else 0.0
        origin = table.point_m + table.axes @ place + (height + lift) * table.normal
        if not self.distance_m[0] <= origin[2] <= self.distance_m[1]:
            return None
        sine = -float(origin @ table.normal) / float(np.linalg.norm(origin))
        view = self.placer.view_from(rng, bank, sine)
        tilt = float(np.arctan2(table.normal[0], -table.normal[1]))
        if not upright:
            tilt = float(rng.uniform(-np.pi, np.pi))
        corners = None
        if upright:
            corners = own.hull @ (roll(tilt) @ own.R_camera_object[view]).T + origin
        return self._seen(bank, view, form, K, origin, tilt, corners)

    def _anywhere(self, rng: np.random.Generator, K: Array, bank: int,
                  form: Form) -> SceneObject:
        prior = self.priors[bank] if bank < len(self.priors) else None
        view = int(rng.integers(len(self.banks[bank].albedo)))
        tilt = float(rng.uniform(-1, 1) * np.radians(prior.tilt_max_deg if prior else 180.0))
        depth = float(rng.uniform(*self.distance_m))
        pixel = np.array([*(rng.uniform(-0.05, 1.05, 2) * 2 * K[:2, 2]), 1.0])
        return self._seen(bank, view, form, K, depth * (np.linalg.inv(K) @ pixel), tilt, None)

    def _seen(self, bank: int, view: int, form: Form, K: Array, origin_m: Array, tilt: float,
              corners_m: Array | None) -> SceneObject:
        depth = float(origin_m[2])
        scale = float(K[0, 0] * form.size * self.banks[bank].diameter_m / depth / FLAT_SIZE)
        if bank >= len(self.priors):
            scale = min(scale, WIDEST * 2 * float(K[0, 2]) / FLAT_SIZE)
        shift = (K @ origin_m)[:2] / depth - (VIEW_PX - 1) / 2
        A = similarity(scale, tilt, float(shift[0]), float(shift[1])) @ widened(form.width)
        return SceneObject(bank, view, A, depth, corners_m)
