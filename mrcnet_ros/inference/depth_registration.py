"""What depth tells of a pose although its pixels may lie beside those of the colour image.

A depth image is shifted against the colours where its registration is not exact, or where it was
taken a moment earlier and objects or camera have moved since. The shift looks like a motion of the
object across the ray. The colours know that position well, so that depth is not needed for it.
"""

from __future__ import annotations

import numpy as np

from ..geometry.se3 import Array

# How far depth may be shifted against the colours, across the ray, as a part of the distance: one
# deviation. Kinect images of LM are up to five pixels (0.009) off. Depth of 100 ms before was off
# by 0.005 on generated sequences: objects and camera had moved.
REGISTRATION = 0.005
# The shift's variance along the ray, as a part of that across it: the distance is depth's to tell.
ALONG_SHIFT = 1e-4


def without_shift(T: Array, information: Array, prior: Array, here: Array
                   ) -> tuple[Array, Array]:
    """Take what depth says across the ray with the doubt that its pixels are beside the colours.

    :param T: (N, 4, 4) poses as depth sees them.
    :param information: (N, 6, 6) of depth alone, as if it were registered exactly.
    :param prior: (N, 6, 6) of the network.
    :param here: (N, 6) how far these poses are from where the alignment started.
    :return: (N, 6, 6) what depth really tells, and (N, 6) how far the pose of both is from there.
    """
    t = T[:, :3, 3]
    distance_m = np.linalg.norm(t, axis=1)
    ray = t / distance_m[:, None]
    shift = np.eye(3) - (1 - ALONG_SHIFT) * ray[:, :, None] * ray[:, None]
    shift *= (REGISTRATION * distance_m)[:, None, None] ** 2
    unknown = information[:, :, :3] @ np.linalg.inv(
        information[:, :3, :3] + np.linalg.inv(shift))
    pull = (information + prior) @ here[..., None]
    pull = pull - unknown @ pull[:, :3]
    known = information - unknown @ information[:, :3]
    change = np.linalg.solve(known + prior, pull)[..., 0]
    return known, np.asarray(change, np.float64)
