"""What ``mrcnet calibrate`` prints of a law of covariances."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..inference.uncertainty import CovarianceLaw, LawSource


def print_law(law: CovarianceLaw, source: LawSource) -> None:
    """Print the numbers of a law and what they come from."""
    print(', '.join(f'{name} {value:.3g}' for name, value in asdict(law).items()))
    across, along, rotation = source.widened
    print(f'from {source.poses} poses on {source.images} {source.source} images, deviations '
          f'widened by {across:.2f} across the ray, {along:.2f} along it, {rotation:.2f} of '
          'rotation')
