"""Templates are drawn once, stored whole, verified, and drawn anew when wrong."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from meshes import bumpy_sphere, rasterise, write_ply

from mrcnet_ros.errors import MeshError, SpecError
from mrcnet_ros.geometry.rotation_grid import rotation_grid
from mrcnet_ros.geometry.se3 import make_transform
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.meshes import measure_diameter
from mrcnet_ros.objects import ObjectModel
from mrcnet_ros.rendering import template_store
from mrcnet_ros.rendering.template_store import (
    TemplateStore,
    default_store_root,
    template_intrinsics,
)
from mrcnet_ros.specs import BinSpec, ModelSpec, TemplateSpec
from mrcnet_ros.store.atomic import STALE_SECONDS, remove_stale, write_atomically
from mrcnet_ros.store.content_store import default_root

SPEC = ModelSpec(bins=BinSpec(rotation_nside=1, rotation_in_plane=4),
                 template=TemplateSpec(size_px=48))
GRID = rotation_grid(1, 4)


@pytest.fixture
def blob(tmp_path: Path) -> ObjectModel:
    """Write a mesh and describe it."""
    mesh = bumpy_sphere(subdivisions=2)
    return ObjectModel(
        object_id=4, label='blob', mesh_path=write_ply(tmp_path / 'blob.ply', mesh),
        diameter_m=measure_diameter(mesh.vertices), symmetries=Symmetries.none())


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many templates each drawing makes."""
    counts: list[int] = []
    draw = template_store.draw_templates

    def counted(model: ObjectModel, spec: ModelSpec, bins: np.ndarray,
                progress: object = None) -> object:
        counts.append(len(bins))
        return draw(model, spec, bins, progress)  # type: ignore[arg-type]

    monkeypatch.setattr(template_store, 'draw_templates', counted)
    return counts


def one_file(store: TemplateStore) -> Path:
    """Return the only file of a store."""
    files = list(store.root.iterdir())
    assert len(files) == 1
    return files[0]


def test_a_template_is_the_object_at_its_bin_on_the_optical_axis(
        tmp_path: Path, blob: ObjectModel) -> None:
    """Depth and silhouette are those of a camera looking at the object's origin."""
    found = TemplateStore(tmp_path / 'store').load_or_build(blob, SPEC)
    assert found.rgb.shape == (48, 48, 48, 3) and found.depth_m.shape == (48, 48, 48)
    assert found.distance_m == pytest.approx(7 * blob.diameter_m)
    for row in (0, 29):
        np.testing.assert_array_equal(found.R_camera_object[row], GRID[found.bin_indices[row]])
        T = make_transform(GRID[row], [0, 0, found.distance_m])
        expected = rasterise(bumpy_sphere(subdivisions=2), T, found.K, 48, 48)
        seen = found.depth_m[row] > 0
        assert (seen != np.isfinite(expected)).sum() <= 2
        both = seen & np.isfinite(expected)
        assert np.median(np.abs(found.depth_m[row] - expected)[both]) < 1e-6
        assert found.rgb[row][seen].any() and not found.rgb[row][~seen].any()


def test_the_intrinsics_give_the_relative_size_about_the_middle() -> None:
    """A diameter across the axis spans relative_size of the image, centred on its middle."""
    spec = TemplateSpec(size_px=64, relative_size=0.75, distance_diameters=5.0)
    K = template_intrinsics(spec)
    left, right = K @ [-0.5, 0, 5.0], K @ [0.5, 0, 5.0]
    u = left[0] / left[2], right[0] / right[2]
    assert u[1] - u[0] == pytest.approx(0.75 * 64) and np.mean(u) == pytest.approx(31.5)


def test_the_second_time_nothing_is_drawn(
        tmp_path: Path, blob: ObjectModel, drawn: list[int]) -> None:
    """A stored object comes back bit by bit, with its progress reported all the same."""
    ticks: list[int] = []
    first = TemplateStore(tmp_path / 'store').load_or_build(blob, SPEC, progress=ticks.append)
    second = TemplateStore(tmp_path / 'store').load_or_build(blob, SPEC, progress=ticks.append)
    assert TemplateStore(tmp_path / 'store').holds(blob, SPEC)
    assert drawn == [48] and ticks == [1] * 48 + [48]
    np.testing.assert_array_equal(first.rgb, second.rgb)
    np.testing.assert_array_equal(first.depth_m, second.depth_m)
    assert second.rgb.dtype == np.uint8 and second.depth_m.dtype == np.float32


def test_only_allowed_bins_are_drawn(tmp_path: Path, blob: ObjectModel) -> None:
    """Templates are found by their bin; asking for another bin names it."""
    allowed = np.zeros(48, bool)
    allowed[[3, 17, 40]] = True
    store = TemplateStore(tmp_path / 'store')
    found, everything = store.load_or_build(blob, SPEC, allowed), store.load_or_build(blob, SPEC)
    assert found.bin_indices.tolist() == [3, 17, 40] and len(found) == 3
    np.testing.assert_array_equal(found.rgb, everything.rgb[[3, 17, 40]])
    assert found.rows([40, 3]).tolist() == [2, 0]
    with pytest.raises(ValueError, match=r'object 4 has no templates of the bins \[5, 47\]'):
        found.rows([17, 47, 5])


@pytest.mark.parametrize('allowed', [np.ones(47, bool), np.zeros(48, bool), np.ones(48)])
def test_a_mask_that_does_not_fit_is_refused(
        tmp_path: Path, blob: ObjectModel, allowed: np.ndarray) -> None:
    """Masks of another length or kind, or that allow nothing, are spec errors."""
    with pytest.raises(SpecError, match='allowed bins must be 48 booleans'):
        TemplateStore(tmp_path).load_or_build(blob, SPEC, allowed)


def test_whatever_pixels_depend_on_makes_other_templates(
        tmp_path: Path, blob: ObjectModel, drawn: list[int],
        monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed spec, mask, mesh or renderer never finds the old templates."""
    store, few = TemplateStore(tmp_path / 'store'), np.arange(48) < 2
    store.load_or_build(blob, SPEC, few)
    store.load_or_build(blob, SPEC, np.arange(48) > 45)
    for change in ({'template': TemplateSpec(size_px=48, relative_size=0.7)},
                   {'template': TemplateSpec(size_px=40)},
                   {'template': TemplateSpec(size_px=48, distance_diameters=6.0)},
                   {'bins': BinSpec(rotation_nside=1, rotation_in_plane=4, cells=7)}):
        store.load_or_build(blob, dataclasses.replace(SPEC, **change), few)
    assert len(drawn) == 5, 'cells do not matter to templates, all else does'
    write_ply(blob.mesh_path, bumpy_sphere(subdivisions=2), colors=False)
    store.load_or_build(blob, SPEC, few)
    assert len(drawn) == 6
    monkeypatch.setattr(template_store, 'RENDERER_VERSION', -1)
    store.load_or_build(blob, SPEC, few)
    assert len(drawn) == 7


@pytest.mark.parametrize('damage', ['flip', 'cut', 'empty', 'foreign', 'older key'])
def test_a_damaged_file_is_drawn_anew_and_named(
        tmp_path: Path, blob: ObjectModel, drawn: list[int],
        caplog: pytest.LogCaptureFixture, damage: str) -> None:
    """One wrong bit is enough; the warning says which file and why, once."""
    store, few = TemplateStore(tmp_path / 'store'), np.arange(48) < 3
    first = store.load_or_build(blob, SPEC, few)
    path = one_file(store)
    data = bytearray(path.read_bytes())
    if damage == 'flip':
        data[len(data) // 2] ^= 4
    elif damage == 'older key':
        other = store.load_or_build(blob, SPEC, np.arange(48) < 4)
        assert len(other) == 4
        data = bytearray(next(p for p in store.root.iterdir() if p != path).read_bytes())
    else:
        data = {'cut': data[:len(data) // 2], 'empty': bytearray(),
                'foreign': bytearray(b'PK\x03\x04')}[damage]
    path.write_bytes(data)
    drawn.clear()
    with caplog.at_level(logging.WARNING):
        again = store.load_or_build(blob, SPEC, few)
        store.load_or_build(blob, SPEC, few)
    np.testing.assert_array_equal(again.rgb, first.rgb)
    assert drawn == [3] and len(caplog.records) == 1
    assert str(path) in caplog.text and 'drawing them anew' in caplog.text


@pytest.mark.parametrize('obstacle', ['file', 'full'])
def test_a_store_that_cannot_be_written_still_gives_templates(
        tmp_path: Path, blob: ObjectModel, caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch, obstacle: str) -> None:
    """Without a place on disk templates come from memory, with a warning and no rubbish left."""
    root = tmp_path / 'store'
    if obstacle == 'file':
        root.write_text('in the way')
    else:
        def no_space(descriptor: int) -> None:
            raise OSError(28, 'No space left on device')
        monkeypatch.setattr(os, 'fsync', no_space)
    store, few = TemplateStore(root), np.arange(48) < 2
    with caplog.at_level(logging.WARNING):
        found = store.load_or_build(blob, SPEC, few)
    assert len(found) == 2 and found.rgb.any() and not store.holds(blob, SPEC, few)
    assert 'kept in memory' in caplog.text and str(root) in caplog.text
    assert obstacle == 'file' or not list(root.iterdir())


def test_a_read_only_store_is_read(tmp_path: Path, blob: ObjectModel, drawn: list[int]) -> None:
    """A store installed by another user serves without being written."""
    store, few = TemplateStore(tmp_path / 'store'), np.arange(48) < 2
    store.load_or_build(blob, SPEC, few)
    store.root.chmod(0o555)
    try:
        assert one_file(store).stat().st_mode & 0o444 == 0o444
        assert len(store.load_or_build(blob, SPEC, few)) == 2 and drawn == [2]
    finally:
        store.root.chmod(0o755)


def test_a_mesh_that_is_not_the_models_is_refused_even_when_stored(
        tmp_path: Path, blob: ObjectModel) -> None:
    """Stored templates do not hide that the mesh on disk is gone or another one."""
    store, few = TemplateStore(tmp_path / 'store'), np.arange(48) < 2
    store.load_or_build(blob, SPEC, few)
    with pytest.raises(MeshError, match='sha256'):
        store.load_or_build(dataclasses.replace(blob, mesh_sha256='0' * 64), SPEC, few)
    blob.mesh_path.unlink()
    with pytest.raises(MeshError, match='cannot be read'):
        store.load_or_build(blob, SPEC, few)


def test_an_object_far_from_its_origin_is_reported(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Templates that would show half an object do not pass unnoticed."""
    mesh = bumpy_sphere(subdivisions=2)
    moved = dataclasses.replace(mesh, vertices=mesh.vertices + [0.09, 0, 0])
    model = ObjectModel(
        object_id=1, label='moved', mesh_path=write_ply(tmp_path / 'a.ply', moved),
        diameter_m=measure_diameter(mesh.vertices), symmetries=Symmetries.none())
    with caplog.at_level(logging.WARNING):
        TemplateStore(tmp_path / 'store').load_or_build(model, SPEC, np.arange(48) < 4)
    assert "templates of 'moved' are cut off" in caplog.text


WRITER = '''
import sys
from pathlib import Path
from mrcnet_ros.store.atomic import write_atomically
path, value = Path(sys.argv[1]), sys.argv[2].encode()
print('writing', flush=True)
while True:
    write_atomically(path, value * 3_000_000)
'''


def test_a_file_is_whole_whenever_writers_are_killed(tmp_path: Path) -> None:
    """Two processes write over each other until they are killed: the file is one's or other's."""
    path = tmp_path / 'x.templates'
    for _ in range(3):
        writers = [
            subprocess.Popen([sys.executable, '-c', WRITER, str(path), value],
                             stdout=subprocess.PIPE)
            for value in 'ab']
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline()
        while not path.exists():
            assert all(writer.poll() is None for writer in writers)
            time.sleep(0.01)
        for writer in writers:
            time.sleep(0.03)
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
        data = path.read_bytes()
        assert len(data) == 3_000_000 and len(set(data)) == 1
        path.unlink()


def test_what_killed_writers_leave_is_not_loaded_and_goes_away(
        tmp_path: Path, blob: ObjectModel) -> None:
    """Partial files are never read; once a day old they are removed, younger ones are not."""
    store = TemplateStore(tmp_path / 'store')
    store.root.mkdir()
    old, young = store.root / '.a.1.partial', store.root / '.b.2.partial'
    for file in (old, young):
        file.write_bytes(b'half')
    os.utime(old, times=(0, time.time() - STALE_SECONDS - 60))
    store.load_or_build(blob, SPEC, np.arange(48) < 2)
    assert not old.exists() and young.exists()


def test_an_interrupted_write_leaves_the_old_file(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the new bytes cannot be secured the old ones stay, and no partial file remains."""
    path = tmp_path / 'x.templates'
    write_atomically(path, b'old')

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt
    monkeypatch.setattr(os, 'fsync', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b'new')
    assert path.read_bytes() == b'old' and list(tmp_path.iterdir()) == [path]


def test_a_writer_that_finishes_meanwhile_does_not_disturb(tmp_path: Path) -> None:
    """Its partial file is gone between the listing and the look at it, as with two processes."""
    gone = tmp_path / '.a.1.partial'
    gone.symlink_to(tmp_path / 'nothing')
    remove_stale(tmp_path)


def test_what_another_user_left_keeps_nobody_from_storing(
        tmp_path: Path, blob: ObjectModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a cache that several users share, a file of one may not be removed by others."""
    store = TemplateStore(tmp_path / 'store')
    store.root.mkdir()
    old = store.root / '.a.1.partial'
    old.write_bytes(b'half')
    os.utime(old, times=(0, time.time() - STALE_SECONDS - 60))
    unlink = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path == old:
            raise PermissionError(1, 'Operation not permitted')
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, 'unlink', refused)
    store.load_or_build(blob, SPEC, np.arange(48) < 2)
    assert list(store.root.glob('*.templates'))


def test_the_default_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """$MRCNET_CACHE wins over $XDG_CACHE_HOME, which wins over the home folder."""
    monkeypatch.setenv('HOME', '/home/u')
    monkeypatch.setenv('XDG_CACHE_HOME', '/x')
    monkeypatch.setenv('MRCNET_CACHE', '/m')
    assert default_store_root() == Path('/m')
    monkeypatch.setenv('MRCNET_CACHE', '~/m')
    assert default_store_root() == Path('/home/u/m') == default_root('engines').parent
    monkeypatch.delenv('MRCNET_CACHE')
    assert default_store_root() == Path('/x/mrcnet_ros/templates')
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')  # which XDG says to ignore
    assert default_store_root() == Path('/home/u/.cache/mrcnet_ros/templates')
    monkeypatch.delenv('XDG_CACHE_HOME')
    assert default_store_root() == Path('/home/u/.cache/mrcnet_ros/templates')


def test_loading_is_fast(tmp_path: Path, blob: ObjectModel) -> None:
    """A default-sized set for one object is read in a small part of a second of processor time."""
    spec = ModelSpec(bins=BinSpec(rotation_nside=2, rotation_in_plane=12))
    store, allowed = TemplateStore(tmp_path / 'store'), np.arange(576) % 4 == 0
    store.load_or_build(blob, spec, allowed)
    start = time.process_time()
    assert len(store.load_or_build(blob, spec, allowed)) == 144
    assert time.process_time() - start < 0.5
