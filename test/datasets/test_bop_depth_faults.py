"""Depth images of BOP datasets that cannot be used, and the forms in which they are read."""

import json

import bop_folder
import cv2
import numpy as np
import pytest
from bop_folder import HEIGHT, WIDTH, add_depth, edit, read

from mrcnet_ros.datasets.bop_writer import SceneWriter
from mrcnet_ros.errors import DatasetError, ImageError
from mrcnet_ros.evaluation.scores import score
from mrcnet_ros.evaluation.vsd_scores import score_vsd
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.objects import load_bop_objects

root, scene = bop_folder.root_fixture(), bop_folder.scene_fixture()


def test_depth_and_masks_of_another_size_are_named(root, scene):
    """They cannot be laid over the image; scores without depth are kept."""
    add_depth(scene, (160, 120))
    frames = read(root).frames
    with pytest.raises(ImageError, match=r'depth/000004\.png: is 160x120, its image is 320x240'):
        frames[0].load_depth_m()
    (scene / 'mask').mkdir()
    cv2.imwrite(str(scene / 'mask/000004_000000.png'), np.zeros((120, 160), np.uint8))
    with pytest.raises(ImageError, match=r'000004_000000\.png: is 160x120'):
        frames[0].load_mask(0, visible=False)
    objects = load_bop_objects(root / 'toy/models_eval')
    assert 'is 160x120' in score_vsd(frames, [], objects).missing
    assert score(frames, [], objects) is not None


def write_depth(scene, name, value, dtype=np.uint16):
    """Write a depth image of one value."""
    (scene / 'depth').mkdir(exist_ok=True)
    cv2.imwrite(str(scene / 'depth' / name), np.full((HEIGHT, WIDTH), value, dtype))


@pytest.mark.parametrize('name', ['000004.png', '4.png', '000004.PNG', '000004.tiff', '4.tif'])
def test_depth_images_are_found_as_colour_images_are(root, scene, name):
    """By their number, whatever their suffix is called; two of one number are refused."""
    write_depth(scene, name, 1500)
    depth_m = read(root).frames[0].load_depth_m()
    assert depth_m is not None and np.allclose(depth_m, 0.75)
    write_depth(scene, '0004.tif', 1500)
    with pytest.raises(DatasetError, match='are both image 4'):
        read(root)


def test_the_step_of_depth_is_that_of_the_dataset_where_images_do_not_state_it(root, scene):
    """A millimetre would be ten times as far."""
    write_depth(scene, '000004.png', 7500)
    edit(scene / 'scene_camera.json',
         lambda v: [camera.pop('depth_scale') for camera in v.values()])
    edit(root / 'toy/camera.json', lambda v: v.update(depth_scale=0.1))
    depth_m = read(root).frames[0].load_depth_m()
    assert depth_m is not None and np.allclose(depth_m, 0.75)


@pytest.mark.parametrize(('value', 'dtype', 'ratio'), [
    (0.75, np.float32, '0.0005'), (15000, np.uint16, '10')])
def test_depth_of_another_unit_than_the_truth_is_refused(root, scene, value, dtype, ratio):
    """Metres, or a step that depth_scale does not state: scores and corrections would be wrong."""
    write_depth(scene, '000004.tif', value, dtype)
    frame = read(root).frames[0]
    with pytest.raises(ImageError, match=rf'it is {ratio}.* times as far .*depth_scale'):
        frame.load_depth_m()


@pytest.mark.parametrize('farthest_m', [1.0, 6.5, 6.6, 21.7, 100.0, 500.0])
def test_steps_of_a_written_depth_image_reach_to_its_farthest_point(tmp_path, farthest_m):
    """As fine as 16 bits allow; the step stands beside the image."""
    camera = Camera(bop_folder.K, 320, 240)
    depth = np.linspace(0, farthest_m, 320 * 240, dtype=np.float32).reshape(240, 320)
    writer = SceneWriter(tmp_path / '000001', camera)
    writer.write(0, np.zeros((240, 320, 3), np.uint8), depth, np.eye(4), [])
    writer.close()
    step_mm = json.loads((tmp_path / '000001/scene_camera.json').read_text())['0']['depth_scale']
    steps = cv2.imread(str(tmp_path / '000001/depth/000000.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(steps * step_mm / 1e3, depth, atol=0.51 * step_mm / 1e3)
    assert step_mm == min(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10) if s * 65.535 >= farthest_m)
