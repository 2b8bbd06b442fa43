"""Estimates of instances, and the names that they get from frame to frame."""

from __future__ import annotations

from typing import Any

import numpy as np

from mrcnet_ros.geometry.se3 import make_transform
from mrcnet_ros.inference.poses import PoseEstimate
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.tracks import Tracks

MS = 10**6  # [ns]


def estimate_of(label: str = 'duck', name: str = '', x: float = 0.0, R: Any = None
                ) -> PoseEstimate:
    """Return an instance 1 m before the camera, ``x`` [m] to the right.

    :param R: (3, 3) its rotation; none by default.
    """
    T = make_transform(np.eye(3) if R is None else R, [x, 0.0, 1.0])
    return PoseEstimate(label, 1, T, 0.9, 0, name, np.zeros(4))


def names_of(tracks: Tracks, *estimates: PoseEstimate, at_ms: int = 0, **parameters: Any
             ) -> list[str]:
    """Return the names of the instances of a frame."""
    return tracks.update(at_ms * MS, estimates, NodeParameters(**parameters))[0]
