"""What every training on composed images is told: objects, surroundings, and the schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import SpecError
from ..objects import ObjectModel, load_bop_objects, load_object_list
from ..specs import Spec, ViewPrior

FARTHEST_M = 100.0  # beyond, distances are in another unit


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Fields that the trainings for poses and for the detector share.

    Relative paths are taken from the working directory.

    :param name: of the model.
    :param output: folder of checkpoints and metrics.
    :param cache: folder of rendered views, which runs can share.
    :param models: BOP models folder, or YAML object list.
    :param labels: label by BOP object id, for a BOP folder; also chooses the objects.
    :param backgrounds: folders of photographs and environment maps.
    :param bodies: plain bodies that lie about and hide things.
    :param disturbers: BOP models folder of other objects that do so too, or None.
    :param view_prior: the same for all objects, or None for all of SO(3).
    :param distance_m: nearest and farthest distance of the objects.
    :param views: rendered views of each object.
    :param patches: background patches.
    :param processes: training processes, one thread each; 1 on a GPU.
    :param batch_size: samples of each process in a step.
    :param steps: length of the schedule.
    :param minutes: from the start of the command to its last step, rendering counted; the
        learning rate falls to 0 by then. None when only ``steps`` ends the training.
    :param shared_minutes: whether ``minutes`` are those of all starts together, from first step to
        last: one that goes on from a checkpoint has what the earlier ones left of them.
    :param learning_rate: highest rate, reached after ``warmup`` steps, then a half cosine to 0.
    :param checkpoint: steps between checkpoints.
    :param validation: steps between validations on synthetic images.
    :param spec: of the network.
    :param chances: of what happens to composed images, by name, where they differ from
        :class:`~mrcnet_ros.training.painting.ComposerSpec`.
    :param seed: of everything that is drawn.
    """

    name: str
    output: Path
    cache: Path
    models: Path
    labels: dict[int, str] = field(default_factory=dict)
    backgrounds: tuple[Path, ...] = ()
    bodies: int = 24
    disturbers: Path | None = None
    view_prior: ViewPrior | None = None
    distance_m: tuple[float, float] = (0.4, 1.5)
    views: int
    patches: int = 800
    processes: int = 2
    batch_size: int
    steps: int
    minutes: float | None = None
    shared_minutes: bool = False
    learning_rate: float
    weight_decay: float
    warmup: int
    checkpoint: int
    validation: int
    spec: Spec
    chances: dict[str, float] = field(default_factory=dict)
    seed: int = 0

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


def check_scenes(config: SceneConfig, path: Path) -> None:
    """Refuse values with which nothing can be trained.

    :param path: of the file, for messages.
    :raises SpecError: naming the field.
    """
    if not config.name.strip():
        raise SpecError(f'{path}: name must not be empty')
    at_least_one(config, ('views', 'patches', 'processes', 'batch_size', 'steps', 'checkpoint',
                          'validation'), path)
    near, far = config.distance_m
    if not 0 < near <= far <= FARTHEST_M:
        raise SpecError(f'{path}: distance_m must be 0 < near <= far <= {FARTHEST_M:g} in metres, '
                        f'got {near} and {far}')
    for name, value in config.chances.items():
        if not 0 <= value <= 1:
            raise SpecError(f'{path}: chances: {name} must be 0 to 1, got {value}')
    if config.minutes is not None and config.minutes <= 0:
        raise SpecError(f'{path}: minutes must be positive, got {config.minutes}')
    if config.learning_rate <= 0:
        raise SpecError(f'{path}: learning_rate must be above 0, got {config.learning_rate}')
    for name in ('warmup', 'seed', 'bodies', 'weight_decay'):
        if getattr(config, name) < 0:
            raise SpecError(f'{path}: {name} must not be negative, got {getattr(config, name)}')


def at_least_one(config: object, names: Sequence[str], path: Path) -> None:
    """Refuse counts below one.

    :raises SpecError: naming the field.
    """
    for name in names:
        if getattr(config, name) < 1:
            raise SpecError(f'{path}: {name} must be at least 1, got {getattr(config, name)}')
