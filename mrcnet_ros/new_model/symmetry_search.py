"""Finds the rotations after which an object looks the same, in shape and in colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.spatial import cKDTree

from ..geometry.se3 import Array, exp_so3, make_transform, rotation_angle
from .seen_surface import SeenSurface, centre_and_axes

# Fractions of a full turn that are tried about each axis. A gear of more teeth is as good as
# round: half a tooth of it is less than NEAR. With more than a few folds the axis is not searched
# for: that of the moments is exact.
MOST_FOLDS, FEW_FOLDS = 60, 6
# Turns that fit only a surface of revolution: no multiple of a fraction of a full turn.
CIRCLE_RAD = tuple(np.radians([7.0, 19.0, 41.0, 83.0, 131.0]))
# In diameters. A pixel of a crop is about one percent of the diameter.
NEAR = 0.015
# part of the surface that may be off: edges, where a render sees one side or the other
STRAY = 0.003
# The same for colours: how far a colour may be from all those within reach, 0 to 255 a channel.
COLOUR, COLOUR_REACH, COLOUR_STRAY = 40.0, 0.02, 0.01
# A coarse test with a few points rejects most turns quickly. Its limits accept all turns that the
# fine test with FINE_POINTS accepts.
COARSE_POINTS, COARSE_TREE, FINE_POINTS = 250, 8000, 4000
COARSE_NEAR, COARSE_STRAY = 0.05, 0.1
SAME_TURN_RAD = np.radians(4.0)  # turns nearer than this are one; refined axes are exact to less
MOST_TURNS = 2 * MOST_FOLDS  # of a gear that is the same upside down
# How far the moments about an axis of three folds or more may differ, as a part.
SAME_MOMENTS = 0.06
MOST_NAMED = 4  # axes that are told one by one
# An axis this near to x, y or z of the mesh is replaced by it, if that fits as well.
SNAP = np.cos(np.radians(0.7))


@dataclass(frozen=True, eq=False)
class Found:
    """The symmetries of an object, about its centre.

    :param centre_m: (3,) object frame.
    :param turns: (S, 3, 3) rotations that look the same, without the identity.
    :param circles: axes of full circles, (3,) each.
    :param by_colour: whether the shape has symmetries that the colours do not.
    """

    centre_m: Array
    turns: list[Array] = field(default_factory=list)
    circles: list[Array] = field(default_factory=list)
    by_colour: bool = False

    @property
    def is_ball(self) -> bool:
        """Tell whether every turn looks the same."""
        return len(self.circles) > 1

    def entry(self, unit_m: float) -> dict[str, Any]:
        """Return an entry of models_info.json, with lengths in a unit."""
        c = self.centre_m
        values: dict[str, Any] = {}
        if self.turns:
            motions = [make_transform(R, (c - R @ c) / unit_m) for R in self.turns]
            values['symmetries_discrete'] = [[round(float(v), 9) for v in T.ravel()]
                                             for T in motions]
        if self.circles:
            values['symmetries_continuous'] = [
                {'axis': [round(float(v), 9) for v in axis],
                 'offset': [round(float(v), 9) for v in c / unit_m]} for axis in self.circles]
        return values

    def words(self) -> str:
        """Return the symmetries in words."""
        if self.is_ball:
            return 'a ball: all rotations look the same'
        parts = []
        if self.circles:
            parts.append(f'round about {_axis_name(self.circles[0])}')
        if self.turns:
            parts.append(f'{len(self.turns)} turn{"s" * (len(self.turns) > 1)}'
                         f'{self._folds()}')
        return ' and '.join(parts) or 'none'

    def _folds(self) -> str:
        axes: dict[str, int] = {}
        for R in self.turns:
            axis, angle = axis_and_angle(R)
            name = _axis_name(axis)
            axes[name] = max(axes.get(name, 0), round(2 * np.pi / angle))
        many = len(axes) > MOST_NAMED
        told = [f'{n}-fold about {name}' for name, n in sorted(axes.items())
                if not many or n > 2]
        halves = len(axes) - len(told)
        if len(told) > MOST_NAMED:
            return ''
        return f' ({", ".join(told + [f"2-fold about {halves} axes"] * (halves > 0))})'


class Matcher:
    """Tells whether a turned surface looks the same.

    :param seen: the surface.
    :param centre: (3,) that turns keep, in diameters from the middle.
    """

    def __init__(self, seen: SeenSurface, centre: Array) -> None:
        self._seen, self.centre = seen, centre
        self._coarse, self._fine = seen.some(COARSE_POINTS), seen.some(FINE_POINTS, 1)
        self._sketch = cKDTree(seen.points[seen.some(COARSE_TREE, 2)])
        self._moments = np.cov(seen.points, rowvar=False)

    def fits_roughly(self, R: Array) -> bool:
        """Tell whether a turn passes the coarse test."""
        near, _ = self._sketch.query(self._turned(R, self._coarse))
        return float((near > COARSE_NEAR).mean()) < COARSE_STRAY

    def mean(self, R: Array) -> float:
        """Return the mean squared distance, in diameters squared."""
        return float((self._distances(R, self._coarse)**2).mean())

    def fits(self, R: Array, slack: float = 1.0) -> bool:
        """Tell whether the shape is the same.

        :param slack: factor of the tolerance.
        """
        far = self._distances(R, self._fine) > slack * NEAR
        return float(far.mean()) <= STRAY

    def folds(self, axis: Array) -> Sequence[int]:
        """Return by which parts of the circle the shape may turn about an axis, most first."""
        across = np.linalg.svd(axis[None])[2][1:]
        low, high = np.linalg.eigvalsh(across @ self._moments @ across.T)
        if high - low > SAME_MOMENTS * high:
            return (2,)
        alike = np.ptp(np.linalg.eigvalsh(self._moments)) <= SAME_MOMENTS * high
        many = not alike or np.abs(axis).max() > SNAP  # else a cube has many such axes
        return range(MOST_FOLDS if many else FEW_FOLDS, 1, -1)

    def looks_the_same(self, R: Array) -> bool:
        """Tell whether the colours are the same."""
        seen, rows = self._seen, self._fine
        _, near = seen.tree.query(self._turned(R, rows), k=16,
                                  distance_upper_bound=COLOUR_REACH)
        known = near < len(seen.points)
        near = np.where(known, near, 0)
        apart = np.abs(seen.colors[near] - seen.colors[rows][:, None]).max(axis=2)
        apart[~known] = np.inf
        closest = apart.min(axis=1)
        return float((closest[known.any(axis=1)] > COLOUR).mean()) <= COLOUR_STRAY

    def _turned(self, R: Array, rows: Array | Any) -> Array:
        return np.asarray((self._seen.points[rows] - self.centre) @ R.T + self.centre)

    def _distances(self, R: Array, rows: Array | Any) -> Array:
        """Return how far turned points are from the surface."""
        seen = self._seen
        points = self._turned(R, rows)
        _, near = seen.tree.query(points, k=3)
        gap = points[:, None] - seen.points[near]
        above = np.abs(np.einsum('nki,nki->nk', gap, seen.normals[near]))
        beside = np.linalg.norm(gap, axis=2) - 2.0 * seen.spacing
        return np.asarray(np.maximum(above, beside).min(axis=1), np.float64)


def find_symmetries(seen: SeenSurface, vertices_m: Array, middle_m: Array,
                    diameter_m: float) -> Found:
    """Find the symmetries of shape and colour.

    :param vertices_m: (V, 3) of the mesh, object frame.
    :param middle_m: (3,) that ``seen`` is about.
    """
    centre, axes = centre_and_axes((vertices_m - middle_m) / diameter_m)
    matcher = Matcher(seen, centre)
    centre_m = middle_m + diameter_m * centre
    circles, coloured = _circles(matcher, axes)
    shapes = list(circles)
    circles = [axis for axis, good in zip(circles, coloured, strict=True) if good]
    if len(circles) > 1:
        return Found(centre_m, circles=circles[:2])
    turns, lost = _turns(matcher, axes, shapes, circles)
    return Found(centre_m, turns, circles, lost or len(circles) < len(shapes))


def _circles(matcher: Matcher, axes: Array) -> tuple[list[Array], list[bool]]:
    """Return at most two axes of revolution of the shape, and whether colours fit them."""
    found: list[Array] = []
    for axis in axes:
        turns = exp_so3(np.outer(CIRCLE_RAD, axis))
        if all(matcher.fits_roughly(R) for R in turns) and all(matcher.fits(R) for R in turns):
            found.append(axis)
        if len(found) == 2:
            break
    return found, [all(matcher.looks_the_same(R) for R in exp_so3(np.outer(CIRCLE_RAD, axis)))
                   for axis in found]


def _turns(matcher: Matcher, axes: Array, round_about: Sequence[Array],
           circles: Sequence[Array]) -> tuple[list[Array], bool]:
    """Return all turns that look the same, and whether the colours rule out some."""
    group: list[Array] = []
    lost = False
    for axis in axes:
        if any(abs(axis @ c) > 0.999 for c in circles):
            continue
        exact = any(abs(axis @ c) > 0.999 for c in round_about)
        for fold in matcher.folds(axis):
            if _has(group, _turn(axis, fold), circles):
                break
            found = axis if exact else _refined(matcher, axis, fold)
            if found is None or not (
                    exact or all(matcher.fits(R) for R in _multiples(found, fold))):
                continue
            if all(matcher.looks_the_same(R) for R in _multiples(found, fold)):
                group = _joined(matcher, group, _turn(found, fold), circles)
                break
            lost = True
    return group, lost


def _multiples(axis: Array, fold: int) -> Iterator[Array]:
    """Return the turns up to a half that follow from one.

    A gear of 18 teeth nearly fits when it turns by a 19th of the circle, but not by nine of them.
    """
    for k in (1, *range(fold // 2, 1, -1)):
        yield exp_so3(2.0 * np.pi * k / fold * axis)


def _refined(matcher: Matcher, axis: Array, fold: int) -> Array | None:
    """Return the axis near a candidate that fits best; None when none fits."""
    if not matcher.fits_roughly(_turn(axis, fold)):
        return None
    if matcher.fits(_turn(axis, fold), 0.5):
        return axis
    if fold > FEW_FOLDS:
        return axis if matcher.fits(_turn(axis, fold)) else None
    u = np.linalg.svd(axis[None])[2][1:]

    def turned(shift: Array) -> Array:
        moved = axis + shift @ u
        return np.asarray(moved / np.linalg.norm(moved))

    best = minimize(lambda s: matcher.mean(_turn(turned(s), fold)), np.zeros(2),
                    method='Nelder-Mead',
                    options={'maxfev': 40, 'initial_simplex': [[0, 0], [0.02, 0], [0, 0.02]]})
    found = turned(best.x)
    nearest: Array = np.eye(3)[int(np.argmax(np.abs(found)))]
    if abs(found @ nearest) > SNAP and matcher.fits(_turn(nearest, fold)):
        return nearest
    best_fits = matcher.fits(_turn(found, fold))
    return found if best_fits else None


def _joined(matcher: Matcher, group: list[Array], R: Array,
            circles: Sequence[Array]) -> list[Array]:
    """Return a group with a turn and all products; the same group when one does not fit."""
    if _has(group, R, circles):
        return group
    members = [*group, R]
    grown = True
    while grown:
        grown = False
        for a in list(members):
            for b in (R, *group):
                product = a @ b
                if not _has(members, product, circles):
                    if len(members) >= MOST_TURNS or not (
                            matcher.fits(product, 1.5) and matcher.looks_the_same(product)):
                        return group
                    members.append(product)
                    grown = True
    return members


def _has(group: Sequence[Array], R: Array, circles: Sequence[Array]) -> bool:
    """Tell whether a turn is in a group, up to turns about an axis of revolution."""
    turns = np.array([np.eye(3), *group])
    if circles:
        cosines = np.einsum('i,gji,jk,k->g', circles[0], turns, R, circles[0])
    else:
        cosines = (np.einsum('gij,ij->g', turns, R) - 1.0) / 2.0
    return bool(cosines.max() > np.cos(SAME_TURN_RAD))


def _turn(axis: Array, fold: int) -> Array:
    return exp_so3(2.0 * np.pi / fold * axis)


def axis_and_angle(R: Array) -> tuple[Array, float]:
    """Return the axis, its largest coordinate positive, and the angle up to half a turn [rad]."""
    values, vectors = np.linalg.eig(R)
    axis = np.real(vectors[:, int(np.argmin(np.abs(values - 1.0)))])
    axis = axis / np.linalg.norm(axis)
    axis = axis * np.sign(axis[int(np.argmax(np.abs(axis)))])
    return axis, float(rotation_angle(R))


def _axis_name(axis: Array) -> str:
    k = int(np.argmax(np.abs(axis)))
    if abs(axis[k]) > SNAP:
        return 'xyz'[k]
    return '(' + ', '.join(f'{v + 0.0:.2f}' for v in np.round(axis, 2)) + ')'
