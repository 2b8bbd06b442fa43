"""The unit of length that a mesh file states in its comments, as SketchUp writes it into OBJ."""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path

from .checks import UNIT_NAMES, UNITS_M
from .files import lines_of

# Comments stand at the beginning of a file.
BEGINNING = 4096  # bytes
# How comments of text files begin, by suffix.
COMMENTS = {'.obj': ('#',), '.off': ('#',), '.ply': ('comment', 'obj_info')}
_STATED = re.compile(r'\bunits?\s*[=:]\s*"?([a-z]+)', re.IGNORECASE)
_NAMES = {'mm': 'mm', 'cm': 'cm', 'm': 'm', 'inch': 'inch', 'inches': 'inch'} | {
    f'{part}{metre}': f'{part[:1]}m' for part in ('milli', 'centi', '')
    for metre in ('meter', 'metre', 'meters', 'metres')}


def stated_unit(path: Path) -> str:
    """Return the unit that comments at the beginning of a file state, of :data:`UNITS_M`.

    :return: '' where none does, of other units, and where comments contradict one another.
    :raises OSError: when it cannot be read.
    """
    comments = COMMENTS.get(path.suffix.lower(), ())
    with path.open('rb') as file:
        lines = lines_of(file.read(BEGINNING)) if comments else []
    found = {_NAMES.get(match[1].lower(), '') for line in lines
             if line.lstrip().startswith(comments) and (match := _STATED.search(line))}
    return found.pop() if len(found) == 1 else ''


def tell_other_unit(path: Path, unit_m: float) -> None:
    """Warn of a file that states another unit than the one it is read in.

    :param unit_m: length of that unit [m].
    :raises OSError: when it cannot be read.
    """
    stated = stated_unit(path)
    if stated and not math.isclose(UNITS_M[stated], unit_m):
        logging.getLogger(__name__).warning(
            '%s: says that its unit is %s, but is read in units of %g m; give the unit %s, or '
            'correct the comment', path, UNIT_NAMES[stated], unit_m, stated)
