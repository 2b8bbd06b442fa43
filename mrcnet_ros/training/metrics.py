"""What a training run says of itself: a line of JSON for every so many steps."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

METRICS_FILE = 'metrics.jsonl'


def append_metrics(folder: Path, values: Mapping[str, float]) -> None:
    """Write values, rounded, to the metrics file of a run and to the log."""
    text = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()})
    with (folder / METRICS_FILE).open('a') as file:
        file.write(text + '\n')
    logging.getLogger(__name__).info(text)
