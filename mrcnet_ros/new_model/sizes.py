"""How long the unit of a mesh file is, found from the size of what it holds, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import MeshError
from ..geometry.se3 import Array
from ..objects.object_model import DIAMETERS_M
from .request import UNIT_NAMES, UNITS_M

# Diameters that things for a gripper have; what is read otherwise is asked about.
USUAL_M = (0.005, 2.0)


def find_unit(path: Path, vertices: Array, diameter: float, asked: str) -> str:
    """Return the name of a file's unit.

    :param vertices: (V, 3) in the unit of the file.
    :param diameter: in the unit of the file.
    :param asked: of :data:`UNITS_M`, or ``auto``.
    :raises MeshError: when the object is of no size that it can have in that unit, or may be of
        several.
    """
    if asked != 'auto':
        return _checked(path, vertices, diameter, asked)
    if path.suffix.lower() == '.glb':  # glTF is in metres by its specification
        return _checked(path, vertices, diameter, 'm')
    fitting = [name for name in ('mm', 'm') if _usual(diameter * UNITS_M[name])]
    if len(fitting) == 1:
        return fitting[0]
    readings = ' or '.join(in_words(vertices, name) for name in ('mm', 'm'))
    raise MeshError(path, f'has an unclear unit: it is {readings}',
                    'give --unit mm, --unit m, --unit cm or --unit inch')


def _checked(path: Path, vertices: Array, diameter: float, name: str) -> str:
    low, high = DIAMETERS_M
    if low <= diameter * UNITS_M[name] <= high:
        return name
    size = 'small' if diameter * UNITS_M[name] < low else 'large'
    likely = [other for other in UNITS_M if other != name and _usual(diameter * UNITS_M[other])]
    remedy = f'it looks like it is in {UNIT_NAMES[likely[0]]}: --unit {likely[0]}' if likely \
        else 'check the file'
    raise MeshError(path, f'is {in_words(vertices, name)}; that is too {size}, an object is '
                          f'{low:g} to {high:g} m across', remedy)


def unusual(diameter_m: float) -> bool:
    """Tell whether a size is worth a note."""
    return not _usual(diameter_m)


def in_words(vertices: Array, name: str) -> str:
    """Return the size, such as ``84 x 52 x 30 mm, read as millimetres``."""
    size_mm = np.ptp(vertices, axis=0) * UNITS_M[name] * 1000.0
    if size_mm.max() >= 10000.0:
        told = ' x '.join(f'{s / 1000:.3g}' for s in size_mm) + ' m'
    else:
        told = ' x '.join(f'{s:.3g}' for s in size_mm) + ' mm'
    return f'{told}, read as {UNIT_NAMES[name]}'


def _usual(diameter_m: float) -> bool:
    return USUAL_M[0] <= diameter_m <= USUAL_M[1]
