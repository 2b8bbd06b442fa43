"""A generated BOP dataset of two objects made by formula, for tests of readers and generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from meshes import bumpy_sphere, cube, write_ply

from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.objects import Mesh
from mrcnet_ros.synth.dataset import make_dataset
from mrcnet_ros.synth.scene_maker import SynthSpec
from mrcnet_ros.synth.source import Source, from_models

WIDTH, HEIGHT = 160, 120
CAMERA = Camera(np.array([[150.0, 0.0, 81.0], [0.0, 152.0, 58.5], [0.0, 0.0, 1.0]]), WIDTH, HEIGHT)
MESHES: dict[int, Mesh] = {2: bumpy_sphere(0.05, subdivisions=2), 5: cube(0.06)}
# in metres, as the list says: the cube looks the same after a quarter turn about z
QUARTER_TURNS = [[0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1],
                 [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1],
                 [0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]]


def source(folder: Path) -> Source:
    """Write the meshes in metres with a list of them, and read it."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [{'id': i, 'label': f'thing{i}', 'mesh': f'{i}.ply', 'unit_m': 1.0} for i in MESHES]
    entries[1]['symmetries_discrete'] = QUARTER_TURNS
    for object_id, mesh in MESHES.items():
        write_ply(folder / f'{object_id}.ply', mesh, unit_m=1.0)
    (folder / 'objects.yaml').write_text(yaml.safe_dump(entries))
    return from_models(folder / 'objects.yaml')


def spec(**changes: object) -> SynthSpec:
    """Return one scene of three views of three objects, changed."""
    values = {'scenes': 1, 'images': 3, 'objects': 3, 'camera': CAMERA, 'seed': 4}
    return SynthSpec(**(values | changes))  # type: ignore[arg-type]


def write_dataset(root: Path, name: str = 'made', split: str = 'test', *, grey: bool = False,
                  **changes: object) -> Path:
    """Generate a dataset.

    :return: its folder.
    """
    make_dataset(root / name, split, source(root / 'meshes'), spec(**changes), grey=grey)
    return root / name


def contents(folder: Path) -> dict[Path, bytes]:
    """Return the bytes of all files below a folder, by their paths in it."""
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob('*'))
            if p.is_file()}
