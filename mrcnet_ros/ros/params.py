"""Every parameter of the node, declared once: type, default, bounds, meaning."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from functools import partial

from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter

from ..errors import SpecError
from ..inference.detection_crops import MOST_CROPS
from ..inference.followed import TrackLimits
from ..runtimes.backend import MOST_THREADS, PRECISIONS
from ..runtimes.backends import RUNTIMES
from ..specs import (
    DEFAULT_CROPS,
    DEFAULT_HYPOTHESES,
    DEFAULT_REFINEMENTS,
    MOST_HYPOTHESES,
    MOST_REFINEMENTS,
)
from .detection_reading import FITS, MESSAGES, DetectionSettings, settings_from
from .parameter_values import LISTS, descriptor, for_ros, parameter, problem, value_of
from .rclpy_types import NodeHandle

# Of a model: what ~/set_model may change.
of_model = partial(parameter, reloads=True)
LIMITS = TrackLimits()


@dataclass(frozen=True, kw_only=True)
class NodeParameters:
    """The parameters of a configured node."""

    model: str = of_model('', 'folder of the model (with model.json); required')
    meshes: str = of_model(
        '', 'folder of the object meshes; empty: the folder meshes of the model')
    detector: str = of_model(
        '', 'folder of a model that has a detector: the node then detects the objects itself and '
        'publishes the boxes on ~/detections; empty: boxes come on the topic detections')
    backend: str = of_model(
        'onnxruntime', 'runtime of the networks; auto: the best installed one, and the log says '
        'which one and why', choices=('auto', *RUNTIMES))
    device: str = of_model(
        '', "device, named as the runtime names it; empty: the runtime's default device")
    precision: str = of_model(
        'auto', 'numerical precision of the runtime; auto: the lowest one that passed mrcnet '
        "verify for this model on this machine, else fp32; unless this is fp32, the node's own "
        'detector uses the lowest one that passed mrcnet verify --detector',
        choices=('auto', *PRECISIONS))
    allow_unverified: bool = of_model(
        False, 'use the given precision even if it has not passed mrcnet verify')
    threads: int = of_model(
        0, 'CPU threads of the runtime; 0: one for each CPU that the process may use',
        bounds=(0, MOST_THREADS))
    crops: int = of_model(
        DEFAULT_CROPS, 'number of rotated crops of each detection; their poses are averaged; '
        'fewer crops are faster and less accurate; the paper preset always uses four',
        bounds=(1, MOST_CROPS))
    hypotheses: int = of_model(
        DEFAULT_HYPOTHESES, 'largest number of rotations of each crop that stage 2 starts from; '
        'the outline chooses among the poses; fewer are faster and less accurate; the paper '
        'preset has one',
        bounds=(1, MOST_HYPOTHESES))
    refine: int = of_model(
        DEFAULT_REFINEMENTS, 'number of passes of the refiner over the pose of each detection; no '
        'effect on a model without a refiner',
        bounds=(0, MOST_REFINEMENTS))
    store: str = of_model(
        '', 'folder that stores rendered templates; empty: the cache folder of the user')
    cache_mb: int = of_model(512, 'memory for template features [MiB]', bounds=(1, 65536))
    preload: bool = of_model(
        True, 'compute template features when the model is loaded, as many as fit into cache_mb, '
        'so that no frame waits for them')
    image_transport: str = parameter(
        'raw', 'message type of the topic image: raw: Image, compressed: CompressedImage',
        choices=('raw', 'compressed'))
    depth: str = parameter(
        'off', 'whether the topic depth corrects poses; auto: in frames that have a depth image, '
        'required: in all frames, and frames without a depth image are dropped',
        choices=('off', 'auto', 'required'))
    depth_transport: str = parameter(
        'raw', 'message type of the topic depth: raw: Image, compressed: CompressedImage of '
        'compressedDepth', choices=('raw', 'compressed'))
    support_plane: str = parameter(
        '', 'frame of /tf whose plane z = 0 is the surface that objects stand on, with z up; '
        'corrects the poses of objects that stand on it, unless depth already did; '
        'empty: see find_plane')
    find_plane: bool = of_model(
        True, 'find the plane from three or more objects that stand on it, if support_plane is '
        'not available; corrects their poses unless depth already did; not with the paper preset')
    image_rectified: bool = parameter(
        False, 'images are already rectified (image_rect): use P of camera_info, not K and D',
        live=True)
    detections_type: str = parameter(
        'vision_msgs', 'message type of the topic detections: vision_msgs: Detection2DArray, '
        'yolo_msgs: DetectionArray of yolo_ros, whose package must be installed',
        choices=tuple(MESSAGES))
    label_map: tuple[str, ...] = of_model(
        (), "label of the model for each class of the detector, as NAME=LABEL or NUMBER=LABEL, "
        "for instance ['0=can', 'Milk Carton=milk']; names that are not listed are used as they "
        'are', items=str, live=True)
    detections_size: tuple[int, ...] = parameter(
        (), "width and height of the image that the boxes refer to [px], such as the input of the "
        "detector's network; [1, 1]: boxes are fractions of the camera's image, 0 to 1; empty: "
        "boxes are in pixels of the camera's image", items=int, live=True)
    detections_fit: str = parameter(
        'stretch', 'how the image was resized to detections_size; stretch: each side on its own, '
        'letterbox: shape kept, centred between two bars, pad: shape kept, one bar at the bottom '
        'or on the right; with detections_size [1, 1], letterbox and pad mean a square input',
        choices=FITS, live=True)
    input_reliability: str = parameter(
        'best_effort', 'QoS reliability of all inputs', choices=('best_effort', 'reliable'))
    sync_slop_s: float = parameter(
        0.0, 'largest difference between the stamps of image, camera_info, detections and '
        'depth [s]; 0: stamps must be equal', bounds=(0.0, 10.0))
    queue: int = parameter(
        10, 'number of messages of each input that wait for their partners; with policy lossless '
        'also the number of frames that wait for the estimator', bounds=(1, 1000))
    policy: str = parameter(
        'latest', 'latest: a newer frame replaces a waiting one; lossless: every frame is '
        'answered, in order; needs input_reliability: reliable',
        choices=('latest', 'lossless'))
    publish_tf: bool = parameter(True, 'send a transform for each object to /tf', live=True)
    publish_pose_with_covariance: bool = parameter(
        False, 'publish each instance with its covariance on its own topic, ~/pose/<label>, '
        '~/pose/<label>_2 and so on', live=True)
    frame_prefix: str = parameter(
        '', 'prefix of the frame names in /tf, for instance left/, if several nodes see the same '
        'objects', live=True)
    publish_markers: bool = parameter(
        True, 'publish object meshes on markers while the topic has subscribers', live=True)
    marker_lifetime_s: float = parameter(
        1.0, 'markers vanish after this time unless they are renewed [s]; 0: never',
        bounds=(0.0, 3600.0), live=True)
    marker_mesh_folder: str = parameter(
        '', 'URI of the folder in which RViz finds the meshes, for instance '
        "package://my_robot/meshes; empty: the node's own files", live=True)
    publish_overlay: bool = parameter(
        True, 'publish the image with the drawn poses on overlay while it has '
        'subscribers', live=True)
    overlay_rate_hz: float = parameter(
        10.0, 'highest rate of overlay [Hz]', bounds=(0.01, 1000.0), live=True)
    stable_symmetry: bool = parameter(
        True, 'if an object is symmetric, publish the equivalent pose that is nearest to its last '
        'pose', live=True)
    smoothing_s: float = parameter(
        0.0, 'time constant of pose smoothing [s]; 0: no smoothing', bounds=(0.0, 60.0), live=True)
    track_gap_s: float = parameter(
        1.0, 'an instance that was not seen for longer than this starts a new track; with track, '
        'nothing is followed after a longer time without images [s]',
        bounds=(0.0, 60.0), live=True)
    track_jump: float = parameter(
        1.0, 'an instance that moves further than this between two frames starts a new track '
        '[diameters]', bounds=(0.0, 1000.0), live=True)
    track: bool = parameter(
        False, 'follow instances in the images between detections, by the refiner if the model '
        'has one, otherwise by stage 2')
    track_frame: str = parameter(
        '', 'frame of /tf in which objects rest or move steadily while the camera moves, such as '
        'base_link; names and smoothing use this frame too; empty: the frame of the camera',
        live=True)
    track_min_score: float = parameter(
        LIMITS.min_presence, 'a followed instance needs poses with at least this score; the score '
        'is first corrected for distance, so that far objects are not penalised',
        bounds=(0.0, 1.0), live=True)
    track_lost_s: float = parameter(
        LIMITS.lost_s, 'an instance without such a pose for longer than this is lost until it is '
        'detected again [s]', bounds=(0.0, 10.0), live=True)
    track_unseen: int = parameter(
        LIMITS.unseen, 'an instance is lost after this many successive images with detections '
        'in which no detection gave a good pose of it; 0: never', bounds=(0, 1000), live=True)
    detector_rate_hz: float = parameter(
        2.0, "how often the node's own detector runs while instances are followed [Hz]; without "
        'track it runs on each image', bounds=(0.01, 1000.0), live=True)
    detector_threshold: float = parameter(
        0.25, "boxes of the node's own detector with a lower score are ignored; a lower threshold "
        'finds more objects and more false ones', bounds=(0.01, 0.99), live=True)
    confirm_frames: int = parameter(
        5, 'number of successive poses that must agree before ~/confirm_pose answers; only frames '
        'that show the object with a sufficient score count',
        bounds=(2, 100), live=True)
    confirm_spread_m: float = parameter(
        0.01, 'poses agree if they are at most this far from their mean [m]', bounds=(0.0, 10.0),
        live=True)
    confirm_spread_rad: float = parameter(
        0.1, 'poses agree if they are rotated at most this far from their mean [rad]',
        bounds=(0.0, 3.2), live=True)
    confirm_min_score: float = parameter(
        0.3, 'poses with a lower score do not count for ~/confirm_pose', bounds=(0.0, 1.0),
        live=True)
    min_detection_score: float = parameter(
        0.0, 'detections with a lower score are ignored', bounds=(0.0, 1.0), live=True)
    max_detections: int = parameter(
        LIMITS.most, 'largest number of detections in a frame that get a pose; if there are more, '
        'those with the best scores are used', bounds=(1, 10000), live=True)
    max_instances: int = parameter(
        0, 'largest number of instances of each object in a frame; if there are more, the best '
        'are used, ranked by sqrt(detection score) x pose confidence, times 3 if a plane or depth '
        'corrected the pose; 1: each object exists once, 0: any number',
        bounds=(0, 10000), live=True)
    min_pose_score: float = parameter(
        0.0, 'poses with a lower score are not published', bounds=(0.0, 1.0), live=True)
    warn_age_s: float = parameter(
        0.5, '/diagnostics warns if the age of published poses (p95) is higher [s]',
        bounds=(0.0, 3600.0), live=True)
    error_age_s: float = parameter(
        2.0, '/diagnostics reports an error if the age of published poses (p95) is higher [s]',
        bounds=(0.0, 3600.0), live=True)
    warn_drop_ratio: float = parameter(
        0.8, '/diagnostics warns if a larger share of the frames is dropped as busy, late or '
        'unpaired, comes after a gap (track_gap_s) or lacks the motion of the camera '
        '(track_frame); an input that has a lower rate than the images does not count',
        bounds=(0.0, 1.0), live=True)
    input_timeout_s: float = parameter(
        2.0, '/diagnostics reports an error if an input is silent for longer [s]; with '
        'depth: auto, silent depth is only a warning', bounds=(0.1, 3600.0), live=True)
    stale_stamp_s: float = parameter(
        1.0, "/diagnostics warns if stamps and the node's clock differ by more [s]",
        bounds=(0.0, 1e9), live=True)
    autostart: bool = parameter(True, 'configure and activate the node at start')

    def __post_init__(self) -> None:
        """Check what concerns several parameters.

        :raises SpecError: when they contradict each other.
        """
        if self.policy == 'lossless' and self.input_reliability != 'reliable':
            raise SpecError(
                f'parameter input_reliability is {self.input_reliability!r} but policy '
                "'lossless' needs 'reliable' inputs to answer every frame; set it to 'reliable'"
            )
        if self.marker_mesh_folder and '://' not in self.marker_mesh_folder:
            raise SpecError(f'parameter marker_mesh_folder is {self.marker_mesh_folder!r}; RViz '
                            "finds meshes by URI, for instance 'file:///home/robot/meshes' or "
                            "'package://my_robot/meshes'")
        self.reading()

    def doubts(self) -> list[str]:
        """Return which parameters others leave without effect, and what to do.

        They are not refused, because ``ros2 param load`` sets one after the other.
        """
        found = []
        if self.error_age_s < self.warn_age_s:
            found.append(f'warn_age_s {self.warn_age_s:g} is without effect: error_age_s is '
                         f'{self.error_age_s:g}; raise error_age_s or lower warn_age_s')
        if self.detections_fit != FITS[0] and not (self.detector or self.reading().size):
            found.append(f'detections_fit {self.detections_fit!r} is without effect: '
                         'detections_size is empty; give the width and height of the picture '
                         f'that the boxes belong to, or set detections_fit to {FITS[0]!r}')
        return found

    def reading(self) -> DetectionSettings:
        """Return how detections are to be read.

        :raises SpecError: when it contradicts itself.
        """
        return settings_from(self.label_map, self.detections_size, self.detections_fit)


# the declarations by name
FIELDS = {f.name: f for f in dataclasses.fields(NodeParameters)}


def declare_parameters(node: NodeHandle) -> None:
    """Declare all parameters of a node, which takes over the values it was started with.

    :raises SpecError: naming the parameter, when a value has the wrong type or is out of bounds.
    """
    given = getattr(node, '_parameter_overrides', {})
    given.update({name: said_off(given[name]) for name in FIELDS if name in given})
    for name, declared in FIELDS.items():
        try:
            value = node.declare_parameter(
                name, for_ros(declared.default), descriptor(declared)).value
        except ParameterException as error:
            raise SpecError(f'parameter {name}: {error}') from error
        value = value_of(declared, value)
        if wrong := problem(declared, value):
            raise SpecError(wrong)
        if value == () and declared.metadata['items']:  # an empty list has no type in ROS
            node.set_parameters([Parameter(name, LISTS[declared.metadata['items']], [])])


def said_off(given: Parameter) -> Parameter:
    """Take ``off`` for the word where it is a choice; ROS reads it as a boolean unless quoted."""
    if (given.name in FIELDS and 'off' in FIELDS[given.name].metadata['choices']
            and given.value is False):
        return Parameter(given.name, Parameter.Type.STRING, 'off')
    return given


def is_parameter(name: str) -> bool:
    """Tell whether the node has a parameter of that name."""
    return name in FIELDS


def undeclared_parameters(node: NodeHandle) -> dict[str, str]:
    """Return names that the node was given a value for but does not have, each with a remark.

    A file for several nodes may hold names of others, so they are no error.
    """
    # rclpy tells of values from the command line and parameter files nowhere else
    given = getattr(node, '_parameter_overrides', {})
    names = sorted(n for n in given
                   if not node.has_parameter(n) and not n.startswith('qos_overrides.'))
    return {name: _remark(name) for name in names}


def _remark(name: str) -> str:
    near = difflib.get_close_matches(name, [*FIELDS, 'use_sim_time'], n=1)
    return f'did you mean {near[0]}?' if near else 'the node has no such parameter'


def read_parameters(node: NodeHandle) -> NodeParameters:
    """Return the values that the node's parameters have now.

    :raises SpecError: when they contradict each other.
    """
    return NodeParameters(**{name: value_of(f, node.get_parameter(name).value)
                             for name, f in FIELDS.items()})
