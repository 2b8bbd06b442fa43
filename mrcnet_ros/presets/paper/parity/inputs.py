"""Checks the reference inputs of the parity of the network."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ....errors import DatasetError
from ....geometry.rotation_grid import quaternion_grid
from ..crop import box_rectangle, grown_box
from ..network.mrcnet import PaperNet
from ..spec import PaperSpec
from .rows import HALF, ParityRow, Reference, compare_array, failed

NAMES_FILE = 'state_dict.tsv'
PROTOTYPES_FILE = 'rotation_prototypes.npy'
OBJECT_KERNELS = 'backbone.decoder.conv_last.weights'
PROTOTYPES = 5e-6  # the published ones are float32


@dataclass(frozen=True)
class SeededCase:
    """What the outputs of the seeded network depend on.

    :param rectangles: of their box maps [px].
    """

    salt: str
    objects: int
    classes: tuple[int, ...]
    rectangles: tuple[tuple[int, ...], ...]

    @property
    def images(self) -> int:
        """Return how many images there are; they share their batch statistics."""
        return len(self.classes)


def seeded_case(reference: Reference) -> tuple[SeededCase, PaperSpec]:
    """Read what the outputs of the network depend on.

    There are as many images as classes of them, and all share their batch statistics, as the
    turns of one detection do.

    :raises DatasetError: when an input is missing or cannot be used.
    """
    near, far = (float(reference.floats(name)) for name in ('near', 'far'))
    if not near < far:
        raise DatasetError(f'network.npz: near {near} must be smaller than far {far}')
    objects, classes = reference.integer('n_dec'), reference.floats('obj', -1)
    if not len(classes):
        raise DatasetError('network.npz: obj holds no image, expected at least one')
    spec = PaperSpec(depth_near=near, depth_far=far, turns=len(classes))
    if not ((classes >= 0) & (classes < objects) & (classes == np.rint(classes))).all():
        raise DatasetError(f'network.npz: obj {classes.tolist()} must be whole numbers below '
                           f'n_dec, {objects}')
    boxes = reference.floats('bbox', len(classes), 4)
    areas = reference.floats('roi', len(classes))
    return SeededCase(
        reference.text('salt'), objects, tuple(int(c) for c in classes),
        tuple(_rectangle(*pair, spec) for pair in zip(boxes, areas, strict=True))), spec


def _rectangle(box: NDArray[np.float64], area: float, spec: PaperSpec) -> tuple[int, ...]:
    """Return the part of the crop that a box map fills.

    An edge that is half way between pixels for float32 may be rounded either way; the area of
    the reference's map tells how it was.

    :param box: (4,) in fractions of the crop.
    :param area: of the reference's map [px].
    """
    edges = [sorted({round(x - HALF), round(x + HALF)}) for x in grown_box(box, spec)]
    found = [np.clip(corners, 0, spec.size_px) for corners in itertools.product(*edges)]
    alike = [r for r in found if (r[2:] - r[:2]).prod() == area]
    rectangle = alike[0] if len(alike) == 1 else box_rectangle(box, spec)
    return tuple(int(x) for x in rectangle)


def input_rows(folder: Path, reference: Reference, case: SeededCase,
               spec: PaperSpec) -> Iterator[ParityRow]:
    """Check that the inputs are possible; their effect shows in all other rows."""
    known: dict[str, ArrayLike] = {
        'salt': np.array(case.salt), 'n_dec': case.objects, 'obj': case.classes,
        'near': spec.depth_near, 'far': spec.depth_far, 'bbox': reference['bbox']}
    for name, found in known.items():
        yield reference.row(name, found, 0.0, 'input')
    yield reference.row('K', pinhole_part(reference.floats('K', case.images, 3, 3)), 1e-7, 'input')
    if (folder / NAMES_FILE).is_file():
        yield _names_row(folder / NAMES_FILE, spec, case)
    if (folder / PROTOTYPES_FILE).is_file():
        yield _prototype_row(folder / PROTOTYPES_FILE, spec)


def pinhole_part(K: np.ndarray) -> np.ndarray:
    """Return camera matrices (N, 3, 3) with only focal lengths and principal point kept."""
    keep = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    return np.asarray(K * keep + np.diag([0.0, 0.0, 1.0]))


def state_names(spec: PaperSpec, objects: int) -> list[tuple[str, str, str]]:
    """Return name, shape and first name of a tensor seen before, of every entry in order."""
    with torch.device('meta'):
        network = PaperNet(spec=spec, objects=objects)
    first: dict[int, str] = {}
    rows = []
    for name, tensor in network.state_dict(keep_vars=True).items():
        same = first.setdefault(id(tensor), name)
        rows.append((name, 'x'.join(map(str, tensor.shape)), '' if same == name else same))
    return rows


def _names_row(path: Path, spec: PaperSpec, case: SeededCase) -> ParityRow:
    """Compare the list of tensors.

    The list says how many objects the network has. A list that is too short for the classes of
    the images was made for another network.
    """
    with path.open(newline='') as file:
        rows = [tuple(row) for row in csv.reader(file, delimiter='\t')][1:]
    listed = _listed_objects(rows)
    objects = listed if 0 < listed <= max(case.classes) else case.objects
    ours = state_names(spec, objects)
    wrong = [r[0] for r, o in zip(rows, ours, strict=False) if r != o]
    if wrong or len(rows) != len(ours):
        return failed(path.name, f'{len(rows)} entries for {listed} objects, expected {len(ours)} '
                                 f'for {objects}; first difference '
                                 f'{wrong[0] if wrong else "at the end"}')
    other = '' if objects == case.objects else f', of a network of {objects} objects'
    return ParityRow(path.name, 0.0, 0.0, 0.0, f'{len(rows)} names and shapes{other}')


def _listed_objects(rows: Sequence[tuple[str, ...]]) -> int:
    """Return the objects of a list of tensors, 0 when it does not tell."""
    shapes = [row[1] for row in rows if row[:1] == (OBJECT_KERNELS,) and len(row) > 1]
    first = shapes[0].split('x')[0] if shapes else ''
    return int(first) if first.isdigit() else 0


def _prototype_row(path: Path, spec: PaperSpec) -> ParityRow:
    try:
        prototypes = np.load(path, allow_pickle=False)
    except Exception as error:
        raise DatasetError(f'{path} is not a readable array: {error}') from error
    return compare_array(path.name, prototypes,
                         quaternion_grid(spec.rotation_nside, spec.rotation_in_plane), PROTOTYPES)
