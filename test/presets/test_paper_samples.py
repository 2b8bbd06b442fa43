"""Training samples of the paper preset: which instances, which pixels, which poses."""

from __future__ import annotations

import dataclasses
import json
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

from paper_training import SPEC  # noqa: E402
from synth_folder import MESHES  # noqa: E402

from mrcnet_ros.errors import DatasetError  # noqa: E402
from mrcnet_ros.presets.paper.spec import PaperSpec  # noqa: E402
from mrcnet_ros.presets.paper.training import samples as samples_module  # noqa: E402
from mrcnet_ros.presets.paper.training.index import read_index  # noqa: E402
from mrcnet_ros.presets.paper.training.samples import (  # noqa: E402
    PaperSamples,
    cut_background,
    vary_colours,
)
from mrcnet_ros.presets.paper.training.step import PaperShapes  # noqa: E402
from mrcnet_ros.presets.paper.training.trainer import load_samples  # noqa: E402
from mrcnet_ros.rendering.renderer import Renderer  # noqa: E402

SHARP = PaperSpec(dataset='made', depth_near=0.1, depth_far=2.0, size_px=128)


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


def test_annotations_of_other_units_and_conventions_are_not_trained_on(dataset, tmp_path):
    """As an evaluation refuses them: centimetres, and boxes as two corners."""
    copy = shutil.copytree(dataset, tmp_path / 'copy')
    folder, kept = copy / 'train_pbr' / '000001', {}

    def change(file, edit):
        kept.setdefault(file, (folder / file).read_text())
        values = json.loads(kept[file])
        for entries in values.values():
            for entry in entries:
                edit(entry)
        (folder / file).write_text(json.dumps(values))

    change('scene_gt.json', lambda e: e.update(cam_t_m2c=[0.1 * v for v in e['cam_t_m2c']]))
    with pytest.raises(DatasetError, match='must be in millimetres'):
        read_index(copy, ['train_pbr'], [2, 5])
    change('scene_gt.json', lambda e: None)
    change('scene_gt_info.json', lambda e: e.update({
        name: [*e[name][:2], e[name][0] + e[name][2], e[name][1] + e[name][3]]
        for name in ('bbox_obj', 'bbox_visib')}))
    with pytest.raises(DatasetError, match=r'boxes of .* do not match their poses'):
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


def test_a_background_that_is_no_image_is_told_before_the_training(config, tmp_path):
    """Not when a sample first draws it."""
    for name in ('a', 'b'):
        cv2.imwrite(str(tmp_path / f'{name}.png'), np.zeros((30, 40, 3), np.uint8))
    own = dataclasses.replace(config, backgrounds=(tmp_path,))
    load_samples(own)
    (tmp_path / 'a.png').write_bytes(b'cut off')
    with pytest.raises(DatasetError, match=r'1 of 2 background images cannot be read.*a\.png'):
        load_samples(own)
