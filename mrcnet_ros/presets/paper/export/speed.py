"""How long one object takes through the graphs of the published network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....evaluation.comparison import SETTLE_S
from ....evaluation.speed import TimedAnswer
from ....runtimes.backend import Arrays

RunGraph = Callable[[str, Arrays], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True, eq=False)
class PaperInputs:
    """One detection, in its in-plane turns.

    :param crop: (turns, 4, S, S) float32.
    :param template: (turns, 4, S, S) float32, what would have been drawn.
    :param view: (turns, 3) float32.
    """

    crop: NDArray[np.float32]
    template: NDArray[np.float32]
    view: NDArray[np.float32]


def one_object(run: RunGraph, inputs: PaperInputs) -> tuple[TimedAnswer, dict[str, NDArray[Any]]]:
    """Run all graphs as the estimator does; nothing is cropped and nothing drawn.

    :return: the times, and rotation logits and residual pose.
    """
    classes = np.zeros(len(inputs.crop), np.int64)
    laps = [time.perf_counter()]
    found = run('embed', {'image': inputs.crop, 'class_index': classes})
    coarse = run('stage1', {'x16': found['x16'], 'view': inputs.view})
    laps.append(time.perf_counter())
    drawn = run('embed', {'image': inputs.template, 'class_index': classes})
    laps.append(time.perf_counter())
    fine = run('stage2', {**found, **{f't{name[1:]}': a for name, a in drawn.items()},
                          'view': inputs.view})
    laps.append(time.perf_counter())
    stages = dict(zip(('stage1', 'template', 'stage2'), np.diff(laps).tolist(), strict=True))
    decisive = {'rotation_logits': coarse['rotation_logits'], **fine}
    return TimedAnswer(laps[-1] - laps[0], stages, 0, 0), decisive


def compare_paper(runs: Mapping[str, RunGraph], inputs: PaperInputs, repeats: int,
                  between: Callable[[], object] = lambda: None
                  ) -> tuple[dict[str, list[TimedAnswer]], dict[str, dict[str, NDArray[Any]]]]:
    """Time all runtimes in turns, each time beginning with another.

    :param repeats: timed calls of each, after one that is not.
    :param between: called after each turn.
    :return: times and outputs by runtime.
    """
    times: dict[str, list[TimedAnswer]] = {name: [] for name in runs}
    outputs, names = {}, list(runs)
    for repeat in range(repeats):
        for name in names[repeat % len(names):] + names[:repeat % len(names)]:
            time.sleep(SETTLE_S)
            one_object(runs[name], inputs)
            answer, outputs[name] = one_object(runs[name], inputs)
            times[name].append(answer)
            between()
    return times, outputs


def relative_difference(found: Arrays, expected: Arrays) -> dict[str, float]:
    """Return the largest difference of each output, as a part of its largest value."""
    return {name: float(np.abs(found[name] - array).max() / np.abs(array).max())
            for name, array in expected.items()}
