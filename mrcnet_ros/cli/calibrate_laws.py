"""Texts that ``mrcnet calibrate`` prints about laws and about what it has written."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..inference.uncertainty import CovarianceLaw, LawSource


def print_law(law: CovarianceLaw, source: LawSource) -> None:
    """Print the numbers of a law and what they come from."""
    print(', '.join(f'{name} {value:.3g}' for name, value in asdict(law).items()))
    across, along, rotation = source.widened
    print(f'from {source.poses} poses on {source.images} images ({source.source}), deviations '
          f'widened by {across:.2f} across the ray, {along:.2f} along it, {rotation:.2f} of '
          'rotation')


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
