"""What the processor is and can."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

BF16_FLAGS = {'amx_bf16', 'avx512_bf16', 'bf16'}  # Intel, AMD; Arm


@cache
def _fields() -> dict[str, str]:
    """Return what Linux says of the first processor, nothing elsewhere."""
    try:
        text = Path('/proc/cpuinfo').read_text(encoding='utf-8')
    except OSError:
        return {}
    lines = (line.split(':', 1) for line in text.splitlines() if ':' in line)
    found: dict[str, str] = {}
    for key, value in lines:
        found.setdefault(key.strip(), value.strip())
    return found


def cpu_name() -> str:
    """Return the processor's name."""
    return _fields().get('model name') or platform.processor() or platform.machine()


def has_bf16() -> bool:
    """Tell whether the processor multiplies in bfloat16."""
    fields = _fields()
    return bool(BF16_FLAGS & set((fields.get('flags') or fields.get('Features') or '').split()))
