"""``mrcnet evaluate bop``: poses and scores on a BOP dataset."""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .dataset_arguments import (
    add_detection_arguments,
    add_estimation_arguments,
    box_source,
    boxes_used,
    open_dataset,
    open_estimator,
    refuse_without_effect,
    say,
)
from .evaluation_page import Evaluated, add_report_argument, check_report, write_report
from .known_objects import fit_to_dataset, object_labels, sizes_taken
from .progress import progress_bar
from .tasks import add_json_argument, measured_with, runtime

if TYPE_CHECKING:
    from ..datasets.bop import BopDataset, BopFrame
    from ..evaluation.runner import FrameAction, Run
    from ..evaluation.scores import Scores
    from ..inference.poses import Estimator
    from ..objects import ObjectModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_estimation_arguments(parser)
    add_detection_arguments(parser)
    parser.add_argument('--csv', type=Path, required=True, metavar='FILE',
                        help="write the poses here, in the format of BOP'19")
    add_json_argument(parser)
    parser.add_argument('--overlays', type=Path, metavar='DIR',
                        help='write a picture of each image with projected outlines here')
    add_report_argument(parser)
    parser.add_argument('--depth', choices=('off', 'auto', 'required'), default='off',
                        help='correct the poses with depth images of the dataset: never, where '
                             'there is one, or always (default: off)')
    parser.add_argument('--stage1-only', action='store_true',
                        help='leave out stage 2, to measure its effect (not with the paper '
                             'preset)')


def run(args: argparse.Namespace) -> int:
    """Answer every image with the model, write CSV and JSON and print the table."""
    return evaluate(args, load_estimator)


def load_estimator(args: argparse.Namespace) -> Estimator:
    """Load the model that the options name."""
    return open_estimator(args, stage1_only=args.stage1_only)


def evaluate(args: argparse.Namespace, load: Callable[[argparse.Namespace], Estimator]) -> int:
    """Do what ``run`` does, with any estimator.

    After an error in one image the scores of the images before it are still written. Without any,
    the files of an earlier run stay as they are.

    :param load: called once dataset and options are known to be usable.
    """
    from ..datasets.bop import ResultsWriter
    from ..evaluation.report import check_writable
    from ..evaluation.runner import Run, run_frames
    from ..objects import load_bop_objects

    if args.stage1_only:
        refuse_without_effect(args, ['hypotheses', 'refine'], '--stage1-only answers with the '
                              'most probable bin of stage 1')
    check_report(args)
    if args.overlays is not None:
        check_writable(args.overlays / 'picture.png')
    dataset = open_dataset(args)
    boxes = box_source(args, dataset)
    if args.detections is None and args.detector is None:
        dataset.frames[0].target_ground_truth(  # no boxes without it: say so before all else
            'give the boxes of a detector with --detections or --detector, or use a split with '
            'ground truth')
    objects = load_bop_objects(dataset.models_dir, dataset.object_ids)
    estimator = load(args)
    fit_to_dataset(estimator, dataset, boxes)
    labels = object_labels(objects, estimator)
    ratios = {item.object_id: item.size_ratio for item in estimator.objects.values()}
    done = Run(runtime=runtime(estimator), size_ratios=ratios)
    failure = 'interrupted'
    with ResultsWriter(args.csv) as writer, _overlays(
            args, objects, labels, dataset.frames[:args.limit]) as draw:
        frames = progress_bar(dataset.frames[:args.limit], unit='image')
        try:
            run_frames(frames, estimator, boxes, writer, done, draw, depth=args.depth)
            failure = ''
        except Exception as error:
            failure = f'{type(error).__name__}: {error}'
            raise
        finally:
            frames.close()
            if done.frames:
                _report(args, dataset, labels, objects, done, failure)
    return 0


@contextlib.contextmanager
def _overlays(args: argparse.Namespace, objects: Mapping[int, ObjectModel],
              labels: Mapping[int, str], frames: Sequence[BopFrame]
              ) -> Iterator[FrameAction | None]:
    """Give what draws each image, None when no pictures are wanted."""
    if args.overlays is None:
        yield None
        return
    from ..evaluation.gallery import OverlayWriter

    with OverlayWriter(args.overlays, objects, labels, frames) as writer:
        yield writer.write


def _report(args: argparse.Namespace, dataset: BopDataset, labels: Mapping[int, str],
            objects: Mapping[int, ObjectModel], done: Run, failure: str) -> None:
    """Write the figures of all images done and print the table."""
    from ..evaluation import report
    from ..evaluation.runner import depth_figures, depth_line

    scores, figures = _scores(dataset, labels, objects, done)
    report.write_json(args.json, {
        **measured_with(args, dataset=dataset), **sizes_taken(dataset), 'backend': done.runtime,
        'complete': not failure, 'failure': failure or None, 'images': len(done.frames),
        'boxes': boxes_used(args), 'stage1_only': args.stage1_only,
        'depth': {'use': args.depth, **depth_figures(done.poses)},
        'timings': _timings(done), 'skipped': dict(done.skipped), **figures,
    })
    print(report.recall_table(figures) if dataset.annotated else
          f'no scores: {dataset.split_path} has no ground truth; {args.csv} holds the poses')
    if dataset.annotated and done.corrected():
        print('the row "without size ratios" is left out, because a plane or depth corrected '
              'poses; for the row, give --no-find-plane and no depth')
    for reason, count in sorted(done.skipped.items()):
        print(f'{count} without a pose: {reason}')
    print(depth_line(done.poses), end='')
    if done.seconds:
        print(f'{1e3 * statistics.median(done.seconds):.0f} ms an image (median)')
    _write_page(args, dataset, labels, objects, (done, failure, scores, figures))


def _scores(dataset: BopDataset, labels: Mapping[int, str], objects: Mapping[int, ObjectModel],
            done: Run) -> tuple[Scores | None, dict[str, Any]]:
    """Return scores and figures, or that there are none without ground truth."""
    from ..evaluation import report
    from ..evaluation.conventions import other_convention
    from ..evaluation.scores import score
    from ..evaluation.vsd_scores import score_vsd

    if not dataset.annotated:
        return None, {'overall': None}
    if found := other_convention(done.frames, done.rows, objects):
        say(f'look at the ground truth and the meshes: {found}')
    unscaled = done.unscaled_rows()
    scores = score(done.frames, done.rows, objects)
    return scores, report.recall_figures(
        scores, score_vsd(done.frames, done.rows, objects, dataset.name), labels,
        None if unscaled is None else score(done.frames, unscaled, objects))


def _write_page(args: argparse.Namespace, dataset: BopDataset, labels: Mapping[int, str],
                objects: Mapping[int, ObjectModel],
                outcome: tuple[Run, str, Scores | None, dict[str, Any]]) -> None:
    from ..datasets.bop import BopFrame
    from ..evaluation.page import Latency
    from ..evaluation.report import stage_medians_ms
    from ..evaluation.runner import depth_line

    done, failure, scores, figures = outcome
    notes = [f'Not complete: {failure}'] if failure else []
    if scores is None:
        notes.append(f'There are no scores: {dataset.split_path} has no ground truth.')
    boxes = ', '.join(f'{k} {v}' for k, v in boxes_used(args).items())
    write_report(args, Evaluated(
        title=f'{dataset.name} {dataset.split}: poses of {args.model.name}', frames=done.frames,
        figures=figures, scores=scores, objects=objects, labels=labels,
        covariances=[(r, p.covariance) for r, p in zip(done.rows, done.poses, strict=True)],
        load=BopFrame.load_image, skipped=done.skipped, notes=notes,
        latency=Latency('time for an image', [1e3 * s for s in done.seconds],
                        stage_medians_ms(done.stage_seconds)),
        facts={'images': str(len(done.frames)), 'boxes': boxes, 'crops': str(args.crops),
               'refinements': str(args.refine),
               'plane': 'found' if args.find_plane else 'none',
               'depth': ', '.join([args.depth, *depth_line(done.poses).splitlines()]),
               'runtime': ' '.join(done.runtime.values())}))


def _timings(done: Run) -> dict[str, Any]:
    from ..evaluation.report import stage_medians_ms

    templates = done.cache_hits + done.cache_misses
    return {
        'image_median_ms': 1e3 * statistics.median(done.seconds) if done.seconds else None,
        'image_max_ms': 1e3 * max(done.seconds) if done.seconds else None,
        'stage_median_ms': stage_medians_ms(done.stage_seconds),
        'cache_hit_rate': done.cache_hits / templates if templates else None,
    }
