"""On which images mrcnet new measures a model: those of its training, seen as in its training."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from tiny_model import TinyModel

from mrcnet_ros.geometry.view_prior import elevation_and_tilt
from mrcnet_ros.inference.calibration_entries import write_size_ratios
from mrcnet_ros.new_model import detector_steps, measuring
from mrcnet_ros.new_model.measuring import MeasuredPose
from mrcnet_ros.new_model.page import warnings
from mrcnet_ros.specs import ViewPrior
from mrcnet_ros.synth.held_out import RenderedFrame, held_out_frames
from mrcnet_ros.training.config import TrainConfig

IMAGES = 12
STEEP = ViewPrior(elevation_min_deg=60.0, elevation_max_deg=90.0, tilt_max_deg=9.0)
Measure = Callable[[TinyModel, TrainConfig, pytest.MonkeyPatch], list[RenderedFrame]]


def poses(tiny_model: TinyModel, config: TrainConfig, monkeypatch: pytest.MonkeyPatch,
          ) -> list[RenderedFrame]:
    """Return the images that poses are measured on."""
    frames: list[RenderedFrame] = []
    monkeypatch.setattr(measuring, 'run_frames', lambda given, *_: frames.extend(given))
    measuring.measure_model(tiny_model.path, tiny_model.meshes, IMAGES, config)
    return frames


def detector(tiny_model: TinyModel, config: TrainConfig, monkeypatch: pytest.MonkeyPatch,
             ) -> list[RenderedFrame]:
    """Return the images that a detector is measured on."""
    scores: Any = MagicMock()
    for name in ('ObjectDetector', 'DetectorBoxes'):
        monkeypatch.setattr(detector_steps, name, MagicMock())
    monkeypatch.setattr(detector_steps, 'DetectorScores', lambda _: scores)
    request: Any = MagicMock(output=tiny_model.meshes)
    detector_config: Any = config  # of both, the same fields count
    detector_steps.measure_detector(request, detector_config, IMAGES)
    return [call.args[0] for call in scores.add.call_args_list]


def test_objects_are_as_large_as_their_meshes_when_they_are_measured(
        tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that the start has from photographs are not those of the rendered images."""
    model, sizes = shutil.copytree(tiny_model.path, tmp_path / 'model'), []
    write_size_ratios(model, {'box': 0.9})
    monkeypatch.setattr(measuring, 'run_frames', lambda _, estimator, *rest: sizes.extend(
        item.size_ratio for item in estimator.objects.values()))
    measuring.measure_model(model, tiny_model.meshes, IMAGES, tiny_model.config)
    assert sizes == [1.0, 1.0]


@pytest.mark.parametrize('measure', [poses, detector])
def test_objects_are_as_far_away_as_in_training(
        tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, measure: Measure) -> None:
    """The images reach both ends of the range, and no object is beyond them."""
    frames = measure(tiny_model, dataclasses.replace(tiny_model.config, distance_m=(1.2, 2.0)),
                     monkeypatch)
    distances_m = [np.linalg.norm(truth.T_camera_object[:3, 3])
                   for frame in frames for truth in frame.ground_truth]
    assert len(distances_m) > IMAGES
    assert 1.2 <= min(distances_m) < 1.35 and 1.85 < max(distances_m) < 2.01


@pytest.mark.parametrize('measure', [poses, detector])
def test_objects_are_seen_from_where_the_training_saw_them(
        tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, measure: Measure) -> None:
    """A camera that looks down into a bin, hardly rolled; objects aside are seen less steeply."""
    frames = measure(tiny_model, dataclasses.replace(
        tiny_model.config, view_prior=STEEP, distance_m=(1.2, 2.0)), monkeypatch)
    seen = np.degrees([elevation_and_tilt(truth.T_camera_object[:3, :3])
                       for frame in frames for truth in frame.ground_truth])
    assert seen[:, 0].min() >= 60 - 5 and seen[:, 0].max() > 80
    assert np.abs(seen[:, 1]).max() < 9.1


def test_objects_that_lie_too_far_apart_are_about_the_middle_of_the_range(
        tiny_model: TinyModel) -> None:
    """A range without length, and two objects beside each other."""
    objects = tiny_model.config.load_objects()
    means_m = [np.mean([truth.T_camera_object[2, 3] for truth in frame.ground_truth])
               for frame in held_out_frames(objects, 4, upright=True, distance_m=(1.5, 1.5))]
    np.testing.assert_allclose(means_m, 1.5, atol=1e-6)


def test_an_object_without_a_pose_on_any_held_out_image_is_told() -> None:
    """Nothing is known of its errors; of one that was measured and is right, nothing is said."""
    right = MeasuredPose('cup', 1, 0, 30.0, 1.0, 1.0, 0.5, 1.0, 0.02, 0.9)
    told = warnings([right], ['cup', 'nut', 'bolt'], Path('out'), None)
    assert len(told) == 1 and 'No held-out image gave a pose of nut, bolt: ' in told[0]
    assert warnings([right], ['cup'], Path('out'), None) == []


def test_a_detector_that_does_not_find_an_object_is_told() -> None:
    """Also one that no image showed; with it the node would publish nothing."""
    right = [MeasuredPose(label, 1, 0, 30.0, 1.0, 1.0, 0.5, 1.0, 0.02, 0.9)
             for label in ('cup', 'nut', 'bolt')]
    found = {'objects': {'cup': {'recall': 0.9}, 'nut': {'recall': 0.01}}}
    told, = warnings(right, ['cup', 'nut', 'bolt'], Path('out'), found)
    assert 'rarely finds nut (1 %), bolt (0 %)' in told and 'cup' not in told
