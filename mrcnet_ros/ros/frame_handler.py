"""From one paired set of input messages to the messages that answer it; no topics here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray

from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..inference.followed import View
from ..inference.poses import Detection, Estimator, FrameResult, PoseEstimate
from ..inference.tracking import Follows
from . import messages
from .camera_path import CameraPath
from .detection_filter import DetectionFilter
from .detection_reading import detections_2d
from .drop_counters import DropCounters
from .following import Following, Instances, limits_of
from .frame_decoding import DecodedFrame, FrameDecoder
from .frames import Answer, Frame, FrameError, Scene
from .message_types import DetectionsMessage
from .params import NodeParameters
from .statuses import detector_facts, estimator_facts
from .tracks import Tracks, object_frame
from .transforms import MotionError, Tree


class Detector(Protocol):
    """What the node needs of :class:`mrcnet_ros.detector.object_detector.ObjectDetector`.

    :param least_score: boxes below are left out.
    """

    least_score: float

    @property
    def labels(self) -> Sequence[str]:
        """Return the labels that it can find."""

    def detect(self, image_rgb: NDArray[np.uint8], camera: Camera) -> list[Detection]:
        """Return what an image shows, best first."""

    def close(self) -> None:
        """Let go of what it runs on."""


class FrameHandler:
    """Answers frames with an estimator; used by one thread.

    :param bounds: by label, (2, 3) [m] lowest and highest mesh coordinates.
    :param compressed: whether images are sensor_msgs/CompressedImage.
    :param drops: counts the detections that got no pose.
    :param detector: finds the objects; None where detections come with the frames.
    """

    def __init__(self, estimator: Estimator, bounds: Mapping[str, Array], drops: DropCounters, *,
                 compressed: bool, detector: Detector | None = None, tree: Tree | None = None
                 ) -> None:
        self._detector, self._tree = detector, tree or Tree()
        self._following: Following | None = None
        self._told_followed = False  # by the last answer that was published
        self._estimator, self.bounds, self._drops = estimator, bounds, drops
        self.objects = estimator.objects
        self._decoder = FrameDecoder(drops, compressed=compressed, plane_of=self._tree.plane)
        self._filter = DetectionFilter(
            drops, estimator.objects, own_detector=detector is not None,
            probable=getattr(getattr(estimator, 'laws', None), 'score_law', None) is not None)
        self._tracks, self._era, self._path = Tracks(estimator.objects), 0, CameraPath()
        self._sent: tuple[tuple[int, int], set[str]] = ((0, -1), set())  # moment, frames in /tf
        self.facts = {**estimator_facts(estimator), **detector_facts(detector)}
        self.doubts = self._filter.doubts

    def answer(self, frame: Frame, parameters: NodeParameters) -> Answer:
        """Estimate all poses of a frame.

        :raises FrameError: when image or camera_info cannot be used.
        """
        answer = self.answer_if_wanted(frame, parameters, (0, 0))
        assert answer is not None
        return answer

    def answer_if_wanted(self, frame: Frame, parameters: NodeParameters,
                         last_answered: tuple[int, int]) -> Answer | None:
        """Estimate all poses of a frame, and with ``track`` look for instances that it followed.

        :param last_answered: moment of the last answered frame. Detections of an earlier one
            correct what is followed; their answer is not to be published.
        :return: None when there are no detections and nothing is followed, unless the last answer
            had what is not followed any more: an empty answer takes that back.
        :raises FrameError: when image or camera_info cannot be used.
        """
        self._begin(frame)
        following = self._begin_following(frame, parameters)
        detects = self._detector is not None and (following is None or following.detector_is_due(
            frame.moment[1], parameters.detector_rate_hz))
        if following is not None and not detects and not self._is_wanted(
                frame, following, last_answered):
            return None
        picture = self._decoder.decode(frame, parameters)
        start = time.perf_counter()
        found = self._found(frame, picture, parameters) if detects else None
        detection_s = time.perf_counter() - start
        picture = self._decoder.with_measured(picture, frame, parameters)
        boxes = frame.detections if found is None else found
        late = frame.moment < last_answered
        T_world_camera = self._camera_at(picture, parameters)
        instances = self._instances(_view(picture, T_world_camera), picture, boxes, following,
                                    parameters, last_answered[1] if late else None)
        if boxes is not None and not late:
            self._filter.see_answers(instances.poses[:instances.detected])
        if found is not None:
            instances = replace(instances, result=replace(instances.result, stage_seconds={
                'detection': detection_s, **instances.result.stage_seconds}))
        answer = self._answer_with(picture, T_world_camera, instances,
                                   len(boxes.detections) if boxes else 0, parameters, late=late)
        return replace(answer, found=found)

    def _begin(self, frame: Frame) -> None:
        self._tree.begin(frame.moment)
        if frame.era != self._era:  # a bag that is shorter than a gap starts again
            self._era = frame.era
            self._tracks.forget_places()
            self._path = CameraPath()

    def _is_wanted(self, frame: Frame, following: Following, last_answered: tuple[int, int]
                   ) -> bool:
        """Tell whether a frame has detections or instances to look for, or takes any back."""
        takes_back = (self._told_followed and not following.tracker
                      and frame.moment > last_answered)
        return frame.has_detections or following.wants(frame.moment[1]) or takes_back

    def _found(self, frame: Frame, picture: DecodedFrame, parameters: NodeParameters
               ) -> DetectionsMessage:
        """Return what the node's own detector finds."""
        assert self._detector is not None
        frame.depth()  # keeps what has come; later images may push it out of the buffer
        self._detector.least_score = parameters.detector_threshold
        found: DetectionsMessage = detections_2d(
            picture.header, self._detector.detect(picture.image, picture.camera))
        return found

    def _begin_following(self, frame: Frame, parameters: NodeParameters) -> Following | None:
        if not parameters.track:
            self._following, self._told_followed = None, False
            return None
        self._following = self._following or Following(
            cast(Follows, self._estimator), late=self._detector is None)
        # poor answers for less than track_lost_s lose nothing, and neither do missing images
        self._following.begin(frame, max(parameters.track_gap_s, parameters.track_lost_s))
        return self._following

    def _instances(self, view: View, picture: DecodedFrame, boxes: DetectionsMessage | None,
                   following: Following | None, parameters: NodeParameters,
                   correct_until: int | None) -> Instances:
        """Estimate what was detected, and follow what was not.

        :param boxes: message of detections, None in an image without.
        :param correct_until: stamp of the last answered image where this is an earlier one [ns].
        """
        estimated = None
        if boxes is not None:
            size = picture.camera.width, picture.camera.height
            detections = self._filter.detections(boxes, size, parameters)
            result = self._estimate(picture, detections, self._filter.most(parameters))
            self._filter.tell_skipped(result, detections)
            estimated = result, self._filter.good_poses(result, parameters)
            self._count_corrections(picture, estimated[1])
        if following is None:
            assert estimated is not None
            result, good = estimated
            return Instances(good, [''] * len(good), len(good), [], result)
        limits = limits_of(parameters)
        if correct_until is None or estimated is None:
            instances = following.answer(view, estimated, limits)
        else:
            instances = following.correct(
                view, estimated[1], limits,
                lambda frame: self._later_view(frame, parameters),
                correct_until)
        self._count_corrections(picture, instances.poses[instances.detected:])
        self._drops.follow(len(following.tracker), len(instances.poses) - instances.detected,
                           [lost.reason for lost in instances.lost])
        return instances

    def _camera_at(self, picture: DecodedFrame, parameters: NodeParameters) -> Array:
        """Return where the camera is in a world that never jumps, (4, 4) [m]."""
        header, fixed = picture.header, parameters.track_frame.lstrip('/')
        T: Array | None
        try:
            T = self._tree.camera(header, fixed) if fixed else np.eye(4)
        except MotionError as error:
            T = None
            self._drops.drop_once(
                'no_camera_motion', f'/tf has no transform from {header.frame_id!r} to '
                f'track_frame {fixed!r} at the stamp of the image: {error}', picture.moment)
        stamp_ns = messages.stamp_ns(header)
        return self._path.at(stamp_ns, (fixed, header.frame_id), T)

    def _later_view(self, frame: Frame, parameters: NodeParameters) -> View | None:
        try:
            picture = self._decoder.decode(frame, parameters)
            return _view(self._decoder.with_measured(picture, frame, parameters),
                         self._camera_at(picture, parameters))
        except FrameError:
            return None  # it was told when it was to be answered

    def _answer_with(self, picture: DecodedFrame, T_world_camera: Array, instances: Instances,
                     detections: int, parameters: NodeParameters, *, late: bool) -> Answer:
        """Name the instances and make the messages.

        :param late: the answer is not published, so that later ones go on as if it were not there.
        """
        poses, transforms = instances.poses, list[TransformStamped]()
        self._tracks.camera_at(T_world_camera)
        if late:
            names = self._tracks.names(poses, parameters, instances.keys, instances.others)
        else:
            self._told_followed = any(instances.keys) or bool(instances.others)
            names, poses = self._tracks.update(messages.stamp_ns(picture.header), poses,
                                               parameters, instances.keys, instances.others)
            if self._tracks.gap_s:
                self._drops.drop(
                    'track_gap', f'the last one came after {self._tracks.gap_s:.3g} s, and '
                    f'track_gap_s is {parameters.track_gap_s:g}; names may pass from one instance '
                    'of an object to another; set track_gap_s to two periods or more')
            if parameters.publish_tf:
                transforms = self._transforms(
                    picture.header, list(zip(names, poses, strict=True)), parameters)
        scene = Scene(picture.image, picture.camera, names, poses, detections)
        return replace(self._messages(picture.header, scene, instances.poses, instances.result),
                       transforms=transforms, detected=instances.detected)

    def _estimate(self, picture: DecodedFrame, detections: list[Detection],
                  most: Mapping[str, int] | None) -> FrameResult:
        if not detections:
            return FrameResult([], [])
        known = (('depth_m', picture.depth_m), ('support_plane', picture.plane), ('most', most))
        given: dict[str, Any] = {name: value for name, value in known if value is not None}
        return self._estimator.estimate(picture.image, picture.camera, detections, **given)

    def _count_corrections(self, picture: DecodedFrame, poses: Sequence[PoseEstimate]) -> None:
        if picture.depth_m is not None:
            self._drops.depth((p.depth.used, p.depth.residual_m) for p in poses if p.depth)
        if picture.plane is not None or getattr(self._estimator, 'finds_plane', False):
            self._drops.plane((p.stands for p in poses), found=picture.plane is None)

    def close(self) -> None:
        """Let go of estimator and detector; nothing can be answered afterwards."""
        self._estimator.close()
        if self._detector is not None:
            self._detector.close()

    def _messages(self, header: Header, scene: Scene, measured: list[PoseEstimate],
                  result: FrameResult) -> Answer:
        named = list(zip(scene.names, scene.estimates, strict=True))
        answer = Answer(
            poses=[messages.pose_stamped(header, pose) for _, pose in named],
            transforms=[], detections=Detection3DArray(header=header),
            scene=scene, measured=measured, result=result, handler=self)
        answer.detections.detections = [
            messages.detection_3d(header, name, pose, self.bounds[pose.label])
            for name, pose in named]
        return answer

    def _transforms(self, header: Header, named: Sequence[tuple[str, PoseEstimate]],
                    parameters: NodeParameters) -> list[TransformStamped]:
        """Return the transforms of instances, without those that would break the tree of /tf.

        An image that was answered already adds new frames only: of two transforms of a frame at
        one stamp, listeners to /tf may take either.

        :param named: instances by name, as without a prefix.
        """
        moment = self._era, messages.stamp_ns(header)
        if moment != self._sent[0] or not parameters.track:
            self._sent = moment, set()
        if not header.frame_id:
            self._drops.drop('no_frame_id', 'the headers of image and camera_info name no frame, '
                             'so nothing is sent to /tf', len(named))
            return []
        sent: list[TransformStamped] = []
        for name, pose in named:
            child = object_frame(parameters.frame_prefix, name)
            refusal = (_own_refusal(child, header, parameters)
                       or self._tree.refusal(child, header.frame_id))
            if child in self._sent[1]:
                continue
            if child in {transform.child_frame_id for transform in sent}:
                refusal = f'{name!r} has the frame {child!r}, as another object has'
            if refusal:
                self._drops.drop('frame_taken', f'the object {refusal}, so it is not sent to /tf; '
                                 'set frame_prefix')
            else:
                sent.append(messages.transform_stamped(header, child, pose))
        self._sent[1].update(transform.child_frame_id for transform in sent)
        self._tree.sent(sent)
        return sent


def _view(picture: DecodedFrame, T_world_camera: Array) -> View:
    return View(picture.image, picture.camera, messages.seconds(messages.stamp_ns(picture.header)),
                T_world_camera, picture.depth_m, picture.plane)


def _own_refusal(child: str, header: Header, parameters: NodeParameters) -> str:
    """Return why an object's frame cannot be in /tf by what the node itself is told, else ''."""
    if child == header.frame_id:
        return f'{child!r} has the name of the frame of the camera'
    for name in ('track_frame', 'support_plane'):
        if child == getattr(parameters, name).lstrip('/'):
            return f'{child!r} has the name of the frame of the parameter {name}'
    return ''
