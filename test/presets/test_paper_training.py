"""Training the paper preset: samples, start, schedule, precision, resume, several processes."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip('torch', reason='needs the train extra')

import yaml  # noqa: E402
from synth_folder import MESHES, write_dataset  # noqa: E402

from mrcnet_ros.cli.main import main  # noqa: E402
from mrcnet_ros.errors import DatasetError, ModelError, MrcnetError, SpecError  # noqa: E402
from mrcnet_ros.geometry.camera import Camera  # noqa: E402
from mrcnet_ros.inference.poses import Detection  # noqa: E402
from mrcnet_ros.presets.paper.estimator import PaperEstimator  # noqa: E402
from mrcnet_ros.presets.paper.export import published  # noqa: E402
from mrcnet_ros.presets.paper.network.mrcnet import PaperNet  # noqa: E402
from mrcnet_ros.presets.paper.spec import PaperSpec, paper_spec  # noqa: E402
from mrcnet_ros.presets.paper.training import samples as samples_module  # noqa: E402
from mrcnet_ros.presets.paper.training.augmentation import cut_background, vary_colours  # noqa: E402
from mrcnet_ros.presets.paper.training.config import (  # noqa: E402
    PaperTrainConfig,
)
from mrcnet_ros.presets.paper.training.index import read_index  # noqa: E402
from mrcnet_ros.presets.paper.training.ranks import Ranks  # noqa: E402
from mrcnet_ros.presets.paper.training.samples import PaperSamples, stack  # noqa: E402
from mrcnet_ros.presets.paper.training.start import starting_network  # noqa: E402
from mrcnet_ros.presets.paper.training.step import PaperShapes, PaperStep  # noqa: E402
from mrcnet_ros.presets.paper.training.trainer import (  # noqa: E402
    PaperRun,
    is_plain,
    load_samples,
    paper_rate,
    train_paper,
)
from mrcnet_ros.rendering.renderer import Renderer  # noqa: E402
from mrcnet_ros.training.checkpoint import load_checkpoint  # noqa: E402
from mrcnet_ros.training.loop import decay_groups  # noqa: E402
from mrcnet_ros.training.run_config import read_config  # noqa: E402

CONFIG = Path(__file__).parents[2] / 'config' / 'train_paper.yaml'
# all is as published but the size of the crops, which is what costs time
SPEC = PaperSpec(dataset='made', depth_near=0.1, depth_far=8.0, size_px=32)
SHARP = PaperSpec(dataset='made', depth_near=0.1, depth_far=2.0, size_px=128)
ALONE = Ranks(0, 1, torch.device('cpu'))


@pytest.fixture(scope='module')
def dataset(tmp_path_factory) -> Path:
    """Generate a dataset of one scene, three objects in each of three images."""
    return write_dataset(tmp_path_factory.mktemp('bop'), split='train_pbr')


@pytest.fixture(scope='module')
def config(dataset, tmp_path_factory):
    """Configure a training of four steps; its files are large and go when the tests have run."""
    folder = tmp_path_factory.mktemp('runs')
    yield PaperTrainConfig(
        output=folder / 'whole', dataset=dataset, spec=SPEC, batch_size=2, steps=4, warmup=1,
        learning_rate=1e-3, workers=0, checkpoint=100, log=3)
    shutil.rmtree(folder)


@pytest.fixture(scope='module')
def whole_run(config) -> PaperTrainConfig:
    """Train once without a stop."""
    assert train_paper(config) == config.output / 'checkpoint.pt'
    return config


@pytest.fixture(scope='module')
def network() -> PaperNet:
    """Return a network as training starts it."""
    return starting_network(SPEC, len(MESHES), None, seed=3)


def metrics(config: PaperTrainConfig) -> list[dict[str, float]]:
    """Return what was logged, less the clock's part."""
    rows = map(json.loads, (config.output / 'metrics.jsonl').read_text().splitlines())
    return [{k: v for k, v in row.items() if k not in ('rate', 'hours')} for row in rows]


def assert_same(a: Any, b: Any, where: str = '') -> None:
    """Compare nested states to the bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict | list):
        assert len(a) == len(b), where
        for key in a if isinstance(a, dict) else range(len(a)):
            assert_same(a[key], b[key], f'{where}.{key}')
    else:
        assert a == b, where


def assert_same_training(config: PaperTrainConfig, other: PaperTrainConfig) -> None:
    """Compare the last checkpoints and the metrics of two runs."""
    first, second = (load_checkpoint(c.output / 'checkpoint.pt', SPEC) for c in (config, other))
    for part in ('step', 'network', 'optimizer', 'scaler', 'sums', 'counted'):
        assert_same(first[part], second[part], part)
    assert metrics(config) == metrics(other)


def annotations(dataset: Path, file: str) -> dict[str, list[dict[str, Any]]]:
    """Return the content of an annotation file of the scene."""
    return json.loads((dataset / 'train_pbr' / '000001' / f'scene_{file}.json').read_text())


def edited(dataset: Path, folder: Path, edit) -> Path:
    """Copy the dataset with other annotations."""
    copy = shutil.copytree(dataset, folder / 'copy')
    infos = annotations(copy, 'gt_info')
    edit(infos)
    (copy / 'train_pbr' / '000001' / 'scene_gt_info.json').write_text(json.dumps(infos))
    return copy


def test_every_usable_instance_is_listed_with_its_annotation(dataset):
    """The index holds all instances with a class, their poses, boxes, masks and company."""
    index = read_index(dataset, ['train_pbr'], [5, 2])
    entries = [(int(image), n, e) for image, es in annotations(dataset, 'gt').items()
               for n, e in enumerate(es)]
    assert len(index) == len(entries) == 9
    counts = Counter((image, e['obj_id']) for image, _, e in entries)
    for row, (image, number, entry) in enumerate(entries):
        assert index.class_index[row] == [5, 2].index(entry['obj_id'])
        assert index.alike[row] == counts[image, entry['obj_id']]
        assert np.allclose(index.R[row].ravel(), entry['cam_R_m2c'], atol=1e-6)
        assert np.allclose(index.t_mm[row], entry['cam_t_m2c'])
        assert index.mask_path(row).name == f'{image:06d}_{number:06d}.png'
        assert index.mask_path(row).is_file()
    only = read_index(dataset, ['train_pbr'], [5])
    assert len(only) == sum(e['obj_id'] == 5 for _, _, e in entries)


@pytest.mark.parametrize('change', [{'visib_fract': 0.09}, {'bbox_visib': [5, 5, 10, 40]},
                                    {'bbox_visib': [-1, -1, -1, -1]}])
def test_small_and_hidden_instances_are_left_out(dataset, tmp_path, change):
    """Boxes of 10 px or less and instances under a tenth visible are no samples."""
    copy = edited(dataset, tmp_path, lambda infos: infos['1'][2].update(change))
    index = read_index(copy, ['train_pbr'], list(MESHES))
    assert len(index) == 8
    assert (1, 2) not in list(zip(index.image, index.instance, strict=True))


def test_a_dataset_without_anything_to_train_on_is_refused(dataset, tmp_path):
    """The error names what was looked for and where."""
    with pytest.raises(DatasetError, match=r'train_real.*no scene folder'):
        read_index(dataset, ['train_real'], [2])
    with pytest.raises(DatasetError, match=r'none of the objects \[9\]'):
        read_index(dataset, ['train_pbr'], [9])


@pytest.mark.parametrize(('change', 'problem'), [
    ({'cam_R_m2c': [-1, 0, 0, 0, 1, 0, 0, 0, 1]}, r'scene_gt\.json: image 0: .*mirror image'),
    ({'cam_R_m2c': [2, 0, 0, 0, 2, 0, 0, 0, 2]}, r'scene_gt\.json: image 0: .*no rotation'),
    ({'cam_t_m2c': [0, 0, 0.0007]}, 'must be in millimetres')])
def test_poses_that_cannot_be_are_not_trained_on(dataset, tmp_path, change, problem):
    """Mirrors, scales and metres are refused with the file."""
    copy = shutil.copytree(dataset, tmp_path / 'copy')
    for path in (copy / 'train_pbr').glob('*/scene_gt.json'):
        values = json.loads(path.read_text())
        for entries in values.values():
            for entry in entries:
                entry.update(change)
        path.write_text(json.dumps(values))
    with pytest.raises(DatasetError, match=problem):
        read_index(copy, ['train_pbr'], [2, 5])


def test_training_images_are_not_turned_by_what_exif_says(dataset, tmp_path):
    """Their masks and boxes would lie elsewhere."""
    copy = shutil.copytree(dataset, tmp_path / 'copy')
    plain = PaperSamples(read_index(dataset, ['train_pbr'], [2, 5]), SPEC, [], 0)[0]
    exif = Image.Exif()
    exif[0x0112] = 3
    for path in (copy / 'train_pbr').glob('*/rgb/*.png'):
        with Image.open(path) as image:
            image.load()
        image.save(path, exif=exif.tobytes())
    turned = PaperSamples(read_index(copy, ['train_pbr'], [2, 5]), SPEC, [], 0)[0]
    torch.testing.assert_close(turned.image, plain.image)


def test_a_missing_mask_is_named(dataset, tmp_path):
    """A split without its masks is told by the file."""
    copy = shutil.copytree(dataset, tmp_path / 'copy')
    shutil.rmtree(copy / 'train_pbr' / '000001' / 'mask_visib')
    samples = PaperSamples(read_index(copy, ['train_pbr'], [2, 5]), SPEC, [], 0)
    with pytest.raises(DatasetError, match=r'mask_visib.*is missing, expected 160x120'):
        samples[0]


def test_an_epoch_shows_every_instance_once_in_an_order_of_its_own(config):
    """Sample numbers run through permutations, the same in every process."""
    samples, again = load_samples(config), load_samples(config)
    epochs = [[samples.row(9 * epoch + i) for i in range(9)] for epoch in range(3)]
    assert all(sorted(rows) == list(range(9)) for rows in epochs)
    assert epochs[0] != epochs[1]
    assert [again.row(n) for n in (20, 3, 11)] == [samples.row(n) for n in (20, 3, 11)]


def test_a_sample_depends_on_its_number_alone(config):
    """Drawn again by another process in another order, it has the same bits."""
    samples, again = load_samples(config), load_samples(config)
    first = [samples[n] for n in range(4)]
    for n in (2, 0, 3, 1):
        assert all(torch.equal(a, b) for a, b in zip(first[n], again[n], strict=True))
    assert not torch.equal(first[0].image, samples[9].image)


WORKERS = '''
import pickle, sys
from types import SimpleNamespace
import torch
from mrcnet_ros.presets.paper.training.samples import stack
from mrcnet_ros.presets.paper.training.trainer import load_samples
from mrcnet_ros.training.feed import made_ahead
from mrcnet_ros.training.loop import TrainingLoop

def numbers(rank):
    group = SimpleNamespace(rank=rank, world=2)
    return TrainingLoop.numbers(SimpleNamespace(
        config=config, group=group, samples=4, step=1, at_once=4), 3)

if __name__ == '__main__':
    with open(sys.argv[1], 'rb') as file:
        config = pickle.load(file)
    samples = load_samples(config)
    wanted = [stack([samples[n], samples[n + 1]]) for n in range(4, 12, 2)]
    for workers in (0, 2):
        found = [list(made_ahead(samples, numbers(rank), stack, workers, pin=False))
                 for rank in (0, 1)]
        row = [found[rank][step] for step in (0, 1) for rank in (0, 1)]
        for a, b in zip(row, wanted, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True)), workers
    print('the same')
'''


def test_workers_make_the_samples_of_their_process(config, tmp_path):
    """However many workers help, the batches of both processes are one row of samples."""
    (tmp_path / 'workers.py').write_text(WORKERS)
    (tmp_path / 'config').write_bytes(pickle.dumps(config))
    done = subprocess.run([sys.executable, tmp_path / 'workers.py', tmp_path / 'config'],
                          capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'the same\n'


def test_labels_can_do_with_fewer_vertices(config):
    """Shapes are in millimetres, with all vertices or as many as asked, spread over the mesh."""
    objects = config.load_objects()
    whole, some = (PaperShapes.build(objects, count, torch.device('cpu')) for count in (None, 9))
    for item, every, few in zip(objects, whole.vertices, some.vertices, strict=True):
        vertices = torch.from_numpy(1e3 * item.load_mesh().vertices).float()
        assert torch.equal(every, vertices)
        assert torch.equal(few[[0, -1]], vertices[[0, -1]]) and len(few) == 9
    assert whole.diameter == pytest.approx([1e3 * o.diameter_m for o in objects])
    assert [len(T) for T in whole.T_symmetries] == [1, 4]


def test_pose_intrinsics_and_mask_of_a_sample_fit_together(dataset, config, monkeypatch):
    """The object drawn at the sample's pose with its intrinsics covers the sample's mask."""
    monkeypatch.setattr(samples_module, 'COLOUR_CHANCE', 0.0)
    samples = PaperSamples(read_index(dataset, ['train_pbr'], [2, 5]), SHARP, [], 0)
    seen = annotations(dataset, 'gt_info')
    turns, compared = set(), 0
    with Renderer(SHARP.size_px, SHARP.size_px) as renderer:
        for class_index, item in enumerate(config.load_objects()):
            renderer.add_mesh(class_index, item.load_mesh())
        for number in range(36):
            row, sample = samples.row(number), samples[number]
            turns.add(int(np.round(np.degrees(np.arctan2(*(
                sample.R[0].numpy() @ samples.index.R[row].T)[[1, 0], 0])) / 90)) % 4)
            image, instance = samples.index.image[row], samples.index.instance[row]
            if seen[str(image)][instance]['visib_fract'] < 0.99:
                continue
            T = np.eye(4)
            T[:3, :3], T[:3, 3] = sample.R[0], 1e-3 * sample.t[0]
            drawn = renderer.render(int(sample.class_index), T, sample.K_crop[0].numpy()).mask
            small = cv2.resize(drawn.astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA)
            mask = sample.mask[0].numpy() > 0
            union = (mask | (small > 0.5)).sum()
            assert (mask & (small > 0.5)).sum() > 0.85 * union
            compared += 1
    assert turns == {0, 1, 2, 3}
    assert compared >= 8


def test_boxes_are_moved_and_scaled_by_a_quarter_at_most(dataset):
    """Crop centres stay within a quarter of the box, sides within a quarter of one and a half."""
    samples = PaperSamples(read_index(dataset, ['train_pbr'], [2, 5]), SHARP, [], 0)
    shifts, scales = [], []
    for number in range(60):
        row, sample = samples.row(number), samples[number]
        x, y, w, h = samples.index.box_xywh[row]
        K = samples.index.K[samples.index.image[row]]
        R_turn = sample.R[0].numpy() @ samples.index.R[row].T
        # the turned direction of the crop's centre, turned back
        ray = R_turn.T @ [*sample.view[0, :2].tolist(), 1.0]
        centre = K[[0, 1], [0, 1]] * ray[:2] / ray[2] + K[:2, 2]
        shifts.append((centre - [x + w / 2, y + h / 2]) / [w, h])
        scales.append(float(sample.view[0, 2]) * K[0, 0] / (1.5 * max(w, h)))
    assert 0.2 < np.abs(shifts).max() <= 0.25 + 1e-4
    assert 0.75 - 1e-4 <= min(scales) < 0.8
    assert 1.2 < max(scales) <= 1.25 + 1e-4


def test_colours_vary_and_stay_colours():
    """Each draw is another picture in 0..255; the mask loses what the image loses."""
    grey = np.full((60, 80, 3), 127, np.float32)
    mask = np.ones((60, 80), bool)
    shares, means = [], []
    for seed in range(200):
        image, left = vary_colours(np.random.default_rng(seed), grey, mask)
        assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 255
        shares.append(left.mean())
        means.append(image[left].mean())
    assert 0.4 < np.mean(np.array(shares) == 1.0) < 0.6  # dropout in every second
    assert 0.75 < np.mean([s for s in shares if s < 1]) < 0.85  # of a fifth of the cells
    assert np.std(means) > 10


def test_nothing_but_the_object_is_left_of_an_image_that_shows_it_often(dataset, tmp_path,
                                                                        monkeypatch):
    """With three or more of a kind the background is another picture, in four of five samples."""
    cv2.imwrite(str(tmp_path / 'red.png'), np.full((50, 40, 3), (0, 0, 255), np.uint8))
    monkeypatch.setattr(samples_module, 'COLOUR_CHANCE', 0.0)
    index = read_index(dataset, ['train_pbr'], [2, 5])
    for alike, expected in ((2, 0.0), (3, 0.8)):
        crowd = dataclasses.replace(index, alike=np.full(len(index), alike, np.int32))
        samples = PaperSamples(crowd, SPEC, [tmp_path / 'red.png'], 1)
        share = np.mean([_is_red(samples[n]) for n in range(60)])
        assert abs(share - expected) < 0.15


def _is_red(sample) -> bool:
    """Tell whether what is not object is red, or outside the image and black."""
    seen = cv2.dilate(sample.mask[0].numpy(), np.ones((3, 3)))
    far = cv2.resize(seen, (32, 32), interpolation=cv2.INTER_NEAREST) == 0
    blue, green, red = sample.image[0, :3].numpy()[:, far]
    return bool((np.maximum(blue, green) < 0.02).all() and red.max() > 0.9)


def test_a_background_keeps_its_aspect():
    """The middle of the picture fills the image."""
    picture = np.zeros((40, 200, 3), np.uint8)
    picture[:, 80:120] = 255
    result = cut_background(picture, 20, 20)
    assert result.shape == (20, 20, 3) and result.min() == 255


def test_the_learning_rate_goes_from_the_lowest_to_the_highest_and_back(config):
    """Linear over the warm-up, then half a cosine, as published."""
    published = dataclasses.replace(config, learning_rate=2e-4, final_rate=5e-6, warmup=1000)
    rates = [paper_rate(published, 5000, step) for step in (0, 500, 1000, 3000, 5000)]
    assert rates == pytest.approx([5e-6, (5e-6 + 2e-4) / 2, 2e-4, (5e-6 + 2e-4) / 2, 5e-6])


def test_only_kernels_and_matrices_decay(network):
    """Biases, those of the objects included, and norms do not; nothing is left out or twice."""
    decayed, plain = decay_groups(network.named_parameters(), 1e-3, is_plain)
    assert (decayed['weight_decay'], plain['weight_decay']) == (1e-3, 0.0)
    names = {id(p): name for name, p in network.named_parameters()}
    for p in decayed['params']:
        assert p.ndim > 1 and names[id(p)].endswith(('weight', 'weights'))
    for p in plain['params']:
        assert names[id(p)].endswith('bias') or '.norm.' in names[id(p)] or p.ndim == 1
    trained = [id(p) for p in network.parameters() if p.requires_grad]
    assert sorted(trained) == sorted(id(p) for g in (decayed, plain) for p in g['params'])


def test_residuals_start_below_the_width_of_a_bin(network):
    """Depth and xy of stage 2 begin near nothing, as published."""
    for head, bins in ((network.regressor.depth_reg, 1000), (network.regressor.trans_reg, 64)):
        weight = head.linear2.weight.detach()
        assert 0 < weight.abs().max() <= (6 / sum(weight.shape)) ** 0.5 / bins
        assert not head.linear2.bias.detach().any()


def torchvision_state(network: PaperNet) -> dict[str, torch.Tensor]:
    """Return random ImageNet weights in torchvision's names."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, value in network.backbone.base_model.state_dict().items():
        number, _, rest = name.partition('.')
        part = {0: 'conv1', 1: 'bn1'}.get(int(number), f'layer{int(number) - 3}')
        state[f'{part}.{rest}'] = torch.randn(value.shape, generator=generator)
        if rest in ('bn1.weight', 'weight') and value.ndim == 1:
            state[f'{part}.{rest.replace("weight", "running_mean")}'] = torch.zeros(len(value))
    return {**state, 'fc.weight': torch.zeros(1000, 512), 'fc.bias': torch.zeros(1000)}


def test_imagenet_weights_go_where_the_published_training_puts_them(network, tmp_path):
    """All four stages are taken; the stem sees four channels and starts from noise."""
    state = torchvision_state(network)
    torch.save(state, tmp_path / 'resnet34.pth')
    started = starting_network(SPEC, 1, tmp_path / 'resnet34.pth', seed=3)
    for stage in range(1, 5):
        found = getattr(started.backbone, f'layer{stage}').state_dict()
        for name, value in found.items():
            assert torch.equal(value, state[f'layer{stage}.{name.removeprefix("0.")}']), name
    assert started.backbone.layer0[0].weight.shape[1] == 4
    del state['layer3.2.conv1.weight']
    torch.save(state, tmp_path / 'other.pth')
    with pytest.raises(ModelError, match=r"other\.pth.*ResNet-34.*'6\.2\.conv1\.weight'"):
        starting_network(SPEC, 1, tmp_path / 'other.pth', seed=3)
    with pytest.raises(ModelError, match=r'absent\.pth'):
        starting_network(SPEC, 1, tmp_path / 'absent.pth', seed=3)


def test_a_stopped_training_goes_on_as_if_nothing_had_happened(whole_run):
    """Stopped between two lines of metrics and resumed, a run ends with the same bits."""
    config = dataclasses.replace(whole_run, output=whole_run.output.with_name('stopped'))
    train_paper(config, stop_after=2)
    assert load_checkpoint(config.output / 'checkpoint.pt', SPEC)['step'] == 2
    train_paper(config)
    assert_same_training(whole_run, config)


def test_a_finished_training_is_left_alone(whole_run):
    """Training again after the last step changes nothing."""
    before = (whole_run.output / 'checkpoint.pt').stat()
    train_paper(whole_run)
    assert (whole_run.output / 'checkpoint.pt').stat() == before


def test_a_trained_checkpoint_is_one_in_the_published_format(whole_run):
    """It loads as published checkpoints do, shared tensors under both names, and has moved."""
    network = published.load_published(whole_run.output / 'checkpoint.pt', SPEC, len(MESHES))
    start = starting_network(SPEC, len(MESHES), None, whole_run.seed).state_dict()
    moved = {name for name, value in network.state_dict().items()
             if not torch.equal(value, start[name])}
    frozen = {'backbone.base_model.0.weight', 'backbone.base_model.1.weight',
              'backbone.base_model.1.bias'}
    assert moved == set(start) - frozen


def test_the_command_imports_what_was_trained(whole_run, tmp_path, monkeypatch):
    """Spec, objects in class order and meshes are those of the configuration."""
    path = write_config(tmp_path / 'train.yaml', whole_run, object_ids=[5, 2])
    asked = []
    monkeypatch.setattr(published, 'import_published',
                        lambda *args, say: asked.append(args) or (args[-1], []))
    checkpoint = whole_run.output / 'checkpoint.pt'
    assert main(['import-checkpoint', str(checkpoint), '--config', str(path),
                 '--output', str(tmp_path / 'model')]) == 0
    assert asked == [(checkpoint, SPEC, (5, 2), whole_run.dataset / 'models', tmp_path / 'model')]


def test_a_trained_model_estimates_poses(whole_run, tmp_path):
    """The model directory of a checkpoint answers detections in the dataset's images."""
    pytest.importorskip('onnx', reason='needs the train extra')
    folder, left_out = published.import_published(
        whole_run.output / 'checkpoint.pt', SPEC, tuple(MESHES), whole_run.models_dir, tmp_path)
    assert left_out == []
    samples = load_samples(whole_run)
    estimator = PaperEstimator.load(folder, whole_run.models_dir, threads=1)
    x, y, w, h = samples.index.box_xywh[0]
    camera = Camera(samples.index.K[0], 160, 120)
    image = cv2.imread(str(samples.index.image_path(0)))[..., ::-1].copy()
    label = estimator.model.objects[samples.index.class_index[0]].label
    result = estimator.estimate(image, camera, [
        Detection(label, np.array([x, y, x + w, y + h], np.float64))])
    assert [p.label for p in result.poses] == [label], result.skipped


def test_a_checkpoint_of_other_objects_is_refused(whole_run):
    """A run with one object less does not go on from it."""
    with pytest.raises(ModelError, match=r'was trained with . objects, the configuration has 1'):
        PaperRun(dataclasses.replace(whole_run, object_ids=(5,)), ALONE)


def test_damaged_weights_do_not_replace_a_checkpoint(whole_run):
    """A run that diverged says so and keeps what it had."""
    run = PaperRun(whole_run, ALONE)
    before = (whole_run.output / 'checkpoint.pt').stat()
    run.network.decoder.corr_x4.proj_in.bias.data[3] = torch.nan
    with pytest.raises(MrcnetError, match=r'step 4: the weights are not finite.*is kept'):
        run.save()
    assert (whole_run.output / 'checkpoint.pt').stat() == before


def test_a_batch_that_is_seen_again_and_again_is_learnt(config):
    """The loss falls on samples that do not change, all class losses and the mask with it."""
    run = PaperRun(dataclasses.replace(config, output=config.output.with_name('none'), steps=30),
                   ALONE)
    batch = stack([run.dataset[n] for n in range(2)])
    first, last = repeated_losses(run, batch)
    assert last.sum() < 0.8 * first.sum()
    assert all(last[i] < 0.95 * first[i] for i in (0, 2, 3, 6))


def repeated_losses(run: PaperRun, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the seven losses of the first and of the eighth step on one batch."""
    rows = []
    for _ in range(8):
        run.sums.zero_()
        run.one_step(batch)
        run.step += 1
        rows.append(run.sums.clone())
    return rows[0], rows[-1]


def record(network: PaperNet, precision: torch.dtype, batch, config) -> dict[str, Any]:
    """Run a step and return what passed between its parts."""
    run = PaperRun(config, ALONE)
    seen: dict[str, Any] = {}

    def draw(class_index, R, t, K_crop):
        seen.update(R=R, t=t)
        return run.artist(class_index, R, t, K_crop)

    handles = [network.classifier.register_forward_hook(
        lambda module, args, out: seen.update(pooled=args[0], view=args[1], logits=out)),
        network.decoder.clf_pool.register_forward_hook(
            lambda module, args, out: seen.update(convolved=out))]
    step = PaperStep(network, SPEC, run.forward._shapes, draw, precision)
    seen['losses'] = step(batch)
    for handle in handles:
        handle.remove()
    return seen


def test_geometry_stays_out_of_the_lower_precision(network, config):
    """Convolutions run in bfloat16; heads, poses and losses in float32, near the full answer."""
    config = dataclasses.replace(config, output=config.output.with_name('none'))
    batch = stack([load_samples(config)[n] for n in range(2)])
    full = record(network, torch.float32, batch, config)
    low = record(network, torch.bfloat16, batch, config)
    assert (full['convolved'].dtype, low['convolved'].dtype) == (torch.float32, torch.bfloat16)
    for name in ('pooled', 'view', 'R', 't', 'losses'):
        assert low[name].dtype == torch.float32, name
    assert all(x.dtype == torch.float32 for x in low['logits'])
    assert torch.equal(low['view'], batch.view)
    assert torch.allclose(low['R'] @ low['R'].transpose(1, 2), torch.eye(3), atol=1e-5)
    assert torch.allclose(low['losses'][[0, 2, 3, 6]], full['losses'][[0, 2, 3, 6]], rtol=0.05)


def test_half_precision_without_a_gpu_is_refused(config):
    """float16 needs scaled gradients, which are made for GPUs."""
    if torch.cuda.is_available():
        pytest.skip('there is a GPU')
    with pytest.raises(SpecError, match='float16 needs a GPU'):
        train_paper(dataclasses.replace(config, precision='float16'))


@pytest.mark.gpu
@pytest.mark.parametrize('precision', ['float32', 'bfloat16', 'float16'])
def test_a_gpu_trains_in_every_precision(config, precision):
    """The loss falls on samples that do not change; float16 scales its gradients."""
    if not torch.cuda.is_available():
        pytest.skip('needs a GPU')
    run = PaperRun(dataclasses.replace(config, precision=precision, steps=30,
                                       output=config.output.with_name('none')),
                   Ranks(0, 1, torch.device('cuda', 0)))
    assert run.scaler.is_enabled() == (precision == 'float16')
    batch = stack([run.dataset[n] for n in range(2)]).to(run.device)
    first, last = repeated_losses(run, batch)
    assert last.sum() < 0.8 * first.sum()


def write_config(path: Path, config: PaperTrainConfig, **changes: Any) -> Path:
    """Write a configuration as a file."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)} | changes
    plain = {k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v
             for k, v in values.items() if v is not None}
    spec = {'depth_near': 0.1, 'depth_far': 8.0, 'size_px': 32}
    path.write_text(yaml.safe_dump({'preset': 'paper', **plain, 'spec': spec}))
    return path


def torchrun(path: Path, *arguments: str) -> None:
    """Train in two processes on the processor, as a user starts it."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    ended = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2',
         '-m', 'mrcnet_ros.cli.main', 'train', str(path), *arguments],
        env=environment, capture_output=True, text=True, timeout=3000, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]


def test_two_processes_share_every_step(config, tmp_path):
    """A step of both has the mean of their gradients; a resumed run ends with the same bits."""
    base = dataclasses.replace(config, batch_size=1, steps=2, log=1, final_rate=1e-3)
    whole, stopped = (dataclasses.replace(base, output=config.output.with_name(name))
                      for name in ('two', 'two_stopped'))
    torchrun(write_config(tmp_path / 'whole.yaml', whole))
    torchrun(write_config(tmp_path / 'stopped.yaml', stopped), '--stop-after', '1')
    state = load_checkpoint(stopped.output / 'checkpoint.pt', SPEC)
    alone = PaperRun(dataclasses.replace(base, output=config.output.with_name('none')), ALONE)
    losses = [alone.forward(alone.dataset[n]) for n in range(2)]
    (sum(x.sum() for x in losses) / 2).backward()
    alone.optimizer.step()
    found, expected = (s['state'] for s in (state['optimizer'], alone.optimizer.state_dict()))
    assert len(found) == len(expected)
    for number, values in expected.items():
        mean = values['exp_avg']
        assert torch.allclose(found[number]['exp_avg'], mean, rtol=1e-3,
                              atol=1e-3 * float(mean.abs().max())), number
    row = metrics(stopped)[0]
    assert row['samples'] == 2
    assert row['loss'] == pytest.approx(
        float(sum(x.detach().sum() for x in losses)) / 2, rel=1e-3)
    torchrun(tmp_path / 'stopped.yaml')
    assert_same_training(whole, stopped)


def test_the_example_trains_as_published():
    """The defaults are the numbers of the paper."""
    config = read_config(PaperTrainConfig, CONFIG)
    assert config.spec == paper_spec('tless')
    assert config.models_dir == Path('datasets/tless/models_cad')
    assert (config.learning_rate, config.final_rate, config.weight_decay) == (2e-4, 5e-6, 1e-3)
    assert (config.warmup, config.epochs, config.batch_size) == (1000, 75, 16)


@pytest.mark.parametrize(('changes', 'problem'), [
    ({'batch': 3}, r"unknown fields \['batch'\]; known: .*'batch_size'"),
    ({'spec': {}}, r'depth_near.*depth_far'),
    ({'spec': {'depth_near': 2, 'depth_far': 1}}, r'depth_near \(2\) must be positive and below'),
    ({'spec': {'depth_near': 1, 'depth_far': 2, 'size_px': 100}}, 'size_px must be a multiple'),
    ({'spec': 3}, 'spec must be a mapping'),
    ({'precision': 'half'}, r"precision must be one of .*'bfloat16'.*'half'"),
    ({'object_ids': [2, 2]}, 'object_ids names an object twice'),
    ({'steps': 0}, 'steps must be at least 1'),
    ({'learning_rate': 'fast'}, "learning_rate must be a number .*'fast'"),
    ({'splits': 'train_pbr'}, "splits must be a list, got 'train_pbr'"),
    ({'object_ids': ['1_0']}, r"object_ids\[0\] must be a number .*'1_0'"),
    ({'object_ids': [1.5]}, r'object_ids\[0\] must be a number .*1\.5'),
    ({'spec': {'depth_near': 1, 'depth_far': 2, 'size': 64}}, r"unknown fields \['size'\]"),
    ({'spec': {'depth_near': 1, 'depth_far': 2, 'turns': 1.5}}, 'turns must be int, got 1.5'),
    ({'workers': -1}, 'workers')])
def test_a_wrong_configuration_is_named(tmp_path, changes, problem):
    """The error names the field at fault."""
    values = {'preset': 'paper', 'output': 'o', 'dataset': 'd/mine',
              'spec': {'depth_near': 0.1, 'depth_far': 2.0}, **changes}
    path = tmp_path / 'train.yaml'
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(SpecError, match=problem):
        read_config(PaperTrainConfig, path)
