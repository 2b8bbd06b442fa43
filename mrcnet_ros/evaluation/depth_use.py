"""How depth images changed the poses of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..inference.poses import PoseEstimate


def depth_figures(poses: Sequence[PoseEstimate]) -> dict[str, Any]:
    """Return how often depth corrected a pose, and how well poses and depth agree then.

    :return: ``corrected`` counts by what was corrected; medians of ``agreement`` (0 to 1) and
        ``residual_m`` of the corrected poses, None without any.
    """
    fits = [pose.depth for pose in poses if pose.depth is not None]
    used = [fit for fit in fits if fit.used != 'none']
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
