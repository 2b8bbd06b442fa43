"""The four datasets of the paper, as BOP lays them out, read and evaluated."""

import dataclasses
import json
import shutil
from pathlib import Path

import bop_folder
import cv2
import numpy as np
import pytest
import synth_folder
from synth_folder import HEIGHT, WIDTH

from mrcnet_ros.cli import evaluate_bop
from mrcnet_ros.cli import main as mrcnet
from mrcnet_ros.cli.known_objects import fit_to_dataset
from mrcnet_ros.datasets.bop import BopDataset, read_results_csv
from mrcnet_ros.datasets.bop_writer import write_models
from mrcnet_ros.errors import DatasetError
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.inference.poses import FrameResult, PoseEstimate
from mrcnet_ros.objects import load_bop_objects
from mrcnet_ros.synth.source import from_models

SHARED = Path(__file__).parents[3] / 'shared' / 'data'


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Return a dataset in colour and one in grey, with the same scenes."""
    root = tmp_path_factory.mktemp('made')
    return synth_folder.write_dataset(root, 'colour'), synth_folder.write_dataset(
        root, 'grey', grey=True)


def lmo(made, root):
    shutil.copytree(made[0], root / 'lmo')
    shutil.copytree(made[0] / 'models', root / 'lmo' / 'models_eval')
    return 'lmo'


def ycbv(made, root):
    """Lay out key frames only among the targets, and camera files of two names."""
    folder = root / 'ycbv'
    shutil.copytree(made[0], folder)
    (folder / 'test' / '000001').rename(folder / 'test' / '000048')
    targets = json.loads((folder / 'test_targets_bop19.json').read_text())
    targets = [t | {'scene_id': 48} for t in targets if t['im_id'] != 1]
    (folder / 'test_targets_bop19.json').write_text(json.dumps(targets))
    shutil.copy(folder / 'camera.json', folder / 'camera_cmu.json')
    (folder / 'camera.json').rename(folder / 'camera_uw.json')
    return 'ycbv'


def tless(made, root):
    """Lay out images of one of several sensors, and no folder that is called models."""
    folder = root / 'tless'
    shutil.copytree(made[0], folder)
    (folder / 'test').rename(folder / 'test_primesense')
    (folder / 'camera.json').rename(folder / 'camera_primesense.json')
    for name in ('models_eval', 'models_reconst'):
        shutil.copytree(folder / 'models', folder / name)
    (folder / 'models').rename(folder / 'models_cad')
    return 'tless'


def itodd(made, root):
    """Lay out test images without ground truth, and validation images with it."""
    folder = root / 'itodd'
    shutil.copytree(made[1], folder)
    shutil.copytree(folder / 'test', folder / 'val')
    for name in ('scene_gt.json', 'scene_gt_info.json', 'mask', 'mask_visib'):
        path = folder / 'test' / '000001' / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return 'itodd'


class Oracle:
    """Answers each box with the pose of the annotation whose box is nearest."""

    def __init__(self, meshes, frames):
        self.objects = {f'thing{i}': m for i, m in load_bop_objects(meshes).items()}
        self._frames, self.asked = iter(frames), 0

    def assume_sizes_of_meshes(self):
        """They are that large."""

    def estimate(self, image_rgb, camera, detections, most=None):
        truths = next(self._frames).ground_truth
        poses = []
        for index, detection in enumerate(detections):
            model, self.asked = self.objects[detection.label], self.asked + 1
            truth = min((t for t in truths if t.object_id == model.object_id
                         and t.box_visib_xyxy is not None),
                        key=lambda t: np.abs(t.box_visib_xyxy - detection.box_xyxy).max())
            poses.append(PoseEstimate(detection.label, model.object_id, truth.T_camera_object,
                                      0.9, index, '', detection.box_xyxy))
        return FrameResult(poses, [], {})


def write_detections(path, frames, offset=0.0):
    """Write what a perfect detector finds, a bad guess with each, and masks as runs."""
    entries = []
    for frame in frames:
        for truth in frame.ground_truth:
            if truth.box_visib_xyxy is None:
                continue
            x1, y1, x2, y2 = (float(v) for v in truth.box_visib_xyxy)
            names = {'scene_id': frame.scene_id, 'image_id': frame.image_id,
                     'category_id': truth.object_id, 'time': 0.25}
            flat = frame.load_mask(truth.instance, visible=True).T.ravel()
            edges = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(int)))
            counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
            mask = {'size': [HEIGHT, WIDTH], 'counts': counts}
            entries.append(names | {'score': 0.2, 'bbox': [1, 1, 20, 30], 'segmentation': mask})
            entries.append(names | {'score': 0.9, 'segmentation': mask,
                                    'bbox': [x1 + offset, y1, x2 - x1, y2 - y1]})
    path.write_text(json.dumps(entries))


def evaluate(monkeypatch, root, name, oracle, *extra):
    """Run the real command with the oracle in place of a network."""
    (root / 'model').mkdir(exist_ok=True)
    (root / 'model' / 'model.json').write_text('{}')
    seen = {}

    def load(args):
        seen['meshes'] = args.meshes
        return oracle

    monkeypatch.setattr(evaluate_bop, 'load_estimator', load)
    code = mrcnet.main(['evaluate', 'bop', '--bop-dir', str(root), '--dataset', name, '--model',
                        str(root / 'model'), '--csv', str(root / 'out.csv'), '--json',
                        str(root / 'out.json'), *extra])
    return code, json.loads((root / 'out.json').read_text()) if code == 0 else {}, seen


@pytest.mark.parametrize(('lay_out', 'images', 'meshes'), [
    (lmo, 3, 'models'), (ycbv, 2, 'models'), (tless, 3, 'models_cad'), (itodd, 3, 'models')])
def test_each_layout_is_evaluated(monkeypatch, tmp_path, made, lay_out, images, meshes):
    """True poses score one on every image to be evaluated; the meshes are those of training."""
    name = lay_out(made, tmp_path)
    split = ('--split', 'val') if name == 'itodd' else ()
    dataset = BopDataset(tmp_path, name, *split[1:])
    assert len(dataset.frames) == images
    oracle = Oracle(dataset.models_dir, dataset.frames)
    code, figures, seen = evaluate(monkeypatch, tmp_path, name, oracle, *split)
    assert code == 0 and figures['images'] == images
    assert figures['overall']['ar_mssd'] == figures['overall']['ar_mspd'] == 1.0
    assert figures['overall']['ar_vsd'] == pytest.approx(1.0)
    assert figures['overall']['targets'] == sum(sum(f.targets.values()) for f in dataset.frames)
    assert seen['meshes'] == tmp_path / name / meshes


@pytest.mark.parametrize(('kind', 'offset'), [('bbox', 0.0), ('mask', 40.0)])
def test_detections_take_the_place_of_the_ground_truth(monkeypatch, tmp_path, made, kind, offset):
    """The best of each object are used, by box or by mask; the detector's time counts."""
    name = lmo(made, tmp_path)
    dataset = BopDataset(tmp_path, name)
    write_detections(tmp_path / 'found.json', dataset.frames, offset)
    oracle = Oracle(dataset.models_dir, dataset.frames)
    code, figures, _ = evaluate(monkeypatch, tmp_path, name, oracle, '--detections',
                                str(tmp_path / 'found.json'), '--detection-boxes', kind)
    assert code == 0
    assert figures['overall']['ar_mean'] == 1.0
    assert figures['boxes'] == {'kind': kind, 'file': str(tmp_path / 'found.json')}
    assert oracle.asked == figures['overall']['targets']
    assert all(row.time_s >= 0.25 for row in read_results_csv(tmp_path / 'out.csv'))
    assert figures['timings']['image_max_ms'] == pytest.approx(1e3 * max(
        row.time_s for row in read_results_csv(tmp_path / 'out.csv')), abs=0.1)
    assert figures['timings']['stage_median_ms']['detection'] == pytest.approx(250.0)


def test_images_without_public_ground_truth_get_poses_and_no_scores(monkeypatch, tmp_path, made,
                                                                    capsys):
    """ITODD's test images need a detector's boxes; the result is the file to be sent in."""
    name = itodd(made, tmp_path)
    truth = BopDataset(tmp_path, name, 'val').frames
    hidden = BopDataset(tmp_path, name)
    assert not hidden.annotated and len(hidden.frames) == 3
    assert hidden.frames[0].targets == truth[0].targets
    assert hidden.frames[0].load_mask(0, visible=True) is None
    oracle = Oracle(hidden.models_dir, truth)
    code, _, _ = evaluate(monkeypatch, tmp_path, name, oracle)
    assert code == 2 and '--detections' in capsys.readouterr().err
    write_detections(tmp_path / 'found.json', truth)
    code, figures, _ = evaluate(monkeypatch, tmp_path, name, oracle, '--detections',
                                str(tmp_path / 'found.json'), '--overlays',
                                str(tmp_path / 'pictures'))
    assert code == 0 and figures['overall'] is None
    assert 'no scores' in capsys.readouterr().out
    wanted = sum(sum(f.targets.values()) for f in hidden.frames)
    assert len(read_results_csv(tmp_path / 'out.csv')) == wanted
    assert len(list((tmp_path / 'pictures').iterdir())) == 3


def test_grey_tif_images_are_read_as_colour(made, tmp_path):
    """The grey picture is the brightness of the coloured one, three times."""
    itodd(made, tmp_path)
    grey = BopDataset(tmp_path, 'itodd', 'val').frames[0].load_image()
    colour = BopDataset(made[0].parent, 'colour').frames[0].load_image()
    expected = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(grey, np.repeat(expected[..., None], 3, axis=2))


def test_a_split_with_neither_ground_truth_nor_targets_is_refused(made, tmp_path):
    """There is nothing to be found in it; the error names both files."""
    itodd(made, tmp_path)
    (tmp_path / 'itodd' / 'test_targets_bop19.json').unlink()
    with pytest.raises(DatasetError, match=r'neither scene_gt\.json nor test_targets_bop19\.json'):
        BopDataset(tmp_path, 'itodd')


def test_one_scene_without_ground_truth_among_others_is_a_fault(made, tmp_path):
    """Only a split that has none at all is one whose truth is kept back."""
    name = lmo(made, tmp_path)
    scene = tmp_path / name / 'test' / '000001'
    shutil.copytree(scene, scene.parent / '000002')
    for file in ('scene_gt.json', 'scene_gt_info.json'):
        (scene / file).unlink()
    with pytest.raises(DatasetError, match=r'000001/scene_gt\.json: missing; extract'):
        BopDataset(tmp_path, name)


def test_damaged_images_and_masks_are_named(made, tmp_path):
    """Without camera.json the size is asked of the image itself."""
    name = ycbv(made, tmp_path)
    scene = tmp_path / name / 'test' / '000048'
    (scene / 'mask_visib' / '000000_000000.png').write_bytes(b'no picture')
    with pytest.raises(Exception, match=r'mask_visib/000000_000000\.png: cannot be decoded'):
        BopDataset(tmp_path, name).frames[0].load_mask(0, visible=True)
    (scene / 'rgb' / '000002.png').write_bytes(b'no picture')
    with pytest.raises(Exception, match=r'000002\.png: cannot be decoded'):
        BopDataset(tmp_path, name)


@pytest.mark.skipif(not (SHARED / 'tless').is_dir(), reason=f'{SHARED / "tless"} is not here')
def test_measured_diameters_of_tless_are_those_of_its_models_info(tmp_path):
    """The CAD models measured anew, with their symmetries kept."""
    source = from_models(SHARED / 'tless' / 'models_cad')
    write_models(tmp_path / 'models_cad', source.objects, source.symmetries)
    before = load_bop_objects(SHARED / 'tless' / 'models_cad')
    after = load_bop_objects(tmp_path / 'models_cad')
    assert len(after) > 4 and sorted(after) == sorted(before)
    for object_id, model in after.items():
        assert model.diameter_m == pytest.approx(before[object_id].diameter_m, rel=1e-3)
        np.testing.assert_allclose(model.symmetries.transforms,
                                   before[object_id].symmetries.transforms, atol=1e-12)


@pytest.mark.parametrize(('stated', 'told'), [(False, True), (True, False)])
def test_symmetries_that_a_dataset_does_not_state_are_told(tmp_path, caplog, stated, told):
    """Its scores count a right pose as wrong where it is turned by one."""
    folder = bop_folder.write_dataset(tmp_path)
    turn = np.diag([-1.0, -1, 1, 1])
    for path in folder.rglob('models_info.json'):
        info = {key: {k: v for k, v in entry.items() if not k.startswith('symmetries')}
                for key, entry in json.loads(path.read_text()).items()}
        if stated:
            info['3']['symmetries_discrete'] = [turn.ravel().tolist()]
        path.write_text(json.dumps(info))
    objects = load_bop_objects(folder / 'models_eval')
    oracle = Oracle(folder / 'models_eval', ())
    oracle.objects = {f'thing{i}': dataclasses.replace(m, symmetries=Symmetries(
        np.stack([np.eye(4), turn])) if i == 3 else Symmetries.none()) for i, m in objects.items()}
    fit_to_dataset(oracle, BopDataset(tmp_path, 'toy', 'test'))
    assert ('the model has symmetries of thing3' in caplog.text) == told
