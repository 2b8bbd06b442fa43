"""A small BOP dataset made by formula, for tests that must not depend on a download."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from meshes import bumpy_sphere, cube, write_ply
from scipy.spatial.distance import pdist

from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.objects import Mesh, ObjectModel

WIDTH, HEIGHT = 320, 240
K = np.array([[300.0, 0.0, 160.5], [0.0, 301.0, 118.0], [0.0, 0.0, 1.0]])

MESHES: dict[int, Mesh] = {1: bumpy_sphere(0.05), 3: cube(0.08)}

# object 3 looks the same after a quarter turn about z
SYMMETRIES = {3: [make_transform(exp_so3([0, 0, k * np.pi / 2]), np.zeros(3)) for k in (1, 2, 3)]}


def pose(x_m: float, y_m: float, z_m: float, rotation=(0.3, -0.2, 0.5)) -> np.ndarray:
    """Return a T_camera_object, (4, 4) [m]."""
    return make_transform(exp_so3(rotation), [x_m, y_m, z_m])


# image id: what is in it
SCENE: dict[int, list[tuple[int, np.ndarray]]] = {
    4: [(1, pose(-0.1, 0.0, 0.7)), (3, pose(0.12, 0.02, 0.8, (0.1, 0.9, -0.4)))],
    17: [(3, pose(-0.15, -0.05, 0.9)), (3, pose(0.1, 0.05, 1.1, (1.0, 0.2, 0.1))),
         (1, pose(0.0, 0.12, 0.8, (-1.2, 0.4, 0.0)))],
}


def write_dataset(root: Path, *, name: str = 'toy', targets: bool = True) -> Path:
    """Write a dataset with one scene, number 7, of two images.

    :return: the folder of the dataset.
    """
    folder = root / name
    scene = folder / 'test' / '000007'
    (scene / 'rgb').mkdir(parents=True)
    gt, info, camera, wanted = {}, {}, {}, []
    for image_id, objects in SCENE.items():
        gt[str(image_id)] = [_gt(*entry) for entry in objects]
        info[str(image_id)] = [_info(*entry) for entry in objects]
        camera[str(image_id)] = {'cam_K': K.ravel().tolist(), 'depth_scale': 0.5}
        ids = [object_id for object_id, _ in objects]
        wanted += [{'scene_id': 7, 'im_id': image_id, 'obj_id': i, 'inst_count': ids.count(i)}
                   for i in sorted(set(ids))]
        image = np.random.default_rng(image_id).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        cv2.imwrite(str(scene / 'rgb' / f'{image_id:06d}.png'), image)
    for file, values in (('scene_gt', gt), ('scene_gt_info', info), ('scene_camera', camera)):
        (scene / f'{file}.json').write_text(json.dumps(values))
    (folder / 'camera.json').write_text(json.dumps({'width': WIDTH, 'height': HEIGHT}))
    if targets:
        (folder / 'test_targets_bop19.json').write_text(json.dumps(wanted))
    write_models(folder / 'models_eval')
    return folder


def root_fixture(scope: str = 'function'):
    """Return a fixture, to be called ``root``, that is a folder with the dataset toy."""
    @pytest.fixture(scope=scope)
    def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_dataset(tmp_path_factory.mktemp('bop')).parent

    return root


def scene_fixture():
    """Return a fixture, to be called ``scene``, that is the scene's folder below ``root``."""
    @pytest.fixture
    def scene(root: Path) -> Path:
        return root / 'toy' / 'test' / '000007'

    return scene


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the values of a JSON file."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def write_models(folder: Path) -> None:
    """Write the meshes in millimetres and their models_info.json."""
    folder.mkdir(parents=True)
    models = {}
    for object_id, mesh in MESHES.items():
        write_ply(folder / f'obj_{object_id:06d}.ply', mesh)
        models[str(object_id)] = {'diameter': 1e3 * float(pdist(mesh.vertices).max())}
        if object_id in SYMMETRIES:
            models[str(object_id)]['symmetries_discrete'] = [
                T.ravel().tolist() for T in SYMMETRIES[object_id]]
    (folder / 'models_info.json').write_text(json.dumps(models))


FAR = make_transform(np.eye(3), [0.4, -0.1, 0.2])


def far_origin(model: ObjectModel, folder: Path) -> ObjectModel:
    """Return an object with the origin of its mesh far away: its pose T is T @ inv(FAR) here."""
    mesh = model.load_mesh()
    moved = dataclasses.replace(mesh, vertices=mesh.vertices + FAR[:3, 3])
    write_ply(folder / model.mesh_path.name, moved)
    return dataclasses.replace(model, mesh_path=folder / model.mesh_path.name, mesh_sha256='',
                               symmetries=model.symmetries.about(-FAR[:3, 3]))


def _gt(object_id: int, T_camera_object: np.ndarray) -> dict:
    return {'obj_id': object_id, 'cam_R_m2c': T_camera_object[:3, :3].ravel().tolist(),
            'cam_t_m2c': (1e3 * T_camera_object[:3, 3]).tolist()}


def _info(object_id: int, T_camera_object: np.ndarray) -> dict:
    points = MESHES[object_id].vertices @ T_camera_object[:3, :3].T + T_camera_object[:3, 3]
    uvw = points @ K.T
    uv = uvw[:, :2] / uvw[:, 2:]
    low, high = np.floor(uv.min(axis=0)), np.ceil(uv.max(axis=0))
    box = [*low.astype(int).tolist(), *(high - low).astype(int).tolist()]
    return {'bbox_obj': box, 'bbox_visib': [box[0], box[1], box[2], box[3] - 6],
            'visib_fract': 0.9 - 0.01 * object_id}


def bag_of(root: Path, *options: str) -> tuple[int, Path]:
    """Make a rosbag of the dataset, and return the exit code and where it is.

    :param options: further ones of ``mrcnet bag from-bop``.
    """
    from mrcnet_ros.cli.main import main

    bag = root / 'toy_bag'
    words = ['bag', 'from-bop', '--bop-dir', root, '--dataset', 'toy', '--output', bag]
    return main([str(word) for word in [*words, *options]]), bag


def read(root: Path) -> Any:
    """Return the dataset."""
    from mrcnet_ros.datasets.bop import BopDataset

    return BopDataset(root, 'toy')


def add_depth(scene: Path, size: tuple[int, int], image_ids: tuple[int, ...] = (4, 17)) -> None:
    """Write depth images of 4000 steps of a size (width, height) [px]."""
    (scene / 'depth').mkdir(exist_ok=True)
    for i in image_ids:
        depth = np.full((size[1], size[0]), 4000, np.uint16)
        cv2.imwrite(str(scene / f'depth/{i:06d}.png'), depth)
