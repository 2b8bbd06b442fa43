"""Estimate the pose of one object in an image file, without ROS.

python examples/estimate_image.py photo.png --model models/demo --focal-px 600 \
    --box can 210 140 330 320
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from mrcnet_ros import Camera, Detection, PoseEstimator
from mrcnet_ros.errors import MrcnetError


def main() -> None:
    """Read the arguments, estimate the pose, print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('image', type=Path)
    parser.add_argument('--model', type=Path, required=True)
    parser.add_argument('--meshes', type=Path, help='if they are not in the model directory')
    parser.add_argument('--focal-px', type=float, required=True)
    parser.add_argument('--box', nargs=5, required=True, metavar=('LABEL', 'X1', 'Y1', 'X2', 'Y2'))
    args = parser.parse_args()

    image_bgr = cv2.imread(str(args.image), cv2.IMREAD_COLOR)
    if image_bgr is None:
        parser.error(f'{args.image} is not an image that OpenCV can read')
    image_rgb = np.ascontiguousarray(image_bgr[..., ::-1])
    height, width = image_rgb.shape[:2]
    # An ideal camera. With a calibration: Camera(K, width, height, 'plumb_bob', D)
    K = np.array([[args.focal_px, 0, (width - 1) / 2], [0, args.focal_px, (height - 1) / 2],
                  [0, 0, 1]])
    try:
        camera = Camera(K, width, height)
        box = Detection(args.box[0], np.array([float(v) for v in args.box[1:]]))
        estimator = PoseEstimator.load(args.model, args.meshes)
        result = estimator.estimate(image_rgb, camera, [box])
    except (MrcnetError, ValueError) as error:
        parser.error(str(error))
    for skipped in result.skipped:
        parser.exit(1, f'no pose: {skipped.message}\n')
    pose = result.poses[0]
    np.set_printoptions(precision=4, suppress=True)
    print(f'{pose.label}: score {pose.score:.2f}, T_camera_object [m] =')
    print(pose.T_camera_object)
    if pose.covariance is not None:
        sd_mm = 1000 * np.sqrt(np.diag(pose.covariance)[:3])
        print(f'standard deviation of the position [mm]: {sd_mm}')
    estimator.close()


if __name__ == '__main__':
    main()
