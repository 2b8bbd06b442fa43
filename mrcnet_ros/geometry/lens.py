"""The distortion models of ROS and OpenCV, and the limits of their view.

Rays are x and y at z = 1, pixels are in focal lengths from the principal point. A polynomial of
distortion folds over at some radius: beyond it the pixels come back towards the middle, so two
rays have the same pixel. No lens sees the outer rays. Here they have no pixel, and a pixel has
either the one ray from within the fold or none.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.polynomial import Polynomial

from .se3 import Array

Value = TypeVar('Value', float, Array)

# Polynomials of the tangent are for lenses that see much less than 180 degrees.
_WIDEST_RAD = math.radians(89.0)
# A ray at a right angle to the axis has no x and y at z = 1.
_LARGEST_ANGLE_RAD = math.pi / 2 - 1e-6
# Entries of the table that Newton starts from: more save steps and take longer to make.
_KNOTS = 1024
_NEWTON_STEPS = 20  # at most; what has not arrived then has no ray
_NEWTON_STOP = 1e-5  # Newton squares it: what is left is about 1e-10
_REACHED = 1e-9  # in focal lengths: a millionth of a pixel
_FEW = 16  # points for which floats are faster than arrays
# Where the fold of a tilted lens is searched; the reach is at most one radius too small.
_DIRECTIONS, _RADII = 64, 512
_NOTHING = 1e-14  # of the largest term of a polynomial: float64 has 16 digits


class Lens(ABC):
    """A distortion with its numbers.

    :param reach: radius at z = 1 of the cone in which every ray has a pixel of its own.
    """

    reach: float

    def distort(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return where rays are seen.

        :param x: (N,) and y (N,) at z = 1; nan for none.
        :return: (N,) and (N,) in focal lengths from the principal point; nan beyond the reach.
        """
        with np.errstate(all='ignore'):
            s = x * x + y * y
            u, v = self._distorted(x, y, s)
            lost = ~(s < self.reach**2)
        if lost.any():
            u[lost] = v[lost] = np.nan
        return u, v

    def undistort(self, xy: Array) -> Array:
        """Return the rays of pixels, the inverse of :meth:`distort`.

        :param xy: (N, 2) in focal lengths from the principal point.
        :return: (N, 2) at z = 1; nan where no ray within the reach has this pixel.
        """
        if len(xy) <= _FEW:
            return np.array([self._ray(u, v) for u, v in xy.tolist()]).reshape(-1, 2)
        with np.errstate(all='ignore'):
            rays = self._undistorted(xy)
            lost = ~((rays * rays).sum(axis=1) < self.reach**2)
        if lost.any():
            rays[lost] = np.nan
        return rays

    def _ray(self, u: float, v: float) -> tuple[float, float]:
        try:
            x, y = self._found(u, v)
        except (ZeroDivisionError, OverflowError):
            return math.nan, math.nan
        return (x, y) if x * x + y * y < self.reach**2 else (math.nan, math.nan)

    @abstractmethod
    def _distorted(self, x: Array, y: Array, s: Array) -> tuple[Array, Array]:
        """Apply the formula of the model, whatever the reach; s is the square of the radius."""

    @abstractmethod
    def _undistorted(self, xy: Array) -> Array:
        """Invert the formula; nan or anything beyond the reach where there is no ray."""

    @abstractmethod
    def _found(self, u: float, v: float) -> tuple[float, float]:
        """Do what :meth:`_undistorted` does for one pixel; may divide by zero or overflow."""


class PolynomialLens(Lens):
    """``plumb_bob`` and ``rational_polynomial``: a function of the tangent, and a tilt.

    Source: OpenCV, calib3d, "Detailed Description".

    :param coefficients: k1, k2, p1, p2, k3, k4, k5, k6, the last four zero of plumb_bob.
    """

    def __init__(self, coefficients: tuple[float, ...]) -> None:
        """Find the fold, and tabulate radii as a start of the inverse."""
        self._k = tuple(map(float, coefficients)) + (0.0,) * (8 - len(coefficients))
        self.reach = math.tan(_WIDEST_RAD)
        self.reach = min(self.reach, self._radial_fold())
        if self._k[2] or self._k[3]:
            self.reach = self._tilted_fold()
        # dense where a fold ends it; the arctangent keeps a pole, where pixels are at infinity
        angles = math.atan(self.reach) * np.sin(np.linspace(0.0, 1.0 - 1e-5, _KNOTS) * np.pi / 2)
        self._radii = np.tan(angles)
        radial = (*self._k[:2], 0.0, 0.0, *self._k[4:])
        self._seen = np.arctan(_polynomial(radial, self._radii, np.zeros(_KNOTS))[0])
        self._table = self._seen.tolist(), self._radii.tolist()

    def _radial_fold(self) -> float:
        """Return the radius at which pixels stop moving outwards, or go to infinity."""
        k1, k2, _, _, k3, k4, k5, k6 = self._k
        above, below, s = (Polynomial(c) for c in (
            (1.0, k1, k2, k3), (1.0, k4, k5, k6), (0.0, 1.0)))
        slope = above * below + 2.0 * s * (above.deriv() * below - above * below.deriv())
        most = self.reach**2
        return math.sqrt(min(_first_root(slope, most), _first_root(below, most)))

    def _tilted_fold(self) -> float:
        """Return the reach when the tangential terms bend the fold, a little too small."""
        radii = np.tan(math.atan(self.reach) * np.linspace(0.0, 1.0, _RADII))
        angles = np.linspace(0.0, 2.0 * np.pi, _DIRECTIONS, endpoint=False)[:, None]
        _, _, a, b, d = _polynomial(self._k, np.cos(angles) * radii, np.sin(angles) * radii)
        bad = np.flatnonzero(((a * d - b * b <= 0.0) | (a + d <= 0.0)).any(axis=0))
        return float(radii[max(bad[0] - 1, 1)]) if len(bad) else self.reach

    def _distorted(self, x: Array, y: Array, s: Array) -> tuple[Array, Array]:
        k1, k2, p1, p2, k3, k4, k5, k6 = self._k
        g = 1.0 + s * (k1 + s * (k2 + s * k3))
        if k4 or k5 or k6:
            g /= 1.0 + s * (k4 + s * (k5 + s * k6))
        if p1 or p2:
            g += (2.0 * p1) * y + (2.0 * p2) * x
        return x * g + p2 * s, y * g + p1 * s

    def _undistorted(self, xy: Array) -> Array:
        radius = np.hypot(xy[:, 0], xy[:, 1])
        start = xy * (np.interp(np.arctan(radius), self._seen, self._radii)
                      / np.maximum(radius, 1e-12))[:, None]
        x, y, u, v = *start.T, *xy.T
        for _ in range(_NEWTON_STEPS):
            x, y, moved = _newton(self._k, x, y, u, v)
            if np.fmax.reduce(moved) < _NEWTON_STOP:
                break
        seen_u, seen_v = self._distorted(x, y, x * x + y * y)
        missed = ~((np.abs(seen_u - u) < _REACHED) & (np.abs(seen_v - v) < _REACHED))
        return np.where(missed[:, None], np.nan, np.stack([x, y], axis=-1))

    def _found(self, u: float, v: float) -> tuple[float, float]:
        radius = math.hypot(u, v)
        scale = _looked_up(math.atan(radius), *self._table) / max(radius, 1e-12)
        x, y = u * scale, v * scale
        for _ in range(_NEWTON_STEPS):
            x, y, moved = _newton(self._k, x, y, u, v)
            if moved < _NEWTON_STOP:
                return x, y
        return math.nan, math.nan


class FisheyeLens(Lens):
    """``equidistant``: the distance from the middle is a polynomial of the angle to the axis.

    Convention: with four zeros it is the ideal fisheye, whose distance is the angle itself.

    :param coefficients: k1, k2, k3, k4.
    """

    def __init__(self, coefficients: tuple[float, ...]) -> None:
        """Find the fold, and tabulate angles as a start of the inverse."""
        self._k = tuple(map(float, coefficients))
        slope = Polynomial([1.0, *((2 * i + 3) * k for i, k in enumerate(self._k))])
        self._largest_rad = min(math.sqrt(_first_root(slope, _LARGEST_ANGLE_RAD**2)),
                                _LARGEST_ANGLE_RAD)
        self.reach = math.tan(self._largest_rad)
        self._angles = self._largest_rad * np.sin(np.linspace(0.0, np.pi / 2, _KNOTS))
        self._seen = self._of_angle(self._angles)[0]
        self._table = self._seen.tolist(), self._angles.tolist()

    def _of_angle(self, angle: Value) -> tuple[Value, Value]:
        """Return the distance from the middle and how it grows with the angle."""
        k1, k2, k3, k4 = self._k
        s = angle * angle
        return (angle * (1.0 + s * (k1 + s * (k2 + s * (k3 + s * k4)))),
                1.0 + s * (3.0 * k1 + s * (5.0 * k2 + s * (7.0 * k3 + s * (9.0 * k4)))))

    def _distorted(self, x: Array, y: Array, s: Array) -> tuple[Array, Array]:
        k1, k2, k3, k4 = self._k
        radius = np.sqrt(s)
        angle = np.arctan(radius)
        s = angle * angle
        scale = angle / np.maximum(radius, 1e-9)
        scale[radius < 1e-9] = 1.0
        scale *= 1.0 + s * (k1 + s * (k2 + s * (k3 + s * k4)))
        return x * scale, y * scale

    def _undistorted(self, xy: Array) -> Array:
        radius = np.hypot(xy[:, 0], xy[:, 1])
        angle = np.interp(radius, self._seen, self._angles)
        for _ in range(_NEWTON_STEPS):
            seen, slope = self._of_angle(angle)
            step = (radius - seen) / slope
            angle = angle + step
            if np.fmax.reduce(np.abs(step)) < _NEWTON_STOP:
                break
        good = (np.abs(self._of_angle(angle)[0] - radius) < _REACHED) & (angle < self._largest_rad)
        scale = np.where(radius > 1e-9, np.tan(angle) / np.maximum(radius, 1e-12), 1.0)
        return np.asarray(xy * np.where(good, scale, np.nan)[:, None], np.float64)

    def _found(self, u: float, v: float) -> tuple[float, float]:
        radius = math.hypot(u, v)
        angle = _looked_up(radius, *self._table)
        for _ in range(_NEWTON_STEPS):
            seen, slope = self._of_angle(angle)
            if slope <= 0.0 or angle >= self._largest_rad:
                break
            step = (radius - seen) / slope
            angle += step
            if abs(step) < _NEWTON_STOP:
                scale = math.tan(angle) / radius if radius > 1e-9 else 1.0
                return u * scale, v * scale
        return math.nan, math.nan


@lru_cache(maxsize=64)
def find_lens(model: str, coefficients: tuple[float, ...]) -> Lens | None:
    """Return the lens of a distortion model that has been checked, None without distortion.

    Convention: ``plumb_bob`` and ``rational_polynomial`` with zeros are no distortion;
    ``equidistant`` with zeros is one.
    """
    if model == 'equidistant':
        return FisheyeLens(coefficients)
    return PolynomialLens(coefficients) if any(coefficients) else None


def _polynomial(k: tuple[float, ...], x: Value, y: Value
                ) -> tuple[Value, Value, Value, Value, Value]:
    """Return where rays are seen, and the slopes of that: du/dx, du/dy = dv/dx, dv/dy."""
    k1, k2, p1, p2, k3, k4, k5, k6 = k
    s = x * x + y * y
    g = 1.0 + s * (k1 + s * (k2 + s * k3))
    slope = k1 + s * (2.0 * k2 + s * (3.0 * k3))
    if k4 or k5 or k6:
        below = 1.0 + s * (k4 + s * (k5 + s * k6))
        g = g / below
        slope = (slope - g * (k4 + s * (2.0 * k5 + s * (3.0 * k6)))) / below
    q1, q2 = 2.0 * p1, 2.0 * p2
    g = g + q1 * y + q2 * x
    ax, ay = 2.0 * slope * x, 2.0 * slope * y
    return (x * g + p2 * s, y * g + p1 * s,
            g + (ax + 2.0 * q2) * x, (ay + q1) * x + q2 * y, g + (ay + 2.0 * q1) * y)


def _newton(k: tuple[float, ...], x: Value, y: Value, u: Value, v: Value
            ) -> tuple[Value, Value, Value]:
    """Return rays nearer to those of the pixels (u, v), and how far they moved."""
    seen_u, seen_v, a, b, d = _polynomial(k, x, y)
    miss_u, miss_v, det = seen_u - u, seen_v - v, a * d - b * b
    dx, dy = (d * miss_u - b * miss_v) / det, (a * miss_v - b * miss_u) / det
    return x - dx, y - dy, abs(dx) + abs(dy)


def _looked_up(x: float, xs: list[float], ys: list[float]) -> float:
    """Return what np.interp does, which takes longer for one number."""
    i = bisect_right(xs, x, 1, len(xs) - 1)
    part = (x - xs[i - 1]) / (xs[i] - xs[i - 1])
    return ys[i - 1] + min(part, 1.0) * (ys[i] - ys[i - 1])


def _first_root(polynomial: Polynomial, most: float) -> float:
    """Return the smallest positive real root, inf when there is none.

    :param most: larger roots do not matter; terms that are nothing up to there are left out, for
        the search divides by the last one.
    """
    terms = np.asarray(polynomial.coef, np.float64) * most ** np.arange(len(polynomial.coef))
    count = np.flatnonzero(np.abs(terms) > _NOTHING * np.abs(terms).max())[-1] + 1
    roots = Polynomial(terms[:count]).roots()
    real = roots.real[(np.abs(roots.imag) < 1e-9 * np.abs(roots)) & (roots.real > 0.0)]
    return most * float(real.min()) if len(real) else math.inf
