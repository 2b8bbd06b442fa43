"""Composed training images: their labels are true, and any of them can be made again."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('torch', reason='needs the train extra')

import numpy as np
import torch
from meshes import bumpy_sphere, cube, rasterise, write_ply

from mrcnet_ros.errors import DatasetError, MeshError, MrcnetError
from mrcnet_ros.geometry.bins import decode_translation
from mrcnet_ros.geometry.crop import CropCamera
from mrcnet_ros.geometry.se3 import make_transform, rotation_to_axis
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.geometry.view_prior import elevation_and_tilt
from mrcnet_ros.meshes import measure_diameter
from mrcnet_ros.meshes.mesh import NEUTRAL_GREY
from mrcnet_ros.objects import Mesh, ObjectModel
from mrcnet_ros.specs import CropSpec, ViewPrior
from mrcnet_ros.training import composer as composer_module
from mrcnet_ros.training import view_bank
from mrcnet_ros.training.backgrounds import irradiance_matrices
from mrcnet_ros.training.composer import MIN_VISIBLE, Composer, Sample
from mrcnet_ros.training.painting import ComposerSpec
from mrcnet_ros.training.shared_tensors import shared
from mrcnet_ros.training.view_bank import ViewBank, load_or_render

MESHES: list[Mesh] = [bumpy_sphere(0.05, subdivisions=2), cube(0.08)]
DISTANCE_M = (0.4, 0.8)
PRIOR = ViewPrior(elevation_min_deg=10.0, elevation_max_deg=80.0, tilt_max_deg=25.0)
SIZE = 96


@pytest.fixture(scope='module')
def banks(tmp_path_factory: pytest.TempPathFactory) -> list[ViewBank]:
    """Render a few views of a blob and of a cube."""
    folder = tmp_path_factory.mktemp('views')
    objects = [
        ObjectModel(object_id=i, label=f'object{i}', diameter_m=measure_diameter(mesh.vertices),
                    mesh_path=write_ply(folder / f'{i}.ply', mesh), symmetries=Symmetries.none())
        for i, mesh in enumerate(MESHES)]
    return [v.open() for v in load_or_render(folder / 'bank', objects, {1: PRIOR}, DISTANCE_M,
                                             6, seed=0)]


@pytest.fixture
def lights() -> np.ndarray:
    """Return the even light that is used when there is no environment map."""
    return irradiance_matrices([])


def make_composer(banks: list[ViewBank], lights: np.ndarray, **changes: object) -> Composer:
    """Return a composer over backgrounds of noise."""
    patches = np.random.default_rng(0).integers(0, 255, (3, 192, 192, 3), np.uint8)
    spec = dataclasses.replace(ComposerSpec(crop=CropSpec(size_px=SIZE)), **changes)
    return Composer(banks, [None, PRIOR], patches, lights, spec)


def capture_crops(monkeypatch: pytest.MonkeyPatch) -> list[CropCamera]:
    """Note the crop camera of every sample; a sample itself does not keep it."""
    crops: list[CropCamera] = []
    look = Composer._crop

    def noted(*arguments: Any) -> tuple[CropCamera, Any]:
        crop, H_crop_layout = look(*arguments)
        crops.append(crop)
        return crop, H_crop_layout

    monkeypatch.setattr(Composer, '_crop', noted)
    return crops


def pose_in_crop(sample: Sample, crop: CropCamera, bank: ViewBank) -> np.ndarray:
    """Return the T_crop_object that the labels of a sample describe, (4, 4) [m]."""
    t = decode_translation(sample.xy, sample.log_size, crop.focal, bank.diameter_m)
    return make_transform(rotation_to_axis(t).T @ sample.R_ray_object, t)


def silhouette(sample: Sample, crop: CropCamera, bank: ViewBank) -> np.ndarray:
    """Return where the whole object is in the crop, drawn from the labels by another renderer."""
    T = pose_in_crop(sample, crop, bank)
    return np.isfinite(rasterise(MESHES[sample.class_index], T, crop.K_crop, SIZE, SIZE))


def same(a: Sample, b: Sample) -> bool:
    """Tell whether two samples are equal to the bit."""
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name))
               for f in dataclasses.fields(Sample))


def test_dense_coordinates_project_onto_their_own_cells(banks, lights, monkeypatch):
    """With the sample's pose, the coordinates of a cell are seen within half a cell of it."""
    crops = capture_crops(monkeypatch)
    composer = make_composer(banks, lights)
    for index in range(16):
        sample = composer.sample(1, index)
        bank = banks[sample.class_index]
        T = pose_in_crop(sample, crops[-1], bank)
        rows, columns = np.nonzero(sample.mask > 0.5)
        assert len(rows) > 10
        points = sample.coordinates[:, rows, columns].T * bank.diameter_m / 2
        uvw = (points @ T[:3, :3].T + T[:3, 3]) @ crops[-1].K_crop.T
        centres = 4.0 * np.stack([columns, rows], 1) + 1.5
        off_px = np.abs(uvw[:, :2] / uvw[:, 2:] - centres).max(axis=1)
        assert off_px.max() < 2.0
        assert np.median(off_px) < 0.6


def test_dense_coordinates_lie_on_the_surface(banks, lights):
    """Coordinates of the cube are on its faces, and on more than one of them."""
    composer = make_composer(banks, lights)
    seen = set()
    for index in range(1, 16, 2):
        sample = composer.sample(2, index)
        visible = sample.coordinates[:, sample.mask > 0.5] * banks[1].diameter_m / 2
        assert np.abs(np.abs(visible).max(axis=0) - 0.04).max() < 1.5e-3
        axis = np.abs(visible).argmax(axis=0)
        seen |= {(int(a), bool(v[a] > 0)) for a, v in zip(axis, visible.T, strict=True)}
    assert len(seen) > 2


def test_the_object_is_painted_where_the_labels_say(banks, lights, monkeypatch):
    """Painted pixels and a z-buffer drawn from the labels cover the same part of the image."""
    crops = capture_crops(monkeypatch)
    monkeypatch.setattr(composer_module, 'augment', lambda rng, image, strength: image)
    monkeypatch.setattr(composer_module, 'photograph',
                        lambda rng, image, resolution: image.astype(np.uint8))
    composer = make_composer(banks, lights, occluded=0.0, distracted=0.0, cluttered=0.0,
                             on_table=0.0, border=0.0)
    composer.painter.patches = np.zeros_like(composer.painter.patches)
    for index in range(10):
        sample = composer.sample(3, index)
        painted = sample.image.max(axis=2) > 8
        expected = silhouette(sample, crops[-1], banks[sample.class_index])
        assert sample.visible_fraction == 1.0
        assert (painted & expected).sum() > 0.93 * (painted | expected).sum()
        mask = sample.mask > 0.5
        cells = expected.reshape(24, 4, 24, 4).mean((1, 3)) > 0.5
        assert (mask & cells).sum() > 0.85 * (mask | cells).sum()


def test_the_distance_is_that_of_a_rendered_view(banks, lights, monkeypatch):
    """Position and size decode to the distance at which the object was rendered."""
    crops = capture_crops(monkeypatch)
    composer = make_composer(banks, lights)
    for index in range(8):
        sample = composer.sample(4, index)
        bank = banks[sample.class_index]
        distance = np.linalg.norm(pose_in_crop(sample, crops[-1], bank)[:3, 3])
        assert np.abs(bank.distance_m - distance).min() < 1e-9
        assert DISTANCE_M[0] <= distance <= DISTANCE_M[1]


def test_the_visible_fraction_is_the_part_that_the_mask_shows(banks, lights, monkeypatch):
    """The mask covers that part of the whole silhouette, never less than the minimum."""
    crops = capture_crops(monkeypatch)
    composer = make_composer(banks, lights, occluded=1.0)
    differences, fractions = [], []
    for index in range(40):
        sample = composer.sample(5, index)
        whole = silhouette(sample, crops[-1], banks[sample.class_index])
        if whole[[0, -1]].any() or whole[:, [0, -1]].any():
            continue  # reaches beyond the crop, where no mask tells
        differences.append(sample.mask.sum() * 16 / whole.sum() - sample.visible_fraction)
        fractions.append(sample.visible_fraction)
    assert min(fractions) >= MIN_VISIBLE
    assert np.ptp(fractions) > 0.3
    assert len(fractions) > 10
    assert np.abs(differences).max() < 0.12
    assert abs(np.mean(differences)) < 0.04


def test_views_keep_to_the_prior(banks, lights):
    """Of an object that stands on a table no view from below or strongly tilted is made."""
    composer = make_composer(banks, lights)
    for index in range(1, 40, 2):
        elevation, tilt = np.degrees(elevation_and_tilt(composer.sample(6, index).R_ray_object))
        assert 10.0 - 0.1 <= elevation <= 80.0 + 0.1
        assert abs(tilt) <= 25.0 + 0.1


def test_a_sample_can_be_made_again(banks, lights):
    """Seed and index determine every number, whatever was made before."""
    first, second = make_composer(banks, lights), make_composer(banks, lights)
    for index in range(6):
        second.sample(9, index)
    for index in (0, 3):
        assert same(first.sample(7, index), second.sample(7, index))


def test_other_indices_and_seeds_give_other_samples(banks, lights):
    """No two of a few samples share their image."""
    composer = make_composer(banks, lights)
    images = {composer.sample(seed, index).image.tobytes()
              for seed in (0, 1) for index in range(4)}
    assert len(images) == 8


def test_classes_take_turns_as_targets(banks, lights):
    """Every class is drawn equally often by default, or as often as it is listed."""
    composer = make_composer(banks, lights)
    assert [composer.sample(0, i).class_index for i in range(4)] == [0, 1, 0, 1]
    only = Composer(banks, [None, PRIOR], composer.painter.patches, lights, composer.spec,
                    [1, 1, 0])
    assert [only.sample(0, i).class_index for i in range(4)] == [1, 1, 0, 1]


def test_views_are_rendered_once(banks, tmp_path: Path, monkeypatch):
    """The second time views come from the folder, and are the same."""
    model = ObjectModel(object_id=5, label='box', diameter_m=0.08 * 3**0.5,
                        mesh_path=write_ply(tmp_path / 'box.ply', MESHES[1]),
                        symmetries=Symmetries.none())
    arguments = (tmp_path / 'bank', [model], {}, DISTANCE_M, 2, 0)
    first = load_or_render(*arguments)[0].open()

    def fail(*_: object) -> None:
        raise AssertionError('rendered again')

    monkeypatch.setattr('mrcnet_ros.training.view_bank._render', fail)
    second = load_or_render(*arguments)[0].open()
    for name in ('albedo', 'normals', 'depth', 'R_camera_object', 'distance_m'):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    with pytest.raises(AssertionError, match='rendered again'):
        load_or_render(tmp_path / 'bank', [model], {}, DISTANCE_M, 3, 0)


def test_too_little_shared_memory_is_told_before_anything_is_rendered(tmp_path, monkeypatch):
    """A container has 64 MiB by default, and 1000 views need 141."""
    model = ObjectModel(object_id=5, label='box', diameter_m=0.08 * 3**0.5,
                        mesh_path=write_ply(tmp_path / 'box.ply', MESHES[1]),
                        symmetries=Symmetries.none())
    blocks = os.statvfs_result((4096, 4096, 64 * 256, 60 * 256, 60 * 256, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, 'statvfs', lambda folder: blocks)
    with pytest.raises(MrcnetError, match=r'/dev/shm has 64 MiB, of which 60 are free, and 141 '
                                          r'more are needed.*--ipc=host'):
        load_or_render(tmp_path / 'bank', [model], {}, DISTANCE_M, 1000, 0)
    assert not (tmp_path / 'bank').exists()


def test_shared_memory_that_fills_meanwhile_is_told(monkeypatch):
    """By the numbers in place of an error of PyTorch, which speaks of a device."""
    def full(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError('unable to allocate shared memory(shm) for file </torch_1>: '
                           'No space left on device (28)')

    monkeypatch.setattr(torch.Tensor, 'share_memory_', full)
    with pytest.raises(MrcnetError, match=r'/dev/shm has .* and 1 more are needed.*--shm-size'):
        shared(torch.zeros(2**18))


@pytest.mark.parametrize('error', [
    OSError('4 requested and 1 written'), OSError(28, 'No space left on device')])
def test_a_full_disk_is_told(tmp_path: Path, monkeypatch, error):
    """With the folder and what to do; the error of NumPy has no number."""
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(np, 'save', full)
    model = ObjectModel(object_id=5, label='box', diameter_m=0.08 * 3**0.5,
                        mesh_path=write_ply(tmp_path / 'box.ply', MESHES[1]),
                        symmetries=Symmetries.none())
    with pytest.raises(DatasetError, match=r'bank/box-.*cannot be written .*\(.*; make room for'):
        load_or_render(tmp_path / 'bank', [model], {}, DISTANCE_M, 2, 0)
    assert not any((tmp_path / 'bank').iterdir())


@pytest.mark.parametrize('name', ['albedo.npy', 'views.npz'])
@pytest.mark.parametrize('left', [0.0, 0.5, 1.0])
def test_damaged_views_are_rendered_again(tmp_path: Path, caplog, name, left):
    """Files that are empty or cut off, and such whose end is lost, as when the power fails."""
    model = ObjectModel(object_id=5, label='box', diameter_m=0.08 * 3**0.5,
                        mesh_path=write_ply(tmp_path / 'box.ply', MESHES[1]),
                        symmetries=Symmetries.none())
    arguments = (tmp_path / 'bank', [model], {}, DISTANCE_M, 2, 0)
    first = load_or_render(*arguments)[0].open()
    folder, = (tmp_path / 'bank').iterdir()
    data = (folder / name).read_bytes()
    lost = len(data) // 2
    (folder / name).write_bytes(data[:int(left * len(data))] if left < 1
                                else data[:-lost] + bytes(lost))
    second = load_or_render(*arguments)[0].open()
    assert f'views {folder} cannot be used' in caplog.text and 'rendering them anew' in caplog.text
    for field in ('albedo', 'normals', 'openness', 'depth', 'R_camera_object', 'distance_m'):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))


def test_views_that_another_run_has_finished_meanwhile_are_kept(tmp_path: Path, monkeypatch):
    """Two runs share the folder: the later one changes no file that the other may be reading."""
    model = ObjectModel(object_id=5, label='box', diameter_m=0.08 * 3**0.5,
                        mesh_path=write_ply(tmp_path / 'box.ply', MESHES[1]),
                        symmetries=Symmetries.none())
    arguments = (tmp_path / 'bank', [model], {}, DISTANCE_M, 2, 0)
    shown, files = view_bank._shown, []

    def state() -> list[object]:
        return [(path, path.stat().st_ino, path.stat().st_mtime_ns)
                for path in sorted((tmp_path / 'bank').rglob('*'))]

    def other_run(*of_views: object) -> object:
        monkeypatch.setattr(view_bank, '_shown', shown)
        load_or_render(*arguments)
        files.extend(state())
        return shown(*of_views)

    monkeypatch.setattr(view_bank, '_shown', other_run)
    load_or_render(*arguments)
    assert len(files) == 7 and state() == files


@pytest.mark.parametrize('change', ['diameter_m', 'unit_m', 'object_id', 'mesh'])
def test_views_of_a_changed_object_are_rendered_again(banks, tmp_path: Path, monkeypatch, change):
    """Another diameter, unit, number or mesh under the same label does not get the old views."""
    mesh = write_ply(tmp_path / 'box.ply', MESHES[1])
    model = ObjectModel(object_id=5, label='box', diameter_m=0.08 * 3**0.5, mesh_path=mesh,
                        symmetries=Symmetries.none())
    load_or_render(tmp_path / 'bank', [model], {}, DISTANCE_M, 2, 0)
    if change == 'mesh':
        write_ply(mesh, cube(0.081))
    else:
        model = dataclasses.replace(model, **{change: 2 * getattr(model, change)})

    def fail(*_: object) -> None:
        raise AssertionError('rendered again')

    monkeypatch.setattr('mrcnet_ros.training.view_bank._render', fail)
    with pytest.raises(AssertionError, match='rendered again'):
        load_or_render(tmp_path / 'bank', [model], {}, DISTANCE_M, 2, 0)


@pytest.mark.parametrize(('elevation_deg', 'shown'), [((0.0, 0.0), False), ((-4.0, 4.0), True)])
def test_views_without_a_pixel_are_not_trained_with(tmp_path: Path, elevation_deg, shown):
    """A sheet seen from its edge has none: another view is taken, or the mesh is refused."""
    sheet = cube(0.08)
    sheet = dataclasses.replace(sheet, vertices=sheet.vertices * [1, 1, 1e-4])
    model = ObjectModel(object_id=5, label='sheet', diameter_m=0.08 * 2**0.5,
                        mesh_path=write_ply(tmp_path / 'sheet.ply', sheet),
                        symmetries=Symmetries.none())
    prior = ViewPrior(elevation_min_deg=elevation_deg[0], elevation_max_deg=elevation_deg[1],
                      tilt_max_deg=0.0)
    arguments = (tmp_path / 'bank', [model], {5: prior}, DISTANCE_M, 40, 0)
    if not shown:
        with pytest.raises(MeshError, match=r'sheet\.ply: shows nothing in \d+ of 40 views'):
            load_or_render(*arguments)
        return
    bank, = load_or_render(*arguments)
    bank = bank.open()
    assert bank.albedo[..., 3].any(axis=(1, 2)).all()
    assert len({tuple(R.ravel()) for R in bank.R_camera_object}) < 40  # some are there twice


@pytest.mark.parametrize('width_px', [1, 2])
def test_a_thin_object_does_not_blacken_its_images(banks, lights, width_px):
    """Of an object a pixel or two wide the colours for clutter are known: no sample is black."""
    thin = banks[1].albedo.copy()
    thin[..., :63, :] = 0
    thin[..., 63 + width_px:, :] = 0
    bank = dataclasses.replace(banks[1], albedo=thin)
    composer = Composer([bank], [None], make_composer(banks, lights).painter.patches, lights,
                        ComposerSpec(crop=CropSpec(size_px=SIZE), cluttered=1.0))
    for index in range(6):
        assert composer.sample(0, index).image.std() > 5


def test_objects_without_colours_are_painted_dark_to_white(banks, lights):
    """A file without colours is drawn in one grey; the real part may be white or dark.

    One view may show a side without colours of an object that has some elsewhere.
    """
    def spread(first: int, others: int) -> float:
        greys = np.array([first, *[others] * 5], np.uint8)[:, None, None, None]
        plain = [dataclasses.replace(b, albedo=np.concatenate([
            np.where(b.albedo[..., 3:] > 0, greys, 0).repeat(3, -1), b.albedo[..., 3:]], -1))
            for b in banks]
        composer = make_composer(plain, lights, occluded=0.0, varied=0.0, photometric=0.0,
                                 border=0.0)
        means = []
        for index in range(30):
            sample = composer.sample(0, index)
            seen = sample.mask.repeat(4, 0).repeat(4, 1) > 0.99
            means.append(np.log(sample.image[seen].mean()))
        return float(np.std(means))

    painted = spread(NEUTRAL_GREY, NEUTRAL_GREY)
    for first in (NEUTRAL_GREY - 1, NEUTRAL_GREY):
        assert painted > 1.3 * spread(first, NEUTRAL_GREY - 1)
