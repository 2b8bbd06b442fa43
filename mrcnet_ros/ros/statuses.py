"""How the node is doing, part by part; from numbers to statuses, no topics here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..inference.followed import LOSSES
from ..inference.poses import Estimator
from ..objects import ObjectModel
from ..specs import ViewPrior
from .diagnostics import Level, Problem, Status
from .drop_counters import DEPTH_REASONS, DEPTH_USES, DETECTION_REASONS, FRAME_REASONS
from .params import NodeParameters
from .timings import PERCENTILES

if TYPE_CHECKING:
    from .frame_handler import Detector

# Reasons for a missing pose that an operator should look into; the others are normal.
WORRYING = ('unknown_label', 'no_label', 'non_finite', 'too_many', 'no_frame_id', 'frame_taken',
            'repeated')
BAD_FRAMES = ('bad_message', 'bad_image', 'bad_camera_info', 'failed')
# If depth agrees with none of this many poses, something is wrong.
_ENOUGH_POSES = 10
# Fewer images tell nothing of rates.
_ENOUGH_IMAGES = 10


@dataclass(frozen=True)
class Account:
    """What became of frames and detections.

    :param span_s: over how many seconds ``recent`` counts.
    :param recent: counts of that time by name, those of :class:`DropCounters`.
    :param total: counts since the start.
    :param reasons: last message of each reason.
    :param percentiles_s: ``PERCENTILES`` of recent ages and stages [s].
    :param busy_s: how long the present frame has taken so far, 0 without one [s].
    :param doubts: what looks wrong of recent boxes and poses.
    :param following: instances that are followed now, None without ``track``.
    :param depth_came: for how many recent images depth came, and how many these images are.
    :param held: whether messages have had to wait for the node, with the policy lossless.
    """

    span_s: float
    recent: Mapping[str, int]
    total: Mapping[str, int]
    reasons: Mapping[str, str]
    percentiles_s: Mapping[str, Sequence[float]]
    busy_s: float = 0.0
    doubts: Sequence[Problem] = ()
    following: int | None = None
    depth_came: tuple[int, int] = (0, 0)
    held: bool = False


def pose_status(account: Account, limits: NodeParameters, why_unpaired: Problem | None) -> Status:
    """Judge what comes out.

    :param limits: the thresholds.
    :param why_unpaired: what is known of images without partners; of level OK when nothing is
        wrong.
    """
    problems = [*_frame_problems(account, limits, why_unpaired),
                *_detection_problems(account, limits), *_age_problems(account, limits),
                *(Problem(Level.WARN, doubt) for doubt in limits.doubts())]
    if (count := account.recent.get('no_camera_motion', 0)) > (
            limits.warn_drop_ratio * account.recent.get('frames', 0)):
        problems.append(Problem(
            Level.WARN, f'camera motion unknown in {count} images, so the camera is '
                        'assumed to be still: '
                        f'{account.reasons.get("no_camera_motion", "")}'))
    if (count := account.recent.get('track_gap', 0)) > (
            limits.warn_drop_ratio * account.recent.get('frames', 0)):
        problems.append(Problem(
            Level.WARN, f'{count} frames come too late after the one before to recognise '
                        f'instances: {account.reasons.get("track_gap", "")}'))
    if faults := account.recent.get('faults', 0):
        problems.append(Problem(Level.WARN, f'{faults} errors in the node itself, the log has the '
                                            f'traceback: {account.reasons.get("faults", "")}'))
    frames, poses = account.recent.get('frames', 0), account.recent.get('poses', 0)
    rate = frames / account.span_s if account.span_s > 0 else 0.0
    summary = f'{rate:.1f} frames/s with {poses} poses in {account.span_s:.0f} s'
    if frames and not poses and not account.recent.get('detections', 0):
        summary = f'{rate:.1f} frames/s, in which the detector found nothing'
    if account.recent.get('unpaired', 0) and why_unpaired and why_unpaired.level == Level.OK:
        summary += f'; {why_unpaired.text}'
    return Status('poses', problems, summary, {'rate [Hz]': f'{rate:.2f}', **_values(account)})


def _frame_problems(account: Account, limits: NodeParameters, why_unpaired: Problem | None
                    ) -> list[Problem]:
    recent, found = account.recent, []
    frames = recent.get('frames', 0)
    received = frames + sum(recent.get(r, 0) for r in FRAME_REASONS if r != 'stopped')
    severe = Level.WARN if frames else Level.ERROR
    for reason in BAD_FRAMES:
        if count := recent.get(reason, 0):
            found.append(Problem(severe, f'{count} of {received} frames {reason}: '
                                         f'{account.reasons.get(reason, "")}'))
    if (count := recent.get('no_depth', 0)) and not _fewer_depths(account):
        found.append(Problem(severe, f'{count} of {received} frames no_depth, which depth: '
                                     f'required drops: {account.reasons.get("no_depth", "")}'))
    reasons = {'busy': 'the estimator is slower',
               'late': 'a frame with a later stamp was already answered'}
    if why_unpaired is None or why_unpaired.level != Level.OK:
        reasons['unpaired'] = why_unpaired.text if why_unpaired else ''
    for reason, why in reasons.items():
        count = recent.get(reason, 0)
        ratio = count / received if received else 0.0
        if (reason == 'unpaired' and count and not frames) or ratio > limits.warn_drop_ratio:
            found.append(Problem(severe, f'{count} of {received} frames {reason}'
                                 + (f': {why}' if why else '')))
    return found


def _detection_problems(account: Account, limits: NodeParameters) -> list[Problem]:
    recent = account.recent
    # who maps some classes of a detector wants no others, as long as the map leads to poses
    chosen = ('unknown_label',) if limits.label_map and recent.get('poses', 0) else ()
    found = [Problem(Level.WARN, f'{recent[reason]} detections {reason}: '
                                 f'{account.reasons.get(reason, "")}')
             for reason in WORRYING if recent.get(reason, 0) and reason not in chosen]
    found += account.doubts
    if recent.get('detections', 0) and not recent.get('poses', 0) and not found:
        counts = ', '.join(
            f'{r} {recent[r]}' + (f' ({account.reasons[r]})' if account.reasons.get(r) else '')
            for r in DETECTION_REASONS if recent.get(r, 0))
        found.append(Problem(Level.WARN, f'no detection led to a pose: {counts}'))
    return found


def _hang_problems(account: Account, limits: NodeParameters) -> list[Problem]:
    if account.busy_s <= limits.error_age_s:
        return []
    return [Problem(Level.ERROR, f'one frame has taken {account.busy_s:.0f} s so far; if that '
                    'does not end, the estimator or its device hangs: check the device, then '
                    'restart the node')]


def _age_problems(account: Account, limits: NodeParameters) -> list[Problem]:
    if hang := _hang_problems(account, limits):
        return hang
    ages = account.percentiles_s.get('age')
    if not ages or ages[1] <= min(limits.warn_age_s, limits.error_age_s):
        return []
    level = Level.ERROR if ages[1] > limits.error_age_s else Level.WARN
    own_s = sum(account.percentiles_s.get(name, (0.0, 0.0))[1]
                for name in ('waiting', 'answering', 'publishing'))
    text = f'poses are {ages[1]:.3g} s old when published (p95)'
    if account.held:
        text += (', because the node is slower than the images and policy lossless keeps them '
                 'all; slow their source down, or set policy to latest')
    elif own_s < ages[1] / 2:
        text += (f', of which the node took {own_s:.3g} s; their images or boxes come late, or '
                 'have stamps of another clock')
    return [Problem(level, text)]


def _values(account: Account) -> dict[str, str]:
    values = {name: str(account.total.get(name, 0)) for name in ('frames', 'detections', 'poses')}
    for reason in FRAME_REASONS + DETECTION_REASONS:
        values[f'dropped {reason}'] = _counted(account, reason)
    if account.following is not None:
        values['followed now'] = str(account.following)
        values['poses followed'] = str(account.total.get('followed', 0))
        for name in ('lost', *(f'lost {reason}' for reason in LOSSES)):
            values[name] = str(account.total.get(name, 0))
    if count := account.total.get('no_camera_motion', 0):
        values['images without camera motion'] = (
            f'{count} ({account.reasons.get("no_camera_motion", "")})')
    if count := account.total.get('track_gap', 0):
        values['frames after a gap'] = f'{count} ({account.reasons.get("track_gap", "")})'
    values['faults of the node'] = str(account.total.get('faults', 0))
    for name, seconds in account.percentiles_s.items():
        for percent, value in zip(PERCENTILES, seconds, strict=True):
            values[f'{name} p{percent} [ms]'] = f'{1e3 * value:.2f}'
    return values


def _counted(account: Account, reason: str) -> str:
    """Return how often something happened, and the text of the last time."""
    count, text = account.total.get(reason, 0), account.reasons.get(reason, '')
    return f'{count} ({text})' if count and text else str(count)


def model_status(state: str, error: str, loading: str, facts: Mapping[str, str],
                 total: Mapping[str, int]) -> Status:
    """Tell which model is loaded and how often its templates were in memory.

    :param error: of the last attempt to configure, '' when it succeeded.
    :param loading: what is being done to get a model, '' when none is being loaded.
    """
    hits, misses = total.get('cache_hits', 0), total.get('cache_misses', 0)
    problems = []
    if state == 'configuring':
        problems.append(Problem(Level.WARN, f'the node is configuring: {loading}'))
    elif error:
        problems.append(Problem(Level.ERROR, error))
    elif state != 'active':
        problems.append(Problem(Level.WARN, f'the node is {state}; nothing is answered'))
    values = {'state': state, **facts, 'template cache hits': str(hits),
              'template cache misses': str(misses),
              'template cache hit rate': f'{hits / max(1, hits + misses):.3f}'}
    if loading:
        values['loading'] = loading
    return Status('model', problems, f'active with {facts.get("model", "a model")}', values)


def idle_status(name: str, state: str, problems: Sequence[Problem] = (),
                values: Mapping[str, str] | None = None) -> Status:
    """Return a part's status while the node does not listen.

    An aggregator takes a status that no longer comes for an error, so each is always published.
    That the node does not answer is told by the status ``model``.

    :param problems: which there are all the same.
    :param values: which are to be told all the same.
    """
    return Status(name, problems, f'the node is {state} and does not listen', values or {})


def idle_pose_status(state: str, account: Account, limits: NodeParameters) -> Status:
    """Return the status of poses while the node does not listen; the last frame may hang."""
    return idle_status('poses', state, _hang_problems(account, limits), _values(account))


def depth_status(account: Account, mode: str, residual_m: float | None) -> Status:
    """Tell what depth does for the poses and what keeps it from it.

    :param mode: the parameter ``depth``.
    :param residual_m: median distance of recent poses from the measured surface.
    """
    if mode == 'off':
        return Status('depth', (), 'off')
    recent, total = account.recent, account.total
    frames, fewer = recent.get('frames', 0) + recent.get('no_depth', 0), _fewer_depths(account)
    problems = [
        Problem(Level.WARN, f'depth of {recent[reason]} of {frames} frames not used, {reason}: '
                            f'{account.reasons.get(reason, "")}')
        for reason in DEPTH_REASONS
        if recent.get(reason, 0) and not (reason == 'depth_late' and fewer)]
    uses = {use: recent.get(f'depth_{use}', 0) for use in DEPTH_USES}
    seen = sum(uses.values())
    if seen >= _ENOUGH_POSES and uses['none'] == seen:
        problems.append(Problem(Level.WARN, f'depth agrees with none of {seen} poses; check that '
                                'it is registered to the image, has its stamp and the right '
                                'unit, and that the objects are neither shiny nor transparent'))
    counts = ', '.join(f'{use} {count}' for use, count in uses.items())
    values = {f'poses corrected: {use}': str(total.get(f'depth_{use}', 0)) for use in DEPTH_USES}
    values['residual p50 [mm]'] = '' if residual_m is None else f'{1e3 * residual_m:.2f}'
    for reason in DEPTH_REASONS:
        values[f'not used {reason}'] = _counted(account, reason)
    return Status('depth', problems, f'{mode}; poses corrected: {counts}{fewer}', values)


def _fewer_depths(account: Account) -> str:
    """Return that depth comes for fewer images than colour, '' when that explains too little.

    At least half of the depth images must be used; otherwise many come late as well.
    """
    (came, images), recent = account.depth_came, account.recent
    asked = recent.get('frames', 0) + recent.get('no_depth', 0)
    unused = max(recent.get('no_depth', 0), sum(recent.get(r, 0) for r in DEPTH_REASONS))
    if not 0 < came < images >= _ENOUGH_IMAGES or (asked - unused) * images < 0.5 * asked * came:
        return ''
    return f'; depth comes for {came} of {images} images'


def support_status(account: Account, frame: str, *, finds: bool) -> Status:
    """Tell what the support plane does for the poses, and what keeps it from it.

    :param frame: the parameter ``support_plane``; '' where the plane is found in the images.
    :param finds: whether the estimator can find one there.
    """
    recent, total = account.recent, account.total
    missing, text = recent.get('plane_missing', 0), account.reasons.get('plane_missing', '')
    problems = [Problem(Level.WARN, f'no support plane for {missing} frames: {text}')
                ] if missing else []
    stand, found = recent.get('plane_stands', 0), recent.get('plane_found', 0)
    if frame:
        stands = f'{frame}: {stand} poses corrected, {found} by a plane found in the images'
    else:
        stands = f'found in the images: {found} poses corrected'
    text = (f'{stands}; {recent.get("plane_left", 0)} not corrected (not on the plane, no plane, '
            'or already corrected by depth)' if frame or finds else
            'cannot find a plane: the model has no covariance calibration; run mrcnet calibrate '
            '--write')
    counts = {'poses corrected: plane': 'plane_stands',
              'poses corrected: found plane': 'plane_found', 'poses left alone': 'plane_left',
              'frames without the plane': 'plane_missing'}
    return Status('support_plane', problems, text,
                  {name: str(total.get(count, 0)) for name, count in counts.items()})


def estimator_facts(estimator: Estimator) -> dict[str, str]:
    """Return what is known of a model, the runtime that it runs on, and what it can do."""
    model, backend = getattr(estimator, 'model', None), getattr(estimator, 'backend', None)
    facts = {'model': getattr(model, 'name', ''), 'directory': getattr(model, 'path', ''),
             'backend': getattr(backend, 'name', ''), 'device': getattr(backend, 'device', ''),
             'precision': getattr(backend, 'precision', ''),
             'objects': ', '.join(sorted(estimator.objects)),
             'finds plane': 'yes' if getattr(estimator, 'finds_plane', False) else 'no',
             'follows by': getattr(estimator, 'follows_by', ''),
             'views': _views(estimator.objects, getattr(model, 'view_priors', {}))}
    return {name: str(value) for name, value in facts.items() if value}


def detector_facts(detector: Detector | None) -> dict[str, str]:
    """Return that the node finds the objects itself, and which; nothing without a detector."""
    if detector is None:
        return {}
    return {'detector': f'own, of {getattr(detector, "path", "")}: {", ".join(detector.labels)}'}


def _views(objects: Mapping[str, ObjectModel], priors: Mapping[int, ViewPrior | None]) -> str:
    """Return from where the model knows its objects."""
    labels: dict[str, list[str]] = {}
    for label, known in sorted(objects.items()):
        prior = priors.get(known.object_id)
        text = 'from all sides' if prior is None else (
            f'camera {prior.elevation_min_deg:g} to {prior.elevation_max_deg:g} degrees above the '
            f"object's xy plane, its z axis within {prior.tilt_max_deg:g} degrees of the image's "
            'up')
        labels.setdefault(text, []).append(label)
    if len(labels) == 1:
        return next(iter(labels))
    return '; '.join(f'{", ".join(names)}: {text}' for text, names in labels.items())
