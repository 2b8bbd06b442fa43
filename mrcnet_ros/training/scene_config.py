"""What configurations of trainings on composed images share: objects, surroundings, time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ..errors import SpecError
from ..geometry.camera import FARTHEST_M
from ..geometry.view_prior import view_prior_of
from ..objects import ObjectModel, load_bop_objects, load_object_list
from ..reading.fields import only_known
from ..specs import Spec, ViewPrior
from .run_config import RunConfig, as_mapping

# Seeds between two series of samples, and the last series. Seeds of trainings are small, and those
# of validations, from 1 000 003 on, are far from all of these.
SERIES_APART, MOST_SERIES = 5000, 99
# Views of an object for one of each disturber, which is seen in part and once in many images.
VIEWS_FOR_DISTURBER = 60


@dataclass(frozen=True, kw_only=True)
class SceneConfig(RunConfig):
    """Fields that the trainings for poses and for the detector share.

    :param cache: folder of rendered views, which runs can share.
    :param models: BOP models folder, or YAML object list.
    :param labels: label by BOP object id, for a BOP folder; also chooses the objects.
    :param backgrounds: folders of photographs and environment maps.
    :param init: model directory to start from, or None to start without one.
    :param init_knows: whether an object of ``init`` with the same label is the same object; if
        not, its row is not used.
    :param bodies: number of plain bodies that lie around and hide objects.
    :param disturbers: BOP models folders of other objects that do the same, or folders of any mesh
        files, which are scaled; those whose mesh an object of the model has are left out.
    :param view_prior: the same for all objects, or None for all of SO(3).
    :param distance_m: nearest and farthest distance of the objects, the nearest at least the
        largest diameter.
    :param views: rendered views of each object.
    :param disturber_views: rendered views of each body and each of the ``disturbers``; None:
        one for each 60 ``views``.
    :param series: which of several series of samples; all of a seed are made of the same views,
        bodies and patches.
    :param patches: background patches.
    :param processes: training processes, one thread each; 1 on a GPU. As many render views.
    :param minutes: from the start of the command to its last step, rendering counted; the
        learning rate falls to 0 by then. None when only ``steps`` ends the training.
    :param shared_minutes: whether ``minutes`` are those of all starts together, from first step to
        last. A start that continues from a checkpoint has the time that earlier ones left.
    :param validation: steps between validations on synthetic images.
    :param chances: of what happens to composed images, by name, where they differ from
        :class:`~mrcnet_ros.training.painting.ComposerSpec`.
    """

    usual_spec: ClassVar[Spec]

    name: str
    cache: Path
    models: Path
    labels: dict[int, str] = field(default_factory=dict)
    backgrounds: tuple[Path, ...]
    init: Path | None = None
    init_knows: bool = True
    bodies: int = 24
    disturbers: tuple[Path, ...] = ()
    view_prior: ViewPrior | None = None
    distance_m: tuple[float, float] = (0.4, 1.5)
    views: int
    disturber_views: int | None = None
    series: int = 0
    patches: int = 800
    processes: int = 2
    steps: int
    minutes: float | None = None
    shared_minutes: bool = False
    validation: int
    chances: dict[str, float] = field(default_factory=dict)

    @property
    def views_of_disturbers(self) -> int:
        """Return the rendered views of each body and each of the ``disturbers``."""
        return self.disturber_views or max(1, self.views // VIEWS_FOR_DISTURBER)

    @property
    def sample_seed(self) -> int:
        """Return the seed of the samples of the series."""
        return self.seed + SERIES_APART * self.series

    @property
    def frozen(self) -> Path | None:
        """Return the model whose shared layers are not trained, None without one."""
        return None

    @classmethod
    def converted(cls, name: str, value: Any, values: Mapping[str, Any]) -> Any:
        """Return ``view_prior`` or ``spec``; of the latter the file has only what differs."""
        if name == 'view_prior':
            return None if value is None else view_prior_of(value)
        defaults = cls.usual_spec.to_dict()
        only_known(as_mapping(value, name), defaults, name)
        return cls.usual_spec.from_dict({**defaults, **{
            k: {**defaults[k], **as_mapping(v, f'{name}.{k}')}
            if isinstance(defaults[k], Mapping) else v for k, v in value.items()}})

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

    def check(self) -> None:
        super().check()
        if not self.name.strip():
            raise SpecError('name must not be empty')
        self.at_least_one('views', 'patches', 'processes', 'steps', 'validation')
        if self.disturber_views is not None:
            self.at_least_one('disturber_views')
        near, far = self.distance_m
        if not 0 < near <= far <= FARTHEST_M:
            raise SpecError(f'distance_m must be 0 < near <= far <= {FARTHEST_M:g} in metres, '
                            f'got {near} and {far}')
        for name, value in self.chances.items():
            if not 0 <= value <= 1:
                raise SpecError(f'chances: {name} must be 0 to 1, got {value}')
        if self.minutes is not None and self.minutes <= 0:
            raise SpecError(f'minutes must be positive, got {self.minutes}')
        if self.bodies < 0:
            raise SpecError(f'bodies must not be negative, got {self.bodies}')
        if not 0 <= self.series <= MOST_SERIES:
            raise SpecError(f'series must be 0 to {MOST_SERIES}, got {self.series}; another seed '
                            'gives more')
