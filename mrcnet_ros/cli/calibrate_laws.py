"""``mrcnet calibrate``: covariances, scores, poses with depth, and what is printed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DatasetError

if TYPE_CHECKING:
    from ..evaluation.covariance_calibration import Images
    from ..evaluation.runner import Run
    from ..inference.depth_law import DepthScoreLaw
    from ..inference.measured_law import Law
    from ..inference.scoring import ScoreLaw, ScoreSource
    from ..inference.uncertainty import CovarianceLaw, LawSource
    from ..objects import ObjectModel


def print_numbers(law: Law) -> None:
    print(', '.join(f'{name} {value:.3g}' for name, value in asdict(law).items()))


def measured_covariance(done: Run, objects: Mapping[str, ObjectModel], sizes: Mapping[str, float],
                        images: Images) -> tuple[CovarianceLaw, LawSource] | None:
    """Fit a covariance model, print how good it is, and return it with its source.

    :param sizes: by label, size ratios that the model is going to have.
    :return: None when the answers are too few.
    """
    from ..evaluation.covariance_calibration import law_of
    from ..evaluation.covariance_errors import errors_of
    from ..evaluation.covariance_report import covariance_table, left_out_reports

    try:
        errors = errors_of(done, objects, sizes)
        law, source = law_of(errors, images)
    except DatasetError as error:
        print(f'no covariance{" with depth" if images.depth else ""}: {error}')
        return None
    try:
        print('\n'.join(covariance_table(left_out_reports(errors))))
    except DatasetError as error:
        print(f'no report on images that were left out of the fit: {error}')
    print_numbers(law)
    across, along, rotation = source.widened
    print(f'from {source.poses} poses on {source.images} images ({source.source}), deviations '
          f'widened by {across:.2f} across the ray, {along:.2f} along it, {rotation:.2f} of '
          'rotation')
    return law, source


def measured_score(done: Run, objects: Mapping[str, ObjectModel], sizes: Mapping[str, float],
                   images: Images) -> tuple[ScoreLaw, ScoreSource] | None:
    """Fit a score calibration, print how good it is, and return it with its source.

    :param sizes: by label, size ratios that the model is going to have.
    :return: None when there are too few poses.
    """
    from ..evaluation.score_errors import judged_poses
    from ..evaluation.score_fit import score_law_of, score_table

    judged = judged_poses(done, objects, sizes)
    try:
        law, source = score_law_of(judged, images)
    except DatasetError as error:
        print(f'no score calibration: {error}')
        return None
    print('\n'.join(score_table(judged)))
    print_numbers(law)
    return law, source


def print_written(model: Path, written: Collection[str], refine: int) -> None:
    """Say what is new in ``model.json``, and which of its calibrations that makes old.

    :param refine: passes of the refiner that it was measured with.
    """
    from ..inference.calibration_entries import outdated
    from ..inference.measured_law import with_passes
    from ..model_json import MODEL_FILE

    file = model / MODEL_FILE
    if not written:
        print(f'{file} stays as it was')
        return
    print(f'{file} has a new {", ".join(written)}: score the model again')
    for (law, passes), changed in outdated(model, written, refine).items():
        options = (' --depth' if law.endswith('_depth') else '') + with_passes(passes)
        of = ' of refined poses' if passes else ''
        print(f'{law}{of} stays as it was and was measured with another {" and ".join(changed)}: '
              f'run mrcnet calibrate{options} --write for it')


def calibrate_depth(model: Path, done: Run, objects: Mapping[str, ObjectModel], images: Images,
                    wanted: Collection[str], write: bool) -> int:
    """Calibrate on corrected poses, print how good that is, and perhaps write it.

    :param done: answers with depth, with their spreads.
    :param wanted: of ``covariance`` and ``score``, as without depth.
    :return: 1 when there is not enough to tell what is wanted, else 0.
    :raises DatasetError: when the model has no covariance for poses without depth.
    """
    from ..inference.calibration_entries import write_law
    from ..inference.measured_law import with_passes

    if done.poses and all(pose.covariance is None for pose in done.poses):
        raise DatasetError(f'{model} has no covariance for poses without depth, on which the '
                           'covariance with depth depends; run mrcnet calibrate'
                           f'{with_passes(images.refine)} --write without --depth first')
    corrected = _corrected(done)
    print(f'depth has corrected {len(corrected.poses)} of {len(done.poses)} poses')
    score = _score_law(corrected, objects) if 'score' in wanted else None
    sizes = {item.label: item.size_ratio for item in objects.values()}
    fitted = (measured_covariance(corrected, objects, sizes, images)
              if 'covariance' in wanted else None)
    if score is not None and images.source == 'synthetic' and images.for_photographs:
        print('scores with depth are those of rendered images: on photographs they are too high')
    if write:
        if fitted is not None:
            write_law(model, *fitted, depth=True)
        if score is not None:
            write_law(model, score, refine=images.refine)
        print_written(model, [name for name, law in (
            ('covariance_depth', fitted), ('score_depth', score)) if law is not None],
            images.refine)
    return (('covariance' in wanted and fitted is None) or ('score' in wanted and score is None))


def _corrected(done: Run) -> Run:
    """Return the answers that depth has corrected."""
    kept = [(row, pose) for row, pose in zip(done.rows, done.poses, strict=True)
            if pose.by_depth]
    return replace(done, rows=[row for row, _ in kept], poses=[pose for _, pose in kept])


def _score_law(done: Run, objects: Mapping[str, ObjectModel]) -> DepthScoreLaw | None:
    """Calibrate the score with depth, print how good it is, and return it, if there is one."""
    from ..evaluation import depth_score_fit as fit

    inputs, right = fit.score_inputs(done, objects)
    try:
        law = fit.fit_depth_score_law(inputs, right)
    except DatasetError as error:
        print(f'no score with depth: {error}')
        return None
    print(f'score with depth: {right.sum()} of {len(right)} poses are right (within '
          f'{fit.RIGHT:g} diameters)')
    if 0 < right.sum() < len(right):
        report = fit.score_report(inputs, right)
        print(f'AUROC {report.auroc:.2f}, of the network alone {report.auroc_network:.2f}; mean '
              f'score {report.mean_right:.2f} of right and {report.mean_wrong:.2f} of wrong '
              'poses, those left out in turn')
    print_numbers(law)
    return law
