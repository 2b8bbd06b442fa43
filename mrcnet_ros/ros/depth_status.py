"""What /diagnostics tells of depth; from numbers to a status, no topics here."""

from __future__ import annotations

from .diagnostics import Account, Level, Problem, Status
from .drop_counters import DEPTH_REASONS, DEPTH_USES

# So many poses, none of which agrees with the depth image, are no accident.
_ENOUGH_POSES = 10


def depth_status(account: Account, mode: str, residual_m: float | None) -> Status:
    """Tell what depth does for the poses and what keeps it from it.

    :param mode: the parameter ``depth``.
    :param residual_m: median distance of recent poses from the measured surface.
    """
    if mode == 'off':
        return Status('depth', (), 'off')
    recent, total = account.recent, account.total
    frames = recent.get('frames', 0) + recent.get('no_depth', 0)
    problems = [
        Problem(Level.WARN, f'depth of {recent[reason]} of {frames} frames not used, {reason}: '
                            f'{account.reasons.get(reason, "")}')
        for reason in DEPTH_REASONS if recent.get(reason, 0)]
    uses = {use: recent.get(f'depth_{use}', 0) for use in DEPTH_USES}
    seen = sum(uses.values())
    if seen >= _ENOUGH_POSES and uses['none'] == seen:
        problems.append(Problem(Level.WARN, f'depth agrees with none of {seen} poses; see that it '
                                'is registered to the image, in step with it and in the right '
                                'unit, and that the objects are neither shiny nor transparent'))
    counts = ', '.join(f'{use} {count}' for use, count in uses.items())
    values = {f'poses corrected: {use}': str(total.get(f'depth_{use}', 0)) for use in DEPTH_USES}
    values['residual p50 [mm]'] = '' if residual_m is None else f'{1e3 * residual_m:.2f}'
    for reason in DEPTH_REASONS:
        count, text = total.get(reason, 0), account.reasons.get(reason, '')
        values[f'not used {reason}'] = f'{count} ({text})' if count and text else str(count)
    return Status('depth', problems, f'{mode}; poses corrected: {counts}', values)
