"""The configuration of a training of the paper preset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ....cpus import usable_cpus
from ....datasets.catalogue import facts_of
from ....errors import SpecError
from ....objects import ObjectModel, load_bop_objects
from ....objects.object_files import read_models_info
from ....reading.fields import only_known
from ....training.run_config import RunConfig, as_mapping
from ..spec import PaperSpec

PAPER_FIELDS = tuple(f.name for f in dataclasses.fields(PaperSpec))
DEPTHS = ('depth_near', 'depth_far')
PRECISIONS = ('float32', 'bfloat16', 'float16')


@dataclass(frozen=True, kw_only=True)
class PaperTrainConfig(RunConfig):
    """A training run of the paper preset on a BOP dataset; the defaults are the published ones.

    :param dataset: BOP dataset folder, which holds the splits and the models.
    :param spec: of the network; in the file only what differs from the published numbers of the
        dataset, and for other datasets at least ``depth_near`` and ``depth_far``.
    :param models: folder of the meshes; '' for that of the published training, or ``models``.
    :param object_ids: of the classes, in class order; () for those of the published network, or
        all that there are.
    :param backgrounds: folders of photographs for images with several instances of an object.
    :param imagenet: state dict of an ImageNet ResNet-34 in torchvision's names to start from.
    :param steps: length of the schedule instead of ``epochs``.
    :param final_rate: lowest rate, at both ends of the schedule.
    :param precision: of the convolutions: ``float32``, or autocast to ``bfloat16`` or, on a GPU
        and with scaled gradients, ``float16``. Heads, poses and losses are float32.
    :param workers: processes of each training process that make samples; 0 makes them in it,
        the default is one for each CPU that may be used, but not more than eight.
    :param label_vertices: how many vertices of each mesh labels and losses use, evenly taken;
        None for all, as published.
    :param log: steps between lines of metrics.
    """

    preset: ClassVar[str] = 'paper'

    dataset: Path
    spec: PaperSpec
    splits: tuple[str, ...] = ('train_pbr',)
    models: str = ''
    object_ids: tuple[int, ...] = ()
    backgrounds: tuple[Path, ...] = ()
    imagenet: Path | None = None
    batch_size: int = 16
    epochs: int = 75
    steps: int | None = None
    learning_rate: float = 2e-4
    final_rate: float = 5e-6
    weight_decay: float = 1e-3
    warmup: int = 1000
    precision: str = 'float32'
    workers: int = field(default_factory=lambda: min(8, usable_cpus()))
    label_vertices: int | None = None
    checkpoint: int = 1000
    log: int = 50

    @property
    def models_dir(self) -> Path:
        """Return the folder of the meshes."""
        return self.dataset / (self.models or facts_of(self.dataset.name).training_models)

    def load_objects(self) -> list[ObjectModel]:
        """Return the objects in class order.

        :raises DatasetError: when the models folder cannot be used or lacks one of them.
        :raises MeshError: when a mesh is missing.
        """
        ids = self.class_ids(self.models_dir)
        objects = load_bop_objects(self.models_dir, ids)
        return [objects[i] for i in ids]

    def class_ids(self, models_dir: Path) -> tuple[int, ...]:
        """Return the object ids in class order.

        :param models_dir: folder whose objects are the classes where nothing else names them.
        :raises DatasetError: when it is needed and cannot be used.
        """
        return (self.object_ids or facts_of(self.dataset.name).network_object_ids
                or tuple(sorted(read_models_info(models_dir))))

    @classmethod
    def converted(cls, name: str, value: Any, values: Mapping[str, Any]) -> Any:
        """Return the field ``spec``; all others are handled by :func:`fitted`."""
        only_known(as_mapping(value, name), PAPER_FIELDS, name)
        dataset = Path(str(values.get('dataset', ''))).name
        known = facts_of(dataset).network_depth_range
        depths = {} if known is None else dict(zip(DEPTHS, known, strict=True))
        given = {'dataset': dataset, **depths, **value}
        missing = [n for n in DEPTHS if n not in given]
        if missing:
            raise SpecError(f'{name} lacks {" and ".join(missing)}')
        return PaperSpec.from_dict({**PaperSpec(depth_near=0.1, depth_far=1.0).to_dict(), **given})

    def check(self) -> None:
        super().check()
        self.at_least_one('epochs', 'log', *(
            name for name in ('steps', 'label_vertices') if getattr(self, name) is not None))
        if not 0 <= self.final_rate <= self.learning_rate:
            raise SpecError(f'final_rate must be 0 to learning_rate ({self.learning_rate}), got '
                            f'{self.final_rate}')
        if self.workers < 0:
            raise SpecError(f'workers must not be negative, got {self.workers}')
        if self.precision not in PRECISIONS:
            raise SpecError(f'precision must be one of {PRECISIONS}, got {self.precision!r}')
        if len(set(self.object_ids)) < len(self.object_ids):
            raise SpecError(f'object_ids names an object twice: {self.object_ids}')
        spec = self.spec
        if not 0 < spec.depth_near < spec.depth_far:
            raise SpecError(f'depth_near ({spec.depth_near}) must be positive and below '
                            f'depth_far ({spec.depth_far})')
        if spec.size_px < 32 or spec.size_px % 32:
            raise SpecError(f'size_px must be a multiple of 32, got {spec.size_px}')
