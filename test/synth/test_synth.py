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
from synth_folder import CAMERA, HEIGHT, MESHES, WIDTH

from mrcnet_ros.cli import main as mrcnet
from mrcnet_ros.datasets.bop import BopDataset
from mrcnet_ros.datasets.bop_writer import INVISIBLE, box_xywh, write_models
from mrcnet_ros.errors import DatasetError, SpecError
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.meshes import Mesh, write_ply
from mrcnet_ros.objects import load_bop_objects
from mrcnet_ros.rendering.background_files import read_linear
from mrcnet_ros.rendering.renderer import Renderer
from mrcnet_ros.synth import rooms
from mrcnet_ros.synth.dataset import make_dataset
from mrcnet_ros.synth.depth_sensor import DepthSensor
from mrcnet_ros.synth.held_out import held_out_frames
from mrcnet_ros.synth.rooms import Rooms
from mrcnet_ros.synth.source import from_models


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return synth_folder.write_dataset(tmp_path_factory.mktemp('synth'))


@pytest.fixture(scope='module')
def frames(folder):
    return BopDataset(folder.parent, folder.name, 'test').frames


def infos(folder, frame):
    path = folder / 'test' / f'{frame.scene_id:06d}' / 'scene_gt_info.json'
    return json.loads(path.read_text())[str(frame.image_id)]


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob('*'))
            if p.is_file()}


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


def test_what_is_there_is_not_overwritten(tmp_path):
    """A split that exists is refused; a new one needs the same models and camera."""
    folder = synth_folder.write_dataset(tmp_path, images=1)
    before = contents(folder)
    source = synth_folder.source(tmp_path / 'meshes')
    with pytest.raises(DatasetError, match='test exists and is left as it is'):
        make_dataset(folder, 'test', source, synth_folder.spec(images=1))
    with pytest.raises(DatasetError, match=r'camera\.json is of another camera'):
        other = type(CAMERA)(CAMERA.K + np.diag([1.0, 0, 0]), WIDTH, HEIGHT)
        make_dataset(folder, 'train_pbr', source, synth_folder.spec(images=1, camera=other))
    fewer = type(source)({2: source.objects[2]}, {})
    with pytest.raises(DatasetError, match='holds other models'):
        make_dataset(folder, 'train_pbr', fewer, synth_folder.spec(images=1))
    for split in ('', '.', '../x', 'a/b', 'models', 'test.part'):
        with pytest.raises(DatasetError, match='split must be the name of a folder'):
            make_dataset(folder, split, source, synth_folder.spec(images=1))
    with pytest.raises(DatasetError, match=r'test_targets_bop19\.json is of the split test,'):
        make_dataset(folder, 'test_b', source, synth_folder.spec(images=1))
    assert contents(folder) == before
    make_dataset(folder, 'train_pbr', source, synth_folder.spec(images=1))
    assert len(BopDataset(tmp_path, 'made', 'train_pbr').frames) == 1
    assert not (folder / 'train_targets_bop19.json').exists()


def test_an_interrupted_split_is_made_anew(tmp_path, folder):
    """What was interrupted has no name of a split, and the next start begins again."""
    def stop(count):
        raise KeyboardInterrupt

    source = synth_folder.source(tmp_path / 'meshes')
    with pytest.raises(KeyboardInterrupt):
        make_dataset(tmp_path / 'made', 'test', source, synth_folder.spec(), progress=stop)
    assert [path.name for path in (tmp_path / 'made').iterdir()] == ['test.part']
    make_dataset(tmp_path / 'made', 'test', source, synth_folder.spec())
    assert contents(tmp_path / 'made') == contents(folder)


def test_splits_can_be_made_at_the_same_time(tmp_path, folder):
    """A split begins and ends, or fails, within another one; a split is made by one command."""
    source = synth_folder.source(tmp_path / 'meshes')

    def make(split, progress=None, models=source):
        make_dataset(tmp_path / 'made', split, models, synth_folder.spec(), progress=progress)

    def meanwhile(_):
        if not (tmp_path / 'made/test').exists():
            with pytest.raises(DatasetError, match=r'train_pbr\.part is being written by another'):
                make('train_pbr')
            make('test')
            with pytest.raises(DatasetError, match='holds other models'):
                make('val', models=type(source)({2: source.objects[2]}, {}))

    make('train_pbr', meanwhile)
    assert sorted(p.name for p in (tmp_path / 'made').iterdir()) == [
        'camera.json', 'models', 'test', 'test_targets_bop19.json', 'train_pbr']
    assert contents(tmp_path / 'made/test') == contents(folder / 'test')
    assert contents(tmp_path / 'made/train_pbr') == contents(folder / 'test')


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


def test_backgrounds_are_taken_from_the_folder(tmp_path):
    """A photograph is behind the table, an environment map turns with the camera."""
    photo = np.zeros((90, 120, 3), np.uint8)
    photo[..., 0] = 200  # blue, as OpenCV writes it
    cv2.imwrite(str(tmp_path / 'photo.png'), photo)
    room, tint = Rooms([tmp_path / 'photo.png']).draw(CAMERA, np.eye(4),
                                                      np.random.default_rng(0))
    assert room.shape == (HEIGHT, WIDTH, 3)
    assert (room[..., 2] > 100).all() and (room[..., :2] == 0).all() and tint.argmax() == 2
    sky = np.zeros((32, 64, 3), np.uint8)
    sky[:16] = 255
    cv2.imwrite(str(tmp_path / 'sky_env.png'), sky)
    level = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # z up, y ahead
    room, _ = Rooms([tmp_path / 'sky_env.png']).draw(CAMERA, level, np.random.default_rng(0))
    assert (room[:50] > 100).all() and (room[70:] < 20).all()


@pytest.mark.parametrize('rate_hz', [None, 30.0])
def test_backgrounds_that_cannot_be_read_are_told_before_the_first_image(tmp_path, rate_hz):
    """All that this seed needs; what it does not need may be damaged."""
    source = synth_folder.source(tmp_path / 'meshes')
    paths = [tmp_path / f'{i}.png' for i in range(50)]
    for path in paths:
        cv2.imwrite(str(path), np.full((60, 80, 3), 100, np.uint8))
    spec = synth_folder.spec(scenes=3, images=2, rate_hz=rate_hz)
    read = []

    def remembered(path):
        read.append(path)
        return read_linear(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rooms, 'read_linear', remembered)
        make_dataset(tmp_path / 'whole', 'test', source, spec, backgrounds=paths)
    needed = set(read)
    assert 1 < len(needed) <= (3 if rate_hz else 6)
    for path in {*needed, *paths[:3]}:
        path.write_bytes(b'')
    with pytest.raises(DatasetError) as error:
        make_dataset(tmp_path / 'made', 'test', source, spec, backgrounds=paths,
                     progress=lambda _: pytest.fail('too late'))
    assert {path for path in paths if f'{path} ' in str(error.value)} == needed


def test_boxes_of_masks_follow_bop():
    """One pixel has no width, and nothing has a box of minus ones."""
    mask = np.zeros((5, 8), bool)
    assert box_xywh(mask) == INVISIBLE
    mask[3, 2] = True
    assert box_xywh(mask) == (2, 3, 0, 0)
    mask[1, 6] = True
    assert box_xywh(mask, (-10, 20)) == (-8, 21, 4, 2)


@pytest.mark.parametrize('bad', [{'scenes': 0}, {'images': 0}, {'objects': -1}, {'objects': 500},
                                 {'seed': -1}, {'rate_hz': 1e9}, {'distance_m': (0.5, 0.2)},
                                 {'distance_m': (0.0, 1.0)}])
def test_numbers_that_make_no_sense_are_refused(bad):
    """The error names what was given."""
    with pytest.raises(SpecError, match=next(iter(bad)).split('_')[0]):
        synth_folder.spec(**bad)


def test_the_command_makes_grey_images_of_mesh_files(tmp_path, capsys):
    """Meshes in metres, numbered from 1, in the layout of ITODD."""
    synth_folder.source(tmp_path)
    files = [str(tmp_path / f'{i}.ply') for i in MESHES]
    code = mrcnet.main(['synth', '--meshes', *files, '--unit', 'm', '--output',
                        str(tmp_path / 'parts'), '--scenes', '1', '--images', '1', '--size',
                        '96', '64', '--K', '90', '90', '47.5', '31.5', '--grey', '--split', 'val'])
    assert code == 0, capsys.readouterr().err
    (frame,) = BopDataset(tmp_path, 'parts', 'val').frames
    assert frame.image_path.relative_to(tmp_path / 'parts/val').as_posix() == (
        '000001/gray/000000.tif')
    assert cv2.imread(str(frame.image_path), cv2.IMREAD_UNCHANGED).shape == (64, 96)
    np.testing.assert_array_equal(frame.camera.K, [[90, 0, 47.5], [0, 90, 31.5], [0, 0, 1]])
    assert sorted(load_bop_objects(tmp_path / 'parts' / 'models')) == [1, 2]


def test_the_command_says_what_cannot_be_used(tmp_path, capsys):
    """A missing mesh and ids without models end with a sentence, not a traceback."""
    assert mrcnet.main(['synth', '--meshes', str(tmp_path / 'no.ply'), '--output',
                        str(tmp_path / 'out')]) == 2
    assert 'no.ply' in capsys.readouterr().err
    synth_folder.source(tmp_path)
    assert mrcnet.main(['synth', '--models', str(tmp_path / 'objects.yaml'), '--ids', '3',
                        '--output', str(tmp_path / 'out')]) == 2
    assert 'no objects [3]; there are [2, 5]' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_dataset_in_which_nothing_is_visible_is_not_made(tmp_path):
    """As with objects too far away to cover a pixel; millimetres are no distance of a camera."""
    source = synth_folder.source(tmp_path)
    with pytest.raises(DatasetError, match='in no image a tenth of an object is visible'):
        make_dataset(tmp_path / 'made', 'test', source,
                     synth_folder.spec(images=1, distance_m=(99.0, 99.0)))
    assert not (tmp_path / 'made' / 'test').exists()
    with pytest.raises(SpecError, match='near <= far <= 100'):
        synth_folder.spec(distance_m=(400.0, 900.0))


@pytest.mark.parametrize('changes', [
    {'distance_m': (0.01, 0.02)}, {'camera': Camera(np.diag([1e6, 1e6, 1]), WIDTH, HEIGHT)}])
def test_a_camera_inside_of_an_object_or_beyond_any_room_takes_no_picture(tmp_path, changes):
    """Without a given distance it follows from the focal length."""
    with pytest.raises(SpecError, match='the camera would be'):
        make_dataset(tmp_path / 'made', 'test', synth_folder.source(tmp_path),
                     synth_folder.spec(images=1, **changes))
