"""Draw and store the templates of every object of a model, ahead of the first frame."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .progress import progress_bar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..inference.model_directory import ModelDirectory
    from ..objects import ObjectModel
    from ..specs import PoseNetworkSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--model', type=Path, required=True, metavar='DIR',
                        help='model directory, with model.json')
    parser.add_argument('--meshes', type=Path, metavar='DIR',
                        help='folder of the mesh files (default: meshes/ in the model directory)')
    parser.add_argument('--store', type=Path, metavar='DIR',
                        help='where templates are kept (default: $MRCNET_CACHE, or '
                             'mrcnet_ros/templates in the user cache folder)')


def run(args: argparse.Namespace) -> int:
    """Build what is missing or wrong in the store and say where everything is.

    :return: 1 when the store could not be written, else 0.
    """
    from ..inference.model_directory import read_model_directory
    from ..presets.loading import preset_of
    from ..rendering.template_store import TemplateStore

    preset_of(args.model).require_templates(args.model)
    directory = read_model_directory(args.model, args.meshes)
    store, needed = TemplateStore(args.store), _needed(directory)
    count = sum(int(allowed.sum()) for _, _, allowed in needed)
    with progress_bar(total=count, unit='template') as bar:
        for item, spec, allowed in needed:
            bar.set_description(item.label)
            store.load_or_build(item, spec, allowed, bar.update)
    lacking = dict.fromkeys(item.label for item, spec, allowed in needed
                            if not store.holds(item, spec, allowed))
    if lacking:
        print(f'{store.root} could not be written; it lacks {", ".join(lacking)}', file=sys.stderr)
        return 1
    print(f'{count} templates of {len(directory.objects)} objects are in {store.root}')
    return 0


def _needed(model: ModelDirectory
            ) -> list[tuple[ObjectModel, PoseNetworkSpec, NDArray[np.bool_]]]:
    """Return which templates of each object stage 2 and the refiner need."""
    from ..geometry.pose_crop import directions_seen
    from ..geometry.rotation_grid import grid_of
    from ..geometry.view_prior import allowed_bins

    priors = [(item, model.view_priors.get(item.object_id)) for item in model.objects]
    grid, refiner = grid_of(model.spec.bins), model.refiner
    return [*((item, model.spec, allowed_bins(prior, grid)) for item, prior in priors),
            *((item, refiner, directions_seen(refiner, prior)) for item, prior in priors
              if refiner is not None)]
