"""Sequences: objects and camera move smoothly, and files say when."""

from __future__ import annotations

import dataclasses
import itertools
import json

import cv2
import numpy as np
import pytest
import synth_folder
import trimesh

from mrcnet_ros.cli.main import main
from mrcnet_ros.datasets.bop_scene import BopScene
from mrcnet_ros.geometry.se3 import inverse, make_transform, rotation_angle
from mrcnet_ros.synth.layout import LayoutSpec, PlacedObject
from mrcnet_ros.synth.motion import (
    CAMERA_RAD_S,
    OBJECT_M_S,
    OBJECT_RAD_S,
    draw_camera_motion,
    draw_object_motions,
)
from mrcnet_ros.synth.painter import Painter

LAYOUT = LayoutSpec(spread_m=0.2, gap_m=0.01, distance_m=(0.7, 1.1), target_m=(0.02, 0.03),
                    elevation_deg=(20.0, 70.0))


@pytest.mark.parametrize('seed', range(5))
def test_nothing_is_faster_than_it_should_be_and_some_things_rest(seed):
    """Between images of 30 Hz nothing jumps; one object in three does not move at all."""
    rng = np.random.default_rng(seed)
    mesh = trimesh.creation.box((0.1, 0.08, 0.06))
    placed = [PlacedObject('a', make_transform(np.eye(3), [*rng.uniform(-0.2, 0.2, 2), 0.03]))
              for _ in range(6)]
    motions = draw_object_motions(placed, {'a': mesh}, rng)
    camera = draw_camera_motion(rng, LAYOUT)
    ways = [np.array([m.at(k / 30).T_world_object for k in range(90)]) for m in motions]
    for number, way in enumerate(ways):
        speeds = np.linalg.norm(np.diff(way[:, :3, 3], axis=0), axis=1) * 30
        turns = [rotation_angle(a[:3, :3].T @ b[:3, :3]) * 30
                 for a, b in itertools.pairwise(way)]
        assert speeds.max() <= OBJECT_M_S + 1e-9 and max(turns) <= OBJECT_RAD_S + 1e-9
        assert (speeds.max() < 1e-9) == (number % 3 == 0)
        assert np.linalg.norm(way[:, :2, 3], axis=1).max() <= motions[number].reach_m + 1e-9
    views = np.array([camera.at(k / 30) for k in range(90)])
    turns = [rotation_angle(a[:3, :3] @ b[:3, :3].T) * 30
             for a, b in itertools.pairwise(views)]
    assert 0.0 < max(turns) < 2 * CAMERA_RAD_S


@pytest.mark.parametrize('distance_m', [(0.5, 0.6), (0.7, 1.1), (0.8, 0.8)])
def test_the_camera_keeps_its_distance(distance_m):
    """From what it looks at, through a minute of any sequence."""
    layout = dataclasses.replace(LAYOUT, distance_m=distance_m)
    for seed in range(100):
        camera = draw_camera_motion(np.random.default_rng(seed), layout)
        away_m = [(camera.at(t) @ [*camera.target_m, 1.0])[2] for t in np.linspace(0, 60, 50)]
        assert distance_m[0] - 1e-9 <= min(away_m) and max(away_m) <= distance_m[1] + 1e-9


def test_the_table_stays_as_it_is_through_a_sequence(tmp_path, monkeypatch):
    """While objects move, so that its wood does not flow under those that rest."""
    sides, paint = [], Painter.paint

    def remembered(self, placed, setting, *rngs):
        sides.append(setting.table_side_m)
        return paint(self, placed, setting, *rngs)

    monkeypatch.setattr(Painter, 'paint', remembered)
    synth_folder.write_dataset(tmp_path, rate_hz=1.0, images=4)
    assert len(sides) == 4 and len(set(sides)) == 1


def test_every_second_object_is_taken_away_and_put_back(tmp_path, capsys):
    """It has no pixel then and is far away; everything else is as without the option."""
    mesh, folders = tmp_path / 'box.ply', []
    trimesh.creation.box((100, 80, 60)).export(mesh)
    base = ['synth', '--meshes', str(mesh), '--scenes', '1', '--images', '3', '--objects', '2',
            '--size', '96', '72', '--sequence', '10', '--seed', '5']
    for name, extra in (('plain', ()), ('away', ('--take-away', '0.1', '--put-back', '0.2'))):
        assert main([*base, '--output', str(tmp_path / name), *extra]) == 0
        folders.append(tmp_path / name / 'test' / '000001')
    (plain, away), (before, after) = (
        [json.loads((folder / f'scene_{name}.json').read_text()) for folder in folders]
        for name in ('gt_info', 'gt'))
    assert [away[str(i)][1]['visib_fract'] > 0.0 for i in range(3)] == [True, False, True]
    assert away['1'][1]['px_count_all'] == 0 and after['1'][1]['cam_t_m2c'][2] != 0
    assert np.linalg.norm(after['1'][1]['cam_t_m2c']) > 50_000
    assert before['1'][0] == after['1'][0] and before['2'] == after['2']
    images = [cv2.imread(str(folder / 'rgb' / '000001.png')).astype(float) for folder in folders]
    differs = np.abs(images[0] - images[1]).max(axis=2) > 0
    assert plain['1'][1]['px_count_visib'] <= differs.sum() < 0.6 * differs.size
    for bad, told in ((('--take-away', '0.2', '--put-back', '0.1'), '--take-away < --put-back'),
                      (('--put-back', '0.1'), '--take-away'),
                      (('--take-away', '0.1', '--objects', '1'), '2 or more --objects, got 1')):
        assert main([*base, '--output', str(tmp_path / 'bad'), *bad]) == 2
        assert told in capsys.readouterr().err


def test_a_sequence_is_a_scene_whose_images_are_steps_in_time(tmp_path):
    """Timestamps and camera poses are in scene_camera.json, and poses change a little each."""
    mesh = tmp_path / 'box.ply'
    trimesh.creation.box((100, 80, 60)).export(mesh)
    assert main(['synth', '--meshes', str(mesh), '--output', str(tmp_path / 'set'), '--scenes',
                 '1', '--images', '3', '--objects', '2', '--size', '96', '72', '--sequence',
                 '10']) == 0
    folder = tmp_path / 'set' / 'test' / '000001'
    scene = BopScene(folder, None)
    assert [scene.timestamp_s(i) for i in scene.image_ids] == [0.0, 0.1, 0.2]
    views = [scene.T_camera_world(i) for i in scene.image_ids]
    assert 0.0 < rotation_angle(views[0][:3, :3] @ views[1][:3, :3].T) < 0.1
    truth = json.loads((folder / 'scene_gt.json').read_text())
    resting = [inverse(view) @ make_transform(
        np.reshape(truth[str(i)][0]['cam_R_m2c'], (3, 3)),
        0.001 * np.array(truth[str(i)][0]['cam_t_m2c'])) for i, view in enumerate(views)]
    np.testing.assert_allclose(resting[0], resting[2], atol=1e-6)
