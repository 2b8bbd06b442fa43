"""What the node loads is closed where it cannot be used, in the thread that loaded it."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from mrcnet_ros.errors import SpecError
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.ros import estimator_loading
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.estimator_loading import load_estimator, load_handler
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.transforms import Tree


def unreadable():
    """Stand in for a mesh whose file is gone."""
    raise OSError('the mesh is gone')


class Opened:
    """An estimator or a detector that counts how often it was closed."""

    labels = ('can',)

    def __init__(self, bounds=lambda: np.zeros((2, 3))):
        """Keep how the bounds of its only object are found."""
        self.objects = {'can': SimpleNamespace(label='can', bounds=bounds)}
        self.closed = 0

    def close(self):
        """Count."""
        self.closed += 1


def loaded(estimator, **parameters):
    """Return the handler of an estimator."""
    return load_handler(lambda _: estimator, NodeParameters(**parameters),
                        DropCounters(lambda *_: None), Tree())


def test_the_node_tells_doubts_about_a_camera_once(tiny_model, caplog):
    """It does in its own words; the estimator alone would say them in others."""
    estimator = load_estimator(NodeParameters(
        model=str(tiny_model.path), meshes=str(tiny_model.meshes), store=str(tiny_model.store),
        threads=1, crops=1, preload=False))
    K = np.array([[400.0, 0.0, 0.0], [0.0, 400.0, 0.0], [0.0, 0.0, 1.0]])
    estimator.estimate(np.zeros((48, 64, 3), np.uint8), Camera(K, 64, 48), [])
    estimator.close()
    assert 'principal point' not in caplog.text


@pytest.mark.parametrize('track', [False, True])
def test_the_refiner_is_loaded_to_follow(refined_model, track):
    """Whoever does not follow saves its memory."""
    estimator = load_estimator(NodeParameters(
        model=str(refined_model.path), meshes=str(refined_model.meshes),
        store=str(refined_model.store), threads=1, crops=1, preload=False, track=track))
    assert (estimator.refiner is not None) == track and estimator.refinements == 0
    estimator.close()


@pytest.mark.parametrize(('parameters', 'said'), [
    ({'label_map': ('0=duck',)}, 'parameter label_map'),
    ({'track': True}, 'parameter track')])
def test_a_model_that_does_not_fit_the_parameters_is_closed(parameters, said):
    """As in ~/set_model with a model of other labels; its memory on a GPU is free again."""
    estimator = Opened()
    with pytest.raises(SpecError, match=said):
        loaded(estimator, **parameters)
    assert estimator.closed == 1


def test_a_fault_that_nobody_expects_closes_estimator_and_detector(monkeypatch):
    """Whatever raises after they were loaded."""
    estimator, detector = Opened(unreadable), Opened()
    monkeypatch.setattr(estimator_loading, 'load_detector', lambda *_: detector)
    with pytest.raises(OSError, match='the mesh is gone'):
        loaded(estimator)
    assert (estimator.closed, detector.closed) == (1, 1)


@pytest.mark.parametrize(('found', 'said'), [
    ({'duck': 0.1, 'can': None}, ''), ({'duck': 0.108}, ''),
    ({'duck': 0.1, 'pan': 0.3}, 'finds pan, which the model does not know'),
    ({'duck': 0.13}, 'finds duck of another size')])
def test_a_detector_of_other_objects_is_told(found, said):
    """By their labels, or where these are those of each dataset, by their sizes."""
    known = {'duck': 0.1, 'can': 0.2}
    if said:
        with pytest.raises(SpecError, match=said):
            estimator_loading.check_detector_objects('models/a', found, known)
    else:
        estimator_loading.check_detector_objects('models/a', found, known)


def test_labels_that_were_exchanged_on_one_side_are_told():
    """Also of objects that are nearly of one size, as after an edit of model.json."""
    known = {'ape': 0.1021, 'duck': 0.1090, 'can': 0.2, 'pan': 0.2}
    found = {**known, 'ape': 0.1090, 'duck': 0.1021}
    with pytest.raises(SpecError, match='finds ape, duck of another size'):
        estimator_loading.check_detector_objects('models/a', found, known)
    for right in (known, {**known, 'duck': 0.1091, 'can': 0.2001}):  # another mesh of it
        estimator_loading.check_detector_objects('models/a', right, known)


def test_what_can_be_used_stays_open_until_the_handler_is_closed(monkeypatch):
    """Then both are closed once."""
    estimator, detector = Opened(), Opened()
    monkeypatch.setattr(estimator_loading, 'load_detector', lambda *_: detector)
    monkeypatch.setattr('mrcnet_ros.ros.frame_handler.estimator_facts', lambda _: {})
    monkeypatch.setattr('mrcnet_ros.ros.frame_handler.detector_facts', lambda _: {})
    handler = loaded(estimator)
    assert (estimator.closed, detector.closed) == (0, 0)
    handler.close()
    assert (estimator.closed, detector.closed) == (1, 1)
