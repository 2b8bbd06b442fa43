"""The soak command: what it records, and that it finds what it is for."""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from mrcnet_ros.cli.main import main
from mrcnet_ros.errors import SpecError
from mrcnet_ros.evaluation.steadiness import (
    SteadinessLimits,
    judge,
    slope,
    soak_charts,
    steady_figures,
)

SUPPORT = Path(__file__).parents[1] / 'support'
LIMITS = SteadinessLimits(
    warm_up_s=60, memory_mb_per_h=20, memory_slack_mb=5, handles=2, silence_s=5)


def samples(minutes=30, **changes):
    """Return samples every 5 s of a node that keeps still, with columns replaced by functions."""
    rng = np.random.default_rng(0)
    columns = {
        'rss_mb': lambda t: 300 + rng.normal(0, 0.5), 'handles': lambda t: 40,
        'threads': lambda t: 12, 'silence_s': lambda t: 0.04, 'answered': lambda t: 30 * t,
        'dropped_failed': lambda t: 0, **changes}
    return [{'time_s': t, **{name: f(t) for name, f in columns.items()}}
            for t in np.arange(5.0, 60 * minutes, 5.0)]


def failed(checks):
    return [check.name for check in checks if not check.passed]


def test_a_node_that_keeps_still_passes():
    """Also when it grew during the warm-up, and with noise on the memory."""
    assert failed(judge(samples(), LIMITS)) == []
    grown = samples(rss_mb=lambda t: min(300.0, 5 * t), handles=lambda t: 40 if t > 50 else 10)
    assert failed(judge(grown, LIMITS)) == []


@pytest.mark.parametrize(('name', 'change'), [
    ('memory growth', {'rss_mb': lambda t: 300 + 25 * t / 3600}),
    ('handle growth', {'handles': lambda t: 40 + int(t / 400)}),
    ('thread growth', {'threads': lambda t: 12 + int(t / 400)}),
    ('longest silence', {'silence_s': lambda t: 6.0 if 600 <= t < 605 else 0.04}),
    ('frames that raised', {'dropped_failed': lambda t: int(t > 1000)}),
])
def test_each_limit_is_found_to_be_passed(name, change):
    """And no other is blamed."""
    assert failed(judge(samples(**change), LIMITS)) == [name]


def test_a_short_run_is_not_failed_for_a_step_of_the_allocator():
    """4 MiB in two minutes would be 120 MiB an hour; the slack lets it pass, and no more."""
    for rise_mb, found in ((4.0, []), (7.0, ['memory growth'])):
        run = samples(3, rss_mb=lambda t, r=rise_mb: 300 + r * (t - 60) / 120)
        assert failed(judge(run, LIMITS)) == found


def test_the_slope_is_that_of_most_points():
    """Whatever a few of them do."""
    x = np.arange(1000.0)
    y = 3.0 + 0.5 * x
    y[::7] += 1000.0 * np.random.default_rng(1).random(143)
    assert slope(x, y) == pytest.approx(0.5, rel=0.1)


def test_too_short_a_time_is_refused_before_anything_starts(capsys, tmp_path):
    """The message says what would do; judging too few samples is refused as well."""
    assert main(['soak', '--minutes', '0.5', '--output', str(tmp_path), '--scenes', '1',
                 '--model', str(tmp_path / 'none')]) == 2
    assert 'give at least 85 s' in capsys.readouterr().err
    with pytest.raises(SpecError, match='0 samples'):
        judge(samples(1), LIMITS)


def test_figures_are_of_the_time_after_the_warm_up():
    """Rates by reason, and spreads of what is measured; gaps are left out."""
    run = [{**s, 'sent': 30 * s['time_s'], 'answered': 20 * s['time_s'], 'cpu_percent': 80.0,
            'dropped_busy': 10 * s['time_s'], 'dropped_unpaired': 3, 'age_p99_ms': None,
            'age_p50_ms': 900.0 if s['time_s'] < 60 else s['time_s']} for s in samples(2)]
    found = steady_figures(run, LIMITS)
    assert found['seconds'] == 50.0
    assert found['per_second'] == pytest.approx({'sent': 30, 'answered': 20, 'busy': 10})
    assert found['age_p50_ms'] == {'first': 65, 'last': 115, 'median': 90, 'largest': 115}
    assert found['age_p99_ms'] is None
    assert steady_figures(run[:3], LIMITS) == {}


def test_charts_show_what_was_dropped():
    """By reason, and only reasons that there were."""
    run = [{**s, 'sent': s['answered'], 'age_p50_ms': None, 'age_p99_ms': 1.0,
            'receipt_p50_ms': 1.0, 'receipt_p99_ms': 1.0, 'dropped_busy': 2 * s['time_s'],
            'dropped_unpaired': 0} for s in samples(2)]
    lines = {line.name: line for line in soak_charts(run)[-1].lines}
    assert list(lines) == ['sent', 'answered', 'busy']
    assert lines['busy'].y == pytest.approx([2.0] * (len(run) - 1))


# from here on with the node

LEAKY = '''
import sys
sys.path.insert(0, {support!r})
from stand_in_node import BoxEstimator
from mrcnet_ros.ros.pose_node import main
kept = []
class Leaky(BoxEstimator):
    def estimate(self, *frame):
        {leak}
        return super().estimate(*frame)
sys.exit(main(load=lambda parameters: Leaky()))
'''


@pytest.fixture
def soak(tmp_path, monkeypatch):
    """Return a function that soaks a node whose estimator does something more at each frame."""
    pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
    pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')
    from rclpy.serialization import serialize_message
    from ros_frames import frame
    from ros_process import WAIT_S, environment, own_domain

    from mrcnet_ros.cli import soak as command
    from mrcnet_ros.testbench.bag import BagFrame

    for name, value in environment(own_domain(65)).items():
        monkeypatch.setenv(name, value)
    topics = ('/image', '/camera_info', '/detections')
    frames = [BagFrame(i, dict(zip(topics, map(serialize_message, frame(i, ('duck',))),
                                   strict=True)), None) for i in (1, 2)]
    (tmp_path / 'model.json').write_text('{}')

    def run(leak='pass', minutes=0.1):
        program = tmp_path / 'node.py'
        program.write_text(LEAKY.format(support=str(SUPPORT), leak=leak))
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        args = parser.parse_args([
            '--minutes', str(minutes), '--warm-up', '2', '--period', '0.5', '--rate', '20',
            '--memory-limit', '20000', '--silence-limit', str(WAIT_S), '--timeout',
            str(WAIT_S), '--output', str(tmp_path / 'out'), '--model', str(tmp_path)])
        args.command_line = 'mrcnet soak'
        code = command.soak(args, [str(program), '--ros-args'], frames)
        return code, json.loads((tmp_path / 'out' / 'soak.json').read_text()), tmp_path / 'out'

    return run


def test_a_run_is_recorded_sample_by_sample(soak):
    """CSV, figures and charts; frames are answered and nothing is dropped for being late."""
    code, figures, folder = soak()
    assert code == 0 and figures['passed']
    with (folder / 'soak.csv').open() as file:
        rows = list(csv.DictReader(file))
    times = [float(row['time_s']) for row in rows]
    assert len(rows) >= 5 and times == sorted(times)
    assert 20 < float(rows[-1]['rss_mb']) < 2000 and int(rows[-1]['handles']) > 3
    assert 0 < int(rows[-1]['answered']) <= int(rows[-1]['sent'])
    assert float(rows[-1]['receipt_p50_ms']) > 0 and float(rows[-1]['age_p50_ms']) > 0
    assert figures['backend'] == 'onnxruntime' and figures['node']['backend'] == 'none'
    assert figures['after_warm_up']['per_second']['answered'] > 0
    assert {c['name'] for c in figures['checks']} >= {'memory growth', 'handle growth'}
    with Picture.open(folder / 'soak.png') as picture:
        assert len(np.unique(np.asarray(picture))) > 10


@pytest.mark.parametrize(('leak', 'name'), [
    ("kept.append(b'x' * (4 << 20))", 'memory growth'),
    ('kept.append(open(__file__))', 'handle growth'),
])
def test_a_leak_is_found(soak, capsys, leak, name):
    """Of memory and of open files."""
    code, figures, _ = soak(leak)
    assert code == 1 and not figures['passed']
    assert [c['name'] for c in figures['checks'] if not c['passed']] == [name]
    assert f'FAILED: {name}' in capsys.readouterr().out


def test_the_end_of_the_node_is_a_failure(soak, capsys):
    """What was recorded until then is kept."""
    dying = ('import os, time; kept.append(time.monotonic()); '
             'kept[-1] - kept[0] > 2 and os._exit(7)')
    code, figures, folder = soak(dying, minutes=2)
    assert code == 1
    assert 'ended with status 7' in figures['failure']
    assert (folder / 'soak.csv').read_text().count('\n') > 1
