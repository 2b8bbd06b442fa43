"""Parity of the paper preset's crops, soft labels and losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ....errors import DatasetError
from ....geometry.camera import Camera
from ....geometry.se3 import rotation_from_quat_wxyz
from ....geometry.symmetry import continuous_symmetry
from ..crop import PaperCrops, grown_box, paper_crops, warp_crops
from ..network.decode import PaperBins
from ..network.labels import (
    SHARPNESS,
    label_of_choice,
    rotation_soft_label,
    symmetric_nearness,
    vertex_moment,
)
from ..network.losses import PaperLosses, PaperTargets, paper_losses
from ..network.mrcnet import CoarseLogits, Residual
from ..spec import PaperSpec
from .inputs import pinhole_part
from .rows import ParityRow, Reference, compare_array, rounded_like
from .seeded import seeded_normal, seeded_uniform

# largest difference over largest magnitude; float32 leaves about a tenth of each
GEOMETRY, MEANS, PIXELS = 2e-5, 1e-5, 5e-4
LABELS, DISPLACEMENTS, LOSSES = 2e-5, 2e-5, 1e-4
# in float32, symmetries are equally near that differ by this part of the vertices' mean square
TIE = 5e-7
SMALLEST_LABEL = 1e-30  # the logarithm of a label must be finite
# names in the file, in the order of PaperLosses
LOSS_NAMES = ('quat_clf', 'quat_reg', 'depth_clf', 'txty_clf', 'txty_reg', 'tz_reg', 'mask_visib')


def crop_rows(folder: Path) -> Iterator[ParityRow]:
    """Compare ``crop.npz``: geometry and pixels of one detection's in-plane rotations.

    :raises DatasetError: when an input is missing or cannot be used.
    """
    reference = Reference(folder / 'crop.npz')
    K, box = reference.floats('K', 3, 3), reference.floats('box_xyxy', 4)
    width, height = (int(x) for x in reference.floats('image_size', 2))
    camera = Camera(K, width, height)
    spec = PaperSpec(depth_near=0.0, depth_far=1.0)
    crops, script = (_turned_crops(reference.floats('Rz', -1, 3, 3), camera, box, s) for s in (
        spec, dataclasses.replace(spec, view_origin='box_centre')))
    yield reference.row('K', pinhole_part(K[None])[0], 1e-7, 'input')
    yield reference.row('box_xyxy', box, 0.0, 'input')
    yield reference.row('image_size', _plausible_size(camera, crops), 0.0, 'input')
    whole = np.trunc(box)
    yield reference.row('box_scale', spec.padding * (whole[2:] - whole[:2]).max(), GEOMETRY)
    for name, found in (('Rz', crops.Rz), ('fov_training', crops.view),
                        ('fov_inference', script.view), ('box_loc', crops.box_fractions),
                        ('K_crop', crops.K_crop), ('A_crop_image', crops.A_crop_image)):
        yield reference.row(name, found, GEOMETRY)
    edges = rounded_like(grown_box(crops.box_fractions, spec), reference['roi_rect'])
    yield reference.row('roi_rect', np.clip(edges, 0, spec.size_px), 0.0)
    pixels = warp_crops(formula_image(width, height), crops)
    yield reference.row('crop_mean', pixels.mean(axis=(2, 3), dtype=np.float64), MEANS)
    yield reference.row('crop_sample', pixels[:, :, 8::16, 8::16], PIXELS)
    yield from reference.rest()


def _turned_crops(Rz: NDArray[np.float64], camera: Camera, box: NDArray[np.float64],
                  spec: PaperSpec) -> PaperCrops:
    """Return as many crops as the reference has.

    They are parts of a full turn, or the first of the quarter turns, whichever is nearer.

    :param Rz: (N, 3, 3) of the reference.
    :raises DatasetError: when it has none.
    """
    if not len(Rz):
        raise DatasetError('crop.npz: Rz holds no rotation, expected at least one')
    found = [paper_crops(camera, box, dataclasses.replace(spec, turns=max(count, len(Rz))))
             for count in (spec.turns, len(Rz))]
    nearest = min(found, key=lambda c: float(np.abs(c.Rz[:len(Rz)] - Rz).max()))
    return nearest.part(slice(len(Rz)))


def formula_image(width: int, height: int) -> NDArray[np.uint8]:
    """Return the reproducible test image, (height, width, 3) RGB."""
    y, x = np.mgrid[:height, :width]
    bgr = ((7 * x + 3 * y) % 256, (x * y // 64) % 256, (13 * (x // 5) + 29 * (y // 9)) % 256)
    return np.stack(bgr[::-1], axis=-1).astype(np.uint8)


def _plausible_size(camera: Camera, crops: PaperCrops) -> ArrayLike:
    """Return the image size where it can be checked or is plausible, else nan.

    The pixels of a crop that reaches beyond the last column or row depend on the size. Other
    crops do not, so the size must be that of a sensor: a multiple of four pixels, with the
    principal point near the middle.
    """
    size = np.array([camera.width, camera.height], dtype=np.float64)
    corners = crops.size_px * np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    A, shift = crops.A_crop_image[0, :, :2], crops.A_crop_image[0, :, 2]
    reach = ((corners - shift) @ np.linalg.inv(A).T).max(axis=0)
    plausible = (size % 4 == 0) & (np.abs(camera.K[:2, 2] / size - 0.5) < 0.1)
    return np.where((reach > size) | plausible, size, np.nan)


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
    quaternions = reference.floats('quaternions_wxyz', -1, 4)
    if not len(quaternions):
        raise DatasetError('losses.npz: quaternions_wxyz holds no rotation, expected at least one')
    K = reference.floats('loss_K', len(quaternions), 3, 3)
    yield reference.row('vertices', vertices, 0.0, 'input')
    yield reference.row('diameter', reference['diameter'], 0.0, 'input')
    unit = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    yield reference.row('quaternions_wxyz', unit, 1e-6, 'input')
    yield reference.row('loss_K', pinhole_part(K), 1e-7, 'input')
    yield reference.row('loss_t_gt', reference.floats('loss_t_gt', len(K), 3), 0.0, 'input')
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
    """Compare the labels, and the displacements of vertices that they stand for.

    Labels fall off so fast that most are nearly zero; a displacement compares each bin.
    """
    vertices = _tensor(reference['vertices'])
    diameter = float(reference.floats('diameter'))
    for name, T_symmetries in _symmetries().items():
        expected = reference.numbers(f'soft_{name}', (len(R_gt), len(bins.rotations)))
        labels, ties = [], 0
        for i, R in enumerate(R_gt):
            label, count = _label_like(None if expected is None else expected[i], R, bins,
                                       vertices, T_symmetries, diameter)
            labels.append(label)
            ties += count
        note = f'{ties} of equally near symmetries as in the reference' if ties else ''
        yield reference.row(f'nsym_{name}', len(T_symmetries), 0.0)
        yield reference.row(f'soft_{name}', np.stack(labels), LABELS, note)
        if expected is not None:
            yield compare_array(f'losses/soft_{name} displacement', _displacement(expected),
                                _displacement(np.stack(labels)), DISPLACEMENTS, 'in diameters')


def _label_like(expected: NDArray[np.float64] | None, R_gt: Tensor, bins: PaperBins,
                vertices: Tensor, T_symmetries: Tensor, diameter: float
                ) -> tuple[NDArray[np.float32], int]:
    """Return a soft label (bins,), and how many bins took the reference's symmetry.

    Neighbours of a continuous symmetry can be equally near within float32 although their labels
    differ by half a percent: both are right.

    :param expected: the reference's label, None when it has none.
    """
    label = rotation_soft_label(R_gt, bins.rotations, vertices, T_symmetries, diameter).numpy()
    if expected is None:
        return label, 0
    C = vertex_moment(vertices)
    nearness = symmetric_nearness(C, bins.rotations, R_gt, T_symmetries[:, :3, :3])
    tied = nearness >= nearness.max(1, keepdim=True).values - TIE * C.trace()
    row, choice = (tied & (tied.sum(1, keepdim=True) > 1)).nonzero(as_tuple=True)
    others = label_of_choice(R_gt, bins.rotations[row], vertices, T_symmetries[choice],
                             diameter).numpy()
    found = label.copy()
    for k, other in zip(row.tolist(), others, strict=True):
        if abs(other - expected[k]) < abs(found[k] - expected[k]):
            found[k] = other
    return found, int((np.abs(found - label) > LABELS * label).sum())


def _displacement(label: ArrayLike) -> NDArray[np.float64]:
    """Return the mean displacement of vertices in diameters that soft labels stand for."""
    values = np.asarray(label, np.float64)
    return -SHARPNESS * np.log(np.maximum(values, SMALLEST_LABEL))


def _term_rows(reference: Reference, bins: PaperBins, R_gt: Tensor) -> Iterator[ParityRow]:
    salt, count = reference.text('salt'), len(R_gt)

    def normal(name: str, *shape: int) -> Tensor:
        return torch.from_numpy(seeded_normal(salt, name, (count, *shape)))

    logits = CoarseLogits(normal('rl', len(bins.rotations)), normal('dl', len(bins.depths)),
                          normal('xl', len(bins.cells)))
    residual = Residual(normal('rr', 6), 1e-3 * normal('dr', 1), 1e-2 * normal('xr', 2))
    labels = reference.floats('soft_twofold', count, len(bins.rotations))
    targets = PaperTargets(
        R=R_gt, t=_tensor(reference['loss_t_gt']), rotation_label=_tensor(labels),
        mask=torch.from_numpy(seeded_uniform(salt, 'mm', (count, 64, 64)) > 0.5),
        vertices=[_tensor(reference['vertices'])] * count,
        T_symmetries=[_symmetries()['twofold']] * count)
    terms: PaperLosses = paper_losses(logits, residual, normal('m', 1, 64, 64),
                                      _tensor(reference['loss_K']), targets, bins)
    for name, term in zip(LOSS_NAMES, terms, strict=True):
        yield reference.row(f'loss_{name}', float(term), LOSSES)


def _tensor(array: ArrayLike) -> Tensor:
    return torch.tensor(np.asarray(array), dtype=torch.float32)
