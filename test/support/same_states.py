"""Comparison of what checkpoints hold."""

from __future__ import annotations

from typing import Any

import torch


def assert_same(a: Any, b: Any, where: str = '') -> None:
    """Compare nested states to the bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f'{where}.{key}')
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for number, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f'{where}[{number}]')
    else:
        assert a == b, where
