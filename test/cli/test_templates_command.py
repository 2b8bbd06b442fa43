"""``mrcnet templates`` draws everything that the estimator needs."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('torch', reason='needs the train extra')

from tiny_estimator import CAMERA, DETECTIONS, IMAGE
from tiny_model import TinyModel

from mrcnet_ros.cli.main import main
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.rendering import template_store


def test_nothing_is_left_to_draw_for_stage_2_and_the_refiner(
        refined_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """A node that starts afterwards needs no OpenGL."""
    store = tmp_path / 'store'
    assert main(['templates', '--model', str(refined_model.path), '--meshes',
                 str(refined_model.meshes), '--store', str(store)]) == 0
    assert f'{2 * (48 + 12)} templates of 2 objects are in {store}' in capsys.readouterr().out
    monkeypatch.setattr(template_store, 'Renderer', None)
    estimator = PoseEstimator.load(refined_model.path, refined_model.meshes, store_root=store,
                                   threads=1, crops=1, hypotheses=1, refine=1)
    assert len(estimator(IMAGE, CAMERA, DETECTIONS)) == len(DETECTIONS)
    estimator.close()


def test_a_store_that_cannot_be_written_is_told(
        refined_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With each object once."""
    (tmp_path / 'file').write_text('')
    store = tmp_path / 'file' / 'store'
    assert main(['templates', '--model', str(refined_model.path), '--meshes',
                 str(refined_model.meshes), '--store', str(store)]) == 1
    assert 'could not be written; it lacks blob, box' in capsys.readouterr().err
