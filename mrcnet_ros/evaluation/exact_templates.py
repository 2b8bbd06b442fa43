"""Templates of objects at any pose in a crop, rendered when they are asked for.

The object is rendered by a camera in the place of the crop's, shifted and scaled so that stage 2
moves it back to the pose. A cached template is of the nearest rotation bin, on the optical axis
at one distance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..geometry.se3 import Array
from ..inference.decoding import Outputs
from ..objects import ObjectModel
from ..rendering.coordinates import object_coordinates
from ..rendering.renderer import Renderer
from ..runtimes.backend import Backend
from ..specs import TemplateSpec


class ExactTemplates:
    """Renders and embeds objects at poses in crops.

    :param objects: by class index, in their centred frames.
    :raises MeshError: when a mesh cannot be read.
    :raises BackendError: when there is no headless OpenGL.
    """

    def __init__(self, backend: Backend, spec: TemplateSpec,
                 objects: Sequence[ObjectModel]) -> None:
        self._backend, self._spec, self._objects = backend, spec, objects
        self._renderer = Renderer(spec.size_px, spec.size_px)
        for item in objects:
            self._renderer.add_mesh(item.label, item.load_mesh())

    def close(self) -> None:
        self._renderer.close()

    def features(self, classes: NDArray[np.int64], T_crop_object: Array) -> Outputs:
        """Return what stage 2 takes of templates, (N, ...) by name.

        :param classes: (N,) class indices.
        :param T_crop_object: (N, 4, 4) [m].
        """
        images, coordinates = [], []
        for index, T in zip(classes, T_crop_object, strict=True):
            item, (R, t) = self._objects[index], (T[:3, :3], T[:3, 3])
            K = template_intrinsics_at(t, self._spec, item.diameter_m)
            drawn = self._renderer.render(item.label, T, K, shading='template')
            images.append(drawn.rgb)
            coordinates.append(object_coordinates(
                drawn.depth_m[None], K, R[None], t, item.diameter_m)[0])
        found = self._backend.run('template', {'image': np.stack(images), 'class_index': classes})
        kept = self._backend.stack([self._backend.keep(c) for c in coordinates])
        return {**found, 'coordinates': kept}


def template_intrinsics_at(t_crop_object: Array, spec: TemplateSpec, diameter_m: float) -> Array:
    """Return the intrinsics of a template of an object anywhere in a crop.

    An object at ``t_crop_object`` comes out in the middle, as large as in a cached template; the
    warp of stage 2 undoes exactly this.

    :param t_crop_object: (3,) [m].
    :return: (3, 3) [px].
    """
    focal_px = spec.relative_size * spec.size_px * float(t_crop_object[2]) / diameter_m
    middle_px = (spec.size_px - 1) / 2
    x, y = t_crop_object[:2] / t_crop_object[2]
    return np.array([[focal_px, 0.0, middle_px - focal_px * x],
                     [0.0, focal_px, middle_px - focal_px * y], [0.0, 0.0, 1.0]])
