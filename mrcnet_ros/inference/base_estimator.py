"""The common part of the estimators of both presets: checks, corrections, loading and closing."""

from __future__ import annotations

import dataclasses
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import BackendError, BoxError, SpecError, UnknownLabelError
from ..geometry.camera import Camera
from ..geometry.camera_doubts import number_doubts
from ..geometry.se3 import Array, lever, moved_covariance
from ..objects import ObjectModel
from ..runtimes.backend import Backend, RuntimeOptions
from ..runtimes.runtime_choice import open_backend
from .depth_correction import DepthCorrection
from .detection_choice import OUTRANKED, Choice, all_count
from .found_plane import PlaneFinder
from .input_checks import all_of, check_inputs, checked_counts
from .known_start import KnownPose
from .laws import Laws
from .model_directory import ModelT
from .poses import (
    Detection,
    FrameResult,
    Measured,
    PoseEstimate,
    Skipped,
    StageClock,
    joined,
    of_positions,
)
from .resting_bodies import Bodies
from .scoring import measured_again
from .support_plane import SupportCorrection, checked_plane

if TYPE_CHECKING:
    from typing import Self

# Of cameras, told by one estimator; a zoom lens has new numbers in each image.
MOST_DOUBTS = 20

TaskT = TypeVar('TaskT')


class BaseEstimator(ABC, Generic[ModelT]):
    """Estimates the poses of known objects in detection boxes.

    :param backend: with the model's graphs loaded; closed with the estimator.
    :param laws: the calibrations of the poses of detections.
    :param laws_followed: those of followed poses; None for the same.
    """

    _camera: Camera | None = None  # the last one
    closed = False
    warns_of_cameras = True  # in the log, of those whose numbers look wrong
    finds_plane = False  # whether the objects of an image tell what plane they stand on

    @property
    def refinements(self) -> int:
        """Return how often the refiner measures each pose; 0 without one."""
        return 0

    @property
    def follows_by(self) -> str:
        """Return what looks at the starts of :meth:`follow`; '' where nothing can."""
        return ''

    @classmethod
    @abstractmethod
    def load(cls, model_dir: Path, meshes_dir: Path | None = None, **options: Any) -> Self:
        """Load a model directory into a runtime; each preset does."""

    @classmethod
    def _opened(cls, model: ModelT, runtime: Mapping[str, Any], **options: Any) -> Self:
        """Load a model into a runtime; close that again where no estimator can be built.

        :param runtime: fields of :class:`RuntimeOptions`.
        """
        backend = open_backend(model, RuntimeOptions(**runtime))
        try:
            return cls(model, backend, **options)
        except BaseException:
            backend.close()
            raise

    def __init__(self, model: ModelT, backend: Backend, laws: Laws | None = None,
                 laws_followed: Laws | None = None) -> None:
        self.model, self.backend = model, backend
        self.laws = Laws() if laws is None else laws
        self.laws_followed = self.laws if laws_followed is None else laws_followed
        self.objects: dict[str, ObjectModel] = {o.label: o for o in model.objects}
        self.centred = [o.centred() for o in model.objects]
        self._index = {o.label: i for i, o in enumerate(model.objects)}
        self._doubted: set[str] = set()
        self._use_sizes()

    def _use_sizes(self) -> None:
        centred = {o.label: o for o in self.centred}
        self._depth = DepthCorrection(centred)
        self._bodies = Bodies(centred)
        self._support = SupportCorrection(self._bodies)
        self._finder = PlaneFinder(self._bodies)

    def assume_sizes_of_meshes(self) -> None:
        """Take all objects to be as large as their meshes, as they are in rendered pictures."""
        for label, item in self.objects.items():
            self.objects[label] = dataclasses.replace(item, size_ratio=1.0)
        self.centred = [item.centred() for item in self.objects.values()]
        self._use_sizes()

    def __call__(self, image_rgb: NDArray[np.uint8], camera: Camera,
                 detections: Sequence[Detection],
                 depth_m: NDArray[np.float32] | None = None) -> list[PoseEstimate]:
        """Return the poses alone; see :meth:`estimate`."""
        return self.estimate(image_rgb, camera, detections, depth_m).poses

    def estimate(self, image_rgb: NDArray[np.uint8], camera: Camera,
                 detections: Sequence[Detection], depth_m: NDArray[np.float32] | None = None,
                 support_plane: ArrayLike | None = None,
                 most: Mapping[str, int] | None = None) -> FrameResult:
        """Estimate the poses of detections; with ``most``, only the best of each object.

        :param image_rgb: (H, W, 3) uint8 RGB.
        :param depth_m: (H, W) float32 depth registered to the image [m], 0 or not finite where
            nothing was measured; corrects the poses of objects that it sees.
        :param support_plane: (4,) a, b, c, d of the plane ``a x + b y + c z + d = 0`` [m] in the
            camera frame that objects may stand on, (a, b, c) towards them; corrects the poses
            of those that stand on it where depth does not. Without it, see ``finds_plane``.
        :param most: how often an object is there at most, by label. Of more detections those are
            answered whose poses are best, the others are skipped as ``outranked``; see
            :mod:`.detection_choice`. Without it, or for other labels, all are answered.
        :return: poses in the order of the detections, and why others have none.
        :raises ImageError: when image or depth has another type or another size than the camera.
        :raises CameraError: when the camera is no :class:`.Camera`.
        :raises SpecError: when a detection is none, or the plane, or that does not face the
            camera, or ``most`` has no counts.
        :raises BackendError: when the estimator is closed.
        """
        self._check(image_rgb, camera, depth_m)
        plane = None if support_plane is None else checked_plane(support_plane)
        choice = self._choice(detections, most)
        first = choice.first()
        result = self._estimate_some(image_rgb, camera, choice, first)
        if choice.rivals():
            clock = StageClock()
            more = choice.in_doubt(self._corrected(
                result.poses, camera, depth_m, plane, choice, self.laws, clock))
            again = self._estimate_some(image_rgb, camera, choice, more)
            result = joined([*result.poses, *again.poses], [*result.skipped, *again.skipped],
                            result, again, FrameResult([], [], clock.seconds))
        return self._finished(result, camera, depth_m, plane, choice, self.laws)

    def estimate_with_each(self, image_rgb: NDArray[np.uint8], camera: Camera,
                           detections: Sequence[Detection], known: Sequence[Measured],
                           most: Mapping[str, int] | None = None) -> list[FrameResult]:
        """Answer once, and return the answer with each of several depth images and planes.

        The network, which takes nearly all of the time, runs once. Without ``most`` the answers
        are those of :meth:`estimate`. With it all detections compete, those too that
        :meth:`estimate` leaves out, so the choice may differ.

        :raises ImageError: when image or a depth image has another type or size than the camera.
        :raises SpecError: when a plane is none, or does not face the camera.
        """
        for item in known:
            self._check(image_rgb, camera, item.depth_m)
        planes = [None if item.support_plane is None else checked_plane(item.support_plane)
                  for item in known]
        choice = self._choice(detections, most)
        result = self._estimate_some(image_rgb, camera, choice, range(len(choice.detections)))
        return [self._finished(result, camera, item.depth_m, plane, choice, self.laws)
                for item, plane in zip(known, planes, strict=True)]

    def _choice(self, detections: Sequence[Detection], most: Mapping[str, int] | None) -> Choice:
        """Return what chooses among detections, and among poses of the centred frames.

        :raises SpecError: when a detection is none, or ``most`` no count of each label.
        """
        return Choice(all_of(detections, Detection), checked_counts({} if most is None else most),
                      {item.label: item for item in self.centred})

    def _estimate_some(self, image: NDArray[np.uint8], camera: Camera, choice: Choice,
                       positions: Sequence[int]) -> FrameResult:
        """Answer the detections at some positions."""
        if len(positions) == 0 and choice.detections:
            return FrameResult([], [])
        return of_positions(self._estimate(
            image, camera, [choice.detections[i] for i in positions]), positions)

    def follow(self, image_rgb: NDArray[np.uint8], camera: Camera, starts: Sequence[KnownPose],
               depth_m: NDArray[np.float32] | None = None,
               support_plane: ArrayLike | None = None) -> FrameResult:
        """Estimate the poses of objects that are expected at about known poses.

        No box is needed, and what stage 1 says of the pose does not count: the refiner starts at
        each known pose where it is loaded, otherwise stage 2 does. Stage 2 finds an object that is
        up to about ten degrees, 5 % of its distance and a tenth of its width away from there. Both
        answer something whatever the image shows; see the score.

        :param image_rgb: (H, W, 3) uint8 RGB.
        :param starts: expected poses; ``detection_index`` of an answer is a position in this list,
            and ``box_xyxy`` is what the mesh covers at the expected pose.
        :param depth_m: as in :meth:`estimate`.
        :param support_plane: as in :meth:`estimate`.
        :return: poses in the order of the starts, of equivalent ones those nearest to them, and
            why others have none: an object that is expected outside the image is ``box_outside``.
        :raises ImageError: when image or depth has another type or another size than the camera.
        :raises SpecError: when models of this preset cannot follow.
        """
        self._check(image_rgb, camera, depth_m)
        centred = [
            dataclasses.replace(start, T_camera_object=self.objects[start.label].to_centred(
                start.T_camera_object)) if start.label in self.objects else start
            for start in all_of(starts, KnownPose)]
        plane = None if support_plane is None else checked_plane(support_plane)
        return self._finished(self._follow(image_rgb, camera, centred), camera, depth_m, plane,
                              all_count(), self.laws_followed)

    def _finished(self, result: FrameResult, camera: Camera, depth_m: NDArray[np.float32] | None,
                  plane: Array | None, choice: Choice, laws: Laws) -> FrameResult:
        """Correct poses by what is known of the scene, and tell the best in the object frames.

        :param result: whose poses are those of the centred frames.
        :param laws: the calibrations of these poses.
        """
        clock = StageClock()
        poses = self._corrected(result.poses, camera, depth_m, plane, choice, laws, clock)
        best = choice.best(sorted(poses, key=lambda p: p.detection_index))
        answered = ({pose.detection_index for pose in best}
                    | {item.detection_index for item in result.skipped})
        skipped = [*result.skipped, *(Skipped(i, 'outranked', OUTRANKED)
                                      for i in range(len(choice.detections)) if i not in answered)]
        return joined([_of_object_frame(pose, self.objects[pose.label]) for pose in best],
                      sorted(skipped, key=lambda s: s.detection_index), result,
                      FrameResult([], [], clock.seconds))

    def _corrected(self, poses: Sequence[PoseEstimate], camera: Camera,
                   depth_m: NDArray[np.float32] | None, plane: Array | None, choice: Choice,
                   laws: Laws, clock: StageClock) -> list[PoseEstimate]:
        """Correct poses of the centred frames by depth image and plane, if any.

        Without a plane, the one that the objects stand on together is looked for. Only poses that
        are chosen say where that is, and whether depth is of this scene.
        """
        if depth_m is not None:
            poses = self._depth.correct(poses, depth_m, camera, choice.best(poses),
                                        laws.depth_laws)
            clock.lap('depth')
        if plane is not None or self.finds_plane:
            standing = (self._finder.correct(poses, choice.best(poses)) if plane is None
                        else self._support.correct(poses, plane))
            poses = [_scored_again(before, after, laws)
                     for before, after in zip(poses, standing, strict=True)]
            clock.lap('plane')
        return list(poses)

    def _check(self, image: NDArray[np.uint8], camera: Camera,
               depth_m: NDArray[np.float32] | None) -> None:
        """Check what an answer needs; tell in the log what looks wrong about a new camera."""
        if self.closed:
            raise BackendError('the estimator is closed; load the model again')
        check_inputs(image, camera, depth_m)
        if camera is self._camera or not self.warns_of_cameras:
            return
        self._camera = camera
        for doubt in number_doubts(camera, 'the camera',
                                   ' (a cropped image needs part=True)'):
            if doubt not in self._doubted and len(self._doubted) < MOST_DOUBTS:
                self._doubted.add(doubt)
                logging.getLogger(__name__).warning('poses may be wrong: %s', doubt)

    def prepare_depth(self) -> None:
        """Read the meshes that depth needs now rather than with the first depth image.

        :raises MeshError: when a mesh cannot be used.
        """
        self._depth.prepare()

    def prepare_plane(self) -> None:
        """Read the meshes that a plane needs now rather than with the first image.

        :raises MeshError: when a mesh cannot be used.
        """
        self._bodies.prepare()

    @abstractmethod
    def _estimate(self, image: NDArray[np.uint8], camera: Camera,
                  detections: Sequence[Detection]) -> FrameResult:
        """Do what :meth:`estimate` does, with an image that fits its camera.

        Poses and covariances are in the objects' centred frames.
        """

    def _follow(self, image: NDArray[np.uint8], camera: Camera,
                starts: Sequence[KnownPose]) -> FrameResult:
        """Do what :meth:`follow` does, with an image that fits its camera.

        :param starts: with poses of the centred frames, like the answers.
        """
        raise SpecError(f'model {self.model.name!r} cannot follow objects between detections; '
                        'only models of the default preset can')

    def close(self) -> None:
        """Let go of the backend's device; nothing can be estimated afterwards."""
        self.closed = True
        self.backend.close()

    def _locate(self, i: int, detection: Detection,
                locate: Callable[[int], TaskT]) -> TaskT | Skipped:
        """Return what a detection's box shows, or why there is no answer to it.

        :param locate: given the object's position in the model; may raise BoxError.
        """
        index = self._index.get(detection.label)
        if index is None:
            text = str(UnknownLabelError(detection.label, self.objects))
            return Skipped(i, 'unknown_label', text)
        try:
            return locate(index)
        except BoxError as error:
            finite = bool(np.isfinite(detection.box_xyxy).all())
            return Skipped(i, 'box_outside' if finite else 'non_finite', str(error))

    def _posed(self, i: int, detection: Detection, T_camera_object: Array,
               score: float, bin_index: int) -> PoseEstimate:
        """Return the answer to a detection; an object smaller than its mesh is that much nearer.

        :param T_camera_object: (4, 4) [m] of an object of its mesh's size.
        :param score: confidence in the pose, 0..1.
        :param bin_index: rotation bin that the pose was refined from.
        """
        item = self.objects[detection.label]
        T = np.array(T_camera_object)
        T[:3, 3] *= item.size_ratio
        return PoseEstimate(item.label, item.object_id, T, score, i,
                            detection.detection_id, np.asarray(detection.box_xyxy, np.float64),
                            bin_index)


def _scored_again(before: PoseEstimate, after: PoseEstimate, laws: Laws) -> PoseEstimate:
    """Return a pose with the score that it has after a plane has corrected it."""
    if not after.stands or after.evidence is None:
        return after
    if before.covariance is None or after.covariance is None:
        # how much surer it is cannot be told; its distance is uncertain no more
        return dataclasses.replace(after, score=max(after.score, after.presence))
    return dataclasses.replace(after, score=laws.score(measured_again(
        after.evidence, before.covariance, after.covariance)))


def _of_object_frame(pose: PoseEstimate, item: ObjectModel) -> PoseEstimate:
    """Return a pose, its covariance and what depth says of it for the object frame.

    A wrong rotation moves the origin of the object, the farther the origin is from the middle.

    :param pose: of the centred frame.
    """
    if not item.middle_m.any():
        return pose
    T = item.from_centred(pose.T_camera_object)
    shift_m = T[:3, 3] - pose.T_camera_object[:3, 3]
    covariance, depth = pose.covariance, pose.depth
    if covariance is not None:
        covariance = moved_covariance(covariance, shift_m)
    if depth is not None:
        back = lever(-shift_m)
        depth = dataclasses.replace(
            depth, T_camera_object=item.from_centred(depth.T_camera_object),
            information=back.T @ depth.information @ back)
    return dataclasses.replace(pose, T_camera_object=T, covariance=covariance, depth=depth)
