"""The objects that can be recognised, read from a BOP folder or a YAML list."""

from ..meshes import Mesh, mesh_digest
from .object_files import load_bop_objects, load_object_list
from .object_model import ObjectModel, check_objects

__all__ = ['Mesh', 'ObjectModel', 'check_objects', 'load_bop_objects', 'load_object_list',
           'mesh_digest']
