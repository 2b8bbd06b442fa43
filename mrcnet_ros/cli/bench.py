"""``mrcnet bench``: how fast everything is, each thing against something."""

from __future__ import annotations

import argparse

from . import bench_backends, bench_estimate, bench_node, bench_paper, bench_track, bench_train
from .tasks import add_tasks, run_task

TASKS = {
    'estimate': (bench_estimate,
                 'time whole images and single objects with an empty and a filled feature cache'),
    'backends': (bench_backends,
                 'time all runtimes side by side: stages, numbers of detections, cold and warm, '
                 'against PyTorch and against the matrix products of this machine'),
    'node': (bench_node, 'compare the age of poses when the node publishes them with the time '
                         'of the bare estimator'),
    'track': (bench_track, 'compare the CPU time of the node with detections in each image, '
                           'with a slow detector, and with a slow detector and track'),
    'paper': (bench_paper, 'time one object through the published network in all runtimes'),
    'train': (bench_train, 'time steps of a training on a device, and compare one with the CPU'),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_tasks(parser, TASKS)


run = run_task
