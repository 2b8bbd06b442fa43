"""A detector that is known to the pixel: it finds red and blue squares of its coarsest cells."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mrcnet_ros.export.detector_export import write_detector
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.specs import DETECTOR_STRIDES, DetectorSpec

SPEC = DetectorSpec(focal_px=300.0)
RED, BLUE = (64, 64, 96, 96), (128, 0, 160, 32)  # cells of 32 pixels of the network's input


class SquareFinder(nn.Module):
    """Says how red (first class) and how blue (second class) each square of 32 pixels is.

    All cells in a square say the same, with the square as their box.
    """

    inputs, outputs = ('image',), ('logits', 'distances')

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and distances of all levels."""
        side = DETECTOR_STRIDES[-1]
        mean = functional.avg_pool2d(image, side)
        colour = mean[:, :1] - mean[:, 2:]
        said = (torch.cat([colour, -colour], 1) - 128) / 16
        logits, distances = [], []
        for stride in DETECTOR_STRIDES:
            own = functional.interpolate(said, scale_factor=float(side // stride))
            left, upper = (((own[:, :1] * 0 + 1).cumsum(axis) - 0.5) * stride % side
                           for axis in (3, 2))
            logits.append(own.flatten(2).transpose(1, 2))
            distances.append(torch.cat([left, upper, side - left, side - upper], 1)
                             .flatten(2).transpose(1, 2))
        return torch.cat(logits, 1), torch.cat(distances, 1)


def write_red_detector(folder: Path, labels: tuple[str, str] = ('duck', 'can')) -> Path:
    """Write the detector as a model directory without a model of poses.

    :param labels: of what is red and of what is blue.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = write_detector(SquareFinder(), folder).read_bytes()
    (folder / 'model.json').write_text(json.dumps({
        'format_version': 1, 'name': 'squares',
        'detector': {'spec': SPEC.to_dict(), 'labels': list(labels), 'object_ids': [9, 5],
                     'distance_m': [0.4, 1.5], 'samples': 0},
        'files': {'detector.onnx': hashlib.sha256(data).hexdigest()}}))
    return folder


def picture(scale: float = 1.0, size: tuple[int, int] = (192, 160)
            ) -> tuple[np.ndarray, Camera]:
    """Return an image with a red and a blue square, and its camera.

    :param scale: pixels of the image for one of the network's input.
    :param size: of the network's input.
    """
    width, height = (round(scale * s) for s in size)
    image = np.zeros((height, width, 3), np.uint8)
    for (x1, y1, x2, y2), channel, value in ((RED, 0, 255), (BLUE, 2, 230)):
        image[round(scale * y1):round(scale * y2), round(scale * x1):round(scale * x2),
              channel] = value
    focal = scale * SPEC.focal_px
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    return image, Camera(K, width, height)
