"""Training images that no training draws, to measure with and to look at.

They are what a configuration composes, from views, background patches and draws of a seed of
their own. Every object comes equally often, whatever the configuration emphasises.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

from ..objects import ObjectModel
from .backgrounds import check_images, find_images
from .composer import Composer, Sample
from .config import TrainConfig
from .material import load_material, load_views

# trainings count their samples up from a small seed, validation has 1 000 003
HELD_OUT_SEED = 3_000_017
# enough that views of an object differ, and rendered in seconds
VIEWS = 150


def held_out(config: TrainConfig, *, views: int = VIEWS, cache: Path | None = None) -> TrainConfig:
    """Return a configuration whose images training does not draw.

    :param views: rendered views of each object.
    :param cache: folder of rendered views; that of the configuration by default.
    """
    return dataclasses.replace(config, views=views, cache=cache or config.cache, emphasis={},
                               seed=HELD_OUT_SEED)


def load_composer(config: TrainConfig, objects: list[ObjectModel]) -> Composer:
    """Gather what images are composed from, rendering views that the cache does not hold.

    :param config: of :func:`held_out`.
    :param objects: of the configuration, in class order.
    :raises DatasetError: when there are no backgrounds, or they cannot be read.
    :raises MeshError: when a mesh cannot be used.
    """
    check_images(find_images(config.backgrounds))  # before views are rendered
    return load_material(config, objects, load_views(config, objects), []).composer


def samples_of(composer: Composer, class_index: int, seed: int) -> Iterator[Sample]:
    """Compose samples of one object without end.

    :param seed: :data:`HELD_OUT_SEED`, or one that is added to it.
    """
    targets = composer.targets
    for index in itertools.count():
        if targets[index % len(targets)] == class_index:
            yield composer.sample(seed, index)
