"""The detector that is shipped finds what it did when it was measured."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from mrcnet_ros.cli.known_objects import check_detector
from mrcnet_ros.datasets.bop import BopDataset
from mrcnet_ros.detector.object_detector import ObjectDetector
from mrcnet_ros.errors import DatasetError
from mrcnet_ros.evaluation.detector_boxes import LEAST_SCORE, DetectorBoxes
from mrcnet_ros.evaluation.detector_scores import DetectorScores
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.model_json import read_model_json
from mrcnet_ros.objects import ObjectModel

LMO = Path(__file__).parents[2] / 'models' / 'lmo'
DATA = Path(__file__).parents[3] / 'shared' / 'data'
# It was 0.83 on all 20 photographs.
LEAST_RECALL, PHOTOGRAPHS = 0.65, 8


def test_it_finds_the_objects_of_its_model():
    """Labels and BOP numbers agree, so that its boxes can be answered."""
    detector = ObjectDetector.load(LMO)
    objects = read_model_json(LMO)[1]['objects']
    assert [(o['label'], o['object_id']) for o in objects] == list(
        zip(detector.labels, detector.object_ids, strict=True))


def test_a_detector_with_other_numbers_is_refused_on_renders_too():
    """Otherwise each object gets the boxes of another one, and a calibration is ruined."""
    objects = {o['label']: ObjectModel(
        object_id=o['object_id'], label=o['label'], mesh_path=Path('x.ply'),
        diameter_m=o['diameter_m'], symmetries=Symmetries.none())
        for o in read_model_json(LMO)[1]['objects']}
    estimator = SimpleNamespace(objects=objects)
    detector = ObjectDetector.load(LMO)
    check_detector(estimator, DetectorBoxes(detector))
    ids = detector.object_ids
    detector.object_ids = (*ids[1:], ids[0])
    with pytest.raises(DatasetError, match=r'is object \d+ there, but object'):
        check_detector(estimator, DetectorBoxes(detector))


@pytest.mark.skipif(not (DATA / 'lmo').is_dir(), reason='needs the shared photographs')
def test_it_finds_them_in_photographs():
    """On some of the photographs that it was measured on."""
    detector = ObjectDetector.load(LMO, least_score=LEAST_SCORE)
    boxes, scores = DetectorBoxes(detector), DetectorScores(detector.object_ids)
    for frame in BopDataset(DATA, 'lmo').frames[:PHOTOGRAPHS]:
        scores.add(frame, boxes.look(frame), boxes.seconds(frame))
    figures = scores.figures({})
    assert figures['targets'] > 40 and figures['recall'] >= LEAST_RECALL
