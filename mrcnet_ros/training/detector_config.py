"""What a training run of the detector is made of, read from a YAML file, ``preset: detector``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SpecError
from ..objects import ObjectModel, load_bop_objects, load_object_list
from ..reading.fields import only_known
from ..specs import DETECTOR_STRIDES, CropSpec, DetectorSpec, ViewPrior
from .config import at_least_one, build_config, change_values, read_values, view_prior_of
from .painting import ComposerSpec

PRESET = 'detector'


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """A training run of the detector.

    Relative paths are taken from the working directory.

    :param name: of the model.
    :param output: folder of checkpoints and metrics.
    :param cache: folder of rendered views, which runs can share.
    :param models: BOP models folder, or YAML object list.
    :param labels: label by BOP object id, for a BOP folder; also chooses the objects.
    :param backgrounds: folders of photographs and environment maps.
    :param bodies: plain bodies that lie about and hide things.
    :param disturbers: BOP models folder of other objects that do so too, or None.
    :param disturber_views: rendered views of each of these.
    :param view_prior: the same for all objects, or None for all of SO(3).
    :param distance_m: nearest and farthest distance of the objects.
    :param views: rendered views of each object.
    :param patches: background patches.
    :param size_px: side of the square scenes, a multiple of 32.
    :param processes: training processes, one thread each.
    :param batch_size: scenes of each process in a step.
    :param steps: length of the schedule.
    :param minutes: from the start of the command to its last step; the learning rate falls to 0
        by then. None when only ``steps`` ends the training.
    :param learning_rate: highest rate, reached after ``warmup`` steps, then a half cosine to 0.
    :param backbone_rate: part of it for the layers that start from ImageNet weights.
    :param checkpoint: steps between checkpoints.
    :param validation: steps between validations on synthetic scenes that are never trained on.
    :param chances: of what happens to scenes, by name, where they differ from
        :class:`~mrcnet_ros.training.painting.ComposerSpec`: ``cluttered``, ``varied`` and
        ``photometric``.
    :param seed: of everything that is drawn.
    :param spec: of the detector.
    """

    name: str
    output: Path
    cache: Path
    models: Path
    labels: dict[int, str] = field(default_factory=dict)
    backgrounds: tuple[Path, ...] = ()
    bodies: int = 24
    disturbers: Path | None = None
    disturber_views: int = 16
    view_prior: ViewPrior | None = None
    distance_m: tuple[float, float] = (0.4, 1.5)
    views: int = 1000
    patches: int = 800
    size_px: int = 320
    processes: int = 2
    batch_size: int = 8
    steps: int = 4000
    minutes: float | None = None
    learning_rate: float = 3e-3
    backbone_rate: float = 0.2
    weight_decay: float = 0.02
    warmup: int = 60
    checkpoint: int = 100
    validation: int = 500
    chances: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    spec: DetectorSpec = field(default_factory=DetectorSpec)

    def load_objects(self) -> list[ObjectModel]:
        """Return the objects in class order.

        :raises SpecError: when labels are given besides an object list, which has its own.
        """
        if self.models.suffix not in ('.yaml', '.yml'):
            return list(load_bop_objects(self.models, ids=sorted(self.labels) or None,
                                         labels=self.labels).values())
        if self.labels:
            raise SpecError(f'labels are for a BOP folder; {self.models} has its own: leave '
                            'labels out')
        return list(load_object_list(self.models).values())

    def painting(self) -> ComposerSpec:
        """Return the chances of what happens to scenes."""
        return ComposerSpec(crop=CropSpec(size_px=self.size_px), **self.chances)




def read_detector_config(path: Path, changes: Mapping[str, Any] | None = None) -> DetectorConfig:
    """Read a training configuration, ``preset: detector``.

    :param changes: fields that differ from the file; a dot leads into a field that is a mapping.
    :raises SpecError: when the file is missing or a field is unknown or has a wrong value.
    """
    values = read_values(path)
    change_values(values, changes or {}, path)
    if values.pop('preset', None) != PRESET:
        raise SpecError(f'{path} has no preset: {PRESET}')
    config = build_config(DetectorConfig, values, _convert, path)
    _check(config, path)
    return config


def _convert(name: str, value: Any) -> Any:
    if name == 'view_prior':
        return None if value is None else view_prior_of(value)
    defaults = DetectorSpec().to_dict()
    only_known(value, defaults, 'spec')
    return DetectorSpec.from_dict({**defaults, **value})


def _check(config: DetectorConfig, path: Path) -> None:
    at_least_one(config, ('views', 'disturber_views', 'patches', 'processes', 'batch_size',
                          'steps', 'checkpoint', 'validation'), path)
    coarsest = DETECTOR_STRIDES[-1]
    if config.size_px < 2 * coarsest or config.size_px % coarsest:
        raise SpecError(f'{path}: size_px must be a multiple of {coarsest} and at least '
                        f'{2 * coarsest}, got {config.size_px}')
    near, far = config.distance_m
    if not 0 < near < far:
        raise SpecError(f'{path}: distance_m must be 0 < near < far in metres, got {near} and '
                        f'{far}')
    usable = ('cluttered', 'varied', 'photometric')
    for name, chance in config.chances.items():
        if name not in usable or not 0 <= chance <= 1:
            raise SpecError(f'{path}: chances: {name}: {chance} cannot be used; there are '
                            f'{", ".join(usable)}, each 0 to 1')
    if config.learning_rate <= 0 or not 0 <= config.backbone_rate <= 1:
        raise SpecError(f'{path}: learning_rate ({config.learning_rate}) must be above 0 and '
                        f'backbone_rate ({config.backbone_rate}) 0 to 1')
    if config.minutes is not None and config.minutes <= 0:
        raise SpecError(f'{path}: minutes must be positive, got {config.minutes}')
    if min(config.warmup, config.seed, config.bodies) < 0 or config.weight_decay < 0:
        raise SpecError(f'{path}: warmup, seed, bodies and weight_decay must not be negative')
    if not re.fullmatch(r'\S.*', config.name):
        raise SpecError(f'{path}: name must not be empty')
