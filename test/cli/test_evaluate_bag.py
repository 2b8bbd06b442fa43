"""What mrcnet evaluate bag makes of the answers of a node."""

import dataclasses

import bop_folder
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mrcnet_ros.cli import evaluate_bag
from mrcnet_ros.datasets.bop import BopDataset, ResultRow
from mrcnet_ros.geometry.se3 import make_transform
from mrcnet_ros.objects import load_bop_objects

root = bop_folder.root_fixture()


@pytest.mark.parametrize(('order', 'told'), [
    ([0, 1, 2, 3], ''), ([3, 0, 1, 2], 'and 5 would if quaternions were taken as')])
def test_ground_truth_of_another_convention_is_told(root, capsys, order, told):
    """Quaternions in another order are valid, and right poses score nothing beside them."""
    frames = BopDataset(root, 'toy', 'test').frames
    objects = load_bop_objects(root / 'toy' / 'models_eval', [1, 3])
    rows = [ResultRow(f.scene_id, f.image_id, g.object_id, 0.9, g.T_camera_object)
            for f in frames for g in f.ground_truth]

    def in_bag(T):
        xyzw = Rotation.from_matrix(T[:3, :3]).as_quat()[order]
        return make_transform(Rotation.from_quat(xyzw).as_matrix(), T[:3, 3])

    images = [dataclasses.replace(f, ground_truth=tuple(
        dataclasses.replace(g, T_camera_object=in_bag(g.T_camera_object))
        for g in f.ground_truth)) for f in frames]
    scores, _ = evaluate_bag._figures(images, rows, objects, {1: 'blob', 3: 'die'})
    assert (np.mean([t.mssd_met for t in scores.targets]) == 1.0) == (told == '')
    error = capsys.readouterr().err
    assert told in error and ('look at the ground truth of the bag' in error) == bool(told)
