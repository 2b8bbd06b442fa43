"""The examples do what their text says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

import mrcnet_ros
from mrcnet_ros.geometry.se3 import make_transform
from mrcnet_ros.geometry.view_prior import rotation_from_angles
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.rendering.renderer import Renderer

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(ROOT)}


def test_an_image_file_is_answered_from_the_command_line(tmp_path: Path):
    """A rendered milk carton comes back at its distance, to a tenth of it."""
    item = next(o for o in read_model_directory(ROOT / 'models/demo', None).objects
                if o.label == 'milk')
    K = np.array([[600.0, 0, 319.5], [0, 600.0, 239.5], [0, 0, 1]])
    T = make_transform(rotation_from_angles(0.6, 0.5, 0.05), [0.03, 0.02, 0.7])
    with Renderer(640, 480) as renderer:
        renderer.add_mesh('milk', item.load_mesh())
        drawn = renderer.render('milk', T, K)
    image = np.where(drawn.mask[..., None], drawn.rgb, np.uint8(110))
    cv2.imwrite(str(tmp_path / 'photo.png'), image[..., ::-1])
    rows, columns = np.flatnonzero(drawn.mask.any(1)), np.flatnonzero(drawn.mask.any(0))
    box = [columns[0], rows[0], columns[-1], rows[-1]]
    done = subprocess.run(
        [sys.executable, 'examples/estimate_image.py', tmp_path / 'photo.png', '--model',
         'models/demo', '--focal-px', '600', '--box', 'milk', *map(str, box)],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('milk: score')
    rows_of_T = re.findall(r'\[ *([^\[\]]+)\]', done.stdout.split('=', 1)[1])
    z_m = float(rows_of_T[2].split()[3])
    assert abs(z_m - 0.7) < 0.07


def test_a_label_that_the_model_lacks_is_told(tmp_path: Path):
    """The example ends with 1 and names the labels there are."""
    cv2.imwrite(str(tmp_path / 'photo.png'), np.zeros((48, 64, 3), np.uint8))
    done = subprocess.run(
        [sys.executable, 'examples/estimate_image.py', tmp_path / 'photo.png', '--model',
         'models/demo', '--focal-px', '600', '--box', 'spoon', '1', '1', '30', '30'],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'spoon' in done.stderr and 'milk' in done.stderr


def test_the_public_face_needs_neither_torch_nor_ros():
    """All its names can be had without PyTorch and ROS, and importing the package is light."""
    code = ('import sys; import mrcnet_ros; assert "numpy" not in sys.modules; '
            f'from mrcnet_ros import {", ".join(mrcnet_ros.__all__)}; '
            'assert not {"torch", "rclpy"} & set(sys.modules)')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=ENVIRONMENT,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
