"""Real-time 6-DoF pose estimation of known objects from one RGB camera (MRC-Net).

The names below are the public face for Python programs. They are imported when first used, so
that ``import mrcnet_ros`` itself costs nothing; none of them needs PyTorch or ROS.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .former_places import find_former_places

if TYPE_CHECKING:
    from .detector.object_detector import ObjectDetector
    from .geometry.camera import Camera
    from .inference.estimator import PoseEstimator
    from .inference.poses import Detection, FrameResult, PoseEstimate

__version__ = '0.1.0'
__all__ = ['Camera', 'Detection', 'FrameResult', 'ObjectDetector', 'PoseEstimate',
           'PoseEstimator']

_MODULES = {
    'Camera': 'geometry.camera', 'Detection': 'inference.poses',
    'FrameResult': 'inference.poses', 'ObjectDetector': 'detector.object_detector',
    'PoseEstimate': 'inference.poses',
    'PoseEstimator': 'inference.estimator',
}


find_former_places()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'.{_MODULES[name]}', __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
