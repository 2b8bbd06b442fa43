"""``mrcnet synth``: a small BOP dataset of any objects, rendered."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ..meshes.checks import UNITS_M
from .argument_types import count, positive
from .dataset_arguments import refuse_without_effect
from .progress import progress_bar

if TYPE_CHECKING:
    from ..geometry.camera import Camera
    from ..synth.depth_sensor import DepthSensor
    from ..synth.source import Source

# as of a camera with a field of view of 56 degrees
FOCAL_WIDTHS = 0.9375
# Objects on a table by default; more hide one another, as in clutter, and need more attempts to be
# placed.
MOST_OBJECTS = 8
SEQUENCE_HZ = 30.0  # the rate of most cameras


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--models', type=Path, metavar='PATH',
                      help='BOP models folder, with models_info.json, or YAML list of objects')
    what.add_argument('--meshes', type=Path, nargs='+', metavar='FILE',
                      help='PLY, OBJ, OFF, STL or GLB files, numbered from 1 in this order')
    parser.add_argument('--unit', choices=UNITS_M, default='mm',
                        help='unit of the files given with --meshes (default: mm)')
    parser.add_argument('--ids', type=positive, nargs='+', metavar='N',
                        help='only these objects of --models')
    parser.add_argument('--output', type=Path, required=True, metavar='DIR',
                        help='folder of the dataset, created if missing; its name is the '
                             "dataset's")
    parser.add_argument('--split', default='test',
                        help='folder of the scenes, such as test or train_pbr (default: test)')
    parser.add_argument('--scenes', type=positive, default=2, metavar='N',
                        help='arrangements of objects on a table (default: 2)')
    parser.add_argument('--images', type=positive, default=10, metavar='N',
                        help='views of each scene (default: 10)')
    parser.add_argument('--sequence', type=float, nargs='?', const=SEQUENCE_HZ, metavar='HZ',
                        help='the images of a scene are steps in time: the camera and most '
                             'objects move, some cross in front of others (default rate: '
                             f'{SEQUENCE_HZ:g} Hz); scene_camera.json holds timestamps')
    parser.add_argument('--take-away', type=float, metavar='SECONDS',
                        help='with --sequence: every second object is taken away at this time')
    parser.add_argument('--put-back', type=float, metavar='SECONDS',
                        help='with --take-away: the time at which these objects are back, at the '
                             'place that they would have reached')
    parser.add_argument('--objects', type=positive, metavar='N',
                        help=f'objects on the table (default: one of each, or {MOST_OBJECTS}); '
                             'more than there are models means several of a kind')
    parser.add_argument('--size', type=positive, nargs=2, default=(640, 480),
                        metavar=('WIDTH', 'HEIGHT'), help='size of the images (default: 640 480)')
    parser.add_argument('--K', type=float, nargs=4, metavar=('FX', 'FY', 'CX', 'CY'), dest='K',
                        help=f'intrinsics in pixels (default: fx = fy = {FOCAL_WIDTHS} widths)')
    parser.add_argument('--distance', type=float, nargs=2, metavar=('NEAR', 'FAR'),
                        help='distance of the camera [m] (default: near objects cover 0.2 to 0.45 '
                             "of the image's height)")
    parser.add_argument('--upright', action='store_true',
                        help='stand objects with their z axis up (default: any orientation)')
    parser.add_argument('--grey', action='store_true',
                        help='write gray/*.tif, as ITODD has them, instead of rgb/*.png')
    _add_depth_arguments(parser)
    parser.add_argument('--backgrounds', type=Path, nargs='+', default=[], metavar='DIR',
                        help='folders of photographs and environment maps (default: noise)')
    parser.add_argument('--seed', type=count, default=0, metavar='N',
                        help='seed of all random choices')


def _add_depth_arguments(parser: argparse.ArgumentParser) -> None:
    depth = parser.add_argument_group('depth images', 'They hold exact distances, unless a depth '
                                      'camera is simulated. Each number implies --depth-camera.')
    depth.add_argument('--depth-camera', action='store_true',
                       help='write what a depth camera measures, as the Kinect and the RealSense '
                            'do: noise, steps, holes, errors of scale and registration')
    depth.add_argument('--depth-noise', type=float, metavar='MM',
                       help='deviation of a pixel at a metre (default: 1.5); it grows with the '
                            'square of the distance')
    depth.add_argument('--depth-step', type=float, metavar='MM',
                       help='step of the distances at a metre (default: 2.8); it '
                            'grows in the same way')
    depth.add_argument('--depth-holes', type=float, metavar='F',
                       help='share of the image without a measurement (default: 0.02); more is '
                            'missing at edges')
    depth.add_argument('--depth-offset', type=float, metavar='MM',
                       help='added to all distances (default: 0)')


def run(args: argparse.Namespace) -> int:
    """Make the dataset."""
    from ..rendering.background_files import find_images
    from ..synth.dataset import make_dataset
    from ..synth.scene_maker import SynthSpec

    source = _source(args)
    spec = SynthSpec(
        scenes=args.scenes, images=args.images,
        objects=args.objects or min(len(source.objects), MOST_OBJECTS),
        camera=_camera(args), distance_m=tuple(args.distance) if args.distance else None,
        upright=args.upright, seed=args.seed, rate_hz=args.sequence,
        away_s=_away_s(args), sensor=_sensor(args))
    backgrounds = find_images(args.backgrounds) if args.backgrounds else []
    with progress_bar(total=args.scenes * args.images, unit='image') as bar:
        make_dataset(args.output, args.split, source, spec, backgrounds=backgrounds,
                     grey=args.grey, progress=bar.update)
    print(f'{args.output / args.split}: {args.scenes} scenes, {args.scenes * args.images} images '
          f'of {len(source.objects)} objects')
    return 0


def _away_s(args: argparse.Namespace) -> tuple[float, float] | None:
    from ..errors import SpecError

    if args.take_away is not None:
        return args.take_away, float('inf') if args.put_back is None else args.put_back
    if args.put_back is not None:
        raise SpecError('--put-back says when objects of --take-away come back; give both')
    return None


def _source(args: argparse.Namespace) -> Source:
    from ..errors import SpecError
    from ..synth.source import from_meshes, from_models

    if args.models is not None:
        refuse_without_effect(args, ['unit'], 'the files of --models state their unit')
        return from_models(args.models, args.ids)
    if args.ids:
        raise SpecError('--ids chooses from --models; leave out what is not wanted of --meshes')
    print('the dataset states no symmetries, because mesh files have none: where an object has '
          'some, give --models and a list that states them, such as objects.yaml of mrcnet new')
    return from_meshes(args.meshes, UNITS_M[args.unit])


def _sensor(args: argparse.Namespace) -> DepthSensor | None:
    from ..synth.depth_sensor import DepthSensor

    given = {'noise_m': args.depth_noise, 'step_m': args.depth_step, 'offset_m': args.depth_offset}
    changes = {name: 1e-3 * value for name, value in given.items() if value is not None}
    if args.depth_holes is not None:
        changes['holes'] = args.depth_holes
    return DepthSensor(**changes) if args.depth_camera or changes else None


def _camera(args: argparse.Namespace) -> Camera:
    """Return the camera; what is doubtful about a given one is told."""
    import numpy as np

    from ..geometry.camera import Camera
    from ..geometry.camera_doubts import check_focal_lengths, number_doubts

    width, height = args.size
    focal_px = FOCAL_WIDTHS * width
    fx, fy, cx, cy = args.K or (focal_px, focal_px, (width - 1) / 2, (height - 1) / 2)
    camera = Camera(np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), width, height)
    if args.K:
        check_focal_lengths(camera, '--K')
        for doubt in number_doubts(camera, '--K'):
            logging.getLogger(__name__).warning('%s; --K is FX FY CX CY', doubt)
    return camera
