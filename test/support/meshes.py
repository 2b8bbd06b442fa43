"""Small meshes made by formula, and a slow renderer to compare with."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import trimesh

from mrcnet_ros.objects import Mesh


def cube(side_m: float = 0.1) -> Mesh:
    """Return a cube with one colour and one normal to each face, four vertices to a face."""
    corners, faces, normals, colors = [], [], [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal = np.zeros(3)
            normal[axis] = sign
            u, v = np.roll(normal, 1) * sign, np.roll(normal, 2)
            first = 4 * len(faces) // 2
            corners += [normal + a * u + b * v for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            faces += [[first, first + 1, first + 2], [first, first + 2, first + 3]]
            normals += [normal] * 4
            colors += [[40 + 80 * axis, 250 - 60 * axis, 200 if sign > 0 else 60]] * 4
    vertices = np.array(corners) * side_m / 2
    return Mesh(vertices, np.array(faces, np.int32), np.array(normals),
                np.array(colors, np.uint8))


def bumpy_sphere(radius_m: float = 0.05, subdivisions: int = 3) -> Mesh:
    """Return a closed, non-convex blob without symmetry, coloured by position."""
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    d = sphere.vertices
    bump = 1 + 0.25 * np.sin(5 * d[:, 0] + 1) * np.cos(4 * d[:, 1]) + 0.2 * d[:, 2] * d[:, 0]
    shape = trimesh.Trimesh(d * bump[:, None] * radius_m, sphere.faces, process=False)
    colors = np.rint(127.5 * (d + 1)).astype(np.uint8)
    return Mesh(np.array(shape.vertices), np.array(shape.faces, np.int32),
                np.array(shape.vertex_normals), colors)


def write_ply(path: Path, mesh: Mesh, *, unit_m: float = 0.001, binary: bool = True,
              normals: bool = True, colors: bool = True) -> Path:
    """Write a PLY file with or without normals and colours, in the unit given."""
    columns = [('x', '<f4'), ('y', '<f4'), ('z', '<f4')]
    if normals:
        columns += [('nx', '<f4'), ('ny', '<f4'), ('nz', '<f4')]
    if colors:
        columns += [('red', 'u1'), ('green', 'u1'), ('blue', 'u1')]
    table = np.zeros(len(mesh.vertices), dtype=columns)
    for index, name in enumerate('xyz'):
        table[name] = mesh.vertices[:, index] / unit_m
        if normals:
            table['n' + name] = mesh.normals[:, index]
    if colors:
        for index, name in enumerate(('red', 'green', 'blue')):
            table[name] = mesh.colors[:, index]
    kinds = {'<f4': 'float', 'u1': 'uchar'}
    header = [
        'ply', f'format {"binary_little_endian" if binary else "ascii"} 1.0',
        f'element vertex {len(table)}', *(f'property {kinds[k]} {n}' for n, k in columns),
        f'element face {len(mesh.faces)}', 'property list uchar int vertex_indices',
        'end_header', '',
    ]
    triangles = np.zeros(len(mesh.faces), dtype=[('n', 'u1'), ('v', '<i4', 3)])
    triangles['n'], triangles['v'] = 3, mesh.faces
    if binary:
        body = table.tobytes() + triangles.tobytes()
    else:
        rows = [' '.join(str(value) for value in row) for row in table.tolist()]
        rows += [f'3 {a} {b} {c}' for a, b, c in mesh.faces]
        body = ('\n'.join(rows) + '\n').encode()
    path.write_bytes('\n'.join(header).encode() + body)
    return path


def write_textured_quad(path: Path, side_m: float = 0.1, *, material: bool = True) -> Path:
    """Write an OBJ square facing -z whose texture has four colours.

    Seen by a camera on its -z side with x right and y down, the texture stands upright: red at
    the top left, green at the top right, blue at the bottom left, white at the bottom right.
    """
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:32, :32], texture[:32, 32:] = (255, 0, 0), (0, 255, 0)
    texture[32:, :32], texture[32:, 32:] = (0, 0, 255), (255, 255, 255)
    image = path.with_name('paint.png') if material else path.with_suffix('.png')
    cv2.imwrite(str(image), texture[..., ::-1])
    lines = ['mtllib quad.mtl', 'usemtl paint'] if material else []
    if material:
        path.with_name('quad.mtl').write_text('newmtl paint\nKd 1 1 1\nmap_Kd paint.png\n')
    h = side_m / 2
    lines += [f'v {x} {y} 0' for x, y in ((-h, -h), (h, -h), (h, h), (-h, h))]
    lines += ['vt 0 1', 'vt 1 1', 'vt 1 0', 'vt 0 0', 'vn 0 0 -1',
              'f 1/1/1 3/3/1 2/2/1', 'f 1/1/1 4/4/1 3/3/1']
    path.write_text('\n'.join(lines) + '\n')
    return path


def rasterise(mesh: Mesh, T_camera_object: np.ndarray, K: np.ndarray, width: int, height: int,
              margin_px: float = 0.0) -> np.ndarray:
    """Return the depth by a z-buffer in float64, sampled at integer pixel coordinates.

    :param margin_px: by how much each triangle's edges are pushed outwards.
    :return: (height, width) [m], inf where empty.
    """
    points = mesh.vertices @ T_camera_object[:3, :3].T + T_camera_object[:3, 3]
    projected = points @ K.T
    uv = projected[:, :2] / projected[:, 2:]
    buffer = np.full((height, width), np.inf)
    for face in mesh.faces:
        low = np.maximum(np.ceil(uv[face].min(axis=0) - margin_px).astype(int), 0)
        high = np.minimum(np.floor(uv[face].max(axis=0) + margin_px).astype(int),
                          [width - 1, height - 1])
        corners = np.vstack([uv[face].T, np.ones(3)])
        if (high < low).any() or abs(np.linalg.det(corners)) < 1e-9:
            continue
        weights = np.linalg.inv(corners)  # rows: barycentric weight as a function of (u, v, 1)
        u, v = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
        w = np.einsum('ij,jhw->ihw', weights, np.stack([u, v, np.ones_like(u)]).astype(float))
        edge_distance_px = w / np.linalg.norm(weights[:, :2], axis=1)[:, None, None]
        z = 1.0 / np.einsum('ihw,i->hw', w, 1.0 / points[face, 2])
        inside = (edge_distance_px >= -margin_px).all(axis=0)
        window = buffer[low[1]:high[1] + 1, low[0]:high[0] + 1]
        np.minimum(window, np.where(inside, z, np.inf), out=window)
    return buffer
