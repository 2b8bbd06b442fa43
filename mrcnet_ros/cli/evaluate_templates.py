"""``mrcnet evaluate templates``: cached templates compared with exact ones."""

from __future__ import annotations

import argparse

from .dataset_arguments import (
    add_estimation_arguments,
    box_spec,
    boxes_used,
    open_dataset,
    open_pose_estimator,
)
from .known_objects import fit_to_dataset, object_numbers, sizes_taken, tell_unknown_targets
from .progress import progress_bar
from .tasks import add_json_argument, measured_with


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_estimation_arguments(parser, plane=False)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Answer every image with cached and with exact templates, and print the tables."""
    from contextlib import closing

    from ..evaluation import report, template_comparison
    from ..evaluation.exact_estimator import ExactPoseEstimator
    from ..objects import load_bop_objects
    from ..rendering.template_store import TemplateStore

    boxes, dataset = box_spec(args), open_dataset(args)
    objects = load_bop_objects(dataset.models_dir, dataset.object_ids)
    cached = open_pose_estimator(args)
    fit_to_dataset(cached, dataset)
    exact = ExactPoseEstimator(cached.model, cached.backend, TemplateStore(), crops=args.crops,
                               hypotheses=args.hypotheses, refine=args.refine)
    fit_to_dataset(exact, dataset)
    with closing(exact):
        frames = progress_bar(dataset.frames[:args.limit], unit='image')
        done = template_comparison.compare_templates(
            frames, cached, cached.features.cache.clear, exact, boxes, objects)
    figures = template_comparison.template_figures(done, objects)
    report.write_json(args.json, {
        **measured_with(args, cached, dataset), **sizes_taken(dataset),
        **tell_unknown_targets(done.frames, object_numbers(cached), 'they count as missed'),
        'boxes': boxes_used(args), **figures})
    print(template_comparison.template_table(figures))
    return 0
