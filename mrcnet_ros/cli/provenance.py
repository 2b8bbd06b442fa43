"""What a figure was measured with: model, machine, versions."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__

PACKAGES = ('numpy', 'opencv-python-headless', 'onnxruntime', 'openvino', 'torch')


def model_identity(model_dir: Path) -> dict[str, str]:
    """Return name and hash of a model; model.json holds the hashes of all its other files."""
    content = (model_dir / 'model.json').read_bytes()
    return {'path': str(model_dir), 'sha256_of_model_json': hashlib.sha256(content).hexdigest()}


def machine() -> dict[str, Any]:
    """Return what the machine is, as far as it can be told."""
    return {
        'cpu': _cpu_name(), 'cpus_usable': len(os.sched_getaffinity(0)),
        'system': platform.platform(), 'load_average': list(os.getloadavg()),
    }


def versions() -> dict[str, str]:
    """Return the releases of what does the work."""
    found = {'mrcnet_ros': __version__, 'python': platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    try:
        text = Path('/proc/cpuinfo').read_text(encoding='utf-8')
    except OSError:
        return platform.processor()
    names = [line.split(':', 1)[1].strip() for line in text.splitlines()
             if line.startswith('model name')]
    return names[0] if names else platform.processor()
