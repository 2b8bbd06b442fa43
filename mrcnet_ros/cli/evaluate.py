"""``mrcnet evaluate``: scores on a BOP dataset, of a result file, or of a rosbag."""

from __future__ import annotations

import argparse

from . import (
    evaluate_bag,
    evaluate_bop,
    evaluate_csv,
    evaluate_depth,
    evaluate_detector,
    evaluate_ladder,
    evaluate_mosaic,
    evaluate_response,
    evaluate_sequence,
    evaluate_swap,
    evaluate_templates,
)
from .tasks import add_tasks, run_task

TASKS = {
    'bop': (evaluate_bop, 'estimate the poses in the images of a BOP dataset and score them'),
    'csv': (evaluate_csv, "score a file of poses in the format of BOP'19"),
    'depth': (evaluate_depth,
              'compare poses from colour alone with poses that right and wrong depth images '
              'correct'),
    'detector': (evaluate_detector, 'score the boxes of a detector on a BOP dataset'),
    'templates': (evaluate_templates,
                  'compare poses with cached templates and with templates of each detection'),
    'ladder': (evaluate_ladder,
               'measure a network on training images of rising difficulty and on photographs'),
    'response': (evaluate_response,
                 'start stage 2 at the true pose and near it, and measure the resulting errors'),
    'swap': (evaluate_swap,
             "swap photographed and rendered objects on one another's background"),
    'mosaic': (evaluate_mosaic,
               'draw training images beside crops of photographs'),
    'sequence': (evaluate_sequence,
                 'follow instances through sequences and compare with an estimate in each image'),
    'bag': (evaluate_bag, 'replay a rosbag through the node and score what it publishes'),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_tasks(parser, TASKS)


run = run_task
