"""Every parameter of the node, declared once: type, default, bounds, meaning."""

from __future__ import annotations

import dataclasses
import difflib
import math
import textwrap
from dataclasses import dataclass, field
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter

from ..errors import SpecError
from ..inference.backend import PRECISIONS
from ..inference.backends import RUNTIMES
from ..specs import DEFAULT_CROPS
from .detection_reading import FITS, MESSAGES, DetectionSettings, settings_from


def _parameter(
    default: Any, description: str, *, bounds: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (), live: bool = False, items: type | None = None,
) -> Any:
    """Describe a field of :class:`NodeParameters`.

    :param live: it may change while the node is configured.
    :param items: of what type the items are, when the parameter is a list.
    """
    meta = {'description': description, 'bounds': bounds, 'choices': choices, 'live': live,
            'items': items}
    return field(default=default, metadata=meta)


@dataclass(frozen=True, kw_only=True)
class NodeParameters:
    """The parameters of a configured node."""

    model: str = _parameter('', 'model directory (with model.json); required')
    meshes: str = _parameter(
        '', 'directory of the object meshes; empty: the folder meshes of the model')
    backend: str = _parameter(
        'onnxruntime', 'runtime of the networks; auto: the best installed one; the log says which '
        'and why', choices=('auto', *RUNTIMES))
    device: str = _parameter(
        '', "device, by the runtime's own name; empty: its default device")
    precision: str = _parameter(
        'auto', 'precision of the runtime; auto: the lowest one that passed mrcnet verify for '
        'this model on this machine, else fp32', choices=('auto', *PRECISIONS))
    allow_unverified: bool = _parameter(
        False, 'use the given precision even if it has not passed mrcnet verify')
    threads: int = _parameter(
        0, 'CPU threads of the runtime; 0: one for each CPU that the process may use',
        bounds=(0, 256))
    crops: int = _parameter(
        DEFAULT_CROPS, 'rotated crops of each detection whose poses are averaged; fewer crops are '
        'faster and less accurate; the paper preset always uses four', bounds=(1, 32))
    store: str = _parameter(
        '', 'directory that stores rendered templates; empty: the cache folder of the user')
    cache_mb: int = _parameter(
        512, 'memory for template features [MiB]', bounds=(1, 65536))
    preload: bool = _parameter(
        True, 'compute template features when the model is loaded, as many as fit into cache_mb, '
        'so that no frame waits for them')
    image_transport: str = _parameter(
        'raw', 'message type of the topic image: raw: Image, compressed: CompressedImage',
        choices=('raw', 'compressed'))
    image_rectified: bool = _parameter(
        False, 'images are already rectified (image_rect): use P of camera_info, not K and D',
        live=True)
    detections_type: str = _parameter(
        'vision_msgs', 'message type of the topic detections: vision_msgs: Detection2DArray, '
        'yolo_msgs: DetectionArray of yolo_ros, whose package must be installed',
        choices=tuple(MESSAGES))
    label_map: tuple[str, ...] = _parameter(
        (), "labels of the detector's classes, each as NAME=LABEL or NUMBER=LABEL, for instance "
        "['0=can', 'Milk Carton=milk']; names that are not given count as they are", items=str,
        live=True)
    detections_size: tuple[int, ...] = _parameter(
        (), "width and height of the picture that boxes are in [px], a network's input; empty: "
        'boxes are in pixels of the image', items=int, live=True)
    detections_fit: str = _parameter(
        'stretch', 'how the image was fitted into detections_size: stretch: each side on its own, '
        'letterbox: shape kept, centred between bars, pad: shape kept, bars at the bottom or on '
        'the right only', choices=FITS, live=True)
    input_reliability: str = _parameter(
        'best_effort', 'QoS reliability of image, camera_info and detections',
        choices=('best_effort', 'reliable'))
    sync_slop_s: float = _parameter(
        0.0, 'largest difference between the stamps of image, camera_info and detections [s]; '
        '0: stamps must be equal', bounds=(0.0, 10.0))
    queue: int = _parameter(
        10, 'number of messages of each input that wait for their partners; with policy lossless '
        'also number of frames that wait for the estimator', bounds=(1, 1000))
    policy: str = _parameter(
        'latest', 'latest: a newer frame replaces a waiting one; lossless: every frame is '
        'answered, in order', choices=('latest', 'lossless'))
    publish_tf: bool = _parameter(True, 'send a transform for each object to /tf', live=True)
    frame_prefix: str = _parameter(
        '', 'prefix of the frame names in /tf, for instance left/, if several nodes see the same '
        'objects', live=True)
    publish_markers: bool = _parameter(
        True, 'publish object meshes on markers while somebody subscribes', live=True)
    marker_lifetime_s: float = _parameter(
        1.0, 'markers vanish after this time unless they are renewed [s]; 0: never',
        bounds=(0.0, 3600.0), live=True)
    marker_mesh_folder: str = _parameter(
        '', 'URI of the folder where RViz finds the meshes, for instance '
        "package://my_robot/meshes; empty: the node's own files", live=True)
    publish_overlay: bool = _parameter(
        True, 'draw the poses into the image on overlay while somebody subscribes', live=True)
    overlay_rate_hz: float = _parameter(
        10.0, 'highest rate of overlay [Hz]', bounds=(0.01, 1000.0), live=True)
    stable_symmetry: bool = _parameter(
        True, 'of the equivalent poses of a symmetric object, publish the one nearest to its last '
        'pose', live=True)
    smoothing_s: float = _parameter(
        0.0, 'time constant of pose smoothing [s]; 0: no smoothing', bounds=(0.0, 60.0), live=True)
    track_gap_s: float = _parameter(
        1.0, 'an instance that is not seen for longer starts a new track [s]',
        bounds=(0.0, 60.0), live=True)
    track_jump: float = _parameter(
        1.0, 'an instance that moves further between frames starts a new track [diameters]',
        bounds=(0.0, 1000.0), live=True)
    confirm_frames: int = _parameter(
        5, 'number of frames in a row that must agree before ~/confirm_pose answers',
        bounds=(2, 100), live=True)
    confirm_spread_m: float = _parameter(
        0.01, 'poses agree if they are at most this far from their mean [m]', bounds=(0.0, 10.0),
        live=True)
    confirm_spread_rad: float = _parameter(
        0.1, 'poses agree if they are rotated at most this far from their mean [rad]',
        bounds=(0.0, 3.2), live=True)
    confirm_min_score: float = _parameter(
        0.3, 'poses with a lower score do not count for ~/confirm_pose', bounds=(0.0, 1.0),
        live=True)
    min_detection_score: float = _parameter(
        0.0, 'detections with a lower score are ignored', bounds=(0.0, 1.0), live=True)
    max_detections: int = _parameter(
        100, 'if a frame has more known objects, only those with the best scores are estimated',
        bounds=(1, 10000), live=True)
    min_pose_score: float = _parameter(
        0.0, 'poses with a lower score are not published', bounds=(0.0, 1.0), live=True)
    warn_age_s: float = _parameter(
        0.5, '/diagnostics warns if the age of published poses (p95) is higher [s]',
        bounds=(0.0, 3600.0), live=True)
    error_age_s: float = _parameter(
        2.0, '/diagnostics reports an error if the age of published poses (p95) is higher [s]',
        bounds=(0.0, 3600.0), live=True)
    warn_drop_ratio: float = _parameter(
        0.8, '/diagnostics warns if a larger part of the frames is dropped as busy or unpaired',
        bounds=(0.0, 1.0), live=True)
    input_timeout_s: float = _parameter(
        2.0, '/diagnostics reports an error if an input is silent for longer [s]',
        bounds=(0.1, 3600.0), live=True)
    stale_stamp_s: float = _parameter(
        1.0, "/diagnostics warns if stamps differ by more from the node's clock [s]",
        bounds=(0.0, 1e9), live=True)
    autostart: bool = _parameter(True, 'configure and activate at start')

    def __post_init__(self) -> None:
        """Check what concerns several parameters.

        :raises SpecError: when they contradict each other.
        """
        if self.policy == 'lossless' and self.input_reliability != 'reliable':
            raise SpecError(
                f'parameter input_reliability is {self.input_reliability!r} but policy '
                "'lossless' can only answer every frame over 'reliable' inputs; set it so"
            )
        if self.error_age_s < self.warn_age_s:
            raise SpecError(f'parameter error_age_s is {self.error_age_s}, below warn_age_s, '
                            f'which is {self.warn_age_s}; raise it or lower the other')
        self.reading()

    def reading(self) -> DetectionSettings:
        """Return how detections are to be read.

        :raises SpecError: when it contradicts itself.
        """
        return settings_from(self.label_map, self.detections_size, self.detections_fit)


# What ~/set_model may change.
RELOADABLE = ('model', 'meshes', 'backend', 'device', 'precision', 'allow_unverified', 'threads',
              'crops', 'store', 'cache_mb', 'preload', 'label_map')

_FIELDS = {f.name: f for f in dataclasses.fields(NodeParameters)}
_LISTS = {str: Parameter.Type.STRING_ARRAY, int: Parameter.Type.INTEGER_ARRAY}


def declare_parameters(node: Any) -> None:
    """Declare all parameters of a node, which takes over the values it was started with.

    :raises SpecError: naming the parameter, when a value has the wrong type or is out of bounds.
    """
    for name, declared in _FIELDS.items():
        try:
            value = node.declare_parameter(
                name, _for_ros(declared.default), _descriptor(declared)).value
        except ParameterException as error:
            raise SpecError(f'parameter {name}: {error}') from error
        value = _value(name, value)
        if problem := _problem(name, value):
            raise SpecError(problem)
        if value == () and declared.metadata['items']:  # an empty list has no type in ROS
            node.set_parameters([Parameter(name, _LISTS[declared.metadata['items']], [])])


def is_parameter(name: str) -> bool:
    """Tell whether the node has a parameter of that name."""
    return name in _FIELDS


def undeclared_parameters(node: Any) -> dict[str, str]:
    """Return names that the node was given a value for but does not have, each with a remark.

    A file for several nodes may hold names of others, so they are no error.
    """
    # rclpy tells of values from the command line and parameter files nowhere else
    given = getattr(node, '_parameter_overrides', {})
    names = sorted(n for n in given
                   if not node.has_parameter(n) and not n.startswith('qos_overrides.'))
    return {name: _remark(name) for name in names}


def _remark(name: str) -> str:
    near = difflib.get_close_matches(name, _FIELDS, n=1)
    return f'did you mean {near[0]}?' if near else 'the node has no such parameter'


def read_parameters(node: Any) -> NodeParameters:
    """Return the values that the node's parameters have now.

    :raises SpecError: when they contradict each other.
    """
    return NodeParameters(**{name: _value(name, node.get_parameter(name).value)
                             for name in _FIELDS})


def changed_parameters(
    current: NodeParameters, changes: list[Parameter], *, configured: bool,
) -> NodeParameters:
    """Return all values after a change.

    :param changes: may name parameters that are not the node's own; those are left out. A value
        that a parameter has already is no change.
    :param configured: whether the node has been configured; most values are used only then.
    :raises SpecError: when a change must be refused.
    """
    for parameter in changes:
        if parameter.name in _FIELDS and parameter.value is None:
            raise SpecError(f'parameter {parameter.name} cannot be removed; give it a value')
    given = {p.name: _value(p.name, p.value) for p in changes if p.name in _FIELDS}
    changed = {name: value for name, value in given.items() if value != getattr(current, name)}
    for name, value in changed.items():
        if problem := _problem(name, value):
            raise SpecError(problem)
        if configured and not _FIELDS[name].metadata['live']:
            way = 'call ~/set_model' if name in RELOADABLE else 'clean the node up first'
            raise SpecError(f'parameter {name} is read when the node is configured; {way}')
    return dataclasses.replace(current, **changed)


def reloaded_parameters(current: NodeParameters, changes: list[Parameter]) -> NodeParameters:
    """Return all values after a change of the model.

    :param changes: of ``RELOADABLE`` parameters.
    :raises SpecError: when there is another among them, or a value cannot be used.
    """
    changed: dict[str, Any] = {p.name: _value(p.name, p.value) for p in changes}
    if not changed:
        raise SpecError(f'no parameters; give some of {", ".join(RELOADABLE)}')
    for name, value in changed.items():
        if name not in RELOADABLE:
            raise SpecError(f'parameter {name} is not about the model; '
                            f'give some of {", ".join(RELOADABLE)}')
        if problem := _problem(name, value):
            raise SpecError(problem)
        wanted, bounds = type(_FIELDS[name].default).__name__, _FIELDS[name].metadata['bounds']
        if type(value).__name__ != wanted:
            raise SpecError(f'parameter {name} is {value!r}; expected {wanted}')
        if bounds and not bounds[0] <= value <= bounds[1]:
            raise SpecError(f'parameter {name} is {value}; expected {bounds[0]} to {bounds[1]}')
    return dataclasses.replace(current, **changed)


def parameter_table() -> str:
    """Return all parameters as the table of docs/ros_api.md."""
    rows = ['| parameter | default | values | meaning |', '|---|---|---|---|']
    for name, declared in _FIELDS.items():
        meta, default = declared.metadata, declared.default
        values = ', '.join(f'`{c}`' for c in meta['choices']) or _kind(declared)
        if meta['bounds']:
            values += ' {:g} to {:g}'.format(*meta['bounds'])
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        if default == ():
            shown = ''
        star = '*' if meta['live'] else ''
        rows.append(f"| `{name}`{star} | {shown or '(empty)'} | {values} | "
                    f"{meta['description']} |")
    return '\n'.join(rows)


def parameter_list() -> str:
    """Return all parameters with defaults and meanings, for a terminal."""
    lines = []
    for name, declared in _FIELDS.items():
        star = '*' if declared.metadata['live'] else ''
        lines += [f'  {name}{star} ({_for_ros(declared.default)!r})',
                  *textwrap.wrap(declared.metadata['description'], 90,
                                 initial_indent=6 * ' ', subsequent_indent=6 * ' ')]
    return '\n'.join(lines)


def _value(name: str, value: Any) -> Any:
    """Return a value as :class:`NodeParameters` has it; ROS leaves an empty list without one."""
    if name not in _FIELDS or not _FIELDS[name].metadata['items']:
        return value
    if value is None:
        return ()
    return value if isinstance(value, str | bytes) or not hasattr(value, '__iter__') else tuple(
        value)


def _for_ros(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _kind(declared: Any) -> str:
    items = declared.metadata['items']
    return f'list of {items.__name__}' if items else type(declared.default).__name__


def _problem(name: str, value: Any) -> str:
    """Return what a descriptor cannot refuse, '' when there is nothing."""
    choices, items = _FIELDS[name].metadata['choices'], _FIELDS[name].metadata['items']
    if items and not (isinstance(value, tuple) and all(type(v) is items for v in value)):
        shown = list(value) if isinstance(value, tuple) else value
        return f'parameter {name} is {shown!r}; expected a {_kind(_FIELDS[name])}'
    if isinstance(value, float) and not math.isfinite(value):
        return f'parameter {name} is {value}; expected a finite number'
    if not choices or value in choices:
        return ''
    return f'parameter {name} is {value!r}; expected one of {", ".join(choices)}'


def _descriptor(declared: Any) -> ParameterDescriptor:
    choices, bounds = declared.metadata['choices'], declared.metadata['bounds']
    descriptor = ParameterDescriptor(description=declared.metadata['description'],
                                     dynamic_typing=declared.metadata['items'] is not None)
    if choices:
        descriptor.additional_constraints = f'one of {", ".join(choices)}'
    if bounds and isinstance(declared.default, float):
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(bounds[0]), to_value=float(bounds[1]))]
    elif bounds:
        descriptor.integer_range = [
            IntegerRange(from_value=int(bounds[0]), to_value=int(bounds[1]), step=1)]
    return descriptor
