"""How soon poses of objects that have vanished are withdrawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# The node promises to give up an object within this time, and two images of 30 Hz are a little
# less or more apart than that.
IN_TIME_S, TOLERANCE_S = 0.2, 1e-6


@dataclass(eq=False)
class _Absence:
    """A followed object of which nothing is visible.

    :param tracks: numbers that it is still followed under.
    :param since_s: time of the first image without it.
    :param until_s: time of the last image without it so far.
    :param given_up_s: time of the image in which it was given up.
    :param missing: whether an image had no pose of it.
    :param poses: images with a pose of it.
    :param again: of these, those after an image without a pose.
    """

    tracks: set[int]
    since_s: float
    until_s: float
    given_up_s: float | None = None
    missing: bool = False
    poses: int = 0
    again: int = 0

    def see(self, time_s: float, tracks: set[int], posed: bool) -> None:
        """Note what an image without it has of it."""
        self.until_s, self.tracks = time_s, tracks
        self.poses += posed
        self.again += posed and self.missing
        self.missing = self.missing or not posed
        if not tracks and self.given_up_s is None:
            self.given_up_s = time_s

    @property
    def counts(self) -> bool:
        """Whether it was away for so long that it should have been given up."""
        return (self.given_up_s is not None
                or self.until_s - self.since_s > IN_TIME_S - TOLERANCE_S)


class Withdrawals:
    """Watches followed objects of which no pixel is visible any more."""

    def __init__(self) -> None:
        self._all: list[_Absence] = []
        self.begin_scene()

    def begin_scene(self) -> None:
        """Forget what is in sight."""
        self._gone: set[int] = set()
        self._open: dict[int, _Absence] = {}

    def see(self, time_s: float, gone: set[int], followed: Mapping[int, int],
            still: Mapping[int, int], posed: Collection[int]) -> None:
        """Note what an image has of the objects that are gone.

        :param gone: instances without a visible pixel.
        :param followed: instance by number of track, before the image.
        :param still: the same after it.
        :param posed: numbers of the tracks that have a pose.
        """
        for instance in gone - self._gone:
            tracks = {number for number, of in followed.items() if of == instance}
            if tracks:
                self._open[instance] = _Absence(tracks, time_s, time_s)
                self._all.append(self._open[instance])
        self._gone = gone
        self._open = {i: absence for i, absence in self._open.items() if i in gone}
        for instance, absence in self._open.items():
            tracks = {n for n in absence.tracks if still.get(n) == instance}
            absence.see(time_s, tracks, not tracks.isdisjoint(posed))

    def figures(self) -> dict[str, Any]:
        """Return how many vanished, when they were given up, and what was said of them.

        Absences that ended within the promised time count only where the object was given up.
        """
        counted = [absence for absence in self._all if absence.counts]
        after_s = [a.given_up_s - a.since_s for a in counted if a.given_up_s is not None]
        in_time = sum(s < IN_TIME_S + TOLERANCE_S for s in after_s)
        return {
            'vanished': len(counted), 'in_time': in_time,
            'in_time_share': in_time / len(counted) if counted else None,
            'median_s': float(np.median(after_s)) if after_s else None,
            'worst_s': max(after_s, default=None), 'never': len(counted) - len(after_s),
            'poses': sum(a.poses for a in counted),
            'poses_after_withdrawal': sum(a.again for a in counted)}


def withdrawals_line(figures: Mapping[str, Any]) -> str:
    """Return :meth:`Withdrawals.figures` in words.

    :param figures: with ``visible_given_up``, the number of visible objects that were given up.
    """
    if not figures['vanished']:
        return 'vanished: no followed object'
    times = ('' if figures['median_s'] is None else
             f' (median {figures["median_s"]:.3f} s, worst {figures["worst_s"]:.3f} s)')
    return (f'vanished: {figures["vanished"]}, given up within {IN_TIME_S:g} s: '
            f'{figures["in_time"]}, never: {figures["never"]}{times}; poses of them: '
            f'{figures["poses"]}, after an image without: {figures["poses_after_withdrawal"]}; '
            f'visible objects given up: {figures["visible_given_up"]}')
