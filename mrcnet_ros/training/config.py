"""The configurations of the trainings for poses: of both stages, and of the refiner."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ..errors import SpecError
from ..meshes import companion_files
from ..objects import ObjectModel
from ..reading.fields import only_known
from ..specs import ModelSpec, PoseNetworkSpec, RefinerSpec, Spec
from .painting import ComposerSpec
from .scene_config import SceneConfig

CROP_STEP_PX = 32  # of the strides of the network together


@dataclass(frozen=True, kw_only=True)
class PoseConfig(SceneConfig):
    """What trainings on crops of one object share; ``checkpoint`` is a multiple of ``refresh``.

    :param device: PyTorch's name of what trains: ``cpu``, or ``cuda`` for the first GPU.
    :param composers: number of processes that compose images for one training process; with 0 it
        composes them itself, which is faster on a CPU.
    :param refresh: steps between refreshes of the template features.
    :param emphasis: by label, how often an object is drawn while the others are drawn once.
    :param freeze_shared: train only the rows of objects that ``init`` does not know; its answers
        for the objects it knows stay the same to the bit.
    """

    views: int = 2000
    device: str = 'cpu'
    composers: int = 0
    batch_size: int = 32
    steps: int = 10000
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: int = 300
    refresh: int = 100
    checkpoint: int = 500
    validation: int = 1000
    emphasis: dict[str, int] = field(default_factory=dict)
    freeze_shared: bool = False
    spec: PoseNetworkSpec

    @property
    def frozen(self) -> Path | None:
        return self.init if self.freeze_shared else None

    def painting(self) -> ComposerSpec:
        """Return the chances of composed images."""
        return ComposerSpec(crop=self.spec.crop, **self.chances)

    def load_objects(self) -> list[ObjectModel]:
        """Return the objects in class order.

        :raises SpecError: when labels or emphasis are of other objects, or two meshes could not be
            told apart in one folder.
        """
        objects = super().load_objects()
        _check_mesh_names(objects)
        try:
            only_known(self.emphasis, [o.label for o in objects], 'emphasis')
        except ValueError as error:
            raise SpecError(str(error)) from error
        return objects

    def check(self) -> None:
        super().check()
        self.at_least_one('refresh')
        if self.checkpoint % self.refresh:
            raise SpecError(f'checkpoint ({self.checkpoint}) must be a multiple of refresh '
                            f'({self.refresh}), so that a resumed run sees the same templates')
        crop_px, template_px = self.spec.crop.size_px, self.spec.template.size_px
        if crop_px % CROP_STEP_PX or crop_px != template_px:
            raise SpecError(f'spec.crop.size_px must be a multiple of {CROP_STEP_PX} and equal to '
                            f'spec.template.size_px, got {crop_px} and {template_px}')
        self._check_processes()
        only_known(self.chances, {f.name for f in dataclasses.fields(ComposerSpec)} - {'crop'},
                   'chances')
        if self.freeze_shared and self.init is None:
            raise SpecError('freeze_shared needs init, the model to be extended')
        for label, count in self.emphasis.items():
            if count < 0:
                raise SpecError(f'emphasis: {label} must not be negative, got {count}')

    def _check_processes(self) -> None:
        if not re.fullmatch(r'cpu|cuda(:\d+)?', self.device):
            raise SpecError(f'device must be cpu, cuda or cuda:N, got {self.device!r}')
        if self.composers < 0:
            raise SpecError(f'composers must not be negative, got {self.composers}')
        if self.processes > 1 and (self.composers or self.device != 'cpu'):
            what = 'composers' if self.composers else f'device {self.device}'
            raise SpecError(f'{what} needs processes 1, got {self.processes}')


@dataclass(frozen=True, kw_only=True)
class TrainConfig(PoseConfig):
    """A training run of both stages of the default preset."""

    usual_spec: ClassVar[Spec] = ModelSpec()

    spec: ModelSpec = field(default_factory=ModelSpec)

    def check(self) -> None:
        super().check()
        if self.spec.bins.scale_bins < 2:
            raise SpecError('spec.bins.scale_bins must be at least 2, got '
                            f'{self.spec.bins.scale_bins}')


@dataclass(frozen=True, kw_only=True)
class RefinerConfig(PoseConfig):
    """A training run of a refiner.

    With ``init`` it starts from the refiner of that model. If there is none, it starts from the
    layers that refiner and stage 2 have in common.
    """

    preset: ClassVar[str] = 'refiner'
    usual_spec: ClassVar[Spec] = RefinerSpec()

    spec: RefinerSpec = field(default_factory=RefinerSpec)

    def check(self) -> None:
        super().check()
        if self.freeze_shared:
            raise SpecError('freeze_shared is for both stages; a refiner is trained whole')


def _check_mesh_names(objects: Sequence[ObjectModel]) -> None:
    """Refuse different meshes of one name: a model finds its meshes by name in one folder."""
    known: dict[str, ObjectModel] = {}
    for model in objects:
        other = known.setdefault(model.mesh_path.name, model)
        if other.mesh_sha256 != model.mesh_sha256:
            raise SpecError(
                f'the meshes of {other.label!r} and {model.label!r} have one name: '
                f'{other.mesh_path} and {model.mesh_path}; a model finds its meshes by name in '
                'one folder: rename one, and change models accordingly')
    owners: dict[str, tuple[str, Path]] = {}
    for model in objects:
        for file in companion_files(model.mesh_path):
            label, first = owners.setdefault(file.name, (model.label, file))
            if first != file and first.read_bytes() != file.read_bytes():
                raise SpecError(
                    f'the meshes of {label!r} and {model.label!r} name files of one name: {first} '
                    f'and {file}; a model has all meshes in one folder: rename one, in its mesh '
                    'as well')
