"""Features of templates: from memory, or computed from the stored renders."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..objects import ObjectModel
from ..rendering.coordinates import template_coordinates
from ..rendering.template_store import Templates
from ..runtimes.backend import Backend
from .feature_cache import FeatureCache, Features

AT_ONCE = 32  # templates in one call of the network
log = logging.getLogger(__name__)


class TemplateFeatures:
    """The features that stage 2, or the refiner, compares a crop with.

    :param objects: in class order.
    :param cache: keeps features; those of several graphs may share it.
    :param graph: that computes them.
    """

    def __init__(self, backend: Backend, objects: Sequence[ObjectModel],
                 templates: Sequence[Templates], cache: FeatureCache, graph: str = 'template'
                 ) -> None:
        self._backend, self._objects, self._templates = backend, objects, templates
        self.cache, self._graph = cache, graph

    def fetch(self, classes: Sequence[int], bins: Sequence[int]
              ) -> tuple[dict[str, NDArray[np.float32]], int, int]:
        """Return features of templates, computing those that are not in memory.

        :param classes: (N,) class of each.
        :param bins: (N,) rotation bin of each.
        :return: arrays of the batch by name, and how many were and were not in memory.
        """
        keys = list(zip(classes, bins, strict=True))
        found: dict[tuple[int, int], Features] = {}
        missing: list[tuple[int, int]] = []
        for key in dict.fromkeys(keys):
            features = self.cache.get((self._graph, *key))
            if features is None:
                missing.append(key)
            else:
                found[key] = features
        for first in range(0, len(missing), AT_ONCE):
            found.update(self._compute(missing[first:first + AT_ONCE]))
        hits = sum(1 for key in keys if key not in missing)
        rows = [found[key] for key in keys]
        batch = {name: self._backend.stack([row[name] for row in rows]) for name in rows[0]}
        return batch, hits, len(keys) - hits

    def preload(self) -> None:
        """Compute features ahead of the first image, as many as memory has room for.

        Objects take turns, so that each gets its share of the room.
        """
        by_object = [[(c, int(b)) for b in templates.bin_indices]
                     for c, templates in enumerate(self._templates)]
        keys = [key for turn in itertools.zip_longest(*by_object) for key in turn
                if key and (self._graph, *key) not in self.cache]
        log.info('computing features of %d templates (%s)', len(keys), self._graph)
        for first in range(0, len(keys), AT_ONCE):
            held = len(self.cache)
            batch = keys[first:first + AT_ONCE]
            self._compute(batch)
            if len(self.cache) < held + len(batch):
                log.warning('cache_mb has no room for the features of all %d templates; the rest '
                            'are computed when they are needed', len(keys))
                break

    def _compute(self, keys: list[tuple[int, int]]) -> dict[tuple[int, int], Features]:
        images, coordinates = [], []
        for class_index, bin_index in keys:
            templates, model = self._templates[class_index], self._objects[class_index]
            row = templates.rows([bin_index])
            coordinates.append(template_coordinates(
                templates.depth_m[row], templates.K, templates.R_camera_object[row],
                templates.distance_m, model.diameter_m)[0])
            images.append(templates.rgb[row[0]])
        outputs = self._backend.run(self._graph, {
            'image': np.stack(images),
            'class_index': np.array([class_index for class_index, _ in keys], np.int64)})
        result: dict[tuple[int, int], Features] = {}
        for i, key in enumerate(keys):
            features = {**{name: a[i] for name, a in outputs.items()},
                        'coordinates': self._backend.keep(coordinates[i])}
            self.cache.put((self._graph, *key), features)
            result[key] = features
        return result
