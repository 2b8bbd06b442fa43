"""Draw and store the templates of every object of a model, ahead of the first frame."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .progress import progress_bar


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
    from ..geometry.rotation_grid import grid_of
    from ..geometry.view_prior import allowed_bins
    from ..inference.model_directory import read_model_directory
    from ..presets.loading import preset_of
    from ..rendering.template_store import TemplateStore

    preset_of(args.model).require_templates(args.model)
    directory = read_model_directory(args.model, args.meshes)
    store = TemplateStore(args.store)
    spec = directory.spec
    grid = grid_of(spec.bins)
    allowed = {model.object_id: allowed_bins(directory.view_priors.get(model.object_id), grid)
               for model in directory.objects}
    count = sum(int(mask.sum()) for mask in allowed.values())
    with progress_bar(total=count, unit='template') as bar:
        for model in directory.objects:
            bar.set_description(model.label)
            store.load_or_build(model, spec, allowed[model.object_id], bar.update)
    lacking = [model.label for model in directory.objects
               if not store.holds(model, spec, allowed[model.object_id])]
    if lacking:
        print(f'{store.root} could not be written; it lacks {", ".join(lacking)}', file=sys.stderr)
        return 1
    print(f'{count} templates of {len(directory.objects)} objects are in {store.root}')
    return 0
