"""Mesh files: reading them in metres, telling whether one is the right one and the right size.

``obj``, ``ply`` and ``off`` read a file into a ``Surface``; trimesh reads ``stl`` and ``glb``
files. ``building`` makes a ``Mesh`` of a surface, and ``winding`` tells its outside. ``reading``
chooses the reader and knows all files that belong to a mesh. ``checks`` compares sizes and
symmetries, ``stated_unit`` knows what comments say of the unit. A file that cannot be read
correctly raises a MeshError.
"""

from .checks import (
    UNIT_NAMES,
    UNITS_M,
    check_origin,
    check_size,
    check_symmetries,
    find_middle,
    fits_diameter,
    measure_diameter,
    middle_of,
    surface_moves_by,
)
from .mesh import NEUTRAL_GREY, Mesh, sample_texture
from .reading import companion_files, mesh_digest, read_mesh, tell_grey
from .stated_unit import stated_unit, tell_other_unit
from .writing import copy_ply, write_ply

__all__ = ['NEUTRAL_GREY', 'UNITS_M', 'UNIT_NAMES', 'Mesh', 'check_origin', 'check_size',
           'check_symmetries', 'companion_files', 'copy_ply', 'find_middle', 'fits_diameter',
           'measure_diameter', 'mesh_digest', 'middle_of', 'read_mesh', 'sample_texture',
           'stated_unit', 'surface_moves_by', 'tell_grey', 'tell_other_unit', 'write_ply']
