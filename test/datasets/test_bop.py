"""Reading BOP datasets and their boxes."""

import json
from pathlib import Path

import bop_folder
import cv2
import numpy as np
import pytest
from bop_folder import edit

from mrcnet_ros.datasets.bop import (
    BopDataset,
)
from mrcnet_ros.datasets.boxes import BoxSpec, jittered, target_boxes
from mrcnet_ros.errors import DatasetError, ImageError, SpecError
from mrcnet_ros.geometry.crop import outside

SHARED = Path(__file__).parents[3] / 'shared' / 'data'


root, scene = bop_folder.root_fixture(), bop_folder.scene_fixture()


def read(root):
    return BopDataset(root, 'toy', 'test')


def test_millimetres_become_metres_and_names_are_kept(root):
    """Frames carry the poses, cameras and numbers of the files, in SI units."""
    frames = read(root).frames
    assert [(f.scene_id, f.image_id) for f in frames] == [(7, 4), (7, 17)]
    np.testing.assert_array_equal(frames[0].camera.K, bop_folder.K)
    assert (frames[0].camera.width, frames[0].camera.height) == (320, 240)
    for frame in frames:
        for truth, (object_id, T) in zip(
                frame.ground_truth, bop_folder.SCENE[frame.image_id], strict=True):
            assert truth.object_id == object_id
            np.testing.assert_allclose(truth.T_camera_object, T, atol=1e-12)
    assert frames[1].targets == {1: 1, 3: 2}


def test_boxes_have_corners_not_sizes(root, scene):
    """BOP's x, y, width, height become x1, y1, x2, y2; the invisible have no visible box."""
    edit(scene / 'scene_gt_info.json',
         lambda v: v['4'][0].update(bbox_visib=[10, 20, 30, 40]) or
         v['4'][1].update(bbox_visib=[-1, -1, -1, -1]))
    truths = read(root).frames[0].ground_truth
    np.testing.assert_array_equal(truths[0].box_visib_xyxy, [10, 20, 41, 61])
    assert truths[1].box_visib_xyxy is None
    assert truths[1].box_amodal_xyxy is not None


def test_rotations_that_are_not_quite_rotations_are_projected(root, scene):
    """A scaled and rounded rotation of a file comes out orthonormal, close to the original."""
    R = bop_folder.SCENE[4][0][1][:3, :3]
    edit(scene / 'scene_gt.json',
         lambda v: v['4'][0].update(cam_R_m2c=np.round(R * 1.004, 3).ravel().tolist()))
    found = read(root).frames[0].ground_truth[0].T_camera_object[:3, :3]
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(found, R, atol=2e-3)


def test_images_are_rgb_whatever_the_file(root, scene):
    """The first channel is red; grey images in gray/ get three equal channels."""
    red = np.zeros((240, 320, 3), np.uint8)
    red[..., 2] = 200  # OpenCV writes BGR
    cv2.imwrite(str(scene / 'rgb' / '000004.png'), red)
    np.testing.assert_array_equal(read(root).frames[0].load_image()[0, 0], [200, 0, 0])
    (scene / 'rgb').rename(scene / 'gray')
    (scene / 'gray' / '000004.png').unlink()
    cv2.imwrite(str(scene / 'gray' / '000004.tif'), np.full((240, 320), 77, np.uint8))
    image = read(root).frames[0].load_image()
    assert image.shape == (240, 320, 3)
    assert (image == 77).all()


def test_depth_is_scaled_to_metres_where_there_is_any(root, scene):
    """Raw steps times depth_scale millimetres; without a file there is no depth."""
    assert read(root).frames[0].load_depth_m() is None
    (scene / 'depth').mkdir()
    cv2.imwrite(str(scene / 'depth' / '000004.png'), np.full((240, 320), 1500, np.uint16))
    depth = read(root).frames[0].load_depth_m()
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, 0.75, rtol=1e-6)


def test_only_targets_whose_image_is_on_disk_are_evaluated(root, scene):
    """Images of the targets file that were not extracted are left out and counted."""
    (scene / 'rgb' / '000004.png').unlink()
    dataset = read(root)
    assert [f.image_id for f in dataset.frames] == [17]
    assert dataset.images_without_file == 1
    assert dataset.object_ids == (1, 3)


def test_of_more_instances_than_targets_the_most_visible_count(root, scene):
    """One target and two instances: the better visible one is to be found."""
    edit(root / 'toy' / 'test_targets_bop19.json', lambda v: v[3].update(inst_count=1))
    edit(scene / 'scene_gt_info.json', lambda v: v['17'][1].update(visib_fract=0.95))
    frame = read(root).frames[1]
    assert [(g.object_id, g.instance) for g in frame.target_ground_truth()] == [(3, 1), (1, 2)]


def test_without_a_targets_file_everything_a_tenth_visible_is_a_target(tmp_path):
    """Hidden instances are not asked for."""
    folder = bop_folder.write_dataset(tmp_path, targets=False)
    edit(folder / 'test' / '000007' / 'scene_gt_info.json',
         lambda v: v['17'][0].update(visib_fract=0.05))
    frames = BopDataset(tmp_path, 'toy', 'test').frames
    assert [f.targets for f in frames] == [{1: 1, 3: 1}, {3: 1, 1: 1}]


def test_images_in_which_nothing_is_visible_belong_to_it_if_asked_for(root, scene):
    """No file of targets can list them."""
    edit(scene / 'scene_gt_info.json', lambda v: [e.update(visib_fract=0.05) for e in v['4']])
    targets = root / 'toy' / 'test_targets_bop19.json'
    targets.write_text(json.dumps([t for t in json.loads(targets.read_text())
                                   if t['im_id'] != 4]))
    for _ in range(2):
        assert [f.image_id for f in read(root).frames] == [17]
        found = BopDataset(root, 'toy', 'test', empty=True)
        assert [(f.image_id, len(f.ground_truth)) for f in found.frames] == [(4, 2), (17, 3)]
        assert found.frames[0].targets == {} and found.images_without_file == 0
        targets.unlink(missing_ok=True)


def test_a_dataset_without_camera_file_takes_the_size_of_its_images(root):
    """Some BOP datasets have several camera files and none of that name."""
    (root / 'toy' / 'camera.json').unlink()
    camera = read(root).frames[0].camera
    assert (camera.width, camera.height) == (320, 240)


def test_meshes_to_score_with_are_the_eval_models_where_there_are_any(root):
    """Without models_eval the folder models is used."""
    assert read(root).models_dir == root / 'toy' / 'models_eval'
    (root / 'toy' / 'models_eval').rename(root / 'toy' / 'models')
    assert read(root).models_dir == root / 'toy' / 'models'
    (root / 'toy' / 'models' / 'models_info.json').unlink()
    with pytest.raises(DatasetError, match=r'models_info\.json'):
        _ = read(root).models_dir


def remove(name):
    return lambda scene: (scene / name).unlink()


@pytest.mark.parametrize(('damage', 'named'), [
    (remove('scene_gt.json'), r'scene_gt\.json: missing; extract'),
    (remove('scene_gt_info.json'), r'scene_gt_info\.json: missing; extract'),
    (remove('scene_camera.json'), r'scene_camera\.json: missing; extract'),
    (lambda s: (s / 'scene_gt.json').write_text('{"4": [{'), r'scene_gt\.json: no valid JSON'),
    (lambda s: edit(s / 'scene_camera.json', lambda v: v['4'].pop('cam_K')), 'cam_K'),
    (lambda s: edit(s / 'scene_camera.json', lambda v: v['4'].update(cam_K=[1, 2])), '9 finite'),
    (lambda s: edit(s / 'scene_camera.json', lambda v: v.pop('17')), "'17'"),
    (lambda s: edit(s / 'scene_gt.json', lambda v: v['4'][0].update(cam_t_m2c='far')), '3 finite'),
    (lambda s: edit(s / 'scene_gt.json', lambda v: v['4'].pop()), 'different releases'),
    (lambda s: edit(s / 'scene_gt_info.json', lambda v: v['4'][0].pop('bbox_obj')), 'bbox_obj'),
    (lambda s: (s / 'rgb').rename(s / 'pictures'), 'none of the 2 images'),
    (lambda s: s.rename(s.parent / 'first'), 'no scene folder'),
])
def test_a_damaged_dataset_is_refused_naming_the_file_and_the_remedy(root, scene, damage, named):
    """The error says which file or entry is at fault."""
    damage(scene)
    with pytest.raises(DatasetError, match=named):
        read(root)


@pytest.mark.parametrize('names', [
    ['scene_camera'], ['scene_camera', 'scene_gt', 'scene_gt_info']])
def test_a_scene_of_several_cameras_is_refused_with_what_to_make_of_it(root, scene, names):
    """There is nothing to extract."""
    for name in names:
        (scene / f'{name}.json').rename(scene / f'{name}_cam1.json')
    with pytest.raises(DatasetError, match=r'scene_camera_cam1\.json; scenes of several cameras '
                                           r'are not read: make a scene folder for each'):
        read(root)


def test_targets_that_the_annotations_lack_are_a_fault_of_the_dataset(root):
    """Targets and annotations of different releases do not fit together."""
    edit(root / 'toy' / 'test_targets_bop19.json', lambda v: v[0].update(inst_count=2))
    with pytest.raises(DatasetError, match='has 1 instances of object 1'):
        read(root)


@pytest.mark.parametrize(('split', 'rendered'), [
    *((name, True) for name in ('train_pbr', 'val-pbr', 'test_synt', 'train_synth', 'synthetic',
                                'rendered', 'test_rendered')),
    ('test', False), ('test_primesense', False)])
def test_the_name_of_a_split_tells_of_rendered_images(root, split, rendered):
    """It holds pbr, synt or render."""
    (root / 'toy' / 'test').rename(root / 'toy' / split)
    (root / 'toy' / 'test_targets_bop19.json').unlink()
    assert BopDataset(root, 'toy', split).rendered == rendered


def test_wrong_folders_are_explained(root):
    """The error says what was looked for and what there is."""
    with pytest.raises(DatasetError, match='--bop-dir'):
        BopDataset(root, 'lmo', 'test')
    with pytest.raises(DatasetError, match=r"\['models_eval', 'test'\]"):
        BopDataset(root, 'toy', 'train')


def test_an_image_that_cannot_be_used_is_named(root, scene):
    """A broken file and a file of another size are two different errors."""
    (scene / 'rgb' / '000004.png').write_bytes(b'no picture')
    cv2.imwrite(str(scene / 'rgb' / '000017.png'), np.zeros((120, 160, 3), np.uint8))
    first, second = read(root).frames
    with pytest.raises(ImageError, match=r'000004\.png'):
        first.load_image()
    with pytest.raises(DatasetError, match='160x120'):
        second.load_image()


@pytest.mark.parametrize('kind', ['visib', 'amodal'])
def test_boxes_without_jitter_are_those_of_the_annotations(root, kind):
    """One box a target, of the kind asked for."""
    for frame in read(root).frames:
        boxes = target_boxes(frame, BoxSpec(kind))
        assert [b.ground_truth for b in boxes] == list(frame.target_ground_truth())
        for box in boxes:
            expected = (box.ground_truth.box_visib_xyxy if kind == 'visib'
                        else box.ground_truth.box_amodal_xyxy)
            np.testing.assert_array_equal(box.box_xyxy, expected)


def test_jitter_depends_on_seed_and_names_but_not_on_the_order():
    """The same box gets the same jitter whatever was drawn before it."""
    box = np.array([10.0, 20.0, 50.0, 100.0])
    first = jittered(box, 0.1, (0, 7, 4, 1, 0))
    jittered(box, 0.1, (0, 7, 4, 3, 1))
    np.testing.assert_array_equal(first, jittered(box, 0.1, (0, 7, 4, 1, 0)))
    for other in ((1, 7, 4, 1, 0), (0, 8, 4, 1, 0), (0, 7, 5, 1, 0), (0, 7, 4, 2, 0),
                  (0, 7, 4, 1, 1)):
        assert np.abs(first - jittered(box, 0.1, other)).max() > 1e-3


def test_jitter_stays_within_its_share_of_the_side_and_uses_all_of_it():
    """Centres move and sides scale by up to the fraction asked for, evenly both ways."""
    box = np.array([10.0, 20.0, 50.0, 100.0])
    boxes = np.array([jittered(box, 0.1, (0, 1, 2, 3, i)) for i in range(2000)])
    side = boxes[:, 2:] - boxes[:, :2]
    draws = np.hstack([((boxes[:, :2] + boxes[:, 2:]) / 2 - [30, 60]) / [40, 80],
                       side / [40, 80] - 1])
    assert (np.abs(draws) <= 0.1 + 1e-12).all()
    assert (np.abs(draws).max(axis=0) > 0.099).all()
    np.testing.assert_allclose(draws.mean(axis=0), 0.0, atol=0.006)
    np.testing.assert_allclose(np.corrcoef(draws.T), np.eye(4), atol=0.1)


def test_boxes_wholly_outside_the_image_are_left_out_others_are_not_clipped(root, scene):
    """An amodal box may reach over the edge."""
    edit(scene / 'scene_gt_info.json',
         lambda v: v['4'][0].update(bbox_obj=[-30, -20, 50, 40]) or
         v['4'][1].update(bbox_obj=[400, 10, 50, 40]))
    boxes = target_boxes(read(root).frames[0], BoxSpec('amodal'))
    assert len(boxes) == 1
    np.testing.assert_array_equal(boxes[0].box_xyxy, [-30, -20, 21, 21])
    assert outside(np.array([-10.0, 5, 0, 9]), 320, 240)
    assert not outside(np.array([-10.0, 5, 0.5, 9]), 320, 240)


@pytest.mark.parametrize(('kind', 'exact'), [
    ('visib', 'visib'), ('amodal', 'amodal'), ('detector', 'visib')])
def test_exact_boxes_are_as_annotated(kind, exact):
    """Without errors, boxes of a detector are those around what is visible."""
    assert BoxSpec(kind, jitter=0.1, seed=4).exact() == BoxSpec(exact)
    assert BoxSpec(exact).exact() == BoxSpec(exact)


@pytest.mark.parametrize('bad', [{'jitter': -0.1}, {'jitter': 1.0}, {'jitter': float('nan')},
                                 {'seed': -1}, {'kind': 'tight'}])
def test_a_box_spec_that_makes_no_sense_is_refused(bad):
    """The error names the value."""
    with pytest.raises(SpecError, match=str(next(iter(bad.values())))):
        BoxSpec(**bad)


@pytest.mark.skipif(not (SHARED / 'lmo').is_dir(), reason=f'{SHARED / "lmo"} is not here')
def test_the_shared_photographs_are_read():
    """LM-O: 20 images, 141 targets of 8 objects, proper rotations, boxes around the objects."""
    dataset = BopDataset(SHARED, 'lmo', 'test')
    assert len(dataset.frames) == 20
    assert dataset.object_ids == (1, 5, 6, 8, 9, 10, 11, 12)
    assert sum(len(f.target_ground_truth()) for f in dataset.frames) == 141
    frame = dataset.frames[0]
    assert frame.load_image().shape == (480, 640, 3)
    for truth in frame.target_ground_truth():
        R = truth.T_camera_object[:3, :3]
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
        u, v = frame.camera.project(truth.T_camera_object[:3, 3])
        x1, y1, x2, y2 = truth.box_amodal_xyxy
        assert x1 < u < x2 and y1 < v < y2
