"""What lies around and hides objects in training images, and is none of them.

Plain bodies, objects of BOP folders, and any other meshes: household things, tools, toys. What is
in the images besides the objects teaches a detector what they are not.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from pathlib import Path

import numpy as np

from ..errors import DatasetError, MeshError
from ..meshes import Mesh, measure_diameter, mesh_digest, middle_of, read_mesh
from ..meshes.reading import MESH_FILES
from ..objects import load_bop_objects
from ..objects.object_files import MODELS_INFO
from .scene_config import SceneConfig
from .view_bank import (
    ALL,
    SharedViews,
    from_outside,
    load_or_render,
    load_or_render_mesh,
    load_or_render_shapes,
)

# The diameters that other meshes get, whatever their unit and size [m]: a sofa becomes a toy.
SIZES_M = (0.06, 0.35)


def load_disturbers(config: SceneConfig, part: slice = ALL) -> list[SharedViews]:
    """Render or load the views of all that disturbs, seen from anywhere.

    The objects of the model are none of it, even if they are in the same folder: a detector would
    learn that they must not be found.

    :param part: which of the bodies and of each folder's objects or meshes; what cannot be used is
        told with all of them only.
    :raises DatasetError: when a folder holds no mesh that can be used.
    """
    found = load_or_render_shapes(config.cache, config.bodies, config.distance_m,
                                  config.views_of_disturbers, config.seed, part)
    own = {o.checked_digest() for o in config.load_objects()} if config.disturbers else set()
    for folder in config.disturbers:
        found += (_bop_objects if is_bop(folder) else _any_meshes)(config, folder, own, part)
    return found


def count_disturbers(config: SceneConfig) -> int:
    """Return how many there are at most: files that cannot be used count, too."""
    return config.bodies + sum(
        len(load_bop_objects(folder)) if is_bop(folder) else len(mesh_files(folder))
        for folder in config.disturbers)


def mesh_files(folder: Path) -> list[Path]:
    """Return the mesh files in a folder and below it, sorted, but no hidden ones.

    :raises DatasetError: when there are none.
    """
    found = sorted(p for p in folder.rglob('*')
                   if p.suffix.lower() in MESH_FILES and p.is_file()
                   and not p.name.startswith('.'))  # as macOS puts beside each file
    if not found:
        raise DatasetError(f'disturbers: {folder} is no BOP models folder ({MODELS_INFO}) and '
                           f'holds no mesh ({", ".join(MESH_FILES)})')
    return found


def is_bop(folder: Path) -> bool:
    """Tell whether a folder holds the models of a BOP dataset, with their sizes."""
    return (folder / MODELS_INFO).exists()


def _bop_objects(config: SceneConfig, folder: Path, own: set[str], part: slice
                 ) -> list[SharedViews]:
    found = []
    for o in list(load_bop_objects(folder).values())[part]:
        if o.checked_digest() not in own:
            found += load_or_render(config.cache, [o], {},
                                    from_outside(config.distance_m, o.diameter_m),
                                    config.views_of_disturbers, config.seed)
    return found


def _any_meshes(config: SceneConfig, folder: Path, own: set[str], part: slice
                ) -> list[SharedViews]:
    """Return the views of all meshes that can be used; say of how many that is not so."""
    files, found, problems = mesh_files(folder)[part], [], []
    for path in files:
        try:
            digest = mesh_digest(path)
            if digest not in own:
                size_m = _size_m(digest)
                found.append(load_or_render_mesh(
                    config.cache, path, digest, size_m, functools.partial(_scaled, path, size_m),
                    config.distance_m, config.views_of_disturbers, config.seed))
        except MeshError as error:
            problems.append(str(error))
    if part != ALL:
        return found
    if problems:
        logging.getLogger(__name__).warning(
            '%d of %d meshes in %s cannot be used and are left out, such as %s', len(problems),
            len(files), folder, problems[0])
    if not found:
        raise DatasetError(f'disturbers: no mesh in {folder} can be used')
    return found


def _size_m(digest: str) -> float:
    """Return the diameter that a mesh gets [m], always the same for the same file."""
    low, high = map(math.log, SIZES_M)
    return math.exp(np.random.default_rng(int(digest[:16], 16)).uniform(low, high))


def _scaled(path: Path, diameter_m: float) -> Mesh:
    """Read a mesh, around its middle and of a wanted size.

    :raises MeshError: when it cannot be used.
    """
    mesh = read_mesh(path, 1.0)
    diameter = measure_diameter(mesh.vertices)
    centred = mesh.vertices - middle_of(mesh.vertices, diameter)
    return dataclasses.replace(mesh, vertices=centred * (diameter_m / diameter))
