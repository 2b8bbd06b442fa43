"""How fast an estimator answers: cold, warm, and one object at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.bop import BopFrame
from ..datasets.boxes import BoxSource
from ..geometry.camera import Camera
from ..inference.poses import Detection, Estimator, FrameResult
from .report import stage_medians_ms
from .runner import detections_of

# Of a usual lens of a usual camera. What its raw images cost is measured on the same pixels.
DISTORTION = ('plumb_bob', (-0.2, 0.05, 0.001, -0.0007, 0.0))
# Passes of a repeat: cold, rolling, warm and single objects (both rectified and raw).
PASSES = 4


@dataclass(frozen=True, eq=False)
class Question:
    """An image, decoded, with its detections.

    :param depth_m: (H, W) its depth image [m]; None where there is none.
    """

    image_rgb: NDArray[np.uint8]
    camera: Camera
    detections: list[Detection]
    depth_m: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class TimedAnswer:
    """The times and counts of one call.

    :param rows: that each stage of the network has computed, where they are counted.
    """

    seconds: float
    stage_seconds: dict[str, float]
    cache_hits: int
    cache_misses: int
    poses: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Measurements:
    """All calls, by the state of the feature cache.

    :param cold: whole images, the cache emptied before each.
    :param rolling: whole images one after the other from an empty cache on, as in use.
    :param warm: whole images seen before, the cache holding their templates.
    :param distorted: as warm, each image taken for one of a camera with :data:`DISTORTION`.
    :param depth: as warm, of images that have a depth image, with it.
    :param without_depth: of warm, those of the same images.
    :param single_object: calls with one detection of an image seen before.
    :param single_distorted: the same with :data:`DISTORTION`.
    """

    cold: list[TimedAnswer] = field(default_factory=list)
    rolling: list[TimedAnswer] = field(default_factory=list)
    warm: list[TimedAnswer] = field(default_factory=list)
    distorted: list[TimedAnswer] = field(default_factory=list)
    depth: list[TimedAnswer] = field(default_factory=list)
    without_depth: list[TimedAnswer] = field(default_factory=list)
    single_object: list[TimedAnswer] = field(default_factory=list)
    single_distorted: list[TimedAnswer] = field(default_factory=list)


def questions(frames: Iterable[BopFrame], estimator: Estimator, boxes: BoxSource
              ) -> list[Question]:
    """Decode all images beforehand, so that only the estimator is measured.

    Images without a detection of a known object are left out.
    """
    asked = [Question(frame.load_image(), frame.camera,
                      detections_of(frame, estimator, boxes)[0], frame.load_depth_m())
             for frame in frames]
    return [question for question in asked if question.detections]


def measure_speed(estimator: Estimator, forget: Callable[[], None], asked: Sequence[Question],
                  repeats: int, progress: Callable[[], object] = lambda: None) -> Measurements:
    """Measure all states in turn, several times, so that load affects all alike.

    The first image is answered once before, because the first call allocates memory.

    :param forget: empties the estimator's cache of template features.
    :param progress: called after each pass over the images; there are :data:`PASSES` a repeat.
    """
    result, bent = Measurements(), [distorted(question) for question in asked]
    ask(estimator, asked[0])
    for _ in range(repeats):
        for question in asked:
            forget()
            result.cold.append(ask(estimator, question))
        progress()
        forget()
        result.rolling += [ask(estimator, question) for question in asked]
        progress()
        for raw in bent:  # other crops, which need other templates
            ask(estimator, raw)
        for straight, raw in zip(asked, bent, strict=True):  # in turn: a busy moment hits both
            result.warm.append(ask(estimator, straight))
            result.distorted.append(ask(estimator, raw))
            if straight.depth_m is not None:
                result.without_depth.append(result.warm[-1])
                result.depth.append(ask(estimator, straight, depth=True))
        progress()
        for straight, raw in zip(asked, bent, strict=True):
            for detection in straight.detections:
                for question, answers in ((straight, result.single_object),
                                          (raw, result.single_distorted)):
                    answers.append(ask(estimator, Question(
                        question.image_rgb, question.camera, [detection])))
        progress()
    return result


def distorted(question: Question) -> Question:
    """Return the same question with a camera that distorts, the same one if it does already."""
    camera = question.camera
    if camera.lens is not None:
        return question
    K = camera.K * [[1, 0, 1], [1, 1, 1], [1, 1, 1]]  # lenses have no skew
    model, coefficients = DISTORTION
    raw = Camera(K, camera.width, camera.height, model, coefficients)
    return Question(question.image_rgb, raw, question.detections)


def ask(estimator: Estimator, question: Question, *, depth: bool = False) -> TimedAnswer:
    """Time one call.

    :param depth: whether the depth image is given, too.
    """
    return ask_for(estimator, question, depth=depth)[0]


def ask_for(estimator: Estimator, question: Question, *, depth: bool = False
            ) -> tuple[TimedAnswer, FrameResult]:
    """Time one call, and return its result, too."""
    depths = [question.depth_m] if depth else []
    start = time.perf_counter()
    result = estimator.estimate(question.image_rgb, question.camera, question.detections, *depths)
    seconds = time.perf_counter() - start
    return TimedAnswer(seconds, result.stage_seconds, result.cache_hits, result.cache_misses,
                       len(result.poses), result.rows), result


def speed_summary(answers: Sequence[TimedAnswer]) -> dict[str, Any]:
    """Return medians over calls; rates are those of the median call."""
    seconds = [a.seconds for a in answers]
    hits, misses = sum(a.cache_hits for a in answers), sum(a.cache_misses for a in answers)
    median = float(np.median(seconds))
    return {
        'calls': len(answers),
        'images_per_second_median': 1.0 / median,
        'image_median_ms': 1e3 * median,
        'image_p95_ms': 1e3 * float(np.percentile(seconds, 95)),
        'stage_median_ms': stage_medians_ms([a.stage_seconds for a in answers]),
        'cache_hit_rate': hits / (hits + misses) if hits + misses else None,
    }


def ask_at_rate(estimator: Estimator, asked: Sequence[Question], rate_hz: float, duration_s: float
                ) -> list[TimedAnswer]:
    """Ask in turn at the rate of a camera; late questions are left out."""
    answers: list[TimedAnswer] = []
    start, number = time.perf_counter(), 0
    while number / rate_hz < duration_s:
        time.sleep(max(0.0, start + number / rate_hz - time.perf_counter()))
        answers.append(ask(estimator, asked[number % len(asked)]))
        number = max(number + 1, int((time.perf_counter() - start) * rate_hz))
    return answers
