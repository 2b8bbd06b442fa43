"""One pose from the network's numbers, as the estimator makes many."""

from typing import Any

import numpy as np

from mrcnet_ros.geometry.crop import CropCamera
from mrcnet_ros.inference.decoding import decode_poses


def decode_pose(six: Any, xy: Any, log_size: Any, R_bin: Any, crop: CropCamera,
                diameter_m: float) -> np.ndarray:
    """Return T_camera_object, (4, 4) [m], of a single crop."""
    return decode_poses([six], [xy], [log_size], np.asarray(R_bin)[None], [crop],
                        np.array([diameter_m]))[0]
