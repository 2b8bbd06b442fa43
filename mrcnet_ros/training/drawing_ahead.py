"""Several processes render what a training needs before it starts, each a part of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from ..errors import MrcnetError
from ..objects import ObjectModel
from .config import PoseConfig
from .disturbers import load_disturbers
from .gradient_exchange import end_with_parent
from .scene_config import SceneConfig
from .training_data import load_object_views, load_templates, views_are_there

log = logging.getLogger(__name__)
# Of all objects together. Two processes rendered 24 000 views of LM-O's objects in less than five
# minutes, about 40 a second each, and a process takes some seconds to start.
WORTH_VIEWS = 500
# Parts that what disturbs is rendered in, for each process: some meshes take far longer than
# others, so that with one part each, one process would wait for the other.
PARTS = 8


def draw_ahead(config: SceneConfig, objects: Sequence[ObjectModel], processes: int) -> None:
    """Render views and templates into the cache ahead of the training, unless they are there.

    Errors are logged only: they come again where the views are needed.

    :param processes: largest number of processes that render at the same time.
    """
    missing = [o for o in objects if _is_missing(config, o)]
    if processes < 2 or len(missing) * config.views < WORTH_VIEWS:
        return
    parts = PARTS * processes
    jobs = [*missing, *(slice(number, None, parts) for number in range(parts))]
    with ProcessPoolExecutor(min(processes, len(jobs)), get_context('spawn'),
                             end_with_parent) as pool:
        try:
            for problem in pool.map(_draw, [config] * len(jobs), jobs):
                if problem:
                    log.warning('%s', problem)
        except BrokenProcessPool:
            log.warning('a process that draws views died; they are drawn one after the other')


def _is_missing(config: SceneConfig, item: ObjectModel) -> bool:
    try:
        return not views_are_there(config, item)
    except MrcnetError:  # a damaged mesh; drawing says so
        return True


def _draw(config: SceneConfig, job: ObjectModel | slice) -> str:
    """Render an object or a part of what disturbs; return the error, '' without one."""
    if isinstance(job, slice):
        try:
            load_disturbers(config, job)
        except MrcnetError as error:
            return f'what disturbs could not be drawn ahead: {error}'
        return ''
    try:
        load_object_views(config, [job])
        if isinstance(config, PoseConfig):
            load_templates(config, [job])
    except MrcnetError as error:
        return f'{job.label} could not be drawn ahead: {error}'
    return ''
