"""Texts that ``mrcnet calibrate`` prints about laws and about what it has written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DatasetError

if TYPE_CHECKING:
    from ..evaluation.covariance_law import Images
    from ..evaluation.runner import Run
    from ..inference.measured_law import Law
    from ..inference.uncertainty import CovarianceLaw, LawSource
    from ..objects import ObjectModel


def print_numbers(law: Law) -> None:
    """Print the numbers of a law."""
    print(', '.join(f'{name} {value:.3g}' for name, value in asdict(law).items()))


def measured_covariance(done: Run, objects: Mapping[str, ObjectModel],
                        sizes: Mapping[str, float], images: Images,
                        ) -> tuple[CovarianceLaw, LawSource] | None:
    """Fit a law of covariances, print how good it is, and return it with its source.

    :param sizes: by label, size ratios that the model is going to have.
    :return: None when the answers are too few.
    """
    from ..evaluation.covariance_law import errors_of, law_of
    from ..evaluation.covariance_report import covariance_table, left_out_reports

    try:
        errors = errors_of(done, objects, sizes)
        print('\n'.join(covariance_table(left_out_reports(errors))))
        law, source = law_of(errors, images)
    except DatasetError as error:
        print(f'no covariance{" with depth" if images.depth else ""}: {error}')
        return None
    print_numbers(law)
    across, along, rotation = source.widened
    print(f'from {source.poses} poses on {source.images} images ({source.source}), deviations '
          f'widened by {across:.2f} across the ray, {along:.2f} along it, {rotation:.2f} of '
          'rotation')
    return law, source


def print_written(model: Path, written: Collection[str]) -> None:
    """Say what is new in ``model.json``, and which of its laws that makes old."""
    from ..inference.model_json import MODEL_FILE, outdated

    file = model / MODEL_FILE
    if not written:
        print(f'{file} stays as it was')
        return
    print(f'{file} has a new {", ".join(written)}: score the model again')
    for law, changed in outdated(model, written).items():
        depth = ' --depth' if law.endswith('_depth') else ''
        print(f'{law} stays as it was and was measured with another {" and ".join(changed)}: '
              f'run mrcnet calibrate{depth} --write for it')
