"""The demonstration from end to end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..geometry.se3 import Array
from ..objects import ObjectModel, load_object_list
from ..store.folders import temporary_folder
from .assets import shared_file
from .camera_process import GO
from .frames import draw_scenes
from .listener import Listener
from .picture import write_picture
from .processes import LoggedProcess, ProcessError, prepare_environment
from .recording import save_scenes
from .scenes import DemoScene
from .scoring import Limits, Score, score_scenes

NAMESPACE = 'demo'
NODE_COMMAND = ('-m', 'mrcnet_ros.ros.pose_node')
PICTURED = 4
LAST_ANSWER_S = 5.0


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What to show.

    :param output: PNG file to write.
    :param scenes: how many different scenes.
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
    jitter: float = 0.08
    rate_hz: float = 30.0
    frames: int = 150
    model: Path = field(default_factory=lambda: shared_file('models/demo'))
    node_command: Sequence[str] = NODE_COMMAND
    timeout_s: float = 600.0
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Sent:
    """A frame that the camera published."""

    stage: int
    scene: int
    stamp_ns: int


def run_demo(options: DemoOptions) -> int:
    """Start the node and the camera, listen, compare, print, draw.

    :return: 0, or 1 when poses are missing or too far from the truth.
    :raises MrcnetError: when something cannot start.
    """
    prepare_environment()
    objects = {o.label: o for o in load_object_list(options.model / 'objects.yaml').values()}
    scenes, sent, listener = _play(options, objects)
    slow = [frame for frame in sent if frame.stage == 0]
    answers = [_poses(listener, frame) for frame in slow]
    score = score_scenes([scenes[frame.scene] for frame in slow], answers, objects)
    print(f'\nErrors against the truth, medians over {len(slow)} scenes '
          f'(half a turn of a symmetric object is no error):\n\n{score.table()}\n')
    _print_rates(options, sent, listener)
    shown = range(min(PICTURED, len(slow)))
    write_picture(options.output, [scenes[slow[i].scene] for i in shown],
                  [answers[i] for i in shown],
                  {label: o.load_mesh() for label, o in objects.items()})
    print(f'picture: {options.output.resolve()}')
    return _verdict(score, options.limits)


def _play(options: DemoOptions, objects: Mapping[str, ObjectModel]
          ) -> tuple[list[DemoScene], list[Sent], Listener]:
    """Run all processes once; return the scenes, what was sent, and what came back."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder('mrcnet_demo_'))
        node = stack.enter_context(LoggedProcess('node', _node_arguments(options),
                                                 _beside(options.output, '_node.log')))
        print(f'drawing {options.scenes} scenes of {", ".join(objects)}', flush=True)
        scenes = draw_scenes(options.model, objects, options.scenes, options.seed)
        save_scenes(folder, scenes)
        listener = stack.enter_context(Listener(NAMESPACE))
        camera = stack.enter_context(LoggedProcess(
            'camera', _camera_arguments(options, folder),
            _beside(options.output, '_camera.log'), spoken_to=True))
        print('waiting for the node; the first time, it renders its templates', flush=True)
        _listen(options.timeout_s, listener, node, camera)
        lines = (folder / 'sent.jsonl').read_text(encoding='utf-8').splitlines()
        sent = [Sent(**json.loads(line)) for line in lines]
        # under the policy of the demo, the last frame is always answered
        listener.wait_for(sent[-1].stamp_ns, LAST_ANSWER_S)
        return scenes, sent, listener


def _listen(timeout_s: float, listener: Listener, node: LoggedProcess, camera: LoggedProcess
            ) -> None:
    """Let the camera begin as soon as node and listener are connected; receive to its end.

    The camera waits until it is connected itself.

    :raises ProcessError: when that takes too long, or a process ends.
    """
    start, connected = time.monotonic(), False
    while not camera.finished():
        node.check_runs()
        listener.spin(0.1)
        if listener.problem:
            raise ProcessError(f'the node could not be configured: {listener.problem}; '
                               f'see {node.log}')
        missing = [] if connected else listener.missing()
        if not missing and not connected:
            camera.say(GO)
            connected = True
        if missing and time.monotonic() - start > timeout_s:
            raise ProcessError(f'not connected after {timeout_s:.0f} s: {"; ".join(missing)}; '
                               f'see {node.log}')
        if time.monotonic() - start > 2 * timeout_s:
            raise ProcessError(f'the camera process did not end; see {camera.log}')


def _node_arguments(options: DemoOptions) -> list[str]:
    return [*options.node_command, '--ros-args', '-r', f'__ns:=/{NAMESPACE}',
            '--params-file', str(shared_file('config/pose_node.yaml')),
            '-p', f'model:={options.model}', '-p', f'meshes:={options.model / "meshes"}']


def _camera_arguments(options: DemoOptions, folder: Path) -> list[str]:
    stages = ['--stage', '0', str(options.scenes)]
    if options.frames:
        stages += ['--stage', str(options.rate_hz), str(options.frames)]
    return ['-m', 'mrcnet_ros.demo.camera_process', '--scenes', str(folder),
            '--log', str(folder / 'sent.jsonl'), *stages, '--jitter', str(options.jitter),
            '--seed', str(options.seed), '--namespace', NAMESPACE,
            '--wait', str(options.timeout_s)]


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.stem + ending)


def _poses(listener: Listener, frame: Sent) -> dict[str, Array]:
    answer = listener.answers.get(frame.stamp_ns)
    return answer.T_camera_object if answer else {}


def _print_rates(options: DemoOptions, sent: Sequence[Sent], listener: Listener) -> None:
    for stage, name in enumerate(('one at a time', f'at {options.rate_hz:g} Hz')):
        frames = [frame for frame in sent if frame.stage == stage]
        answers = [listener.answers[f.stamp_ns] for f in frames if f.stamp_ns in listener.answers]
        if not frames:
            continue
        line = f'{name}: {len(answers)} of {len(frames)} frames answered'
        if len(answers) > 1:
            span_s = (answers[-1].received_ns - answers[0].received_ns) * 1e-9
            poses = sum(len(a.T_camera_object) for a in answers[1:])
            p50, p95 = np.percentile([1000 * a.age_s for a in answers], [50, 95])
            line += (f', {(len(answers) - 1) / span_s:.1f} frames/s, {poses / span_s:.0f} poses/s,'
                     f' age {p50:.0f} ms median, {p95:.0f} ms p95')
        print(line)
    counts = listener.counts
    print(f'received {counts["object_detections"]} poses on object_detections, '
          f'{counts["object_poses"]} on object_poses, {counts["tf"]} transforms on /tf')


def _verdict(score: Score, limits: Limits) -> int:
    complaints = score.complaints(limits)
    for complaint in complaints:
        print(f'FAILED: {complaint}')
    return 1 if complaints else 0
