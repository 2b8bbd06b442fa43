"""mrcnet evaluate csv: result files of others are checked and scored."""

import dataclasses
import json

import bop_folder
import numpy as np
import pytest

from mrcnet_ros.cli import main as mrcnet
from mrcnet_ros.datasets.bop import BopDataset, ResultRow, write_results_csv
from mrcnet_ros.geometry.se3 import (
    exp_so3,
    make_transform,
    quat_wxyz_from_rotation,
    rotation_from_quat_wxyz,
)

root = bop_folder.root_fixture()


def test_a_result_file_is_scored_without_a_model(root, capsys):
    """The csv task gives the same figures from rows alone."""
    rows = [ResultRow(7, f.image_id, g.object_id, 1.0, g.T_camera_object)
            for f in BopDataset(root, 'toy', 'test').frames for g in f.target_ground_truth()]
    write_results_csv(root / 'in.csv', rows[:-1])
    code = mrcnet.main(['evaluate', 'csv', '--bop-dir', str(root), '--dataset', 'toy',
                        '--results', str(root / 'in.csv'), '--json', str(root / 'out.json')])
    assert code == 0
    figures = json.loads((root / 'out.json').read_text())
    assert figures['overall']['ar_mssd'] == pytest.approx(4 / 5)
    assert 'overall' in capsys.readouterr().out


@pytest.mark.parametrize(('scene_id', 'object_id', 'kept'), [(8, 0, 0), (7, 50, 0), (7, 0, 4)])
def test_results_of_another_dataset_are_refused(root, capsys, scene_id, object_id, kept):
    """They would score 0; a few poses of none of its images are told, as are repeated ones."""
    rows = [ResultRow(scene_id, f.image_id, g.object_id + object_id, 1.0, g.T_camera_object)
            for f in BopDataset(root, 'toy', 'test').frames for g in f.target_ground_truth()]
    other = dataclasses.replace(rows[0], image_id=99)
    write_results_csv(root / 'in.csv', [*rows[1:], other, other])
    code = mrcnet.main(['evaluate', 'csv', '--bop-dir', str(root), '--dataset', 'toy',
                        '--results', str(root / 'in.csv')])
    told = ['2 of 6 poses are of other images', '1 of 6 poses repeat others'] if kept else [
        'none of its 6 poses is of one of']
    said = capsys.readouterr().err
    assert code == (0 if kept else 2) and all(text in said for text in told)


def test_rows_are_checked_against_the_images_that_are_scored(root, capsys):
    """With a limit, an image beyond it lacks no pose."""
    rows = [ResultRow(7, 4, g.object_id, 1.0, g.T_camera_object)
            for g in BopDataset(root, 'toy', 'test').frames[0].target_ground_truth()]
    for limit, told in (('1', ''), ('2', '1 of 2 images have no pose')):
        write_results_csv(root / 'in.csv', rows)
        assert mrcnet.main(['evaluate', 'csv', '--bop-dir', str(root), '--dataset', 'toy',
                            '--limit', limit, '--results', str(root / 'in.csv')]) == 0
        said = capsys.readouterr().err
        assert told in said and bool(told) == ('no pose' in said)


@pytest.mark.parametrize(('change', 'told'), [
    (lambda R, t: (R.T, t), '5 would if R is transposed'),
    (lambda R, t: (np.diag([1.0, -1, -1]) @ R, t), 'R alone is in the camera axes of OpenGL'),
    (lambda R, t: (np.diag([1.0, -1, -1]) @ R, np.diag([1.0, -1, -1]) @ t), 'behind the camera'),
    (lambda R, t: (R @ exp_so3([np.pi / 2, 0, 0]), t), 'z is up instead of y'),
    (lambda R, t: (rotation_from_quat_wxyz(np.roll(quat_wxyz_from_rotation(R), 1)), t),
     'quaternions were taken as'),
    (lambda R, t: (R, t / 10.0), 't is in centimetres')])
def test_results_of_another_convention_are_refused(root, capsys, change, told):
    """They would score nearly 0, as bad poses do."""
    rows = [ResultRow(7, f.image_id, g.object_id, 1.0, make_transform(
                *change(g.T_camera_object[:3, :3], g.T_camera_object[:3, 3])))
            for f in BopDataset(root, 'toy', 'test').frames for g in f.target_ground_truth()]
    write_results_csv(root / 'in.csv', rows)
    code = mrcnet.main(['evaluate', 'csv', '--bop-dir', str(root), '--dataset', 'toy',
                        '--results', str(root / 'in.csv')])
    assert code == 2 and told in capsys.readouterr().err
