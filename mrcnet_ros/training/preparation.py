"""Views and templates of several objects drawn at once, each object by a process of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from ..errors import MrcnetError
from ..objects import ObjectModel
from .config import TrainConfig
from .exchange import end_with_parent
from .material import load_disturbers, load_templates
from .view_bank import load_or_render

log = logging.getLogger(__name__)


def draw_ahead(config: TrainConfig, objects: Sequence[ObjectModel], processes: int) -> None:
    """Fill the cache of a configuration; what fails is left to whoever needs it, and told there.

    :param processes: most that draw at the same time.
    """
    jobs = [*objects, None]
    count = min(processes, len(jobs))
    if count < 2:
        return
    with ProcessPoolExecutor(count, get_context('spawn'), end_with_parent) as pool:
        try:
            for problem in pool.map(_draw, [config] * len(jobs), jobs):
                if problem:
                    log.warning('%s', problem)
        except BrokenProcessPool:
            log.warning('a process that draws views died; they are drawn one after the other')


def _draw(config: TrainConfig, model: ObjectModel | None) -> str:
    """Draw one object, or all that only disturb; return what went wrong, '' for nothing."""
    try:
        if model is None:
            load_disturbers(config)
            return ''
        load_or_render(config.cache, [model], {model.object_id: config.view_prior},
                       config.distance_m, config.views, config.seed)
        load_templates(config, [model])
    except MrcnetError as error:
        return f'{model.label if model else "what disturbs"} could not be drawn ahead: {error}'
    return ''
