"""Depth images of generated datasets: exact ones, and those of a depth camera."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synth_folder

from mrcnet_ros.cli import main as mrcnet
from mrcnet_ros.datasets.bop import BopDataset, BopFrame
from mrcnet_ros.synth.depth_sensor import DepthSensor

# nothing but what a test asks for
PERFECT = {'noise_m': 0.0, 'step_m': 0.0, 'holes': 0.0, 'scale': 0.0, 'shift': 0.0}


def frames_of(root: Path, name: str, sensor: DepthSensor | None, **changes: Any
              ) -> Sequence[BopFrame]:
    """Generate a dataset and return its images."""
    synth_folder.write_dataset(root, name, sensor=sensor, **{'images': 2, **changes})
    return BopDataset(root, name, 'test').frames


def depth_of(frame: BopFrame) -> np.ndarray:
    """Return the depth image [m]."""
    depth = frame.load_depth_m()
    assert depth is not None
    return depth


def both(left: BopFrame, right: BopFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the depth of two images where both have some."""
    a, b = depth_of(left), depth_of(right)
    return a[(a > 0) & (b > 0)], b[(a > 0) & (b > 0)]


@pytest.fixture(scope='module')
def exact(tmp_path_factory: pytest.TempPathFactory) -> Sequence[BopFrame]:
    return frames_of(tmp_path_factory.mktemp('exact'), 'made', None)


def test_a_depth_camera_changes_the_depth_images_and_nothing_else(tmp_path, exact):
    """Pictures, masks and poses are those of the same seed; fewer pixels have a depth."""
    measured = frames_of(tmp_path, 'made', DepthSensor())
    for before, after in zip(exact, measured, strict=True):
        old, new = (frame.image_path.parents[1] for frame in (before, after))
        same = {path.relative_to(old): path.read_bytes() for path in sorted(old.rglob('*.*'))
                if path.parent.name in ('rgb', 'mask', 'mask_visib')
                or path.name == 'scene_gt.json'}
        assert same == {name: (new / name).read_bytes() for name in same}
        a, b = both(before, after)
        assert 0.0005 < np.median(np.abs(b - a)) < 0.01
        infos = [json.loads((folder / 'scene_gt_info.json').read_text())[str(after.image_id)]
                 for folder in (old, new)]
        for truth, was, now in zip(after.ground_truth, *infos, strict=True):
            mask = after.load_mask(truth.instance, visible=False)
            assert now['px_count_valid'] == (mask & (depth_of(after) > 0)).sum()
            assert now['px_count_valid'] < was['px_count_valid']


def test_the_same_seed_gives_the_same_depth(tmp_path):
    """To the byte."""
    files = [frames_of(tmp_path, name, DepthSensor(), images=1)[0].depth_path.read_bytes()
             for name in ('a', 'b')]
    assert files[0] == files[1]


def test_an_offset_is_added_to_all_distances(tmp_path, exact):
    """With no other error every pixel is as much too far, to the step of the file."""
    measured = frames_of(tmp_path, 'made', DepthSensor(**PERFECT, offset_m=0.02))
    for before, after in zip(exact, measured, strict=True):
        a, b = both(before, after)
        np.testing.assert_allclose(b - a, 0.02, atol=2e-4)


def test_steps_grow_with_the_square_of_the_distance(tmp_path, exact):
    """The rounding error is uniform within half a step."""
    measured = frames_of(tmp_path, 'made', DepthSensor(**{**PERFECT, 'step_m': 0.05}))
    off = np.concatenate([(b - a) / (0.05 * a**2) for a, b in map(both, exact, measured)])
    assert np.abs(off).max() < 0.52
    assert np.quantile(np.abs(off), 0.9) > 0.35


def test_noise_and_holes_are_as_large_as_asked_for(tmp_path, exact):
    """The deviation at a metre, and the part of the image away from edges."""
    sensor = DepthSensor(**{**PERFECT, 'noise_m': 0.01, 'holes': 0.3})
    measured = frames_of(tmp_path, 'made', sensor)
    off = np.concatenate([(b - a) / a**2 for a, b in map(both, exact, measured)])
    assert off.std() == pytest.approx(0.01, rel=0.1)
    known = [depth_of(frame) > 0 for frame in exact]
    lost = np.mean([(depth_of(f) == 0)[k].mean() for f, k in zip(measured, known, strict=True)])
    assert 0.25 < lost < 0.5


def test_the_images_of_a_sequence_are_of_one_camera(tmp_path):
    """Its scale is wrong by the same in all of them; unrelated views have cameras of their own."""
    def scales(name: str, **changes: Any) -> np.ndarray:
        sensor = DepthSensor(**{**PERFECT, 'scale': 0.05})
        pairs = zip(frames_of(tmp_path, f'{name}0', None, **changes),
                    frames_of(tmp_path, f'{name}1', sensor, **changes), strict=True)
        return np.array([np.median(b / a) for a, b in (both(*pair) for pair in pairs)])

    steps = scales('steps', rate_hz=30.0)
    assert np.ptp(steps) < 1e-3 and abs(steps[0] - 1) > 1e-3
    assert np.ptp(scales('views')) > 0.01


def synth(folder: Path, *options: str) -> int:
    """Run the command on one small image."""
    synth_folder.source(folder)
    return int(mrcnet.main([
        'synth', '--models', str(folder / 'objects.yaml'), '--output', str(folder / 'made'),
        '--scenes', '1', '--images', '1', '--size', '96', '64', *options]))


def test_each_number_of_the_command_brings_a_depth_camera(tmp_path, capsys):
    """They are in millimetres at a metre; one that makes no sense is named before all work."""
    assert synth(tmp_path / 'plain') == 0
    assert synth(tmp_path / 'far', '--depth-offset', '30', '--depth-noise', '0',
                 '--depth-step', '0', '--depth-holes', '0') == 0
    (plain,), (far,) = (BopDataset(tmp_path / n, 'made', 'test').frames for n in ('plain', 'far'))
    a, b = both(plain, far)
    assert np.median(b - a) == pytest.approx(0.03, abs=0.01)
    assert (depth_of(far) == 0).sum() > (depth_of(plain) == 0).sum()
    capsys.readouterr()
    assert synth(tmp_path / 'bad', '--depth-holes', '30') == 2
    assert 'depth camera: holes must be 0 to 0.9, got 30' in capsys.readouterr().err
    assert not (tmp_path / 'bad' / 'made').exists()
