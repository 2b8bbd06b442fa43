"""Images like those of a training that no training draws, to measure with and to look at.

A configuration says how they are composed; they have a seed of their own. Every object comes
equally often: ``emphasis`` does not count.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from ..datasets.known_view import KnownView
from ..geometry.bins import decode_translation
from ..geometry.camera import Camera
from ..geometry.crop import pinhole
from ..geometry.se3 import make_transform, rotation_to_axis
from ..objects import ObjectModel
from ..specs import CropSpec
from .backgrounds import check_images, find_images
from .composer import Composer, Sample
from .config import TrainConfig
from .painting import ComposerSpec
from .seeds import HELD_OUT_SEED
from .training_data import load_material, load_views

# enough that views of an object differ, and rendered in seconds
VIEWS = 150
# chances and ranges of ComposerSpec that are about boxes, and those that change the colours
OF_BOXES = ('box_shift', 'box_scale')
OF_SURFACE = ('varied', 'photometric')


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


def rungs(config: TrainConfig, composer: Composer) -> dict[str, Composer]:
    """Return composers of images that become more like those of training, step by step.

    :return: by name: clean renders; with everything that lies around; as in training.
    """
    names = {f.name for f in dataclasses.fields(ComposerSpec)} - {'crop', *OF_BOXES}
    clean = {**config.chances, **dict.fromkeys(names, 0.0)}
    around = {**config.chances, **dict.fromkeys(names & set(OF_SURFACE), 0.0)}
    specs = {'clean renders': clean, '+ occluders, clutter': around,
             '+ changed colours and light': config.chances}
    painter = composer.painter
    return {name: Composer(composer.banks, composer.priors, painter.patches, painter.lights,
                           dataclasses.replace(config, chances=chances).painting(),
                           composer.targets)
            for name, chances in specs.items()}


def known_view(sample: Sample, item: ObjectModel, spec: CropSpec) -> KnownView:
    """Return a sample as a photograph with a box whose crop is the whole image.

    The object is as large as the model believes its real one to be, and that much farther away.

    :param item: the object of the sample, as the model has it.
    """
    size = spec.size_px
    camera = Camera(pinhole(sample.focal * size, size), size, size)
    middle, half = (size - 1) / 2, size / spec.padding / 2
    box = np.array([middle - half, middle - half, middle + half, middle + half])
    t = decode_translation(sample.xy, sample.log_size, sample.focal, item.diameter_m)
    T = make_transform(rotation_to_axis(t).T @ sample.R_ray_object, item.size_ratio * t)
    return KnownView(sample.image, camera, item.label, box, item.from_centred(T),
                     sample.visible_fraction)


def known_views(composer: Composer, objects: list[ObjectModel], labels: Collection[str],
                count: int, seed: int) -> Iterator[KnownView]:
    """Compose views of chosen objects, ``count`` of each.

    :param objects: in class order, as the model has them.
    :param seed: added to :data:`HELD_OUT_SEED`.
    """
    for class_index, item in enumerate(objects):
        if item.label in labels:
            samples = samples_of(composer, class_index, HELD_OUT_SEED + seed)
            for sample in itertools.islice(samples, count):
                yield known_view(sample, item, composer.spec.crop)
