"""What a figure was measured with: model, machine, versions."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__
from ..cpus import cpu_name

PACKAGES = ('numpy', 'opencv-python-headless', 'onnxruntime', 'openvino', 'torch')


def model_identity(model_dir: Path) -> dict[str, str]:
    """Return name and hash of a model; model.json holds the hashes of all its other files."""
    content = (model_dir / 'model.json').read_bytes()
    return {'path': str(model_dir), 'sha256_of_model_json': hashlib.sha256(content).hexdigest()}


def runtime(estimator: Any) -> dict[str, str]:
    """Return what an estimator really runs on, as far as it tells."""
    backend = getattr(estimator, 'backend', None)
    return {name: str(getattr(backend, name, ''))
            for name in ('name', 'version', 'device', 'precision')}


def machine() -> dict[str, Any]:
    """Return what the machine is, as far as it can be told."""
    return {
        'cpu': cpu_name(), 'cpus_usable': len(os.sched_getaffinity(0)),
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
