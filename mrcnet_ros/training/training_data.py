"""Everything a training process needs besides the network: images, templates, shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import SpecError
from ..geometry.pose_crop import directions_seen
from ..geometry.rotation_grid import grid_of
from ..geometry.view_prior import allowed_bins
from ..meshes import check_origin
from ..objects import ObjectModel
from ..rendering.coordinates import template_coordinates
from ..rendering.template_store import TemplateStore
from ..specs import RefinerSpec
from .backgrounds import background_patches, find_images, irradiance_matrices
from .composer import Composer
from .config import PoseConfig
from .disturbers import load_disturbers
from .refiner_composer import RefinerComposer
from .scene_config import SceneConfig
from .targets import ObjectShapes
from .template_bank import TemplateBank
from .view_bank import SharedViews, load_or_render, views_path


@dataclass(frozen=True, eq=False)
class TrainingMaterial:
    """What samples and losses are made from.

    :param grid: (R, 3, 3) float32 rotation bins.
    """

    composer: Composer
    shapes: ObjectShapes
    grid: Tensor


def load_views(config: PoseConfig, objects: list[ObjectModel]) -> list[SharedViews]:
    """Render or load the views of all classes, then of the bodies that only disturb.

    :raises MeshError: when a mesh cannot be used, or its origin is far from its middle.
    """
    return load_object_views(config, objects) + load_disturbers(config)


def load_object_views(config: SceneConfig, objects: Sequence[ObjectModel]) -> list[SharedViews]:
    """Render or load the views of all classes.

    :raises MeshError: when a mesh cannot be used, or its origin is far from its middle.
    """
    for o in objects:
        check_origin(o.mesh_path, o.centred().load_mesh().vertices, o.diameter_m, o.unit_m)
    priors = {o.object_id: config.view_prior for o in objects}
    return load_or_render(config.cache, objects, priors, config.distance_m, config.views,
                          config.seed)


def views_are_there(config: SceneConfig, item: ObjectModel) -> bool:
    """Tell whether the cache has the views of an object."""
    return views_path(config.cache, item, config.view_prior, config.distance_m, config.views,
                      config.seed).exists()


def load_material(config: PoseConfig, objects: list[ObjectModel],
                  views: list[SharedViews], known: list[int]) -> TrainingMaterial:
    """Gather what a training process needs.

    :param known: classes to be drawn only as occluders and distractors.
    """
    targets = target_classes(config, objects, known)
    images = find_images(config.backgrounds)
    parts: dict[str, Any] = {
        'banks': [v.open() for v in views], 'priors': [config.view_prior] * len(objects),
        'patches': background_patches(images, config.patches, config.seed),
        'lights': irradiance_matrices(images), 'spec': config.painting(), 'targets': targets}
    composer = (RefinerComposer(config.spec, **parts) if isinstance(config.spec, RefinerSpec)
                else Composer(**parts))
    centred = [o.centred() for o in objects]
    shapes = ObjectShapes.build(
        [o.load_mesh().vertices for o in centred], [o.diameter_m for o in centred],
        [o.symmetries.for_training for o in centred], [o.symmetries.is_ball for o in centred])
    bins = config.spec.bins
    grid = torch.from_numpy(grid_of(bins).copy())
    return TrainingMaterial(composer, shapes, grid.float())


def target_classes(config: PoseConfig, objects: list[ObjectModel], known: list[int]) -> list[int]:
    """Return the classes that take turns as the target, repeated by their emphasis.

    :param known: classes to be drawn only as occluders and distractors.
    :raises SpecError: when the emphasis names an object that is not trained, or leaves none.
    """
    labels = [o.label for c, o in enumerate(objects) if c not in known]
    unknown = set(config.emphasis) - set(labels)
    if unknown:
        raise SpecError(f'emphasis: {sorted(unknown)} are not trained, only {labels} are')
    targets = [c for c, o in enumerate(objects) if c not in known
               for _ in range(config.emphasis.get(o.label, 1))]
    if not targets:
        raise SpecError('there is no object to train: with freeze_shared the list must hold one '
                        'that init does not know, and emphasis must not be 0 for all')
    return targets


def load_templates(config: PoseConfig, objects: list[ObjectModel]) -> TemplateBank:
    """Render or load the templates of all classes."""
    store, spec = TemplateStore(config.cache / 'templates'), config.spec
    grid = grid_of(spec.bins)
    allowed = (directions_seen(spec, config.view_prior) if isinstance(spec, RefinerSpec)
               else allowed_bins(config.view_prior, grid))
    found = [store.load_or_build(o, spec, allowed) for o in objects]
    coordinates = [
        template_coordinates(t.depth_m, t.K, t.R_camera_object, t.distance_m, o.diameter_m)
        for t, o in zip(found, objects, strict=True)]
    return TemplateBank([t.rgb for t in found], coordinates, [t.bin_indices for t in found], spec)
