"""The configuration of a training of the detector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ..errors import SpecError
from ..specs import DETECTOR_STRIDES, CropSpec, DetectorSpec, Spec
from .painting import ComposerSpec
from .scene_config import SceneConfig

CHANCES = ('cluttered', 'varied', 'photometric')


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(SceneConfig):
    """A training run of the detector.

    Scenes know the ``chances`` ``cluttered``, ``varied`` and ``photometric`` only. Validation
    scenes are never trained on. Without ``init`` the training starts from ImageNet weights.

    :param size_px: side of the square scenes, a multiple of 32.
    :param farther: the exported detector is for distances that are this many times those of
        training; it looks at images that are enlarged as much, in which objects have the size that
        they had there. Small objects are then seen better, and it takes the square of it in time.
    :param backbone_rate: part of ``learning_rate`` for the layers that start from ImageNet
        weights.
    """

    preset: ClassVar[str] = 'detector'
    usual_spec: ClassVar[Spec] = DetectorSpec()

    views: int = 1000
    size_px: int = 320
    farther: float = 1.0
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

    def check(self) -> None:
        super().check()
        coarsest = DETECTOR_STRIDES[-1]
        if self.size_px < 2 * coarsest or self.size_px % coarsest:
            raise SpecError(f'size_px must be a multiple of {coarsest} and at least '
                            f'{2 * coarsest}, got {self.size_px}')
        near, far = self.distance_m
        if near == far:
            raise SpecError(f'distance_m must have near < far, got {near} and {far}')
        unusable = sorted(set(self.chances) - set(CHANCES))
        if unusable:
            raise SpecError(f'chances: {", ".join(unusable)} cannot be used; there are '
                            f'{", ".join(CHANCES)}')
        if not 0 < self.farther < float('inf'):
            raise SpecError(f'farther must be above 0, got {self.farther}')
        if not 0 <= self.backbone_rate <= 1:
            raise SpecError(f'backbone_rate must be 0 to 1, got {self.backbone_rate}')
