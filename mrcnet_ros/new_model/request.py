"""The options of ``mrcnet new``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SpecError
from ..model_json import MODEL_FILE
from ..specs import ViewPrior

# Objects stand with their z axis up, and the camera is above and hardly rolled. As models/lmo.
TABLE = ViewPrior(elevation_min_deg=0.0, elevation_max_deg=90.0, tilt_max_deg=50.0)
# Time of a training by default, and with --fast, which trains only the rows of the new objects.
# More time gives better poses.
MINUTES, FAST_MINUTES = 60.0, 15.0
# Part of the minutes for a detector: it learns faster than poses are learned.
DETECTOR_PART = 0.3
OF_DETECTOR = 'detector.'


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to make, and how long it may take.

    :param bop_models: BOP models folder instead of meshes.
    :param object_ids: objects of the folder; all by default.
    :param unit: of :data:`mrcnet_ros.meshes.UNITS_M`, or ``auto``.
    :param symmetries: by label, instead of those that are found; see :mod:`.stated_symmetries`.
    :param views: ``table`` or ``any``.
    :param start: model directory whose weights the training starts from.
    :param backgrounds: folders of photographs and environment maps.
    :param fast: train only the rows of the objects.
    :param images: held-out images to measure on; None for what the time allows.
    :param changes: fields of the training configuration; ``detector.NAME`` are those of the
        detector's.
    """

    output: Path
    meshes: tuple[Path, ...] = ()
    bop_models: Path | None = None
    object_ids: tuple[int, ...] = ()
    unit: str = 'auto'
    symmetries: Mapping[str, str] = field(default_factory=dict)
    views: str = 'any'
    start: Path
    backgrounds: tuple[Path, ...]
    fast: bool = False
    minutes: float
    images: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    detector: bool = False

    def __post_init__(self) -> None:
        """Check that fields of a detector come with ``detector``.

        :raises SpecError: when they do not.
        """
        if self.detector_changes and not self.detector:
            raise SpecError(f'--set {OF_DETECTOR}{next(iter(self.detector_changes))} is of the '
                            'detector; give --detector too')

    @property
    def pose_changes(self) -> dict[str, Any]:
        """Return the changed fields of the training of poses."""
        return {k: v for k, v in self.changes.items() if not k.startswith(OF_DETECTOR)}

    @property
    def detector_changes(self) -> dict[str, Any]:
        """Return the changed fields of the training of the detector."""
        return {k.removeprefix(OF_DETECTOR): v for k, v in self.changes.items()
                if k.startswith(OF_DETECTOR)}

    @property
    def detector_minutes(self) -> float:
        """Return the part of the time that is for the detector."""
        return DETECTOR_PART * self.minutes if self.detector else 0.0

    @property
    def name(self) -> str:
        """Return the name of the model: that of its folder."""
        return self.output.resolve().name

    @property
    def work(self) -> Path:
        """Return the folder for the results of the steps."""
        return self.output / 'work'

    @property
    def made(self) -> Path:
        """Return where the model is: in the work folder until it is whole."""
        return self.output if (self.output / MODEL_FILE).exists() else self.work / 'model'

    @property
    def view_prior(self) -> ViewPrior | None:
        """Return the view prior of all objects, None for any direction."""
        return TABLE if self.views == 'table' else None
