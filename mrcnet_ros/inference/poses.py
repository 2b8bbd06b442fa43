"""Inputs and outputs of the estimator."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BoxError, SpecError
from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..objects import ObjectModel
from .depth_fit import DepthFit
from .scoring import Evidence
from .uncertainty import PoseSpread

SkipReason = Literal['unknown_label', 'box_outside', 'non_finite', 'outranked']


@dataclass(frozen=True, eq=False)
class Detection:
    """A known object seen in an image.

    :param box_xyxy: (4,) float64 [px] x1, y1, x2, y2; may reach beyond the image.
    :param score: confidence of the detector, 0..1.
    :param detection_id: the detector's or tracker's name of this instance, '' if it has none.
    :raises BoxError: when the box is not four numbers. One that is not finite gets no pose.
    :raises SpecError: when label or id is no text, or the score no number.
    """

    label: str
    box_xyxy: Array
    score: float = 1.0
    detection_id: str = ''

    def __post_init__(self) -> None:
        """Copy the box as floats: sums of small integers wrap around."""
        for name, value in (('label', self.label), ('detection_id', self.detection_id)):
            if not isinstance(value, str):
                raise SpecError(f'{name} of a detection must be text, got {value!r}')
        if not isinstance(self.score, (int, float, np.number)):
            raise SpecError(f'score of a detection must be a number, got {self.score!r}')
        try:
            box = np.array(self.box_xyxy, dtype=np.float64)
        except (TypeError, ValueError):
            box = np.empty(0)
        if box.shape != (4,):
            raise BoxError(f'box of a detection must be four numbers x1, y1, x2, y2, got '
                           f'{self.box_xyxy!r}')
        object.__setattr__(self, 'box_xyxy', box)


@dataclass(frozen=True, eq=False)
class PoseEstimate:
    """The pose of one detected object.

    :param object_id: BOP number of the object.
    :param T_camera_object: (4, 4) float64 [m].
    :param score: confidence in the pose, 0..1: the probability that the mean surface error is
        below a tenth of the diameter, if the model is calibrated.
    :param detection_index: position of its detection in the list given to the estimator.
    :param box_xyxy: (4,) float64 [px], of the detection.
    :param bin_index: rotation bin of stage 1 that it was refined from, -1 when there is none; of
        the paper preset counted through the turns of the crop.
    :param covariance: (6, 6) float64, symmetric positive definite: x, y, z [m], then the rotation
        vector about the camera's axes [rad] that turns the estimate into the truth; None where
        the model is not calibrated for it, or where ``spread`` is None.
    :param spread: what stage 1 leaves open about the pose, from which the covariance comes; None
        where the model is not calibrated for it, and of a followed pose whose start has none.
    :param joint_spread: what stage 1 and depth leave open together; None where depth was not used,
        or where the pose has no covariance.
    :param depth: how the pose agrees with the depth image; None without one. Where it says that
        depth was used, covariance and score are those with depth.
    :param stands: whether the pose was corrected because the object stands on a plane.
    :param evidence: what the score comes from; None of the paper preset.
    :param usual_score: the score that the pose would have at the usual distance of the
        calibration, before a plane corrects it; None where that is the score, such as where depth
        has measured the distance.
    """

    label: str
    object_id: int
    T_camera_object: Array
    score: float
    detection_index: int
    detection_id: str
    box_xyxy: Array
    bin_index: int = -1
    covariance: Array | None = None
    spread: PoseSpread | None = None
    joint_spread: PoseSpread | None = None
    depth: DepthFit | None = None
    evidence: Evidence | None = None
    stands: bool = False
    usual_score: float | None = None

    @property
    def presence(self) -> float:
        """Return how sure it is that the object is there, 0..1, far away or not.

        The score of a far object is low although it is clearly seen: one camera does not tell to a
        tenth of its diameter where it is.
        """
        return self.score if self.usual_score is None else self.usual_score

    @property
    def by_depth(self) -> bool:
        """Return whether depth has corrected the pose."""
        return self.depth is not None and self.depth.is_used

    @property
    def corrected(self) -> bool:
        """Return whether a plane or depth has corrected the pose."""
        return self.stands or self.by_depth

    @property
    def quality(self) -> float:
        """Return the network's own confidence in the pose, 0..1."""
        return self.score if self.evidence is None else self.evidence.quality

    @property
    def share(self) -> float:
        """Return how probable the pose is beside others of the object, 0..1."""
        return 1.0 if self.evidence is None else self.evidence.share

    @property
    def residual_m(self) -> float | None:
        """Return how far the surface is from measured depth; None where depth was not used."""
        return self.depth.residual_m if self.depth is not None and self.depth.is_used else None


@dataclass(frozen=True)
class Skipped:
    """A detection without a pose."""

    detection_index: int
    reason: SkipReason
    message: str


@dataclass(frozen=True, eq=False)
class FrameResult:
    """All answers for one image.

    :param stage_seconds: time by stage: crop, stage1, template, stage2, decode, refine, depth,
        plane.
    :param cache_hits: templates whose features were in memory.
    :param cache_misses: templates whose features had to be computed.
    :param rows: that each stage has computed: crops in stage 1, hypotheses in stage 2, poses
        times passes in refine; empty where they are not counted.
    """

    poses: list[PoseEstimate]
    skipped: list[Skipped]
    stage_seconds: dict[str, float] = field(default_factory=dict)
    cache_hits: int = 0
    cache_misses: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)


class StageClock:
    """Adds up time by stage.

    :param seconds: by stage.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Count the time since the last lap for a stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def of_positions(result: FrameResult, positions: Sequence[int]) -> FrameResult:
    """Return a result of some detections as one of all.

    :param positions: of those detections among all.
    """
    return replace(
        result, poses=[replace(p, detection_index=positions[p.detection_index])
                       for p in result.poses],
        skipped=[replace(s, detection_index=positions[s.detection_index])
                 for s in result.skipped])


def joined(poses: list[PoseEstimate], skipped: list[Skipped], *parts: FrameResult) -> FrameResult:
    """Return a result with what several answers to one image took together."""
    seconds: dict[str, float] = {}
    rows: Counter[str] = Counter()
    for part in parts:
        rows.update(part.rows)
        for stage, spent in part.stage_seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + spent
    return FrameResult(poses, skipped, seconds, sum(part.cache_hits for part in parts),
                       sum(part.cache_misses for part in parts), rows)


@dataclass(frozen=True, eq=False)
class Measured:
    """What is known of a scene beside its colour image; None where it is not.

    :param depth_m: (H, W) float32 depth registered to the image [m], 0 or not finite where
        nothing was measured.
    :param support_plane: (4,) a, b, c, d of the plane ``a x + b y + c z + d = 0`` [m] in the
        camera frame that objects may stand on, (a, b, c) towards them.
    """

    depth_m: NDArray[np.float32] | None = None
    support_plane: Array | None = None


class Estimator(Protocol):
    """What node, evaluation and demo need of the estimators of all presets."""

    @property
    def objects(self) -> Mapping[str, ObjectModel]:
        """Return the known objects by label."""

    def estimate(self, image_rgb: NDArray[np.uint8], camera: Camera, detections: list[Detection],
                 depth_m: NDArray[np.float32] | None = None, *,
                 most: Mapping[str, int] | None = None) -> FrameResult:
        """Return the poses of the detected objects.

        :param depth_m: (H, W) [m]; left out where there is none.
        :param most: how often an object is there at most, by label; of more detections those with
            the best poses are answered.
        """

    def assume_sizes_of_meshes(self) -> None:
        """Take all objects to be as large as their meshes, as they are in rendered images."""

    def close(self) -> None:
        """Let go of what it runs on."""
