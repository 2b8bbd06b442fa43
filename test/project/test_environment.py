"""What the surroundings of a process allow: processors, home, folders that can be written."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mrcnet_ros import cpus
from mrcnet_ros.cpus import cpu_quota, usable_cpus
from mrcnet_ros.errors import DatasetError
from mrcnet_ros.rendering.template_store import TemplateStore
from mrcnet_ros.store.content_store import temporary_folder, user_cache_folder

ROOT = Path(__file__).resolve().parents[2]


def files(root, **contents):
    """Write files below a folder; two underscores in a name stand for a slash."""
    for name, text in contents.items():
        path = root / name.replace('__', '/').replace('_dot_', '.')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + '\n')


@pytest.mark.parametrize(('membership', 'contents', 'expected'), [
    ('0::/pod/box', {'pod__box__cpu_dot_max': '150000 100000'}, 1.5),
    ('0::/pod/box', {'pod__box__cpu_dot_max': 'max 100000',
                     'pod__cpu_dot_max': '200000 100000'}, 2.0),
    ('0::/docker/unseen', {'cpu_dot_max': '50000 100000'}, 0.5),
    ('0::/', {'cpu_dot_max': 'max 100000'}, None),
    ('0::/', {}, None),
    ('3:cpuset:/a\n2:cpu,cpuacct:/a/b\n0::/', {
        'cpu__a__b__cpu_dot_cfs_quota_us': '300000',
        'cpu__a__b__cpu_dot_cfs_period_us': '100000'}, 3.0),
    ('2:cpu,cpuacct:/a', {
        'cpu,cpuacct__cpu_dot_cfs_quota_us': '100000',
        'cpu,cpuacct__cpu_dot_cfs_period_us': '100000'}, 1.0),
    ('2:cpu:/', {'cpu__cpu_dot_cfs_quota_us': '-1', 'cpu__cpu_dot_cfs_period_us': '100000'}, None),
    ('1:cpu:/\n0::/x', {
        'unified__x__cpu_dot_max': '100000 50000', 'cpu__cpu_dot_cfs_quota_us': '400000',
        'cpu__cpu_dot_cfs_period_us': '100000'}, 2.0),
])
def test_the_quota_is_the_smallest_of_all_groups_around(tmp_path, membership, contents, expected):
    """Of both versions of control groups, also where only the outermost group can be seen."""
    root = tmp_path / 'cgroup'
    files(root, **contents)
    (tmp_path / 'membership').write_text(membership + '\n')
    assert cpu_quota(tmp_path / 'membership', root) == expected


def test_without_control_groups_there_is_no_quota(tmp_path):
    """As on another system than Linux."""
    assert cpu_quota(tmp_path / 'none', tmp_path) is None


@pytest.mark.parametrize(('quota', 'expected'), [
    (None, 6), (8.0, 6), (2.0, 2), (1.5, 2), (0.25, 1)])
def test_affinity_and_quota_both_count(monkeypatch, quota, expected):
    """A part of a processor counts as one."""
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(6)))
    monkeypatch.setattr(cpus, 'cpu_quota', lambda: quota)
    assert usable_cpus() == expected


DEFAULTS = '''
import os
os.sched_setaffinity(0, {cpus})
import argparse
from pathlib import Path
import cv2
import numpy as np
import mrcnet_ros.cpus
mrcnet_ros.cpus.cpu_quota = lambda: {quota}
from mrcnet_ros.cli.dataset_arguments import add_model_arguments
from mrcnet_ros.runtimes.backend import RuntimeOptions
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.runtimes.runtime_choice import open_backend
parser = argparse.ArgumentParser()
add_model_arguments(parser)
model = read_model_directory(Path({model!r}), Path({meshes!r}))
backend = open_backend(model, RuntimeOptions(backend={backend!r}, precision='fp32'))
size = model.spec.crop.size_px
for _ in range(3):
    backend.run('stage1', {{'image': np.zeros((4, size, size, 3), np.uint8),
                           'class_index': np.zeros(4, np.int64)}})
allowed = {{line.split()[1] for task in os.listdir('/proc/self/task')
           for line in Path(f'/proc/self/task/{{task}}/status').read_text().splitlines()
           if line.startswith('Cpus_allowed_list')}}
print(parser.parse_args(['--model', 'x']).threads, cv2.getNumThreads(), ','.join(sorted(allowed)))
'''


@pytest.mark.parametrize('backend', ['onnxruntime', 'openvino', 'torch'])
def test_no_default_takes_more_processors_than_are_given(tiny_model, backend):
    """Neither the command line nor a runtime nor OpenCV, and no thread leaves its processor."""
    pytest.importorskip(backend, reason=f'needs {backend}')
    cpu = min(os.sched_getaffinity(0))
    script = DEFAULTS.format(quota=None, cpus={cpu}, model=str(tiny_model.path),
                             meshes=str(tiny_model.meshes), backend=backend)
    found = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                           cwd=ROOT, check=False)
    assert found.stdout.split() == ['1', '1', str(cpu)], found.stdout + found.stderr


def test_a_quota_counts_as_affinity_does(tiny_model):
    """OpenCV by itself would use all processors."""
    every = sorted(os.sched_getaffinity(0))
    script = DEFAULTS.format(quota=0.5, cpus=set(every), model=str(tiny_model.path),
                             meshes=str(tiny_model.meshes), backend='onnxruntime')
    found = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                           cwd=ROOT, check=False)
    assert found.stdout.split()[:2] == ['1', '1'], found.stdout + found.stderr


@pytest.mark.parametrize('change', [{}, {'HOME': '/proc'}])
def test_a_log_that_cannot_be_written_is_told_with_the_remedy(change):
    """By the node, at once, without a traceback."""
    pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
    env = {k: v for k, v in os.environ.items() if k not in ('HOME', 'ROS_LOG_DIR', 'ROS_HOME')}
    found = subprocess.run(
        [sys.executable, '-m', 'mrcnet_ros.cli.main', 'node', '--ros-args', '-p',
         'autostart:=false'], env=env | change, cwd=ROOT, capture_output=True, text=True,
        timeout=600, check=False)
    assert found.returncode == 2 and 'Traceback' not in found.stderr
    assert 'set ROS_LOG_DIR' in found.stderr


def test_a_user_without_a_home_has_a_cache_all_the_same(monkeypatch):
    """In the temporary folder, never in a folder called ~."""
    for name in ('HOME', 'XDG_CACHE_HOME', 'MRCNET_CACHE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, 'expanduser', lambda path: path)  # as for an unknown user
    assert user_cache_folder().parent == Path(tempfile.gettempdir())
    assert TemplateStore().root.is_absolute()


def test_an_unwritable_temporary_folder_is_told(monkeypatch):
    """With the variable that moves it."""
    monkeypatch.setattr(tempfile, 'tempdir', '/proc')
    with pytest.raises(DatasetError, match='set TMPDIR'), temporary_folder('mrcnet_'):
        pass


def test_a_temporary_folder_is_removed():
    """With all that is in it."""
    with temporary_folder('mrcnet_') as folder:
        (folder / 'file').write_text('text')
    assert not folder.exists()


def test_a_domain_that_another_user_holds_is_left_to_them(tmp_path):
    """Where their file cannot be opened, the tests take the next block of domains."""
    (tmp_path / 'mrcnet_test_domains_0').mkdir()  # not even root opens a folder to write
    done = subprocess.run(
        [sys.executable, '-c', 'import ros_process; print(ros_process.own_domain())'],
        cwd=ROOT / 'test/support', env={**os.environ, 'TMPDIR': str(tmp_path)}, check=False,
        capture_output=True, text=True)
    assert done.stdout == '21\n', done.stderr
