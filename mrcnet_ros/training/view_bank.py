"""Rendered views of the training objects, from which images are composed.

A view keeps unlit colour, normals, openness and depth, so that light, in-plane rotation, position
and size can be drawn anew for every training image without rendering again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..errors import DatasetError, MeshError, SpecError
from ..geometry.crop import pinhole
from ..geometry.hull import hull_vertices
from ..geometry.se3 import Array, make_transform
from ..geometry.view_prior import elevation_and_tilt, rotation_from_angles, sample_rotations
from ..meshes import measure_diameter
from ..objects import Mesh, ObjectModel
from ..rendering.renderer import RENDERER_VERSION, Renderer
from ..specs import ViewPrior
from ..store.shared_memory import MIB
from .lighting import normal_codes
from .openness import bake_openness
from .shapes import SHAPES_VERSION, draw_shapes
from .shared_tensors import check_room, shared

VIEW_PX = 128  # side of a stored view, a third more than that of the crops (96) it is warped into
RELATIVE_SIZE = 0.85  # diameter over the side: room for a border
LEAST_SHOWN = 0.5  # part of the views; a sheet seen from its edge has no pixel
BANK_VERSION = 4  # part of the key: a change makes all stored views invalid
ALL = slice(None)  # of what is rendered
_PIXELS = ('albedo', 'normals', 'openness', 'depth')
VIEW_BYTES = (4 + 2 + 1 + 2) * VIEW_PX**2  # of these arrays


@dataclass(frozen=True, eq=False)
class ViewBank:
    """Views of one object, upright, the object's middle on the optical axis.

    :param albedo: (V, S, S, 4) uint8 unlit RGB and mask (255 on the object).
    :param normals: (V, S, S) uint16 codes of object-frame normals, see :mod:`.lighting`.
    :param openness: (V, S, S) uint8 how much of the light from all around reaches a place, 255
        for all of it, see :func:`bake_openness`.
    :param depth: (V, S, S) float16 depth minus distance, in diameters; 0 off the object.
    :param R_camera_object: (V, 3, 3).
    :param distance_m: (V,) of the object's origin.
    :param hull: (P, 3) corners of the object's convex hull [m], object frame.
    """

    albedo: NDArray[np.uint8]
    normals: NDArray[np.uint16]
    openness: NDArray[np.uint8]
    depth: NDArray[np.float16]
    R_camera_object: Array
    distance_m: Array
    diameter_m: float
    hull: Array

    def K(self, view: int) -> Array:
        """Return the intrinsics of a view, (3, 3) [px]."""
        return pinhole(RELATIVE_SIZE * VIEW_PX * self.distance_m[view] / self.diameter_m, VIEW_PX)


@dataclass(frozen=True, eq=False)
class SharedViews:
    """A view bank that can be handed to another process without copying its pixels.

    :param pixels: the fields of ``_PIXELS`` by name, in shared memory.
    :param rest: the other fields by name.
    """

    pixels: dict[str, torch.Tensor]
    rest: dict[str, Any]

    def open(self) -> ViewBank:
        """Return the bank in the same memory."""
        pixels: dict[str, Any] = {name: tensor.numpy() for name, tensor in self.pixels.items()}
        return ViewBank(**pixels, **self.rest)


@dataclass(frozen=True)
class _Source:
    """Something to be rendered.

    :param load: reads its mesh.
    :param too_thin: makes the error for a mesh that most views do not show, given what is wrong.
    """

    load: Callable[[], Mesh]
    too_thin: Callable[[str], MeshError | SpecError]


def _of_object(model: ObjectModel) -> _Source:
    return _Source(model.load_mesh, lambda problem: MeshError(
        model.mesh_path, problem, 'leave the object out'))


def _of_body(mesh: Mesh) -> _Source:
    return _Source(lambda: mesh, lambda problem: SpecError(
        f'a plain body {problem}; give another seed, or bodies 0'))


def load_or_render(folder: Path, objects: Sequence[ObjectModel],
                   priors: Mapping[int, ViewPrior | None], distance_m: tuple[float, float],
                   views: int, seed: int) -> list[SharedViews]:
    """Return the view banks of objects, rendering those that ``folder`` does not hold yet.

    :param distance_m: nearest and farthest distance of the objects [m].
    :param views: number of views of each object.
    :return: one bank for each object, its arrays in memory that all training processes share.
    """
    banks = []
    for model in objects:
        prior = priors.get(model.object_id)
        path = views_path(folder, model, prior, distance_m, views, seed)
        rng = np.random.default_rng([seed, model.object_id])
        banks.append(_bank(path, _of_object(model.centred()), model.diameter_m,
                           _poses(rng, prior, distance_m, views)))
    return banks


def views_path(folder: Path, model: ObjectModel, prior: ViewPrior | None,
               distance_m: tuple[float, float], views: int, seed: int) -> Path:
    """Return the folder where the views of an object are, once they are rendered."""
    return _path(folder, model.label, [
        model.object_id, model.checked_digest(), model.unit_m, model.diameter_m, repr(prior),
        distance_m, views, seed, *(model.middle_m.tolist() if model.middle_m.any() else [])])


def load_or_render_shapes(folder: Path, count: int, distance_m: tuple[float, float], views: int,
                          seed: int, part: slice = ALL) -> list[SharedViews]:
    """Return the view banks of plain bodies, see :mod:`.shapes`, seen from anywhere.

    :param part: which of them.
    """
    banks = []
    for number, mesh in list(enumerate(draw_shapes(count, seed)))[part]:
        diameter_m = measure_diameter(mesh.vertices)
        distances = from_outside(distance_m, diameter_m)
        path = _path(folder, f'shape{number:02d}',
                     [SHAPES_VERSION, count, distances, views, seed])
        rng = np.random.default_rng([seed, 8, number])
        banks.append(_bank(path, _of_body(mesh), diameter_m,
                           _poses(rng, None, distances, views)))
    return banks


def load_or_render_mesh(folder: Path, mesh_path: Path, digest: str, diameter_m: float,
                        load: Callable[[], Mesh], distance_m: tuple[float, float], views: int,
                        seed: int) -> SharedViews:
    """Return the view bank of a mesh of no object, seen from anywhere.

    :param mesh_path: its file, for messages.
    :param digest: of it and of all files on which its looks depend.
    :param load: reads it, around its middle and with this diameter; called only to render it.
    :raises MeshError: when it cannot be read, or most views show nothing.
    """
    distances = from_outside(distance_m, diameter_m)
    path = _path(folder, 'mesh', [digest, diameter_m, distances, views, seed])
    rng = np.random.default_rng([seed, 9, int(digest[:8], 16)])
    source = _Source(load, lambda problem: MeshError(mesh_path, problem, 'leave it out'))
    return _bank(path, source, diameter_m, _poses(rng, None, distances, views))


def from_outside(distance_m: tuple[float, float], diameter_m: float) -> tuple[float, float]:
    """Return distances from which a camera sees what only disturbs from its outside [m].

    It may be many times as large as the objects that the distances are for.
    """
    if diameter_m <= distance_m[0]:
        return distance_m
    return diameter_m, max(distance_m[1], 1.5 * diameter_m)


def check_nearest(near_m: float, diameters_m: Mapping[str, float]) -> None:
    """Check that views can hold whole objects.

    :param near_m: nearest distance of the objects [m].
    :param diameters_m: of the objects by label.
    :raises SpecError: when it is less than a diameter.
    """
    largest = max(diameters_m, key=lambda label: diameters_m[label])
    if near_m < diameters_m[largest]:
        raise SpecError(
            f'distance_m begins at {near_m:g} m, but {largest} has a diameter of '
            f'{diameters_m[largest]:.3g} m: from so near, images cut it off, or the camera is '
            'inside of it; give distances of at least its diameter, in metres')


def _path(folder: Path, label: str, values: Sequence[object]) -> Path:
    """Return where the views are that depend on some values, besides the renderer's own."""
    text = json.dumps([BANK_VERSION, RENDERER_VERSION, VIEW_PX, RELATIVE_SIZE, *values])
    return Path(folder) / f'{label}-{hashlib.sha256(text.encode()).hexdigest()[:16]}'


def _bank(path: Path, source: _Source, diameter_m: float,
          poses: tuple[Array, Array]) -> SharedViews:
    """Return the views of a folder, rendered when it is not there or is damaged.

    :raises MrcnetError: when there is too little shared memory.
    """
    if path.exists():
        try:
            return _load(path, diameter_m)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            logging.getLogger(__name__).warning('views %s cannot be used (%s); rendering them '
                                                'anew', path, error)
            shutil.rmtree(path, ignore_errors=True)
    check_room(len(poses[0]) * VIEW_BYTES)
    _render(path, source, diameter_m, poses)
    return _load(path, diameter_m)


def _load(path: Path, diameter_m: float) -> SharedViews:
    """Read the views of a folder.

    :raises OSError, ValueError, EOFError, KeyError, BadZipFile: when they are damaged.
    """
    arrays: dict[str, NDArray[Any]] = {n: np.load(path / f'{n}.npy') for n in _PIXELS}
    with np.load(path / 'views.npz') as small:
        arrays |= {n: small[n] for n in ('R', 'distance', 'hull')}
    if (path / 'done').read_text() != _digest(arrays):
        raise ValueError('its content has changed')
    pixels = {n: shared(torch.from_numpy(arrays.pop(n))) for n in _PIXELS}
    return SharedViews(pixels, {'R_camera_object': arrays['R'], 'distance_m': arrays['distance'],
                                'diameter_m': diameter_m, 'hull': arrays['hull']})


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f'{name} {array.dtype.str} {array.shape} '.encode())
        digest.update(array.data)
    return digest.hexdigest()


def _poses(rng: np.random.Generator, prior: ViewPrior | None, distance_m: tuple[float, float],
           views: int) -> tuple[Array, Array]:
    """Draw upright views: rotations (V, 3, 3) and distances (V,) [m]."""
    elevation = elevation_and_tilt(sample_rotations(prior, views, rng))[0]
    R = rotation_from_angles(rng.uniform(-np.pi, np.pi, views), elevation, 0.0)
    return R, rng.uniform(*distance_m, views)


def _render(path: Path, source: _Source, diameter_m: float,
            poses: tuple[Array, Array]) -> None:
    """Render views into a folder.

    :raises DatasetError: when it cannot be written.
    """
    mesh = source.load()
    hull = hull_vertices(mesh.vertices)
    R, distance = poses
    views = len(distance)
    logging.getLogger(__name__).info('rendering %d views into %s', views, path)
    shape = (views, VIEW_PX, VIEW_PX)
    albedo = np.zeros((*shape, 4), np.uint8)
    normals, openness = np.zeros(shape, np.uint16), np.zeros(shape, np.uint8)
    depth = np.zeros(shape, np.float16)
    with Renderer(VIEW_PX, VIEW_PX) as renderer:
        renderer.add_mesh('surface', mesh)
        renderer.add_mesh('openness', bake_openness(mesh, diameter_m))
        for i in tqdm(range(views), desc=f'views {path.name}', unit='view', disable=None,
                      leave=False):
            T = make_transform(R[i], [0.0, 0.0, distance[i]])
            K = pinhole(RELATIVE_SIZE * VIEW_PX * distance[i] / diameter_m, VIEW_PX)
            flat = renderer.render('surface', T, K, shading='flat')
            mask = flat.depth_m > 0
            albedo[i, ..., :3], albedo[i, ..., 3] = flat.rgb, 255 * mask
            normals[i] = normal_codes(renderer.render('surface', T, K, shading='normals').rgb)
            openness[i] = renderer.render('openness', T, K, shading='flat').rgb[..., 0]
            depth[i] = np.where(mask, (flat.depth_m - distance[i]) / diameter_m, 0)
    rows = _shown(albedo[..., 3], source)
    drawn: tuple[NDArray[Any], ...] = (albedo, normals, openness, depth)
    pixels = {name: array[rows] for name, array in zip(_PIXELS, drawn, strict=True)}
    small: dict[str, Any] = {'R': R[rows], 'distance': distance[rows], 'hull': hull}
    try:
        _write(path, pixels, small)
    except OSError as error:  # of a full disk NumPy's has no number
        raise DatasetError(
            f'{path}: views cannot be written ({error.strerror or error}); make room for '
            f'{views * VIEW_BYTES / MIB:.0f} MiB on its disk, or give a cache that can be '
            'written') from error


def _write(path: Path, pixels: Mapping[str, NDArray[Any]], small: Mapping[str, Any]) -> None:
    """Write a folder of views, which appears whole; one that is there by then is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.views', dir=path.parent) as temporary:
        part = Path(temporary) / path.name
        part.mkdir()
        for name, array in pixels.items():
            np.save(part / f'{name}.npy', array)
        np.savez(part / 'views.npz', **small)
        (part / 'done').write_text(_digest({**pixels, **small}))
        try:
            os.rename(part, path)
        except OSError:
            if not path.exists():
                raise


def _shown(mask: NDArray[np.uint8], source: _Source) -> NDArray[np.int64] | slice:
    """Return rows of views that show something, some twice in place of those that do not.

    :param mask: (V, S, S).
    :raises MeshError: when most of them show nothing of an object.
    :raises SpecError: when most of them show nothing of a body.
    """
    shown, = np.nonzero(mask.any(axis=(1, 2)))
    if len(shown) == len(mask):
        return slice(None)
    if len(shown) < LEAST_SHOWN * len(mask):
        problem = f'shows nothing in {len(mask) - len(shown)} of {len(mask)} views, so thin it is'
        raise source.too_thin(problem)
    return np.concatenate([shown, shown[:len(mask) - len(shown)]])
