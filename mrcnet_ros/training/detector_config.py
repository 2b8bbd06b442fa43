"""What a training run of the detector is made of, read from a YAML file, ``preset: detector``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SpecError
from ..reading.fields import only_known
from ..specs import DETECTOR_STRIDES, CropSpec, DetectorSpec
from .config import build_config, change_values, read_values, view_prior_of
from .painting import ComposerSpec
from .scene_config import SceneConfig, at_least_one, check_scenes

PRESET = 'detector'
CHANCES = ('cluttered', 'varied', 'photometric')


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(SceneConfig):
    """A training run of the detector.

    Of ``chances`` only ``cluttered``, ``varied`` and ``photometric`` happen to scenes. The scenes
    of a validation are never trained on.

    :param disturber_views: rendered views of each body and each of the ``disturbers``.
    :param size_px: side of the square scenes, a multiple of 32.
    :param backbone_rate: part of ``learning_rate`` for the layers that start from ImageNet
        weights.
    :param spec: of the detector.
    """

    disturber_views: int = 16
    views: int = 1000
    size_px: int = 320
    batch_size: int = 8
    steps: int = 4000
    learning_rate: float = 3e-3
    backbone_rate: float = 0.2
    weight_decay: float = 0.02
    warmup: int = 60
    checkpoint: int = 100
    validation: int = 500
    spec: DetectorSpec = field(default_factory=DetectorSpec)

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
    check_scenes(config, path)
    at_least_one(config, ('disturber_views',), path)
    coarsest = DETECTOR_STRIDES[-1]
    if config.size_px < 2 * coarsest or config.size_px % coarsest:
        raise SpecError(f'{path}: size_px must be a multiple of {coarsest} and at least '
                        f'{2 * coarsest}, got {config.size_px}')
    near, far = config.distance_m
    if near == far:
        raise SpecError(f'{path}: distance_m must have near < far, got {near} and {far}')
    unusable = sorted(set(config.chances) - set(CHANCES))
    if unusable:
        raise SpecError(f'{path}: chances: {", ".join(unusable)} cannot be used; there are '
                        f'{", ".join(CHANCES)}')
    if not 0 <= config.backbone_rate <= 1:
        raise SpecError(f'{path}: backbone_rate must be 0 to 1, got {config.backbone_rate}')
