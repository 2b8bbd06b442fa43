"""Draws objects here, to keep or to compare with what another machine drew.

``draw FILE.npz --models DIR`` keeps, ``compare FILE.npz --models DIR`` compares.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mrcnet_ros.geometry.crop import pinhole
from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.objects import load_bop_objects
from mrcnet_ros.rendering.gl_context import GlContext
from mrcnet_ros.rendering.renderer import Renderer

SIZE_PX, OBJECTS, POSES, SHADINGS = 96, 4, 6, ('flat', 'normals', 'template')
# Rasterisers differ at outlines and by rounding; more than this is another picture.
LIMITS = {'outline': 0.02, 'rgb': 2.0, 'depth': 1e-3}


def draw(models: Path) -> tuple[dict[str, np.ndarray], str, float]:
    """Return colours and depths by object and shading, the driver's name, and ms for each."""
    context = GlContext(8, 8)
    driver = context.gl.glGetString(context.gl.GL_RENDERER).decode()
    context.close()
    found: dict[str, np.ndarray] = {}
    seconds, count = 0.0, 0
    with Renderer(SIZE_PX, SIZE_PX) as renderer:
        for model in list(load_bop_objects(models).values())[:OBJECTS]:
            renderer.add_mesh(model.label, model.load_mesh())
            distance_m = 7 * model.diameter_m
            K = pinhole(0.8 * SIZE_PX * 7, SIZE_PX)
            vectors = np.random.default_rng(model.object_id).uniform(-2, 2, (POSES, 3))
            for shading in SHADINGS:
                begin = time.perf_counter()
                views = [renderer.render(
                    model.label, make_transform(exp_so3(v), [0, 0, distance_m]), K,
                    shading=shading) for v in vectors]  # type: ignore[arg-type]
                seconds, count = seconds + time.perf_counter() - begin, count + POSES
                name = f'{model.object_id}_{shading}'
                found[f'{name}_rgb'] = np.stack([view.rgb for view in views])
                found[f'{name}_depth'] = np.stack([view.depth_m for view in views]) / distance_m
    return found, driver, 1e3 * seconds / count


def differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, float]:
    """Return the largest differences: outlines, mean colour, and depth relative to distance."""
    worst = dict.fromkeys(LIMITS, 0.0)
    for name in (n.removesuffix('_rgb') for n in a if n.endswith('_rgb')):
        depths = [x[f'{name}_depth'] for x in (a, b)]
        masks = [depth > 0 for depth in depths]
        both = masks[0] & masks[1]
        colours = np.abs(a[f'{name}_rgb'].astype(float) - b[f'{name}_rgb'])[both]
        here = {'outline': (masks[0] ^ masks[1]).sum() / max(masks[0].sum(), 1),
                'rgb': colours.mean() if both.any() else 255.0,
                'depth': np.median(np.abs(depths[0] - depths[1])[both]) if both.any() else 1.0}
        worst = {k: max(v, float(here[k])) for k, v in worst.items()}
    return worst


def main() -> int:
    """Draw; keep or compare.

    :return: 0, or 1 when the pictures differ.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('task', choices=('draw', 'compare'))
    parser.add_argument('file', type=Path)
    parser.add_argument('--models', type=Path, required=True, help='BOP models folder')
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    pictures, driver, ms = draw(args.models)
    if args.task == 'draw':
        kept_arrays: dict[str, Any] = {'driver': driver, **pictures}
        np.savez_compressed(args.file, **kept_arrays)
        print(f'{driver}: {ms:.1f} ms each')
        return 0
    with np.load(args.file) as kept:
        worst = differences(dict(kept), pictures)
        figures = {'driver': driver, 'ms': ms, 'reference': str(kept['driver']),
                   'differences': worst, 'limits': LIMITS}
    if args.json:
        args.json.write_text(json.dumps(figures))
    print(json.dumps(figures, indent=1))
    return 0 if all(worst[k] <= limit for k, limit in LIMITS.items()) else 1


if __name__ == '__main__':
    sys.exit(main())
