"""Covariances without photographs: a model is calibrated on renders of its own meshes."""

from __future__ import annotations

import json
import shutil

import measured_model
import numpy as np
import pytest

from mrcnet_ros.cli.main import main
from mrcnet_ros.datasets.bop import RENDERED_FILE
from mrcnet_ros.datasets.boxes import BoxSpec, as_detected, target_boxes
from mrcnet_ros.inference.calibration_entries import write_law
from mrcnet_ros.inference.depth_correction import DepthLaws
from mrcnet_ros.inference.depth_law import DepthScoreLaw
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.inference.uncertainty import CovarianceLaw
from mrcnet_ros.synth.held_out import SYNTH_SEED, held_out_frames, image_count

LAW = CovarianceLaw(lateral_floor=0.001, lateral_gain=1.0, depth_floor=0.001, depth_gain=1.0,
                    rotation_floor_rad=0.01, rotation_gain=1.0, score_exponent=0.1)
DEPTH = DepthLaws(LAW, DepthScoreLaw(bias=-3.0, score_gain=0.5, agreement_gain=5.0,
                                     residual_gain=-0.8))


@pytest.fixture
def model(tiny_model, tmp_path, monkeypatch):
    """Return a copy of a model without a covariance."""
    monkeypatch.setenv('MRCNET_CACHE', str(tiny_model.store))
    return shutil.copytree(tiny_model.path, tmp_path / 'model')


def test_a_model_gets_a_covariance_without_photographs(model, tiny_model, capsys):
    """It is marked as made of renders, with how many and which boxes; sizes stay unknown."""
    command = ['calibrate', '--synthetic', '--model', str(model), '--meshes',
               str(tiny_model.meshes), '--images', '30', '--write', '--threads', '1',
               '--crops', '1', '--distance', '0.4', '0.8']
    assert read_model_directory(model, tiny_model.meshes).plain_laws.covariance_law is None
    write_law(model, DEPTH.covariance, depth=True)
    write_law(model, DEPTH.score)
    assert main(command) == 0
    directory = read_model_directory(model, tiny_model.meshes)
    found = directory.plain_laws
    assert found.depth_laws == DEPTH
    assert found.covariance_law is not None and found.covariance_source is not None
    source = found.covariance_source
    assert (source.source, source.boxes, source.crops) == ('synthetic', 'detector', 1)
    assert source.images >= 25 and source.poses >= 50
    assert min(source.widened[0], source.widened[2]) > 1.5
    assert all(o.size_ratio == 1.0 for o in directory.objects)
    said = capsys.readouterr().out
    assert 'images (synthetic), deviations widened by' in said
    for law in ('covariance_depth', 'score_depth'):
        assert (f'{law} stays as it was and was measured with another covariance: run mrcnet '
                'calibrate --depth --write') in said


@pytest.mark.parametrize('extra', [
    ['--synthetic', '--images', '2'], ['--synthetic', '--images', '2', '--depth'], ['photographs'],
    ['photographs', '--only', 'covariance'], ['photographs', '--only', 'sizes']])
def test_too_few_images_are_no_success(model, tiny_model, tmp_path, capsys, extra):
    """The exit code says that nothing was written, and what was measured before stays."""
    write_law(model, LAW)
    write_law(model, DEPTH.covariance, depth=True)
    write_law(model, DEPTH.score)
    before = (model / 'model.json').read_bytes()
    if extra[0] == 'photographs':
        folder = measured_model.write_dataset(tmp_path, tiny_model)
        if extra[-1] == 'sizes':  # as if they were photographs
            (folder / 'test' / RENDERED_FILE).unlink()
        extra = ['--bop-dir', str(folder.parent), '--dataset', folder.name, *extra[1:]]
    assert main(['calibrate', '--model', str(model), '--meshes', str(tiny_model.meshes),
                 '--threads', '1', '--write', *extra]) == 1
    said = capsys.readouterr().out
    assert ('no sizes: no photograph' if extra[-1] == 'sizes' else 'too few to fit') in said
    assert 'model.json stays as it was' in said
    assert (model / 'model.json').read_bytes() == before


def test_rendered_images_are_told_to_show_no_sizes(model, tiny_model, tmp_path, capsys):
    """Before they are estimated, when nothing but sizes is asked for."""
    folder = measured_model.write_dataset(tmp_path, tiny_model)
    assert main(['calibrate', '--model', str(model), '--meshes', str(tiny_model.meshes),
                 '--bop-dir', str(folder.parent), '--dataset', folder.name,
                 '--only', 'sizes', '--write']) == 2
    assert 'is rendered: its objects are as large as their meshes' in capsys.readouterr().err


@pytest.mark.parametrize(('extra', 'problem'), [
    ([], 'give --bop-dir and --dataset, or --synthetic'),
    (['--synthetic', '--dataset', 'lmo'], 'leave out --bop-dir, --dataset and'),
    (['--bop-dir', '.', '--dataset', 'lmo', '--images', '3'], 'need --synthetic'),
    (['--bop-dir', '.', '--dataset', 'lmo', '--distance', '1', '2'], 'need --synthetic'),
    (['--synthetic', '--only', 'sizes', 'score'], '--only sizes is for photographs'),
    (['--bop-dir', '.', '--dataset', 'lmo', '--depth', '--only', 'sizes'],
     '--only sizes is for photographs')])
def test_options_that_do_not_fit_together_are_told(model, capsys, extra, problem):
    """Before anything is loaded."""
    assert main(['calibrate', '--model', str(model), *extra]) == 2
    assert problem in capsys.readouterr().err


def test_held_out_pictures_are_annotated_and_always_the_same(tiny_model):
    """Boxes are around the objects; each kind is there at most once."""
    objects = tiny_model.config.load_objects()
    first, again = (list(held_out_frames(objects, 2, upright=True)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.load_image(), other.load_image())
        assert sorted(one.targets) == sorted({t.object_id for t in one.target_ground_truth()})
        assert len(one.ground_truth) == len(objects)
        for truth in one.target_ground_truth():
            t = truth.T_camera_object[:3, 3]
            u, v = (one.camera.K @ t)[:2] / t[2]
            x1, y1, x2, y2 = truth.box_amodal_xyxy
            assert x1 - 5 < u < x2 + 5 and y1 - 5 < v < y2 + 5
        assert all(len(b.box_xyxy) == 4 for b in target_boxes(one, BoxSpec('detector')))
    assert not np.array_equal(first[0].load_image(), first[1].load_image())
    assert image_count(1) == 200 and image_count(4) == 50 and image_count(30) == 40


def test_another_seed_draws_other_scenes(model, tiny_model, monkeypatch):
    """So that a repetition is independent; without a seed they are what they always were."""
    seeds = []
    monkeypatch.setattr('mrcnet_ros.synth.held_out.held_out_frames',
                        lambda *_, seed, **__: seeds.append(seed) or [])
    for extra in ([], ['--seed', '1']):
        main(['calibrate', '--synthetic', '--model', str(model), '--meshes',
              str(tiny_model.meshes), *extra])
    assert seeds == [SYNTH_SEED, SYNTH_SEED + 1]


def test_boxes_of_a_detector_are_mostly_near_and_now_and_then_far_off():
    """Some edges are cut off, some lie beyond; the same names give the same box."""
    box = np.array([100.0, 50.0, 200.0, 250.0])
    found = np.array([as_detected(box, (0, i)) for i in range(4000)])
    np.testing.assert_array_equal(found[7], as_detected(box, (0, 7)))
    side = np.array([100.0, 200.0])
    inwards = np.concatenate([found[:, :2] - box[:2], box[2:] - found[:, 2:]], axis=1) / [*side,
                                                                                         *side]
    assert 0.02 < (inwards.max(axis=1) > 0.2).mean() < 0.1
    assert 0.05 < (inwards.min(axis=1) < -0.25).mean() < 0.12
    assert np.abs(np.median(inwards, axis=0)).max() < 0.01


def test_the_export_says_how_a_model_gets_a_covariance(tiny_model, tmp_path, capsys,
                                                       monkeypatch):
    """Until it has one."""
    monkeypatch.setattr('mrcnet_ros.training.run_config.read_config', lambda *_: tiny_model.config)
    config = tmp_path / 'any.yaml'
    config.write_text('name: any')
    command = ['export', str(config), '--output', str(tmp_path / 'model'), '--checkpoint',
               str(tiny_model.checkpoint)]
    assert main(command) == 0
    said = capsys.readouterr().err
    assert 'mrcnet calibrate --synthetic --model' in said and '--distance 0.4 0.8' in said
    values = json.loads((tmp_path / 'model' / 'model.json').read_text())
    assert 'covariance' not in values
