"""The published pipeline from image to poses, with a network of seeded weights."""

import json

import numpy as np
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('onnx')

from bop_folder import HEIGHT, WIDTH, K, write_dataset  # noqa: E402
from paper_model import OBJECT_IDS, SMALL, write_checkpoint  # noqa: E402

from mrcnet_ros.cli.main import main  # noqa: E402
from mrcnet_ros.errors import BackendError, ImageError  # noqa: E402
from mrcnet_ros.geometry.camera import Camera  # noqa: E402
from mrcnet_ros.geometry.se3 import exp_so3  # noqa: E402
from mrcnet_ros.inference.poses import Detection  # noqa: E402
from mrcnet_ros.presets.loading import load_any_estimator  # noqa: E402
from mrcnet_ros.presets.paper.crop import (  # noqa: E402
    network_input,
    paper_crops,
    straightened,
    straightened_box,
)
from mrcnet_ros.presets.paper.estimator import PaperEstimator  # noqa: E402
from mrcnet_ros.presets.paper.export.published import (  # noqa: E402
    import_published,
    load_published,
)
from mrcnet_ros.presets.paper.network.decode import PaperBins  # noqa: E402
from mrcnet_ros.rendering.renderer import Renderer  # noqa: E402

CAMERA = Camera(K, WIDTH, HEIGHT)
LABELS = [f'obj_{i:06d}' for i in OBJECT_IDS]


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Return the paths of a checkpoint, a model made from it, and its meshes."""
    try:
        Renderer(8, 8).close()
    except BackendError as error:
        pytest.skip(str(error))
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp('paper')
    meshes = write_dataset(folder) / 'models_eval'
    checkpoint = write_checkpoint(folder / 'published.pt')
    return checkpoint, import_published(
        checkpoint, SMALL, OBJECT_IDS, meshes, folder / 'model')[0], meshes


@pytest.fixture(scope='module')
def estimator(model):
    """Return the estimator that the model directory asks for."""
    return load_any_estimator(model[1], model[2], threads=1, cache_bytes=1 << 20)


def test_the_node_loads_it_with_its_usual_parameters(model):
    """The node needs nothing but the model directory and the meshes."""
    pytest.importorskip('rclpy')
    pytest.importorskip('vision_msgs')
    from mrcnet_ros.ros.params import NodeParameters
    from mrcnet_ros.ros.pose_node import load_estimator

    loaded = load_estimator(NodeParameters(model=str(model[1]), meshes=str(model[2]), threads=1))
    assert set(loaded.objects) == set(LABELS)


@pytest.fixture
def image():
    """Return a photograph of nothing."""
    return np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


def detection(label=LABELS[0], box=(100.0, 80.0, 170.0, 140.0)):
    """Return a detection."""
    return Detection(label, np.array(box), detection_id='a')


def answers(result):
    """Return every pose or reason by detection."""
    found = {p.detection_index: p.T_camera_object for p in result.poses}
    return found | {s.detection_index: s.reason for s in result.skipped}


def test_the_model_directory_says_which_estimator(estimator):
    """A directory of the paper preset is run as published, by the same call."""
    assert isinstance(estimator, PaperEstimator)
    assert set(estimator.objects) == set(LABELS)


def test_detections_in_company_get_the_poses_they_get_alone(estimator, image):
    """One call with several detections gives what several calls give, to 1e-4."""
    boxes = [(100, 80, 170, 140), (30, 20, 90, 120), (200, 100, 290, 160)]
    detections = [detection(LABELS[i % 2], box) for i, box in enumerate(boxes)]
    together = answers(estimator.estimate(image, CAMERA, detections))
    assert any(not isinstance(answer, str) for answer in together.values())
    for i, one in enumerate(detections):
        alone = answers(estimator.estimate(image, CAMERA, [one]))[0]
        assert isinstance(alone, str) == isinstance(together[i], str)
        if not isinstance(alone, str):
            np.testing.assert_allclose(together[i], alone, rtol=1e-4, atol=1e-6)


def test_openvino_gives_the_same_poses(estimator, model, image):
    """From the same bins, to 1e-4."""
    pytest.importorskip('openvino', reason='needs the extra openvino')
    other = load_any_estimator(model[1], model[2], threads=1, backend='openvino',
                               precision='fp32')
    asked = [detection(LABELS[0]), detection(LABELS[1], (30, 20, 90, 120))]
    pairs = list(zip(estimator(image, CAMERA, asked), other(image, CAMERA, asked), strict=True))
    assert pairs
    for one, two in pairs:
        assert one.bin_index == two.bin_index >= 0
        np.testing.assert_allclose(one.T_camera_object, two.T_camera_object, rtol=1e-4, atol=1e-4)


def test_closing_frees_renderer_and_backend(model, monkeypatch):
    """Both hold a device."""
    estimator, closed = load_any_estimator(model[1], model[2], threads=1), []
    for part in (estimator._renderer, estimator.backend):
        free = part.close
        monkeypatch.setattr(part, 'close', lambda p=part, f=free: (closed.append(p), f()))
    estimator.close()
    assert closed == [estimator._renderer, estimator.backend]


def test_every_detection_is_answered_or_explained(estimator, image):
    """Unknown labels and impossible boxes are skipped with their reason, others are not."""
    nan = float('nan')
    result = estimator.estimate(image, CAMERA, [
        detection('teapot'), detection(box=(nan, 0, 1, 1)), detection(box=(900, 0, 950, 9))])
    assert [s.reason for s in result.skipped] == ['unknown_label', 'non_finite', 'box_outside']
    assert estimator.estimate(image, CAMERA, []).poses == []
    with pytest.raises(ImageError, match='calibrated'):
        estimator.estimate(image[1:], CAMERA, [])


def test_the_published_network_tells_no_covariance(model, image):
    """Also where a spread is asked for: nothing is calibrated for it."""
    loaded = load_any_estimator(model[1], model[2], threads=1, spreads=True)
    poses = loaded.estimate(image, CAMERA, [detection()]).poses
    assert [(p.covariance, p.spread) for p in poses] == [(None, None)]


def test_stage_1_decodes_as_the_network_does(estimator, model, image):
    """Coarse poses of the estimator are those of the plain torch network, in millimetres."""
    network = load_published(model[0], SMALL, len(OBJECT_IDS))
    crops = paper_crops(CAMERA, detection().box_xyxy, SMALL)
    pixels, classes = network_input(image, crops), np.zeros(4, np.int64)
    found = estimator.backend.run('embed', {'image': pixels, 'class_index': classes})
    logits = estimator.backend.run(
        'stage1', {'x16': found['x16'], 'view': crops.view.astype(np.float32)})
    coarse = estimator._coarse(logits, crops)
    with torch.no_grad():
        features = network.features(torch.tensor(pixels), torch.tensor(classes))
        expected = PaperBins(SMALL).coarse(
            network.stage1(features, torch.tensor(crops.view).float()),
            torch.tensor(crops.K_crop).float())
    np.testing.assert_allclose(coarse.R, expected.R.numpy(), atol=1e-5)
    np.testing.assert_allclose(coarse.t, expected.t.numpy(), rtol=1e-4, atol=1e-2)


def test_a_template_shows_the_object_at_the_stage_1_pose_in_its_crop(estimator):
    """The rendered object is where K_crop projects it, grey, with its box map around it."""
    task = estimator._task(0, detection(), CAMERA, CAMERA)
    t_m = np.linalg.inv(task.crops.K_crop) @ [SMALL.size_px / 2, SMALL.size_px / 2, 1.0] * 0.6
    R = np.tile(exp_so3([0.3, -0.2, 0.5]), (4, 1, 1))
    coarse = type('Coarse', (), {'R': R, 't': 1e3 * t_m})()
    for drawn in estimator._templates(task, coarse):
        covered = drawn[0] > 0
        v, u = (np.nonzero(covered)[i].mean() for i in (0, 1))
        assert abs(u - SMALL.size_px / 2) < 3 and abs(v - SMALL.size_px / 2) < 3
        assert drawn[3][covered].all() and 0 < drawn[3].sum() < drawn[3].size
        assert np.array_equal(drawn[0], drawn[1]) and np.array_equal(drawn[0], drawn[2])
        assert drawn[0][covered].min() > 0.45 and drawn[0].max() <= 0.6 * 1.1 + 0.06 + 1e-6


def test_distortion_is_taken_out_before_the_crop():
    """A point's pixel in the straightened image is its pinhole projection."""
    camera = Camera(K, WIDTH, HEIGHT, 'plumb_bob', (-0.2, 0.05, 0.001, -0.001, 0.0))
    point = np.array([0.2, -0.1, 0.8])
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    u, v = np.rint(camera.project(point)).astype(int)
    image[v - 1:v + 2, u - 1:u + 2] = 255
    straight, pinhole = straightened(image, camera)
    rows, columns = np.nonzero(straight[..., 0])
    found = np.array([columns.mean(), rows.mean()])
    assert np.abs(found - pinhole.project(point)).max() < 1.0
    corner = camera.project(point)
    box = straightened_box(np.array([*corner, *(corner + 40.0)]), camera, pinhole)
    assert np.abs(box[:2] - pinhole.project(point)).max() < 3.0
    assert np.abs(corner - pinhole.project(point)).max() > 1.0


@pytest.mark.parametrize(('model', 'focal', 'coefficients'), [
    ('plumb_bob', 420.0, (-0.35, 0.12, 0.0, 0.0, 0.0)), ('equidistant', 300.0, (0.0,) * 4),
    ('plumb_bob', 600.0, (0.2, 0.0, 0.0, 0.0, 0.0))])
def test_nothing_in_a_photograph_is_lost_by_straightening_it(model, focal, coefficients):
    """An object at the border of a wide lens is seen whole, and where its rays are."""
    camera = Camera(np.array([[focal, 0, 319.5], [0, focal, 239.5], [0, 0, 1]]), 640, 480, model,
                    coefficients)
    photograph = np.full((480, 640, 3), 80, np.uint8)
    centres = [(u, v) for u in (40, 320, 600) for v in (40, 240, 440)]
    for u, v in centres:
        photograph[v - 3:v + 4, u - 3:u + 4] = 255
    straight, pinhole = straightened(photograph, camera)
    assert straight.shape[:2] == (pinhole.height, pinhole.width)
    assert max(pinhole.width / 640, pinhole.height / 480) <= 2.0
    for u, v in centres:
        box = straightened_box(np.array([u - 30.0, v - 30, u + 30, v + 30]), camera, pinhole)
        middle = pinhole.project(camera.unproject((u, v)))
        assert (box[:2] < middle).all() and (middle < box[2:]).all()
        x, y = np.rint(middle).astype(int)
        assert straight[y, x].min() > 200


def test_the_published_shading_of_a_plane_is_the_formula():
    """A surface facing the camera is brightest in the middle; turned away it follows Phong."""
    from mrcnet_ros.presets.paper.template import phong_brightness
    from mrcnet_ros.rendering.renderer import Rendering

    tilt = 0.4
    n_object = np.array([0.0, 0.0, 1.0])
    R = exp_so3([np.pi - tilt, 0.0, 0.0])  # turns +z toward the camera, tilted by 0.4
    rgb = np.tile(np.rint(127.5 * (n_object + 1)).astype(np.uint8), (9, 9, 1))
    K_image = np.array([[50.0, 0, 4], [0, 50, 4], [0, 0, 1]])
    brightness = phong_brightness(Rendering(rgb, np.ones((9, 9), np.float32)), R, K_image)
    cosine = -float((R @ n_object)[2])
    assert cosine == pytest.approx(np.cos(tilt))
    expected = 0.6 * (0.8 + 0.5 * 0.6 * cosine) + 0.1 * 0.6 * np.cos(2 * tilt) ** 10
    assert brightness[4, 4] == pytest.approx(expected, abs=2e-3)
    empty = Rendering(rgb, np.zeros((9, 9), np.float32))
    assert not phong_brightness(empty, R, K_image).any()


def evaluated(model, *options):
    """Run ``mrcnet evaluate bop`` on the dataset beside the model."""
    folder = model[1].parent
    return main(['evaluate', 'bop', '--bop-dir', str(folder), '--dataset', 'toy', '--model',
                 str(model[1]), '--meshes', str(model[2]), '--limit', '1', '--threads', '1',
                 '--csv', str(folder / 'out.csv'), '--json', str(folder / 'out.json'), *options])


@pytest.mark.parametrize('option', [['--stage1-only'], ['--crops', '3'], ['--hypotheses', '2']])
def test_options_without_effect_on_this_preset_are_refused(model, capsys, option):
    """The file would say that they were used."""
    assert evaluated(model, *option) == 2
    said = capsys.readouterr().err
    assert f'{option[0]} would have no effect' in said and '4 crops and 1 hypothesis' in said


def test_its_templates_are_not_built_ahead(model, capsys):
    """The command says so, instead of asking for another export."""
    assert main(['templates', '--model', str(model[1])]) == 2
    assert 'renders a template for each detection' in capsys.readouterr().err


def test_figures_tell_the_crops_hypotheses_and_plane_of_the_preset(model):
    """Not the defaults of another one."""
    assert evaluated(model) == 0
    figures = json.loads((model[1].parent / 'out.json').read_text())
    assert (figures['crops'], figures['hypotheses'], figures['stage1_only']) == (4, 1, False)
    assert figures['find_plane'] is False
