"""Inputs for ONNX graphs, whatever their names and shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

FREE_PX = 96  # side of an image whose size is free


def random_inputs(session: Any, rows: int) -> dict[str, np.ndarray]:
    """Return inputs of the right types and shapes.

    :param rows: where the graph does not fix their number.
    """
    rng = np.random.default_rng(rows)
    feeds = {}
    for value in session.get_inputs():
        first, *rest = value.shape
        shape = (first if isinstance(first, int) else rows,
                 *(side if isinstance(side, int) else FREE_PX for side in rest))
        feeds[value.name] = {
            'tensor(uint8)': lambda s: rng.integers(0, 255, s).astype(np.uint8),
            'tensor(int64)': lambda s: np.repeat(np.arange(2), rows)[:s[0]],
            'tensor(float)': lambda s: rng.random(s).astype(np.float32),
        }[value.type](shape)
    return feeds


def session_of(data: bytes) -> Any:
    """Load a graph into ONNX Runtime, which computes half precision by rounding to it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(data, options, providers=['CPUExecutionProvider'])
