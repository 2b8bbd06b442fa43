"""Templates: renders of an object at its stage-1 rotation bins, drawn once, kept on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SpecError
from ..geometry.rotation_grid import grid_of
from ..geometry.se3 import make_transform
from ..objects import ObjectModel
from ..specs import PoseNetworkSpec, TemplateSpec
from ..store.content_store import ContentStore, chosen_cache_folder, user_cache_folder
from .renderer import RENDERER_VERSION, Renderer

MAGIC = b'mrcnet templates\n'
log = logging.getLogger(__name__)
STORE_VERSION = 1  # part of each key: a change makes all stored templates invalid
PROGRESS_TEMPLATES = 500  # templates between two lines of progress


def encode_template(key: dict[str, Any], rgb: NDArray[np.uint8],
                    depth_m: NDArray[np.float32]) -> bytes:
    """Pack the foreground pixels of templates behind a checksum.

    :param key: plain data, what they were made from.
    :param rgb: (M, S, S, 3) uint8, zero outside the foreground.
    :param depth_m: (M, S, S) float32 [m], above zero in the foreground.
    """
    mask = depth_m > 0
    body = io.BytesIO()
    np.savez(
        body, key=np.frombuffer(json.dumps(key).encode(), np.uint8),
        shape=np.array(mask.shape), mask=np.packbits(mask), rgb=rgb[mask], depth=depth_m[mask],
    )
    data = body.getvalue()
    return MAGIC + hashlib.sha256(data).digest() + data


def decode_template(data: bytes, key: dict[str, Any], shape: tuple[int, int]
                     ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Undo :func:`encode_template`.

    :param key: what the templates must have been made from.
    :param shape: M and S they must have.
    :return: rgb and depth_m.
    :raises ValueError: when the data are damaged or were made from something else.
    """
    start = len(MAGIC) + hashlib.sha256().digest_size
    if not data.startswith(MAGIC):
        raise ValueError('not a template file')
    if hashlib.sha256(data[start:]).digest() != data[len(MAGIC):start]:
        raise ValueError(f'checksum differs, {len(data)} bytes')
    with np.load(io.BytesIO(data[start:]), allow_pickle=False) as file:
        if json.loads(file['key'].tobytes()) != json.loads(json.dumps(key)):
            raise ValueError('made from another mesh or other specs')
        count, size = shape
        if tuple(file['shape']) != (count, size, size):
            raise ValueError(f'holds {tuple(file["shape"])}, expected {(count, size, size)}')
        mask = np.unpackbits(file['mask'], count=count * size * size).astype(np.bool_)
        rgb = np.zeros((count * size * size, 3), np.uint8)
        depth_m = np.zeros(count * size * size, np.float32)
        rgb[mask], depth_m[mask] = file['rgb'], file['depth']
    return rgb.reshape(count, size, size, 3), depth_m.reshape(count, size, size)


@dataclass(frozen=True, eq=False)
class Templates:
    """Renders of one object, its origin on the optical axis at ``distance_m``.

    :param bin_indices: (M,) int64 rotation bins, ascending.
    :param R_camera_object: (M, 3, 3) their centres.
    :param rgb: (M, S, S, 3) uint8 RGB, black where empty.
    :param depth_m: (M, S, S) float32 [m], 0 where empty.
    :param K: (3, 3) intrinsics [px].
    :param distance_m: of the object's origin.
    """

    object_id: int
    bin_indices: NDArray[np.int64]
    R_camera_object: NDArray[np.float64]
    rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    K: NDArray[np.float64]
    distance_m: float

    def __len__(self) -> int:
        return len(self.bin_indices)

    def rows(self, bins: ArrayLike) -> NDArray[np.int64]:
        """Return where the templates of some bins are.

        :param bins: (...) rotation bins.
        :return: (...) rows of the arrays.
        :raises ValueError: when a bin has no template, being outside the object's view prior.
        """
        wanted = np.asarray(bins, np.int64)
        rows = np.minimum(np.searchsorted(self.bin_indices, wanted), len(self) - 1)
        if (self.bin_indices[rows] != wanted).any():
            lacking = sorted({int(b) for b in wanted[self.bin_indices[rows] != wanted].flat})
            raise ValueError(f'object {self.object_id} has no templates of the bins {lacking}')
        return rows.astype(np.int64)


class TemplateStore:
    """A folder of templates, shared by any number of processes.

    Files are named by what they were made from: the mesh's bytes, the specs, the bins and the
    renderer's version. See :class:`mrcnet_ros.store.content_store.ContentStore`.

    :param root: the folder, made when needed; :func:`default_store_root` by default.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        """Remember the folder; nothing is touched yet."""
        self.root = default_store_root() if root is None else Path(root).expanduser()
        self._files = ContentStore(self.root, 'templates', making='drawing them anew',
                                   again='drawn again')

    def load_or_build(self, model: ObjectModel, spec: PoseNetworkSpec,
                      allowed: ArrayLike | None = None,
                      progress: Callable[[int], object] | None = None) -> Templates:
        """Return the templates of an object, from disk or else drawn and stored.

        :param spec: its ``template`` and ``bins`` are what counts.
        :param allowed: (N,) bool, bins to draw of the N of the spec; all by default.
        :param progress: called with the number of templates just made ready.
        :raises SpecError: when ``allowed`` does not fit the spec or allows nothing.
        :raises MeshError: when the mesh is missing, wrong, or in another unit.
        :raises BackendError: when they must be drawn and there is no headless OpenGL.
        """
        bins = _allowed_indices(allowed, spec)
        key = template_key(model, spec, bins)
        path = self.path(key)
        shape = (len(bins), spec.template.size_px)
        pixels = self._files.read(path, lambda data: decode_template(data, key, shape))
        if pixels is None:
            pixels = draw_templates(model, spec, bins, progress)
            self._files.write(path, encode_template(key, *pixels))
        elif progress is not None:
            progress(len(bins))
        grid = grid_of(spec.bins)
        return Templates(
            object_id=model.object_id, bin_indices=bins, R_camera_object=grid[bins],
            rgb=pixels[0], depth_m=pixels[1], K=template_intrinsics(spec.template),
            distance_m=spec.template.distance_diameters * model.diameter_m,
        )

    def holds(self, model: ObjectModel, spec: PoseNetworkSpec,
              allowed: ArrayLike | None = None) -> bool:
        """Tell whether :meth:`load_or_build` would find a file, damaged or not.

        :raises MeshError: when the mesh is missing or not the expected one.
        """
        return self.path(template_key(model, spec, _allowed_indices(allowed, spec))).is_file()

    def path(self, key: dict[str, Any]) -> Path:
        """Return where the templates made from ``key`` are kept."""
        return self._files.path(json.dumps(key, sort_keys=True), '.templates')


def default_store_root() -> Path:
    """Return $MRCNET_CACHE, or mrcnet_ros/templates in $XDG_CACHE_HOME or ~/.cache."""
    return chosen_cache_folder() or user_cache_folder() / 'templates'


def template_intrinsics(spec: TemplateSpec) -> NDArray[np.float64]:
    """Return the intrinsics of a template.

    Convention: pixel centres are integers, so the middle of the image is (size_px - 1) / 2.

    :return: (3, 3) float64 [px].
    """
    focal_px = spec.relative_size * spec.distance_diameters * spec.size_px
    middle_px = (spec.size_px - 1) / 2
    return np.array([[focal_px, 0, middle_px], [0, focal_px, middle_px], [0, 0, 1]])


def template_key(model: ObjectModel, spec: PoseNetworkSpec, bins: NDArray[np.int64]
                 ) -> dict[str, Any]:
    """Return everything the pixels of an object's templates depend on, as plain data.

    :raises MeshError: when the mesh is missing or not the expected one.
    """
    middle = {'middle_m': model.middle_m.tolist()} if model.middle_m.any() else {}
    return {
        **middle,
        'store_version': STORE_VERSION,
        'renderer_version': RENDERER_VERSION,
        'mesh_sha256': model.checked_digest(),
        'unit_m': model.unit_m,
        'diameter_m': model.diameter_m,
        'template': dataclasses.asdict(spec.template),
        'rotation_nside': spec.bins.rotation_nside,
        'rotation_in_plane': spec.bins.rotation_in_plane,
        'bins_sha256': hashlib.sha256(bins.astype('<i8').tobytes()).hexdigest(),
    }


def draw_templates(model: ObjectModel, spec: PoseNetworkSpec, bins: NDArray[np.int64],
                   progress: Callable[[int], object] | None = None
                   ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Render an object at the centres of rotation bins, about its middle.

    :param bins: (M,) rotation bins.
    :return: (M, S, S, 3) uint8 RGB and (M, S, S) float32 depth [m].
    """
    size = spec.template.size_px
    grid = grid_of(spec.bins)
    t = [0.0, 0.0, spec.template.distance_diameters * model.diameter_m]
    K = template_intrinsics(spec.template)
    rgb = np.zeros((len(bins), size, size, 3), np.uint8)
    depth_m = np.zeros((len(bins), size, size), np.float32)
    mesh = model.centred().load_mesh()
    with Renderer(size, size) as renderer:
        renderer.add_mesh(model.label, mesh)
        for row, R in enumerate(grid[bins]):
            if row % PROGRESS_TEMPLATES == 0:
                log.info('drawing templates of %r: %d of %d', model.label, row, len(bins))
            view = renderer.render(model.label, make_transform(R, t), K, shading='template')
            rgb[row], depth_m[row] = view.rgb, view.depth_m
            if progress is not None:
                progress(1)
    rim = np.concatenate([depth_m[:, [0, -1]].ravel(), depth_m[:, :, [0, -1]].ravel()])
    if rim.any():
        log.warning('templates of %r are cut off at their border: the origin of %s is far from '
                    'its middle; train the model anew with a mesh whose origin is there',
                    model.label, model.mesh_path)
    return rgb, depth_m


def _allowed_indices(allowed: ArrayLike | None, spec: PoseNetworkSpec) -> NDArray[np.int64]:
    mask = np.ones(spec.bins.rotations, np.bool_) if allowed is None else np.asarray(allowed)
    if mask.shape != (spec.bins.rotations,) or mask.dtype != np.bool_ or not mask.any():
        raise SpecError(
            f'allowed bins must be {spec.bins.rotations} booleans, one or more of them true; '
            f'got {mask.dtype} {mask.shape} with {np.count_nonzero(mask)} true'
        )
    return np.flatnonzero(mask).astype(np.int64)
