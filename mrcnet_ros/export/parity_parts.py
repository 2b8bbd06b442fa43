"""Parity of the paper preset's crops, soft labels and losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..errors import DatasetError
from ..geometry.camera import Camera
from ..geometry.paper_crop import paper_crops, warp_crops
from ..geometry.se3 import rotation_from_quat_wxyz
from ..geometry.symmetry import continuous_symmetry
from ..network.paper import CoarseLogits, Residual
from ..network.paper_decode import PaperBins
from ..network.paper_labels import rotation_soft_label
from ..network.paper_losses import PaperLosses, PaperTargets, paper_losses
from ..specs import PaperSpec
from .parity_network import pinhole_part
from .parity_rows import ParityRow, Reference
from .seeded import seeded_normal, seeded_uniform

# largest difference over largest magnitude
GEOMETRY, MEANS, PIXELS = 2e-6, 1e-5, 5e-4
LABELS, CONTINUOUS_LABELS, LOSSES = 2e-5, 3e-4, 3e-5
SAMPLES = 3
# names in the file, in the order of PaperLosses
LOSS_NAMES = ('quat_clf', 'quat_reg', 'depth_clf', 'txty_clf', 'txty_reg', 'tz_reg',
              'mask_visib')


def crop_rows(folder: Path) -> Iterator[ParityRow]:
    """Compare ``crop.npz``: geometry and pixels of one detection's four rotations.

    :raises DatasetError: when an input is missing or cannot be used.
    """
    reference = Reference(folder / 'crop.npz')
    K, box = reference.floats('K', 3, 3), reference.floats('box_xyxy', 4)
    width, height = (int(x) for x in reference.floats('image_size', 2))
    camera = Camera(K, width, height)
    spec = PaperSpec(depth_near=0.0, depth_far=1.0)
    crops = paper_crops(camera, box, spec)
    script = paper_crops(camera, box, dataclasses.replace(spec, view_origin='box_centre'))
    yield reference.row('K', pinhole_part(K[None])[0], 1e-7, 'input')
    yield reference.row('box_xyxy', np.trunc(box), 0.0, 'input')
    yield reference.row('image_size', _plausible_size(camera, box), 0.0, 'input')
    yield reference.row('box_scale', spec.padding * (box[2:] - box[:2]).max(), GEOMETRY)
    for name, found in (('Rz', crops.Rz), ('fov_training', crops.view),
                        ('fov_inference', script.view), ('box_loc', crops.box_fractions),
                        ('K_crop', crops.K_crop), ('A_crop_image', crops.A_crop_image)):
        yield reference.row(name, found, GEOMETRY)
    yield reference.row('roi_rect', crops.box_rect, 0.0)
    pixels = warp_crops(formula_image(width, height), crops)
    yield reference.row('crop_mean', pixels.mean(axis=(2, 3), dtype=np.float64), MEANS)
    yield reference.row('crop_sample', pixels[:, :, 8::16, 8::16], PIXELS)
    yield from reference.rest()


def formula_image(width: int, height: int) -> NDArray[np.uint8]:
    """Return an image that anyone can make again, (height, width, 3) RGB."""
    y, x = np.mgrid[:height, :width]
    bgr = ((7 * x + 3 * y) % 256, (x * y // 64) % 256, (13 * (x // 5) + 29 * (y // 9)) % 256)
    return np.stack(bgr[::-1], axis=-1).astype(np.uint8)


def _plausible_size(camera: Camera, box: NDArray[np.float64]) -> ArrayLike:
    """Return the image size when it fits the camera and the box, else nothing comparable.

    A crop inside the image has the same pixels for any size, so nothing else would tell. Sensors
    have multiples of four pixels and their principal point near the middle.
    """
    size = np.array([camera.width, camera.height], dtype=np.float64)
    offset = np.abs(camera.K[:2, 2] / size - 0.5)
    inside = (box[:2] >= 0).all() and (box[2:] <= size).all()
    whole = (size % 4 == 0).all()
    return size if inside and whole and (offset < 0.1).all() else np.full(2, np.nan)


def loss_rows(folder: Path) -> Iterator[ParityRow]:
    """Compare ``losses.npz``: soft labels under symmetry and the seven losses.

    :raises DatasetError: when an input is missing or cannot be used.
    """
    reference = Reference(folder / 'losses.npz')
    near, far = reference.floats('loss_near_far', 2)
    if not near < far:
        raise DatasetError(f'losses.npz: near {near} must be smaller than far {far}')
    bins = PaperBins(PaperSpec(depth_near=float(near), depth_far=float(far)))
    vertices = reference.floats('vertices', -1, 3)
    quaternions = reference.floats('quaternions_wxyz', SAMPLES, 4)
    K = reference.floats('loss_K', SAMPLES, 3, 3)
    yield reference.row('vertices', vertices, 0.0, 'input')
    yield reference.row('diameter', [_diameter(vertices)], 1e-5, 'input')
    unit = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    yield reference.row('quaternions_wxyz', unit, 1e-6, 'input')
    yield reference.row('loss_K', pinhole_part(K), 1e-7, 'input')
    yield reference.row('loss_t_gt', reference.floats('loss_t_gt', SAMPLES, 3), 0.0, 'input')
    yield reference.row('loss_near_far', (near, far), 0.0, 'input')
    yield reference.row('salt', np.array(reference.text('salt')), 0.0, 'input')
    yield from _label_rows(reference, bins, _tensor(rotation_from_quat_wxyz(unit)))
    yield from _term_rows(reference, bins, _tensor(rotation_from_quat_wxyz(unit)))
    yield from reference.rest()


def _symmetries() -> dict[str, Tensor]:
    """Return the three symmetry sets of the reference, (S, 4, 4)."""
    twofold = np.stack([np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0])])
    continuous = continuous_symmetry((0, 0, 1), (0, 0, 0))[1:]
    return {'none': _tensor(np.eye(4)[None]), 'twofold': _tensor(twofold),
            'continuous': _tensor(continuous)}


def _label_rows(reference: Reference, bins: PaperBins, R_gt: Tensor) -> Iterator[ParityRow]:
    vertices = _tensor(reference['vertices'])
    diameter = float(reference.floats('diameter', 1)[0])
    for name, T_symmetries in _symmetries().items():
        labels = torch.stack([rotation_soft_label(R, bins.rotations, vertices, T_symmetries,
                                                  diameter) for R in R_gt])
        tolerance = CONTINUOUS_LABELS if name == 'continuous' else LABELS
        yield reference.row(f'nsym_{name}', len(T_symmetries), 0.0)
        yield reference.row(f'soft_{name}', labels, tolerance)


def _term_rows(reference: Reference, bins: PaperBins, R_gt: Tensor) -> Iterator[ParityRow]:
    salt = reference.text('salt')

    def normal(name: str, *shape: int) -> Tensor:
        return torch.from_numpy(seeded_normal(salt, name, (SAMPLES, *shape)))

    logits = CoarseLogits(normal('rl', len(bins.rotations)), normal('dl', len(bins.depths)),
                          normal('xl', len(bins.cells)))
    residual = Residual(normal('rr', 6), 1e-3 * normal('dr', 1), 1e-2 * normal('xr', 2))
    labels = reference.floats('soft_twofold', SAMPLES, len(bins.rotations))
    targets = PaperTargets(
        R=R_gt, t=_tensor(reference['loss_t_gt']), rotation_label=_tensor(labels),
        mask=torch.from_numpy(seeded_uniform(salt, 'mm', (SAMPLES, 64, 64)) > 0.5),
        vertices=[_tensor(reference['vertices'])] * SAMPLES,
        T_symmetries=[_symmetries()['twofold']] * SAMPLES)
    terms: PaperLosses = paper_losses(logits, residual, normal('m', 1, 64, 64),
                                      _tensor(reference['loss_K']), targets, bins)
    for name, term in zip(LOSS_NAMES, terms, strict=True):
        yield reference.row(f'loss_{name}', float(term), LOSSES)


def _tensor(array: ArrayLike) -> Tensor:
    return torch.tensor(np.asarray(array), dtype=torch.float32)


def _diameter(vertices: NDArray[np.float64]) -> float:
    return max(float(np.linalg.norm(vertices - v, axis=1).max()) for v in vertices)
