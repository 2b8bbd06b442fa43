"""The stage-1 rotation bins: HEALPix viewing directions times in-plane angles.

Source: mrcnet.md section 4; Gorski et al. 2005 (HEALPix), Yershova et al. 2010 (Hopf grid).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SpecError
from .se3 import Array, rotation_from_quat_wxyz


def quaternion_grid(nside: int, in_plane: int) -> Array:
    """Return the bin centres as quaternions in class order, in-plane angle outer.

    :param in_plane: number of in-plane angles.
    :return: (12 * nside**2 * in_plane, 4) quaternions w x y z of R_camera_object.
    :raises SpecError: when a number is not positive.
    """
    if nside < 1 or in_plane < 1:
        raise SpecError(f'rotation grid needs nside and in_plane >= 1, got {nside} and {in_plane}')
    theta, phi = _healpix_directions(nside)
    psi = (2.0 * np.pi * np.arange(in_plane) / in_plane)[:, None]
    return np.stack(np.broadcast_arrays(
        np.cos(theta / 2) * np.cos(psi / 2),
        np.sin(theta / 2) * np.sin(phi - psi / 2),
        np.sin(theta / 2) * np.cos(phi - psi / 2),
        np.cos(theta / 2) * np.sin(psi / 2),
    ), axis=-1).reshape(-1, 4)


@lru_cache(maxsize=8)
def rotation_grid(nside: int, in_plane: int) -> Array:
    """Return the bin centres R_camera_object in class order.

    :return: (12 * nside**2 * in_plane, 3, 3), read-only.
    """
    grid = rotation_from_quat_wxyz(quaternion_grid(nside, in_plane))
    grid.setflags(write=False)
    return grid


class RotationBins(Protocol):
    """How many rotation bins a model has; its specs say so."""

    @property
    def rotation_nside(self) -> int:
        """Return the HEALPix nside of the viewing directions."""

    @property
    def rotation_in_plane(self) -> int:
        """Return the number of in-plane angles of each direction."""


def grid_of(bins: RotationBins) -> Array:
    """Return the :func:`rotation_grid` of a model, (N, 3, 3)."""
    return rotation_grid(bins.rotation_nside, bins.rotation_in_plane)


def nearest_bin(R: ArrayLike, grid: Array) -> NDArray[np.int64]:
    """Return the index of the bin with the smallest angle to each rotation.

    :param R: (..., 3, 3) R_camera_object.
    :param grid: (N, 3, 3) bin centres.
    :return: (...) int64.
    """
    R = np.asarray(R, dtype=np.float64)
    trace = R.reshape(*R.shape[:-2], 9) @ grid.reshape(-1, 9).T
    return np.asarray(np.argmax(trace, axis=-1), dtype=np.int64)


def _healpix_directions(nside: int) -> tuple[Array, Array]:
    """Return theta and phi [rad]: north cap, its mirror, north belt, its mirror, equator."""
    cap_theta: list[Array] = []
    cap_phi: list[Array] = []
    belt_theta: list[Array] = []
    belt_phi: list[Array] = []
    for ring in range(1, 2 * nside):
        if ring < nside:
            count, z = 4 * ring, 1.0 - ring**2 / (3.0 * nside**2)
            shift = 0.5
            theta, phi = cap_theta, cap_phi
        else:
            count, z = 4 * nside, 4.0 / 3.0 - 2.0 * ring / (3.0 * nside)
            shift = 0.5 if (ring - nside) % 2 == 0 else 1.0
            theta, phi = belt_theta, belt_phi
        theta.append(np.full(count, np.arccos(z)))
        phi.append(2.0 * np.pi * (np.arange(count) + shift) / count)
    equator_shift = 0.5 if nside % 2 == 0 else 1.0
    equator_phi = 2.0 * np.pi * (np.arange(4 * nside) + equator_shift) / (4 * nside)
    empty = [np.zeros(0)]
    ct, cp = np.concatenate(cap_theta or empty), np.concatenate(cap_phi or empty)
    bt, bp = np.concatenate(belt_theta or empty), np.concatenate(belt_phi or empty)
    theta_all = np.concatenate([ct, np.pi - ct, bt, np.pi - bt, np.full(4 * nside, np.pi / 2)])
    return theta_all, np.concatenate([cp, cp, bp, bp, equator_phi])
