"""Symmetries that are stated on the command line, in place of those that are found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import MeshError, SpecError
from ..geometry.se3 import Array, exp_so3, make_transform
from ..geometry.symmetry import Symmetries
from ..meshes import Mesh, check_symmetries, surface_moves_by
from .intake import Part
from .seen_surface import centre_and_axes
from .symmetry_search import MOST_TURNS

# as --symmetry shows them when one is written otherwise
KINDS = 'none, found, z2 (or x3, y18, ...), continuous_z (or _x, _y), or several joined by +, ' \
        'such as continuous_z+x2'
_PART = re.compile(r'continuous_(?P<circle>[xyz])|(?P<axis>[xyz])(?P<fold>[1-9][0-9]{0,2})')
_SAME_COSINE = np.cos(1e-3)  # turns nearer than this are one, but for rounding


def parse_symmetries(texts: Sequence[str]) -> dict[str, str]:
    """Return symmetries by label from arguments such as ``part=z2``.

    :raises SpecError: when one is written otherwise.
    """
    found: dict[str, str] = {}
    for text in texts:
        label, equals, kind = text.rpartition('=')
        if not equals or not label:
            raise SpecError(f'--symmetry {text}: expected NAME=KIND, KIND {KINDS}')
        if label in found:
            raise SpecError(f'--symmetry {text}: {label}={found[label]} is stated too; join kinds '
                            'with +, or leave one out')
        if kind not in ('none', 'found'):
            stated_entry(kind, np.zeros(3))
        found[label] = kind
    return found


def check_symmetry_labels(symmetries: Mapping[str, str], labels: Sequence[str]) -> None:
    """Check that symmetries are of objects that there are.

    :raises SpecError: naming those that are not.
    """
    unknown = sorted(set(symmetries) - set(labels))
    if unknown:
        raise SpecError(f'--symmetry is of {unknown}, but the objects are {labels}')


def placed_entry(kind: str, part: Part, mesh: Mesh) -> dict[str, object]:
    """Return symmetries as BOP writes them, about the point that fits best.

    The middle of the bounding box is not on an axis of three folds. The centroid of the hull is
    not on that of a can with a lug, but the origin of the file may be.

    :param kind: as for :func:`stated_entry`.
    :param mesh: of the object [m].
    :raises SpecError: when the object does not look the same about any of these points.
    """
    size_m, middle_m = part.diameter_m, (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    centroid_m = middle_m + size_m * centre_and_axes((mesh.vertices - middle_m) / size_m)[0]
    entries = [stated_entry(kind, point_m / part.unit_m)
               for point_m in (np.zeros(3), middle_m, centroid_m)]
    motions = [Symmetries.from_bop(entry, part.unit_m).transforms for entry in entries]
    moves_m = [surface_moves_by(mesh, T) if len(T) > 1 else 0.0 for T in motions]
    best = int(np.argmin(moves_m))
    try:
        check_symmetries(part.source, mesh, motions[best], size_m)
    except MeshError as error:
        raise SpecError(
            f'--symmetry {part.label}={kind}: {part.source} does not look the same. About its '
            'middle, its centroid and the origin of the file, the turns move its surface by '
            f'{moves_m[best] / size_m:.1%} of its diameter on average or more. State other axes '
            'or folds, or leave the option out: then symmetries are found') from error
    return entries[best]


def stated_entry(kind: str, point: Array) -> dict[str, object]:
    """Return symmetries as BOP writes them, about the axes of the file through a point.

    :param kind: as :data:`KINDS` says, but for ``found``.
    :param point: (3,) in the unit of the file.
    :raises SpecError: when it is none, or its turns have no end.
    """
    turns: list[Array] = []
    circles: list[Array] = []
    many: list[Array] = []  # axes of more than half turns
    for part in () if kind == 'none' else kind.split('+'):
        match = _PART.fullmatch(part)
        if match is None or match['fold'] == '1':
            raise SpecError(f'symmetry {kind} is of no kind; expected NAME=KIND, KIND {KINDS}')
        axis = np.eye(3)['xyz'.index(match['circle'] or match['axis'])]
        if match['circle']:
            circles.append(axis)
        else:
            turns.append(exp_so3(2 * np.pi / int(match['fold']) * axis))
            many += [axis] * (match['fold'] != '2')
    if any(not circle @ axis for circle in circles for axis in many):
        raise SpecError(f'symmetry {kind}: only a ball is round about one axis and has three '
                        'folds or more about another; state two folds there, or '
                        'continuous_x+continuous_z')
    entry: dict[str, object] = {}
    if turns:
        entry['symmetries_discrete'] = [make_transform(R, point - R @ point).ravel().tolist()
                                        for R in _all_turns(turns, kind)]
    if circles:
        entry['symmetries_continuous'] = [{'axis': axis.tolist(), 'offset': point.tolist()}
                                          for axis in circles]
    return entry


def _all_turns(turns: Sequence[Array], kind: str) -> list[Array]:
    """Return all turns that follow from a few, (3, 3) each, without the identity."""
    group = [np.eye(3)]
    for member in group:  # grows meanwhile
        for R in turns:
            product = member @ R
            cosines = (np.einsum('gij,ij->g', np.array(group), product) - 1) / 2
            if cosines.max() < _SAME_COSINE:
                group.append(product)
        if len(group) > MOST_TURNS:
            raise SpecError(f'symmetry {kind}: more than {MOST_TURNS} turns follow from it; state '
                            'fewer folds, or continuous_z of what is as good as round')
    return group[1:]
