"""Large images between processes: what config/fastdds.xml asks for, and what is said when lost."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_client import Client
from ros_process import (
    LARGE_CAMERA,
    STAND_IN,
    SUPPORT,
    WAIT_S,
    NodeProcess,
    environment,
    own_domain,
)

from mrcnet_ros.ros.shared_memory import PROFILE_VARIABLES, lost_images_hint

PROFILE = Path(__file__).parents[2] / 'config/fastdds.xml'
MIB = 2**20
CONTAINER_MIB = 64  # size of /dev/shm in a container that was not given another


def _answered_in_this_namespace(domain, count):
    """Run camera, node, an onlooker and a client with the profile; tell whether all goes well."""
    profile = dict.fromkeys(PROFILE_VARIABLES, str(PROFILE))
    os.environ.update(profile)
    onlooker = 'import rclpy, time; rclpy.init(); rclpy.create_node("rviz"); time.sleep(600)'
    with (NodeProcess(['-c', onlooker], domain, profile),
          NodeProcess([STAND_IN, '--ros-args'], domain, profile) as node):
        node.wait_for_log('ready')
        client = Client(domain)
        with NodeProcess([LARGE_CAMERA, '640', '480'], domain, profile):
            answered = client.spin(lambda: len(client.answers) >= count)
        client.close()
        return answered and node.stop() == 0


def test_large_images_arrive_where_a_container_has_the_usual_shared_memory():
    """Four processes with the profile find room in 64 MB, and best-effort images arrive."""
    script = (f'mount -t tmpfs -o size={CONTAINER_MIB}m tmpfs /dev/shm && '
              f'export PYTHONPATH={SUPPORT}:$PYTHONPATH && '
              f'exec {sys.executable} {__file__} {own_domain(120)}')
    tried = subprocess.run(['unshare', '--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/dev/shm'],
                           capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f'cannot mount another /dev/shm: {tried.stderr.strip()}')
    done = subprocess.run(['unshare', '--mount', 'sh', '-c', script], timeout=4 * WAIT_S,
                          env=environment(own_domain(120)), capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'SHM' not in done.stdout + done.stderr, 'Fast DDS complains'


def test_the_profile_asks_for_what_an_image_needs_and_no_more():
    """Two images of 1920x1080 in a segment, four segments in a container, its advice included."""
    text = PROFILE.read_text(encoding='utf-8')
    segment = int(re.search(r'<segment_size>(\d+)<', text)[1])
    assert 2 * 1920 * 1080 * 3 <= segment <= CONTAINER_MIB * MIB / 4
    assert int(re.search(r'<maxMessageSize>(\d+)<', text)[1]) <= segment
    assert 'shm-size' in text and 'ipc=host' in text


def _mounted(monkeypatch, *, free_mib, total_mib=CONTAINER_MIB):
    blocks = os.statvfs_result((4096, 4096, total_mib * 256, free_mib * 256, free_mib * 256,
                                0, 0, 0, 0, 255))
    monkeypatch.setattr(os, 'statvfs', lambda folder: blocks)


@pytest.mark.parametrize(('variables', 'free_mib', 'middleware', 'words', 'absent'), [
    ({}, 60, 'rmw_fastrtps_cpp', ['config/fastdds.xml', *PROFILE_VARIABLES], ['shm-size']),
    ({PROFILE_VARIABLES[1]: str(PROFILE)}, 10, 'rmw_fastrtps_cpp',
     ['64 MiB', '10 are free', 'asks for 12', '--shm-size', '--ipc=host'], []),
    ({PROFILE_VARIABLES[0]: str(PROFILE)}, 60, 'rmw_fastrtps_dynamic_cpp',
     ['camera needs the profile as well', str(PROFILE)], ['shm-size']),
    ({PROFILE_VARIABLES[0]: '/gone.xml'}, 60, 'rmw_fastrtps_cpp', ['/gone.xml'], ['shm-size']),
    ({}, 60, 'rmw_cyclonedds_cpp', ['rmw_cyclonedds_cpp'], ['fastdds.xml']),
])
def test_what_is_said_of_lost_images_fits_the_machine(
        monkeypatch, variables, free_mib, middleware, words, absent):
    """A profile that is set already, or that finds no room, is not recommended again."""
    _mounted(monkeypatch, free_mib=free_mib)
    hint = lost_images_hint(variables, middleware=middleware)
    assert all(word in hint for word in [*words, 'input_reliability']), hint
    assert not any(word in hint for word in absent), hint


if __name__ == '__main__':
    sys.exit(not _answered_in_this_namespace(int(sys.argv[1]), 10))
