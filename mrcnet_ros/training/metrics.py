"""What a training run says of itself: a line of JSON for every so many steps."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from ..store.atomic import write_atomically

METRICS_FILE = 'metrics.jsonl'


def append_metrics(folder: Path, values: Mapping[str, float]) -> None:
    """Write values, rounded, to the metrics file of a run and to the log."""
    text = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()})
    with (folder / METRICS_FILE).open('a') as file:
        file.write(text + '\n')
    logging.getLogger(__name__).info(text)


def drop_metrics(folder: Path, step: int) -> None:
    """Drop the lines after a step, from which a run goes on and writes them anew."""
    path = folder / METRICS_FILE
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            late = json.loads(line)['step'] > step
        except ValueError:  # the run was killed while it wrote
            continue
        if not late:
            kept.append(line)
    write_atomically(path, ''.join(kept).encode())
