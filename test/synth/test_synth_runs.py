"""Runs of mrcnet synth: what is there already, two at a time, backgrounds, and what is refused."""

import cv2
import numpy as np
import pytest
import synth_folder
from synth_folder import CAMERA, HEIGHT, MESHES, WIDTH, contents

from mrcnet_ros.cli import main as mrcnet
from mrcnet_ros.datasets import bop_writer
from mrcnet_ros.datasets.bop import BopDataset
from mrcnet_ros.errors import DatasetError, SpecError
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.objects import load_bop_objects
from mrcnet_ros.rendering.background_files import read_linear
from mrcnet_ros.synth import scene_backgrounds
from mrcnet_ros.synth.dataset import make_dataset
from mrcnet_ros.synth.scene_backgrounds import Rooms


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


def test_targets_of_a_split_that_is_not_there_are_kept(tmp_path):
    """As of a dataset whose images have not been extracted yet."""
    (tmp_path / 'made').mkdir()
    targets = tmp_path / 'made' / 'test_targets_bop19.json'
    targets.write_text('[{"scene_id": 48, "im_id": 1, "obj_id": 1, "inst_count": 1}]')
    before = targets.read_text()
    with pytest.raises(DatasetError, match=r'exists without .*test, and would be replaced'):
        make_dataset(tmp_path / 'made', 'test', synth_folder.source(tmp_path / 'meshes'),
                     synth_folder.spec())
    assert targets.read_text() == before and list((tmp_path / 'made').iterdir()) == [targets]


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
        patch.setattr(scene_backgrounds, 'read_linear', remembered)
        make_dataset(tmp_path / 'whole', 'test', source, spec, backgrounds=paths)
    needed = set(read)
    assert 1 < len(needed) <= (3 if rate_hz else 6)
    for path in {*needed, *paths[:3]}:
        path.write_bytes(b'')
    with pytest.raises(DatasetError) as error:
        make_dataset(tmp_path / 'made', 'test', source, spec, backgrounds=paths,
                     progress=lambda _: pytest.fail('too late'))
    assert {path for path in paths if f'{path} ' in str(error.value)} == needed


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


@pytest.mark.parametrize(('K', 'code', 'said'), [
    ('90 90 47.5 31.5', 0, ''), ('90 48 90 31.5', 0, 'the principal point of --K, (90, 32)'),
    ('90 47.5 90 31.5', 0, 'as if pixels were not square'), ('0.9 0.9 0.5 0.5', 2, 'too short')])
def test_intrinsics_in_another_order_or_unit_are_told(tmp_path, capsys, caplog, K, code, said):
    """A dataset of any camera can be made; nobody means one of fx, cx, fy, cy."""
    synth_folder.source(tmp_path)
    words = ['synth', '--models', str(tmp_path / 'objects.yaml'), '--output', str(tmp_path / 'o'),
             '--scenes', '1', '--images', '1', '--size', '96', '64', '--K', *K.split()]
    assert mrcnet.main(words) == code
    told = caplog.text + capsys.readouterr().err
    assert said in told and ('--K is FX FY CX CY' in told) == (code == 0 and said != '')


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


@pytest.mark.parametrize('name', ['mask.png', 'grey.tif'])
def test_an_image_for_which_the_disk_has_no_room_is_told(tmp_path, name):
    """OpenCV says that a small one was written, and it is empty."""
    (tmp_path / name).symlink_to('/dev/full')
    with pytest.raises(OSError, match='No space left'):
        bop_writer._save(tmp_path / name, np.zeros((8, 8), np.uint8))
