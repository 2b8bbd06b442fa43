"""What the node adds to the bare estimator: measured on both, on the same frames."""

import argparse
import json
import math
import time

import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from rclpy.serialization import deserialize_message, serialize_message
from ros_frames import frame
from ros_process import STAND_IN, WAIT_S, environment, own_domain
from stand_in_node import BoxEstimator
from vision_msgs.msg import Detection2DArray

from mrcnet_ros.cli import bench_node, bench_track
from mrcnet_ros.cli.traffic_arguments import traffic_frames
from mrcnet_ros.evaluation.speed import TimedAnswer, ask_at_rate
from mrcnet_ros.inference.poses import FrameResult
from mrcnet_ros.testbench.bag import BagFrame
from mrcnet_ros.testbench.traffic import first_detections

TOPICS = ('/image', '/camera_info', '/detections')


def bag_frame(number, *objects):
    messages = map(serialize_message, frame(number, *objects))
    return BagFrame(number, dict(zip(TOPICS, messages, strict=True)), None)


def test_node_and_estimator_are_measured_on_the_same_frames(tmp_path, monkeypatch, capsys):
    """Percentiles of both, what is added, and what became of the frames."""
    for name, value in environment(own_domain(66)).items():
        monkeypatch.setenv(name, value)
    (tmp_path / 'model.json').write_text('{}')
    parser = argparse.ArgumentParser()
    bench_node.add_arguments(parser)
    args = parser.parse_args([
        '--seconds', '3', '--repeats', '2', '--rate', '20', '--timeout', str(WAIT_S),
        '--model', str(tmp_path), '--json', str(tmp_path / 'node.json')])
    args.command_line = 'mrcnet bench node'
    frames = [bag_frame(1, ('duck',)), bag_frame(2, ('brick',))]
    assert bench_node.bench(args, BoxEstimator(), [STAND_IN, '--ros-args'], frames) == 0
    figures = json.loads((tmp_path / 'node.json').read_text())
    for part in ('estimator_ms', 'age_at_publish_ms', 'added_ms'):
        assert set(figures[part]) == {'p50', 'p95', 'p99'}
        assert all(map(math.isfinite, figures[part].values()))
    assert figures['age_at_publish_ms']['p50'] > 0 and figures['age_p99_over_p50'] >= 1
    assert len(figures['turns']) == 2
    assert all(0 < turn['answered'] <= turn['sent'] for turn in figures['turns'])
    assert {'waiting p50', 'answering p50', 'publishing p50'} <= set(
        figures['turns'][0]['node_ms'])
    assert 'bare estimator' in capsys.readouterr().out


def test_following_is_measured_beside_estimating(tmp_path, monkeypatch, capsys):
    """With few detections poses are few, and as many as images with track."""
    for name, value in environment(own_domain(66)).items():
        monkeypatch.setenv(name, value)
    (tmp_path / 'model.json').write_text('{}')
    parser = argparse.ArgumentParser()
    bench_track.add_arguments(parser)
    args = parser.parse_args([
        '--seconds', '2', '--rate', '20', '--timeout', str(WAIT_S), '--model', str(tmp_path),
        '--json', str(tmp_path / 'track.json')])
    args.command_line = 'mrcnet bench track'
    assert bench_track.bench(
        args, lambda track: [STAND_IN, '--ros-args', '-p', f'track:={str(track).lower()}'],
        [bag_frame(1, ('duck',))]) == 0
    rows = json.loads((tmp_path / 'track.json').read_text())['rows']
    each, seldom, followed = (rows[n] for n in (
        bench_track.EACH, bench_track.SELDOM, bench_track.FOLLOWED))
    assert all(row['cpu_percent'] > 0 for row in rows.values())
    assert 0 < seldom['poses_per_s'] < 0.5 * each['poses_per_s']
    assert followed['poses_per_s'] > 1.5 * seldom['poses_per_s']
    assert 'CPU [% of a core]' in capsys.readouterr().out


def test_a_node_that_gives_no_pose_was_not_measured(tmp_path, monkeypatch, capsys):
    """As with a detector that finds nothing: the command fails and names the measurement."""
    parser = argparse.ArgumentParser()
    bench_track.add_arguments(parser)
    args = parser.parse_args(['--model', str(tmp_path), '--json', str(tmp_path / 'track.json')])
    args.command_line = 'mrcnet bench track'
    (tmp_path / 'model.json').write_text('{}')
    monkeypatch.setattr(bench_track, '_measure', lambda args, command, frames, name: {
        'cpu_percent': 9.0, 'answers_per_s': 30.0, 'cpu_ms_per_pose': None,
        'poses_per_s': 0.0 if name == bench_track.FOLLOWED else 30.0})
    assert bench_track.bench(args, lambda track: [], [bag_frame(1, ('duck',))]) == 1
    told = capsys.readouterr().err
    assert f'FAILED: {bench_track.FOLLOWED}: the node published no pose' in told
    assert bench_track.EACH not in told


@pytest.mark.parametrize(('words', 'count'), [([], 5), (['--scenes', '2'], 2)])
def test_following_is_measured_on_a_whole_sequence(monkeypatch, words, count):
    """All images of a bag are sent unless fewer are asked for."""
    monkeypatch.setattr('mrcnet_ros.testbench.bag.read_bag', lambda path: map(bag_frame, range(5)))
    parser = argparse.ArgumentParser()
    bench_track.add_arguments(parser)
    args = parser.parse_args(['--bag', 'some.bag', '--json', 'j', *words])
    assert len(traffic_frames(args)) == count


def test_only_each_so_manyth_frame_has_detections():
    """All frames come with detections in turn; the others keep image and camera_info."""
    first, second = bag_frame(1, ('duck',)), bag_frame(2, ('brick',))
    frames = bench_track.with_gaps([first, second], 3)
    assert [('/detections' in f.inputs, f.inputs['/image'] == first.inputs['/image'])
            for f in frames] == [(True, True), (False, False), (False, True), (True, False),
                                 (False, True), (False, False)]
    assert bench_track.with_gaps([first], 1) == [first]
    assert ['/detections' in f.inputs for f in bench_track.with_gaps([first, second], 0)] == [
        False, False]


def test_what_is_added_is_the_difference_of_percentiles():
    """Of all calls of the estimator, and of the node's medians over turns."""
    bare = [TimedAnswer(0.010, {}, 0, 0)] * 99 + [TimedAnswer(0.110, {}, 0, 0)]
    turns = [{'node_ms': {'age p50': a, 'age p95': 20.0, 'age p99': 26.0}} for a in (12, 13, 99)]
    found = bench_node.added_time(bare, turns)
    assert found['estimator_ms']['p50'] == pytest.approx(10.0)
    assert found['age_at_publish_ms']['p50'] == 13.0
    assert found['added_ms']['p50'] == pytest.approx(3.0)
    assert found['age_p99_over_p50'] == pytest.approx(2.0)


@pytest.mark.parametrize('answered', [1, 0])
def test_turns_without_an_answer_are_told_and_the_others_kept(answered):
    """As when the node drops all frames for 10 s."""
    ages = {'age p50': 12.0, 'age p95': 20.0, 'age p99': 26.0}
    turns = [{'node_ms': ms, 'sent': 9, 'answered': 0, 'dropped': {'late': 9}}
             for ms in [ages] * answered + [{'waiting p50': 3.0}]]
    found = bench_node.added_time([TimedAnswer(0.010, {}, 0, 0)], turns)
    assert found['turns_without_age'] == 1
    assert (found['age_at_publish_ms'] or {}).get('p50') == (12.0 if answered else None)
    table = bench_node.node_table({**found, 'turns': turns, 'rate_hz': 30.0})
    assert f'in 1 of {1 + answered} turns the node published no pose' in table
    assert 'late' in table


def test_a_slow_estimator_is_asked_less_often():
    """Late questions are left out, as frames are dropped; none is asked twice in a row."""
    asked = []

    class Slow:
        def estimate(self, image_rgb, camera, detections, most=None):
            asked.append(image_rgb)
            time.sleep(0.05)
            return FrameResult([], [])

    questions = [argparse.Namespace(image_rgb=i, camera=None, detections=[]) for i in range(10**4)]
    answers = ask_at_rate(Slow(), questions, rate_hz=1000.0, duration_s=0.5)
    assert 1 <= len(answers) == len(asked) <= 10
    assert asked == sorted(set(asked))


def test_detections_can_be_cut():
    """To the first ones; everything else stays."""
    full = bag_frame(1, ('duck',), ('can',), ('brick',))
    cut = first_detections(full, 2)
    labels = [d.results[0].hypothesis.class_id for d in deserialize_message(
        cut.inputs['/detections'], Detection2DArray).detections]
    assert labels == ['duck', 'can']
    assert cut.inputs['/image'] is full.inputs['/image'] and cut.stamp_ns == full.stamp_ns
