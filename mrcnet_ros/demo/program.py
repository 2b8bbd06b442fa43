"""The demonstration from end to end."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from geometry_msgs.msg import PoseStamped
from tf2_msgs.msg import TFMessage

from ..datasets.boxes import BoxSpec
from ..errors import MrcnetError
from ..evaluation.mosaic import check_name, write_picture
from ..evaluation.scores import TargetScore, score
from ..objects import ObjectModel
from ..rendering.drawing import Color, Image, draw_text
from ..rendering.pose_overlay import DrawnObject, PoseOverlay
from ..store.shared_files import shared_file
from ..synth.held_out import RenderedFrame
from ..testbench.bop_bag import Answers, result_rows
from ..testbench.drawn_scenes import BOX_JITTER, draw_scenes, scene_messages, scene_objects
from ..testbench.processes import LoggedProcess, ProcessError, prepare_environment
from ..testbench.replay import Replayer
from .score_table import DemoLimits, complaints, error_table

NAMESPACE = 'demo'
NODE_COMMAND = ('-m', 'mrcnet_ros.ros.pose_node')
PICTURED = 4  # scenes in the picture; more make it taller
ANSWER_TIMEOUT_S = 60.0  # of a machine that has other things to do

# Bright colours that the objects of the demo do not have.
TRUTH_RGB: Color = (40, 255, 40)
ESTIMATE_RGB: Color = (255, 40, 255)
COLUMNS = 2  # four scenes make a square picture
LEGEND_CORNER, LINE_PX = (8, 24), 20  # pixels: upper left, one line of text


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What to show.

    :param seed: of the scenes and of the detector's errors.
    :param jitter: of the detections, see :func:`mrcnet_ros.datasets.boxes.jittered`.
    :param rate_hz: frames each second while speed is measured; before that, every scene is sent
        once, each after the answer to the one before.
    :param frames: frames sent at that rate, 0 to leave it out.
    :param model: directory of the model, with ``objects.yaml`` and ``backgrounds``.
    :param node_command: Python arguments that start the node.
    :param timeout_s: for the node to become ready.
    """

    output: Path
    scenes: int = 24
    seed: int = 20260
    jitter: float = BOX_JITTER
    rate_hz: float = 30.0
    frames: int = 150
    model: Path = field(default_factory=lambda: shared_file('models/demo'))
    node_command: Sequence[str] = NODE_COMMAND
    timeout_s: float = 600.0
    limits: DemoLimits = field(default_factory=DemoLimits)


@dataclass(frozen=True, eq=False)
class Played:
    """What was sent and what came back.

    :param one_by_one: the answer to each scene, sent after the answer to the one before.
    :param at_rate: the answers to the frames sent at a rate.
    :param counts: of what was received, by topic.
    """

    scenes: list[RenderedFrame]
    one_by_one: Answers
    at_rate: Answers
    counts: Counter[str]


def run_demo(options: DemoOptions) -> int:
    """Start the node, show it scenes, compare its poses with the truth, print, draw.

    :return: 0, or 1 when poses are missing or too far from the truth.
    :raises MrcnetError: when something cannot start.
    """
    check_name(options.output)
    prepare_environment()
    objects = scene_objects(options.model)
    played = _play(options, objects)
    rows = result_rows(played.scenes, played.one_by_one, {o.label: i for i, o in objects.items()})
    targets = score(played.scenes, [row for row, _ in rows], objects).targets
    print(f'\nErrors against the truth, medians over {len(played.scenes)} scenes '
          f'(symmetric equivalents count as the same pose):\n\n{error_table(targets, objects)}\n')
    _print_rates(options, played)
    write_picture(options.output, draw_picture(played.scenes[:PICTURED], targets, objects))
    print(f'picture: {options.output.resolve()}')
    failures = complaints(targets, objects, options.limits)
    for failure in failures:
        print(f'FAILED: {failure}')
    return 1 if failures else 0


def _play(options: DemoOptions, objects: dict[int, ObjectModel]) -> Played:
    """Start the node, show it the scenes one by one, then at a rate."""
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(LoggedProcess(
            'node', _node_arguments(options),
            options.output.with_name(f'{options.output.stem}_node.log')))
        labels = ', '.join(o.label for o in objects.values())
        print(f'drawing {options.scenes} scenes of {labels}', flush=True)
        scenes = draw_scenes(options.model, options.scenes, options.seed)
        frames = scene_messages(scenes, objects, BoxSpec(jitter=options.jitter, seed=options.seed))
        replayer = stack.enter_context(Replayer(node.check_runs, namespace=NAMESPACE))
        counts: Counter[str] = Counter()
        replayer.subscribe(PoseStamped, 'object_poses', lambda _: counts.update(object_poses=1))
        replayer.subscribe(TFMessage, '/tf', lambda m: counts.update(tf=len(m.transforms)))
        print('waiting for the node; the first time, it renders its templates', flush=True)
        _explained(lambda: replayer.wait_for_node(options.timeout_s), node.log)
        one_by_one = replayer.lossless(frames, ANSWER_TIMEOUT_S, live=True)
        sent = list(itertools.islice(itertools.cycle(frames), options.frames))
        at_rate = replayer.realtime(sent, options.rate_hz, ANSWER_TIMEOUT_S) if sent else []
        counts['object_detections'] = sum(len(a.poses) for a in [*one_by_one, *at_rate] if a)
        # what is published after the detections of a frame, or before them on other topics
        replayer.spin(lambda: min(counts['object_poses'], counts['tf'])
                      >= counts['object_detections'], ANSWER_TIMEOUT_S)
        return Played(scenes, one_by_one, at_rate, counts)


def _explained(wait: Callable[[], None], log: Path) -> None:
    """Wait for the node.

    :raises ProcessError: saying where the node's output is, when it does not come.
    """
    try:
        wait()
    except ProcessError:
        raise
    except MrcnetError as error:
        raise ProcessError(f'{error}; see {log}') from error


def _node_arguments(options: DemoOptions) -> list[str]:
    # reliable, so that each frame that is sent also arrives
    return [*options.node_command, '--ros-args', '-r', f'__ns:=/{NAMESPACE}',
            '--params-file', str(shared_file('config/pose_node.yaml')),
            '-p', 'input_reliability:=reliable',
            '-p', f'model:={options.model}', '-p', f'meshes:={options.model / "meshes"}']


def _print_rates(options: DemoOptions, played: Played) -> None:
    for name, answers in (('one at a time', played.one_by_one),
                          (f'at {options.rate_hz:g} Hz', played.at_rate)):
        if answers:
            print(f'{name}: {_rates(answers)}')
    counts = played.counts
    print(f'received {counts["object_detections"]} poses on object_detections, '
          f'{counts["object_poses"]} on object_poses, {counts["tf"]} transforms on /tf')


def _rates(answers: Answers) -> str:
    found = [a for a in answers if a is not None]
    text = f'{len(found)} of {len(answers)} frames answered'
    if len(found) > 1:
        span_s = found[-1].received_s - found[0].received_s
        poses = sum(len(a.poses) for a in found[1:])
        p50, p95 = np.percentile([1000 * a.age_s for a in found], [50, 95])
        text += (f', {(len(found) - 1) / span_s:.1f} frames/s, {poses / span_s:.0f} poses/s,'
                 f' age {p50:.0f} ms median, {p95:.0f} ms p95')
    return text


def draw_picture(scenes: Sequence[RenderedFrame], targets: Sequence[TargetScore],
                 objects: Mapping[int, ObjectModel]) -> Image:
    """Return a grid of scenes with outlines, truth green and estimate magenta.

    :param targets: what became of the objects of these and other scenes.
    :param objects: by object id.
    :return: (H, W, 3) uint8 RGB.
    """
    with contextlib.closing(PoseOverlay({o.label: o for o in objects.values()})) as overlay:
        tiles = [_tile(overlay, scene, [t for t in targets if t.scene_id == scene.scene_id],
                       objects) for scene in scenes]
    while len(tiles) % COLUMNS:
        tiles.append(np.zeros_like(tiles[0]))
    return np.vstack([np.hstack(tiles[i:i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)])


def _tile(overlay: PoseOverlay, scene: RenderedFrame, targets: Sequence[TargetScore],
          objects: Mapping[int, ObjectModel]) -> Image:
    truths = {t.object_id: t.T_camera_object for t in scene.target_ground_truth()}
    drawn = [DrawnObject(objects[i].label, T, objects[i].label, TRUTH_RGB, axes=False,
                         thickness=2) for i, T in truths.items()]
    drawn += [DrawnObject(objects[t.object_id].label, t.estimate.T_camera_object, '',
                          ESTIMATE_RGB, axes=False) for t in targets if t.estimate is not None]
    picture = overlay.draw(scene.image_rgb, scene.camera, drawn)
    u, v = LEGEND_CORNER
    draw_text(picture, (u, v), 'truth', TRUTH_RGB)
    draw_text(picture, (u, v + LINE_PX), 'estimate', ESTIMATE_RGB)
    return picture
