"""Mesh files: reading them in metres, telling whether one is the right one and the right size.

``obj``, ``ply`` and ``off`` say what a file holds as a ``Surface``, ``stl`` and ``glb`` files are
read by trimesh; ``building`` makes a ``Mesh`` of it; ``reading`` chooses among them and knows all
files that belong to a mesh; ``checks`` compares sizes, ``symmetry_check`` symmetries. What cannot
be read right is a MeshError.
"""

from .checks import (
           UNITS_M,
           check_origin,
           check_size,
           check_symmetries,
           fits_diameter,
           measure_diameter,
)
from .mesh import NEUTRAL_GREY, Mesh, sample_texture
from .reading import companion_files, mesh_digest, read_mesh
from .writing import copy_ply, write_ply

__all__ = ['NEUTRAL_GREY', 'UNITS_M', 'Mesh', 'check_origin', 'check_size', 'check_symmetries',
           'companion_files', 'copy_ply', 'fits_diameter', 'measure_diameter', 'mesh_digest',
           'read_mesh', 'sample_texture', 'write_ply']
