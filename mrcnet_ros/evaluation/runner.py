"""Runs an estimator over the images of a dataset and keeps its answers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..datasets.bop import BopFrame, ResultRow, ResultsWriter
from ..datasets.boxes import BoxSource
from ..datasets.known_view import KnownView
from ..errors import DatasetError
from ..geometry.se3 import Array
from ..inference.detection_choice import candidates
from ..inference.poses import Detection, Estimator, FrameResult, PoseEstimate

DepthUse = Literal['off', 'auto', 'required']


@dataclass
class Run:
    """The results so far.

    :param rows: estimates, also in the CSV file.
    :param poses: the same ones, as the estimator returned them.
    :param seconds: time for each image, from decoded pixels to poses, with that of the detector.
    :param stage_seconds: the same by stage; ``detection`` where the boxes are a detector's.
    :param skipped: detections without a pose by reason; ``not_in_model`` and ``no_box`` are
        targets for which the estimator was never asked.
    :param runtime: of the estimator: name, version, device and precision.
    :param size_ratios: of the objects, by object id, that the estimates were made with.
    """

    frames: list[BopFrame] = field(default_factory=list)
    rows: list[ResultRow] = field(default_factory=list)
    poses: list[PoseEstimate] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    stage_seconds: list[dict[str, float]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    cache_hits: int = 0
    cache_misses: int = 0
    runtime: dict[str, str] = field(default_factory=dict)
    size_ratios: dict[int, float] = field(default_factory=dict)

    def unscaled_rows(self) -> list[ResultRow] | None:
        """Return the estimates of objects as large as their meshes.

        :return: None when the model has no sizes, and when poses are :meth:`corrected`.
        """
        if not self._sized() or self.corrected():
            return None
        return [_unscaled(row, self.size_ratios.get(row.object_id, 1.0)) for row in self.rows]

    def corrected(self) -> bool:
        """Tell whether poses of a model with sizes do not depend on these alone.

        A plane or depth has corrected some of them, so there are no estimates without sizes.
        """
        return self._sized() and any(pose.corrected for pose in self.poses)

    def _sized(self) -> bool:
        return any(ratio != 1.0 for ratio in self.size_ratios.values())


FrameAction = Callable[[BopFrame, NDArray[np.uint8], list[ResultRow]], object]


def run_frames(
    frames: Iterable[BopFrame], estimator: Estimator, boxes: BoxSource,
    writer: ResultsWriter | None, run: Run, after_frame: FrameAction | None = None, *,
    depth: DepthUse = 'off',
) -> None:
    """Estimate the poses of all targets, one image after the other.

    Each image's rows are in the file before the next image is touched, and ``run`` is complete
    for all images done, so that nothing is lost when an image raises. Times are those of detector
    and poses together.

    :param writer: None when no file is wanted.
    :param after_frame: called with each image done and its rows.
    :param depth: whether depth images correct the poses: never, where there is one, or always.
    :raises DatasetError: when depth is required and an image has none.
    """
    for frame in frames:
        image = frame.load_image()
        detections, missing = detections_of(frame, estimator, boxes)
        run.skipped.update(missing)
        depths = _depths(frame, depth)
        start = time.perf_counter()
        result = estimator.estimate(image, frame.camera, detections, *depths,
                                    most=most_of(frame, estimator))
        seconds = time.perf_counter() - start + boxes.seconds(frame)
        if boxes.seconds(frame):
            result = replace(result, stage_seconds={'detection': boxes.seconds(frame),
                                                    **result.stage_seconds})
        rows = frame_rows(frame, result.poses, seconds)
        if writer is not None:
            writer.write(rows)
        _remember(run, frame, result, rows, seconds)
        if after_frame is not None:
            after_frame(frame, image, rows)


def frame_rows(frame: BopFrame, poses: Iterable[PoseEstimate], seconds: float = -1.0
                ) -> list[ResultRow]:
    """Return the poses of an image as rows of a result file.

    :param seconds: time for the image, -1 where it was not measured.
    """
    return [ResultRow(frame.scene_id, frame.image_id, pose.object_id, pose.score,
                      pose.T_camera_object, seconds, pose.residual_m) for pose in poses]


def _depths(frame: BopFrame, use: DepthUse) -> list[NDArray[np.float32]]:
    """Return the depth image that is to be used, none or one.

    :raises DatasetError: when one is required and there is none.
    """
    found = None if use == 'off' else frame.load_depth_m()
    if found is None and use == 'required':
        raise DatasetError(f'image {frame.image_path}: has no depth image; give --depth auto to '
                           'estimate such images from colour alone')
    return [] if found is None else [found]


def detections_of(frame: BopFrame, estimator: Estimator, boxes: BoxSource
                  ) -> tuple[list[Detection], Counter[str]]:
    """Return the detections of known targets, and counts of the targets that have none.

    There may be a few more than instances; poses choose among them.
    """
    labels = {model.object_id: label for label, model in estimator.objects.items()}
    found = boxes.find(frame)
    known = [Detection(labels[f.object_id], f.box_xyxy, f.score)
             for f in found if f.object_id in labels]
    boxes_of = Counter(f.object_id for f in found)
    unfound = Counter(frame.targets) - boxes_of
    wanted = boxes_of if frame.targets_unknown else boxes_of & Counter(frame.targets)
    unknown = sum(count for i, count in wanted.items() if i not in labels)
    missing = Counter(not_in_model=unknown, no_box=unfound.total())
    detections = [known[i] for i in candidates(known, _counts(frame, labels))]
    return detections, +missing


def most_of(frame: BopFrame, estimator: Estimator) -> dict[str, int]:
    """Return how often each target object is in an image, by label; nothing where unknown."""
    return _counts(frame, {model.object_id: label for label, model in estimator.objects.items()})


def unanswered(result: FrameResult) -> list[str]:
    """Return why detections have no pose, but for those that are more than there are instances."""
    return [s.reason for s in result.skipped if s.reason != 'outranked']


def _counts(frame: BopFrame, labels: Mapping[int, str]) -> dict[str, int]:
    """Return how often each target object is in an image, by label; nothing where unknown."""
    if frame.targets_unknown:
        return {}
    return {labels[i]: count for i, count in frame.targets.items() if i in labels}


def estimate_view(view: KnownView, estimator: Estimator) -> Array | None:
    """Return the pose that an estimator gives, (4, 4) [m]; None when it gives none."""
    detection = Detection(view.label, view.box_xyxy)
    poses = estimator.estimate(view.image, view.camera, [detection]).poses
    return poses[0].T_camera_object if poses else None


def _unscaled(row: ResultRow, size_ratio: float) -> ResultRow:
    """Undo the effect of a size ratio: a larger object is farther away by the same factor."""
    T = row.T_camera_object.copy()
    T[:3, 3] /= size_ratio
    return replace(row, T_camera_object=T)


def _remember(run: Run, frame: BopFrame, result: FrameResult, rows: list[ResultRow], seconds: float
              ) -> None:
    run.frames.append(frame)
    run.rows += rows
    run.poses += result.poses
    run.seconds.append(seconds)
    run.stage_seconds.append(result.stage_seconds)
    run.skipped.update(unanswered(result))
    run.cache_hits += result.cache_hits
    run.cache_misses += result.cache_misses


def depth_figures(poses: Sequence[PoseEstimate]) -> dict[str, Any]:
    """Return how often depth corrected a pose, and how well poses and depth agree then.

    :return: ``corrected`` counts by what was corrected; medians of ``agreement`` (0 to 1) and
        ``residual_m`` of the corrected poses, None without any.
    """
    fits = [pose.depth for pose in poses if pose.depth is not None]
    used = [fit for fit in fits if fit.is_used]
    return {
        'corrected': dict(Counter(fit.used for fit in fits)),
        'agreement': float(np.median([f.agreement for f in used])) if used else None,
        'residual_m': float(np.median([f.residual_m for f in used])) if used else None,
    }


def depth_line(poses: Sequence[PoseEstimate]) -> str:
    """Return a line about the depth images of a run, empty without any."""
    figures = depth_figures(poses)
    counts = figures['corrected']
    if not counts:
        return ''
    parts = ', '.join(f'{text} {counts[used]}' for used, text in (
        ('pose', 'whole pose corrected'), ('distance', 'distance corrected'),
        ('none', 'unchanged')) if used in counts)
    residual = figures['residual_m']
    return f'depth: {parts}' + (
        '\n' if residual is None else f'; {1e3 * residual:.1f} mm off the surface (median)\n')
