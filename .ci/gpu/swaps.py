"""Loads, uses and closes a model many times, and watches the memory of process and GPU."""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from mrcnet_ros import Camera, Detection
from mrcnet_ros.presets.loading import load_any_estimator

MIB = 2**20
# What is freed goes back to the system sooner or later, so single readings differ by 100 MiB: the
# peak of the later half of the swaps is compared with that of the first half.
GROWTH_MIB = {'process': 60.0, 'gpu': 40.0}


def memory() -> dict[str, float | None]:
    """Return what is in use [MiB]: of this process, and on the GPU by all."""
    resident = int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    try:
        said = subprocess.run(
            ['nvidia-smi', '--query-gpu=memory.used', '--format=csv,noheader,nounits', '--id=0'],
            capture_output=True, text=True, check=True, timeout=20).stdout
        gpu = float(said.split()[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        gpu = None
    return {'process': resident / MIB, 'gpu': gpu}


def main() -> int:
    """Swap models.

    :return: 0, or 1 when memory grows.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ('--model', '--meshes', '--json'):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument('--backend', required=True)
    parser.add_argument('--precision', default='fp32')
    parser.add_argument('--device', default='')
    parser.add_argument('--swaps', type=int, default=20)
    args = parser.parse_args()
    picture = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    camera = Camera(np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]]), 640, 480)
    seen: list[dict[str, float | None]] = [memory()]
    for _ in range(args.swaps):
        estimator = load_any_estimator(
            args.model, args.meshes, backend=args.backend, precision=args.precision,
            device=args.device, allow_unverified=True)
        label = next(iter(estimator.objects))
        estimator(picture, camera, [Detection(label, np.array([200.0, 100, 400, 300]))])
        estimator.backend.close()
        del estimator
        gc.collect()
        seen.append(memory())
    half = len(seen) // 2
    growth = {k: max(m[k] or 0 for m in seen[half:]) - max(m[k] or 0 for m in seen[:half])
              for k in GROWTH_MIB}
    args.json.write_text(json.dumps({'mib': seen, 'growth_mib': growth, 'limits': GROWTH_MIB}))
    print(f'memory before {seen[0]}, after {args.swaps} swaps {seen[-1]}; growth {growth}')
    return 0 if all(growth[k] <= limit for k, limit in GROWTH_MIB.items()) else 1


if __name__ == '__main__':
    sys.exit(main())
