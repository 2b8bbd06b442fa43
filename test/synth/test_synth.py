"""Generated BOP datasets: what the files say is what the images show."""

import json

import cv2
import numpy as np
import pytest
import synth_folder
import trimesh
import yaml
from meshes import rasterise
from scipy.spatial.distance import pdist
from synth_folder import CAMERA, HEIGHT, MESHES, WIDTH, contents

from mrcnet_ros.datasets.bop import BopDataset
from mrcnet_ros.datasets.bop_writer import INVISIBLE, box_xywh, write_models
from mrcnet_ros.meshes import Mesh, write_ply
from mrcnet_ros.objects import load_bop_objects
from mrcnet_ros.rendering.renderer import Renderer
from mrcnet_ros.synth.depth_sensor import DepthSensor
from mrcnet_ros.synth.held_out import held_out_frames
from mrcnet_ros.synth.source import from_models


@pytest.fixture(scope='module')
def frames(folder):
    return BopDataset(folder.parent, folder.name, 'test').frames


def infos(folder, frame):
    path = folder / 'test' / f'{frame.scene_id:06d}' / 'scene_gt_info.json'
    return json.loads(path.read_text())[str(frame.image_id)]


def test_masks_are_the_silhouettes_of_the_meshes_at_the_stated_poses(folder, frames):
    """A rasteriser of its own, given the files' poses, finds the same pixels but for the rim."""
    for frame in frames:
        for truth in frame.ground_truth:
            mask = frame.load_mask(truth.instance, visible=False)
            drawn = [np.isfinite(rasterise(MESHES[truth.object_id], truth.T_camera_object,
                                           CAMERA.K, WIDTH, HEIGHT, margin))
                     for margin in (-0.05, 0.05)]
            assert mask.any()
            assert not (drawn[0] & ~mask).any() and not (mask & ~drawn[1]).any()


def test_the_visible_parts_divide_the_covered_pixels_by_depth(folder, frames):
    """Each pixel that is covered belongs to the nearest object, and the depth image is its."""
    for frame in frames:
        masks = [frame.load_mask(t.instance, visible=False) for t in frame.ground_truth]
        visible = [frame.load_mask(t.instance, visible=True) for t in frame.ground_truth]
        np.testing.assert_array_equal(np.sum(visible, axis=0), np.any(masks, axis=0))
        depth = frame.load_depth_m()
        for truth, seen in zip(frame.ground_truth, visible, strict=True):
            own = rasterise(MESHES[truth.object_id], truth.T_camera_object, CAMERA.K, WIDTH,
                            HEIGHT)
            inner = seen & np.isfinite(own)
            np.testing.assert_allclose(depth[inner], own[inner], atol=1.5e-4)
    assert any(t.visible_fraction < 0.95 for f in frames for t in f.ground_truth)


def test_what_the_info_file_says_can_be_counted_in_the_masks(folder, frames):
    """Pixels, fractions and boxes; a box of BOP ends at the last pixel, ours at its far edge."""
    for frame in frames:
        for truth, info in zip(frame.ground_truth, infos(folder, frame), strict=True):
            mask, visible = (frame.load_mask(truth.instance, visible=v) for v in (False, True))
            assert info['px_count_visib'] == visible.sum()
            assert info['px_count_valid'] == mask.sum() <= info['px_count_all']
            assert info['visib_fract'] == pytest.approx(visible.sum() / info['px_count_all'])
            rows, columns = visible.nonzero()
            assert info['bbox_visib'] == [columns.min(), rows.min(), np.ptp(columns),
                                          np.ptp(rows)]
            np.testing.assert_array_equal(truth.box_visib_xyxy, [
                columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def test_silhouettes_beyond_the_image_are_counted_whole(tmp_path):
    """A near camera cuts objects off; their boxes are still those of the projected vertices."""
    folder = synth_folder.write_dataset(tmp_path, distance_m=(0.2, 0.25), images=4)
    cut = 0
    for frame in BopDataset(tmp_path, 'made', 'test').frames:
        for truth, info in zip(frame.ground_truth, infos(folder, frame), strict=True):
            T, mesh = truth.T_camera_object, MESHES[truth.object_id]
            points = mesh.vertices @ T[:3, :3].T + T[:3, 3]
            if (points[:, 2] < 0.05).any() or truth.box_amodal_xyxy is None:
                continue
            uv = CAMERA.project(points)
            box = np.concatenate([uv.min(axis=0), uv.max(axis=0)])
            wide = np.array([-WIDTH, -HEIGHT, 2 * WIDTH, 2 * HEIGHT])
            if (box[:2] < wide[:2]).any() or (box[2:] > wide[2:]).any():
                continue
            np.testing.assert_allclose(truth.box_amodal_xyxy, box + [0.5, 0.5, 0.5, 0.5], atol=1)
            mask = frame.load_mask(truth.instance, visible=False)
            cut += info['px_count_all'] > mask.sum()
    assert cut > 0


def test_pictures_show_the_objects_where_the_files_say(frames):
    """Inside the visible masks the picture follows the colours of the mesh."""
    with Renderer(WIDTH, HEIGHT) as renderer:
        for object_id, mesh in MESHES.items():
            renderer.add_mesh(object_id, mesh)
        for frame in frames:
            image = frame.load_image().astype(float)
            for truth in frame.ground_truth:
                inner = cv2.erode(frame.load_mask(truth.instance, visible=True).astype(np.uint8),
                                  np.ones((3, 3), np.uint8)).astype(bool)
                flat = renderer.render(truth.object_id, truth.T_camera_object, CAMERA.K,
                                       shading='flat').rgb.astype(float)
                if inner.sum() < 100:
                    continue
                shades = np.concatenate([a[inner] - a[inner].mean(axis=1, keepdims=True)
                                         for a in (image, flat)], axis=1)
                hues = shades.reshape(-1, 2, 3)
                # 0.87 in a picture that is too bright; 8 pixels beside, 0.8 or less
                assert np.corrcoef(hues[:, 0].ravel(), hues[:, 1].ravel())[0, 1] > 0.85


def test_models_are_in_millimetres_with_measured_sizes_and_given_symmetries(folder):
    """A list in metres becomes a BOP models folder that says the same."""
    info = json.loads((folder / 'models' / 'models_info.json').read_text())
    objects = load_bop_objects(folder / 'models')
    for object_id, mesh in MESHES.items():
        entry = info[str(object_id)]
        assert entry['diameter'] == pytest.approx(1e3 * pdist(mesh.vertices).max(), rel=1e-5)
        np.testing.assert_allclose([entry[f'min_{a}'] for a in 'xyz'],
                                   1e3 * mesh.vertices.min(axis=0), rtol=1e-5)
        back = objects[object_id].load_mesh()
        np.testing.assert_allclose(back.vertices, mesh.vertices, atol=1e-7)
        np.testing.assert_array_equal(back.colors, mesh.colors)
    assert len(objects[2].symmetries.transforms) == 1
    assert len(objects[5].symmetries.transforms) == 4


def test_symmetries_in_metres_become_millimetres(tmp_path):
    """Offsets of axes and translations are lengths, rotations are not."""
    synth_folder.source(tmp_path)
    round_part = trimesh.creation.cylinder(radius=0.05, height=0.1, sections=64)
    write_ply(tmp_path / '5.ply', Mesh(
        np.asarray(round_part.vertices), np.asarray(round_part.faces, np.int32),
        np.asarray(round_part.vertex_normals),
        np.full(round_part.vertices.shape, 99, np.uint8)), unit_m=1.0)
    half_turn = [-1.0, 0, 0, 0.002, 0, -1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0]
    entries = [{'id': 5, 'label': 'thing', 'mesh': '5.ply', 'unit_m': 1.0,
                'symmetries_discrete': [half_turn],
                'symmetries_continuous': [{'axis': [0, 0, 1], 'offset': [0.0005, 0, -0.03]}]}]
    (tmp_path / 'one.yaml').write_text(yaml.safe_dump(entries))
    source = from_models(tmp_path / 'one.yaml')
    write_models(tmp_path / 'models', source.objects, source.symmetries)
    info = json.loads((tmp_path / 'models' / 'models_info.json').read_text())['5']
    assert info['symmetries_continuous'] == [{'axis': [0, 0, 1], 'offset': [0.5, 0, -30]}]
    assert info['symmetries_discrete'] == [half_turn[:3] + [2.0] + half_turn[4:]]
    np.testing.assert_allclose(
        load_bop_objects(tmp_path / 'models')[5].symmetries.transforms,
        source.objects[5].symmetries.transforms, atol=1e-12)


def test_written_models_keep_the_middle_of_a_list(tmp_path):
    """Without it, their origin would be too far away for a training."""
    mesh = trimesh.creation.box((0.05, 0.04, 0.03))
    mesh.apply_translation((0.3, 0, 0))
    mesh.export(tmp_path / 'off.ply')
    (tmp_path / 'list.yaml').write_text(yaml.safe_dump([
        {'id': 1, 'label': 'off', 'mesh': 'off.ply', 'unit_m': 1.0, 'middle': [0.3, 0, 0]}]))
    source = from_models(tmp_path / 'list.yaml')
    write_models(tmp_path / 'models', source.objects, source.symmetries)
    again = from_models(tmp_path / 'models').objects[1]
    np.testing.assert_allclose(again.middle_m, [0.3, 0, 0])


def test_targets_are_what_is_visible_by_a_tenth(folder, frames):
    """Each image asks for as many instances as are to be seen."""
    for frame in frames:
        seen = [t.object_id for t in frame.ground_truth if t.visible_fraction >= 0.1]
        assert frame.targets == {i: seen.count(i) for i in set(seen)}
    assert any(2 in frame.targets.values() for frame in frames)


def test_the_same_seed_gives_the_same_files(tmp_path, folder):
    """To the byte; another seed gives other scenes."""
    again = synth_folder.write_dataset(tmp_path / 'a')
    assert contents(again) == contents(folder)
    other = synth_folder.write_dataset(tmp_path / 'b', seed=5, images=1)
    assert (other / 'test/000001/scene_gt.json').read_text() != (
        folder / 'test/000001/scene_gt.json').read_text()


@pytest.mark.parametrize('rate_hz', [None, 30.0])
def test_what_is_drawn_is_independent(tmp_path, monkeypatch, rate_hz):
    """Arrangement, motions, views and depth images have no random numbers in common."""
    states, make = {}, np.random.default_rng

    def remembered(seed=None):
        if isinstance(seed, list):
            states[tuple(seed)] = tuple(np.random.SeedSequence(seed).generate_state(4))
        return make(seed)

    monkeypatch.setattr(np.random, 'default_rng', remembered)
    synth_folder.write_dataset(tmp_path, images=2, rate_hz=rate_hz, sensor=DepthSensor())
    assert len(states) > 4 and len(set(states.values())) == len(states)
    objects = list(load_bop_objects(tmp_path / 'made/models').values())
    states.clear()
    frames = list(held_out_frames(objects, 2, upright=True))
    assert len(states) == 3
    for frame in frames:
        frame.load_depth_m()
    assert len(set(states.values())) == len(states) == 5


def test_held_out_images_at_given_distances_have_rooms(tmp_path):
    """The files of the rooms are read ahead, before anything is known of the objects."""
    synth_folder.write_dataset(tmp_path, images=1)
    objects = list(load_bop_objects(tmp_path / 'made/models').values())
    photographs = sorted((tmp_path / 'made/test').rglob('rgb/*'))
    for frame in held_out_frames(objects, 3, upright=True, distance_m=(1.0, 1.4),
                                 backgrounds=photographs):
        assert all(0.95 < np.linalg.norm(truth.T_camera_object[:3, 3]) < 1.45
                   for truth in frame.ground_truth)


def test_objects_lie_on_the_table_in_any_orientation_or_upright(tmp_path):
    """Lowest points are at height zero; z axes point anywhere, or up when asked."""
    for upright in (False, True):
        folder = synth_folder.write_dataset(tmp_path / str(upright), upright=upright, images=1)
        scene = folder / 'test' / '000001'
        camera = json.loads((scene / 'scene_camera.json').read_text())['0']
        R_wc = np.array(camera['cam_R_w2c']).reshape(3, 3)
        ups = []
        for entry in json.loads((scene / 'scene_gt.json').read_text())['0']:
            R = R_wc.T @ np.array(entry['cam_R_m2c']).reshape(3, 3)
            t = R_wc.T @ (np.array(entry['cam_t_m2c']) - camera['cam_t_w2c'])
            heights = 1e3 * MESHES[entry['obj_id']].vertices @ R[2] + t[2]
            assert abs(heights.min()) < 1e-5  # meshes in files are float32
            ups.append(R[2, 2])
        assert (np.min(ups) > 1 - 1e-9) == upright


def test_boxes_of_masks_follow_bop():
    """One pixel has no width, and nothing has a box of minus ones."""
    mask = np.zeros((5, 8), bool)
    assert box_xywh(mask) == INVISIBLE
    mask[3, 2] = True
    assert box_xywh(mask) == (2, 3, 0, 0)
    mask[1, 6] = True
    assert box_xywh(mask, (-10, 20)) == (-8, 21, 4, 2)
