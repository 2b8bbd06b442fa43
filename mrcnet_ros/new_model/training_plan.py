"""Divides the time, and writes the training configuration."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MeshError, ModelError, SpecError
from ..geometry.camera import FARTHEST_M
from ..meshes import mesh_digest
from ..model_json import WEIGHTS_FILE, read_model_json, read_pose_json
from ..objects import ObjectModel
from ..reading.text import yaml_of
from ..specs import ModelSpec, ViewPrior
from ..store.atomic import writing
from ..training.config import TrainConfig
from ..training.disturbers import is_bop, mesh_files
from ..training.identity import check_known, identity_of
from ..training.run_config import config_of, read_config
from ..training.scene_config import SceneConfig
from ..training.training_start import check_device
from ..training.view_bank import check_nearest
from ..training.warm_start import read_start
from .intake import Part
from .request import Request

# Parts of the whole time. What rendering and measuring leave is for the training.
RENDERING, MEASURING = 0.15, 0.1
# Part of the time that is left for training even where rendering is slow.
LEAST_TRAINING = 0.3
# Views of each object: more than in config/train_lmo.yaml do not help.
VIEWS = (40, 3000)
# Plain bodies, and templates of an object, which take time like views.
BODIES = 24
TEMPLATES = 576  # rotation bins of the default preset
# Time for a held-out image, over the time for a view.
IMAGE_VIEWS = 12.0
# Nearest and farthest distance in diameters, as of the objects of LM-O.
NEAREST, FARTHEST = 3.0, 9.0
# models/lmo goes on from its own weights with 0.0008; new rows on frozen layers can take more
RATE, FAST_RATE = 0.0012, 0.004
# the time ends a training, not its steps
STEPS = 1_000_000


@dataclass(frozen=True)
class Plan:
    """How the time is divided."""

    views: int
    train_minutes: float
    images: int


def divide(request: Request, parts: Sequence[Part], view_s: float, spent_s: float,
           most_images: int, least_images: int) -> Plan:
    """Divide the time.

    :param view_s: time to render a view.
    :param spent_s: time since the start.
    :param most_images: number of held-out images that is enough.
    :param least_images: number of held-out images that is needed.
    """
    whole_s = 60.0 * (request.minutes - request.detector_minutes)
    templates_s = 2 * TEMPLATES * view_s / 4 * len(parts)  # they are smaller than views
    views = int((RENDERING * whole_s - templates_s) / (view_s * (len(parts) + BODIES / 60)))
    views = min(max(views, VIEWS[0]), VIEWS[1])
    image_s = IMAGE_VIEWS * view_s
    images = request.images or min(max(int(MEASURING * whole_s / image_s), least_images),
                                   most_images)
    left_s = (whole_s - spent_s - images * image_s - templates_s
              - views * view_s * (len(parts) + BODIES / 60))
    train_s = max(left_s, LEAST_TRAINING * whole_s)
    return Plan(views, round(train_s / 60.0, 3), images)


def read_spec(start: Path) -> ModelSpec:
    """Return the spec of the model that the training starts from.

    :raises ModelError: when it is no model of the default preset.
    """
    values = read_pose_json(start)[1]
    try:
        return ModelSpec.from_dict(values['spec'])
    except (KeyError, TypeError, SpecError) as error:
        raise ModelError(start, f'cannot be the start of a training: {error}',
                         'give a model of the default preset') from error


def check_start_model(start: Path) -> None:
    """Check that a training can start from a model, before anything is rendered.

    :raises ModelError: when it is no model of the default preset, or has no weights.
    """
    read_spec(start)
    if not (start / WEIGHTS_FILE).is_file():
        raise ModelError(
            start, f'has no {WEIGHTS_FILE}, from which a training starts; an installed package '
            'leaves it out', f'get the sources of mrcnet_ros and give --start SOURCES/models/'
            f'{start.name}, or another model directory that has one')


def known_labels(start: Path, objects: Sequence[ObjectModel], prior: ViewPrior | None
                 ) -> list[str]:
    """Return the labels of objects that a model was trained for, so that they keep their weights.

    :return: none if any object of the same label has another mesh, size, middle, symmetry or view
        prior in the model: weights are found by label.
    """
    entries = read_model_json(start)[1]['objects']
    labels = {entry['label'] for entry in entries}
    same = [item for item in objects if item.label in labels]
    try:
        check_known(start, entries, identity_of(same, prior, seed=0), 'they keep their weights')
    except ModelError:
        return []
    return [item.label for item in same]


def known_in_words(start: Path, parts: Sequence[Part], known: Sequence[str]) -> str:
    """Say which objects keep the weights of a model; '' where it has none of them.

    :param known: labels of those that do.
    """
    names = {entry['label'] for entry in read_model_json(start)[1]['objects']}
    same = ', '.join(part.label for part in parts if part.label in names)
    if known or not same:
        return f'{start} knows {same}; they keep their weights' if known else ''
    return (f'{start} was not trained for all of {same} with these meshes, symmetries and '
            'views; all objects are trained as new ones')


def check_new_objects(request: Request, parts: Sequence[Part], known: Sequence[str]) -> None:
    """Check that something is left to be trained.

    :param known: labels of objects that keep their weights; see :func:`known_labels`.
    :raises SpecError: when nothing is.
    """
    if request.fast and len(known) == len(parts):
        raise SpecError(f'{request.start} knows all these objects, so that --fast has nothing to '
                        'train; leave it out to train them further')


def write_config(request: Request, parts: Sequence[Part], plan: Plan, known: Sequence[str]
                 ) -> TrainConfig:
    """Write the training configuration into the work folder and return it.

    :param known: labels of objects that keep their weights; see :func:`known_labels`.
    :raises SpecError: when a changed field cannot be used.
    """
    path = request.work / 'train.yaml'
    values = _values(request, parts, plan, known)
    with writing(path):
        path.write_text('# written by mrcnet new\n' + yaml_of(values), encoding='utf-8')
    return read_config(TrainConfig, path, request.pose_changes)


def check_changes(request: Request, parts: Sequence[Part]) -> TrainConfig:
    """Check the changed fields of the training of poses and its start, before anything is written.

    :return: the configuration, whose times are not planned yet.
    :raises SpecError: when one cannot be used.
    :raises ModelError: when the weights of the start cannot.
    """
    config = config_of(TrainConfig, _values(request, parts, Plan(VIEWS[0], 1.0, 1), []),
                       request.pose_changes, 'training configuration (see --set)')
    check_device(config)
    check_nearest(config.distance_m[0], {p.label: p.diameter_m for p in parts})
    check_disturbers(config, parts)
    if config.init is not None:
        read_start(config.init, config.spec)
    return config


def check_disturbers(config: SceneConfig, parts: Sequence[Part]) -> None:
    """Refuse a mesh of an object among what disturbs.

    A training leaves out the model's own meshes, but those of ``mrcnet new`` are converted, so
    that it does not recognise the files that they come from.

    :raises SpecError: when a folder holds one.
    :raises DatasetError: when a folder holds no mesh.
    """
    own = {mesh_digest(part.source): part for part in parts}
    for folder in config.disturbers:
        for path in [] if is_bop(folder) else mesh_files(folder):
            try:
                part = own.get(mesh_digest(path))
            except MeshError:
                continue
            if part is not None:
                raise SpecError(f'disturbers: {path} is the mesh of {part.label!r} itself; give a '
                                'folder without it')


def _values(request: Request, parts: Sequence[Part], plan: Plan, known: Sequence[str]
            ) -> dict[str, Any]:
    """Return the fields of the training configuration before they are changed."""
    largest, smallest = (f(p.diameter_m for p in parts) for f in (max, min))
    prior, changes = request.view_prior, request.pose_changes
    if changes.get('init') is not None or request.detector_changes.get('init') is not None:
        raise SpecError('init cannot be changed with --set; --start names the model that the '
                        'training starts from')
    # several processes share the gradients of one CPU only, see TrainConfig.check
    alone = changes.get('device', 'cpu') != 'cpu' or bool(changes.get('composers'))
    return {
        'name': request.name, 'output': str(request.work / 'run'),
        'cache': str(request.work / 'views'), 'models': str(request.output / 'objects.yaml'),
        'backgrounds': [str(b) for b in request.backgrounds],
        'distance_m': [round(NEAREST * largest, 4), round(min(
            max(FARTHEST * smallest, 1.5 * NEAREST * largest), FARTHEST_M), 4)],
        'view_prior': dataclasses.asdict(prior) if prior else None,
        'views': plan.views, 'bodies': BODIES, 'patches': 800 if plan.views > 400 else 120,
        'steps': STEPS, 'minutes': plan.train_minutes, 'shared_minutes': True,
        'learning_rate': FAST_RATE if request.fast else RATE, 'warmup': 50,
        'refresh': 50, 'checkpoint': 50, 'validation': STEPS, 'chances': {'occluded': 0.85},
        'init': str(request.start), 'init_knows': bool(known), 'freeze_shared': request.fast,
        'spec': json.loads(json.dumps(read_spec(request.start).to_dict())),
        **({'processes': 1} if alone else {})}
