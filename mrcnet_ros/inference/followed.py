"""The state of a followed instance, the images it is searched in, and the result."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..geometry.camera import Camera
from ..geometry.se3 import Array, displaced
from .motion import Motion
from .poses import FrameResult, PoseEstimate

# Expected poses this long are kept, to recognise detections of earlier images.
HISTORY_S = 2.0
# Scores of two models cannot be compared, so an answer is compared with the best one since the
# instance's last detection, that of the detection included. Where the refiner follows, the
# detection's score is of another stage, but both are probabilities. Where an object is gone,
# stage 2 turns the pose anew in each image: three of four answers by 10 degrees and more, nine of
# ten answers to a present object by less than 7. So a turned answer needs a better score;
# docs/experiments.md has the figures. With these limits the refiner gives up as soon;
# docs/tracking.md has its figures.
MIN_PART, PART_PER_RAD = 0.3, float(1.0 / np.radians(30.0))
# Why an instance is lost: a poor answer, an answer far from the expected pose, another instance at
# its place or instead of it, no good answer to a detection, the border of the image, no image to
# look at for too long.
LOSSES = ('score', 'gate', 'contested', 'unseen', 'outside', 'gap')


@dataclass(frozen=True, kw_only=True)
class TrackLimits:
    """When an instance counts as lost.

    :param min_presence: answers with a lower :attr:`.poses.PoseEstimate.presence` are rejected.
    :param min_score: answers with a lower score are rejected, too.
    :param min_part: so are answers whose presence is below this part of the instance's best one
        since its last detection.
    :param part_per_rad: added to that part for each radian between an answer and the expected
        pose.
    :param lost_s: an instance without an accepted answer is given up after this time.
    :param unseen: an instance is given up after this many images with detections in a row of
        which none had a good answer that is its own; 0: never.
    :param most: largest number of instances that are followed. It may change under way.
    :param instances: largest number of them of each label; 0: any. It may change under way.
    """

    min_presence: float = 0.2
    min_score: float = 0.0
    min_part: float = MIN_PART
    part_per_rad: float = PART_PER_RAD
    lost_s: float = 0.15
    unseen: int = 4
    most: int = 100
    instances: int = 0

    def are_met(self, pose: PoseEstimate) -> bool:
        """Tell whether an answer is good enough to follow its object."""
        return pose.presence >= self.min_presence and pose.score >= self.min_score

    def are_met_by_next(self, pose: PoseEstimate, best_presence: float, turn_rad: float) -> bool:
        """Tell whether an answer to a followed instance counts.

        :param best_presence: of the instance since its last detection.
        :param turn_rad: between the answer and the expected pose.
        """
        part = self.min_part + self.part_per_rad * turn_rad
        return self.are_met(pose) and pose.presence >= part * best_presence


@dataclass(frozen=True, eq=False)
class View:
    """One image and from where it was taken.

    :param image_rgb: (H, W, 3) uint8.
    :param time_s: when.
    :param T_fixed_camera: (4, 4) [m]; the identity where the camera's motion is not known.
    :param support_plane: (4,) in the camera frame, that objects stand on; None for none.
    """

    image_rgb: NDArray[np.uint8]
    camera: Camera
    time_s: float
    T_fixed_camera: Array = field(default_factory=lambda: np.eye(4))
    depth_m: NDArray[np.float32] | None = None
    support_plane: Array | None = None


@dataclass(frozen=True)
class Lost:
    """An instance that is followed no longer.

    :param reason: one of ``LOSSES``.
    """

    track: int
    label: str
    reason: str


@dataclass(frozen=True, eq=False)
class Followed:
    """What became of the instances in one image.

    :param poses: of those that were found; ``detection_index`` is a position in this list.
    :param lost: those that were given up.
    """

    poses: list[PoseEstimate]
    tracks: list[int]
    lost: list[Lost]
    result: FrameResult


@dataclass(eq=False)
class Track:
    """One instance; its poses are those of the centred frame.

    :param presence: of the latest answer, see :attr:`.poses.PoseEstimate.presence`.
    :param best_presence: the highest since its last detection, that of the detection included.
    :param seen_s: time of the latest image that a detection of it was in.
    :param detected: the last answer to a detection of it that counted.
    """

    number: int
    label: str
    detection_id: str
    motion: Motion
    presence: float
    found_s: float
    best_presence: float
    seen_s: float
    detected: PoseEstimate
    refused: str = ''
    unseen: int = 0
    history: deque[Motion] = field(default_factory=lambda: deque(maxlen=200))

    def at(self, time_s: float) -> Motion:
        """Return where the instance is expected, or was, at a time.

        Between two images that it was found in it was between both places. What its speed led to
        expect there may be farther off, and would correct later places that were right.
        """
        count = sum(m.time_s <= time_s for m in self.history)
        before = (self.history[count - 1] if count else self.motion).ahead(time_s)
        if not 0 < count < len(self.history):
            return before
        start, end = self.history[count - 1], self.history[count]
        part = (time_s - start.time_s) / (end.time_s - start.time_s)
        return replace(before, T_fixed_object=displaced(
            start.T_fixed_object, part * start.innovation(end.T_fixed_object)))

    def go_on(self, motion: Motion, presence: float) -> None:
        """Take over an answer."""
        self.motion, self.presence, self.refused = motion, presence, ''
        self.found_s = motion.time_s
        self.best_presence = max(self.best_presence, presence)
        while self.history and (self.history[-1].time_s >= motion.time_s):
            self.history.pop()
        self.history.append(motion)
        while self.history[0].time_s < motion.time_s - HISTORY_S:
            self.history.popleft()

    def mend(self, before: Motion, after: Motion) -> None:
        """Take over a correction of an image that was followed already.

        It moves the instance since then as far as at that time.

        :param before: motion at the time of that image.
        :param after: the same, corrected.
        """
        change = before.innovation(after.T_fixed_object)
        self.motion = self.motion.moved(change)
        for i, motion in enumerate(self.history):
            if motion.time_s >= after.time_s:
                self.history[i] = motion.moved(change)
