"""The estimator and the detector that the node's parameters name, and the handler made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from ..errors import SpecError
from ..inference.poses import Estimator
from ..objects.object_model import ObjectModel, of_other_sizes
from .detection_reading import check_labels, message_type
from .drop_counters import DropCounters
from .frame_handler import Detector, FrameHandler
from .params import NodeParameters
from .transforms import Tree

EstimatorLoader = Callable[[NodeParameters], Estimator]


def load_estimator(parameters: NodeParameters) -> Estimator:
    """Load the model that the parameters name.

    :raises MrcnetError: when model, meshes or backend cannot be used.
    """
    from ..presets.loading import load_any_estimator

    if not parameters.model:
        raise SpecError('parameter model is empty; give the directory of a model')
    estimator = load_any_estimator(
        home_expanded('model', parameters.model),
        home_expanded('meshes', parameters.meshes) if parameters.meshes else None,
        backend=parameters.backend, device=parameters.device, precision=parameters.precision,
        allow_unverified=parameters.allow_unverified, threads=parameters.threads or None,
        crops=parameters.crops, hypotheses=parameters.hypotheses, refine=parameters.refine,
        follows=parameters.track, find_plane=parameters.find_plane, preload=parameters.preload,
        cache_bytes=parameters.cache_mb << 20,
        store_root=home_expanded('store', parameters.store) if parameters.store else None,
    )
    estimator.warns_of_cameras = False  # the node does, in the words of camera_info
    try:
        if parameters.depth != 'off':
            estimator.prepare_depth()
        if parameters.support_plane:
            estimator.prepare_plane()
    except BaseException:
        estimator.close()
        raise
    return estimator


def load_handler(load: EstimatorLoader, parameters: NodeParameters, drops: DropCounters, tree: Tree
                 ) -> FrameHandler:
    """Load everything that answering frames takes; runs in the worker's thread.

    :param drops: counts what cannot be answered.
    :raises MrcnetError: when something cannot be used.
    """
    if not parameters.detector:  # else nothing comes on the topic
        message_type(parameters.detections_type)
    with ExitStack() as opened:  # what is open is closed again where anything raises
        estimator = load(parameters)
        opened.callback(estimator.close)
        check_label_map(parameters, estimator.objects)
        check_can_follow(estimator, parameters)
        detector = load_detector(parameters, estimator.objects)
        if detector is not None:
            opened.callback(detector.close)
        bounds = {label: model.bounds() for label, model in estimator.objects.items()}
        handler = FrameHandler(estimator, bounds, drops, detector=detector, tree=tree,
                               compressed=parameters.image_transport == 'compressed')
        opened.pop_all()
    return handler


def check_label_map(parameters: NodeParameters, known: Iterable[str]) -> None:
    """Make sure that a model knows the labels that detections are mapped to.

    The node's own detector has no map.

    :raises SpecError: naming one that it does not know.
    """
    if not parameters.detector:
        check_labels(parameters.reading().label_map, known)


def check_can_follow(estimator: Estimator, parameters: NodeParameters) -> None:
    """Make sure that a model can do what ``track`` asks for.

    :raises SpecError: when it cannot.
    """
    if parameters.track and not getattr(estimator, 'follows_by', ''):
        raise SpecError('parameter track is true, but this model cannot follow objects between '
                        'detections; only models of the default preset can')


def load_detector(parameters: NodeParameters, known: Mapping[str, ObjectModel]
                  ) -> Detector | None:
    """Load the detector that the parameters name, None when boxes come on a topic.

    :param known: objects of the model of poses, by label.
    :raises MrcnetError: when the directory has no detector, its runtime cannot be used, or it
        finds objects that the model of poses does not know.
    """
    if not parameters.detector:
        return None
    from ..detector.decode import MOST_ANSWERS
    from ..detector.object_detector import ObjectDetector

    # all that it can find: max_detections leaves out boxes, and /diagnostics counts them
    detector = ObjectDetector.load(
        home_expanded('detector', parameters.detector), most=MOST_ANSWERS,
        backend=parameters.backend, device=parameters.device, threads=parameters.threads or None,
        # lower ones are verified for poses and for boxes apart
        precision='fp32' if parameters.precision == 'fp32' else 'auto')
    try:
        check_detector_objects(
            parameters.detector, dict(zip(detector.labels, detector.diameters_m, strict=True)),
            {label: model.diameter_m for label, model in known.items()})
    except SpecError:
        detector.close()
        raise
    return detector


def check_detector_objects(directory: str, found: Mapping[str, float | None],
                           known: Mapping[str, float | None]) -> None:
    """Make sure that the model of poses knows everything that a detector finds.

    :param found: diameters of what the detector finds by label, None where nobody says [m].
    :param known: those of the model.
    :raises SpecError: naming the labels that it does not know, or that mean other objects there.
    """
    unknown = sorted(label for label in found if label not in known)
    if others := of_other_sizes(found, known):
        raise SpecError(f'the detector of parameter detector, {directory!r}, finds '
                        f'{", ".join(others)} of another size than the model has, so these are '
                        'other objects; give a detector and a model of the same objects')
    if unknown:
        raise SpecError(f'the detector of parameter detector, {directory!r}, finds '
                        f'{", ".join(unknown)}, which the model does not know; give a detector '
                        'and a model of the same objects')


def home_expanded(name: str, folder: str) -> Path:
    """Return a folder with ``~`` replaced by the home directory, which no shell has done here.

    :raises SpecError: when there is no such home directory.
    """
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise SpecError(f'parameter {name} is {folder!r} but there is no such home directory; '
                        'give the whole path') from error
