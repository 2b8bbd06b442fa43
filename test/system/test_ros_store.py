"""The real node and the folder of its templates: killed while it writes, folder not usable."""

import signal
import sys

import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_client import Client
from ros_frames import frame
from ros_process import NodeProcess, own_domain

# What a disk does when data are written to it, before the node starts.
DISKS = {
    'good': '',
    'slow': '''
def fsync(descriptor):
    print('writing', flush=True)
    time.sleep(600)
os.fsync = fsync
''',
    'full': '''
def fsync(descriptor):
    raise OSError(28, 'No space left on device')
os.fsync = fsync
''',
}


def _node(tiny_model, folder, number, disk, store):
    program = folder / f'{disk}.py'
    program.write_text('import os, sys, time\nfrom mrcnet_ros.ros.pose_node import main\n'
                       f'{DISKS[disk]}\nsys.exit(main())\n')
    parameters = {'model': tiny_model.path, 'meshes': tiny_model.meshes, 'store': store,
                  'threads': 1}
    words = [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]
    return NodeProcess([str(program), '--ros-args', *words], own_domain(number))


def _answers(process):
    """Make sure that a node answers a frame, and ends well."""
    process.wait_for_log('ready')
    client = Client(process.domain)
    client.connect()
    assert client.answer(frame(1, ('blob', 80.0, 60.0, 50.0), size=(160, 120))) is not None
    client.close()
    assert process.stop() == 0
    assert 'Traceback' not in process.log()


def test_a_node_that_was_killed_while_it_wrote_templates_starts_again(tiny_model, tmp_path):
    """What it left is not taken for templates; they are drawn and stored, and then found."""
    store = tmp_path / 'store'
    with _node(tiny_model, tmp_path, 90, 'slow', store) as process:
        process.wait_for_log('writing')
        assert process.stop(signal.SIGKILL) == -signal.SIGKILL
    assert list(store.iterdir()), 'it was not writing yet'
    assert not list(store.glob('*.templates'))
    with _node(tiny_model, tmp_path, 91, 'good', store) as process:
        _answers(process)
        assert "drawing templates of 'blob'" in process.log()
    assert len(list(store.glob('*.templates'))) == 2
    with _node(tiny_model, tmp_path, 92, 'good', store) as process:
        _answers(process)
        assert 'drawing templates' not in process.log()


@pytest.mark.parametrize('disk', ['full', 'read-only'])
def test_a_folder_that_cannot_be_written_costs_time_only(tiny_model, tmp_path, disk):
    """Templates stay in memory; the node's log says so and why."""
    if disk == 'read-only' and sys.platform != 'linux':
        pytest.skip('needs /proc, where nobody can make a folder')
    store, program = ('/proc/templates', 'good') if disk == 'read-only' else (tmp_path, 'full')
    with _node(tiny_model, tmp_path, 93, program, store) as process:
        assert str(store) in process.wait_for_log('kept in memory only')
        _answers(process)
