"""What an installed command finds, what it hands on, and how it ends in a pipe."""

import os
import select
import site
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest
import yaml

from mrcnet_ros.cli import main, new
from mrcnet_ros.cli.node import _yaml as ros_value
from mrcnet_ros.errors import DatasetError
from mrcnet_ros.store import shared_files
from mrcnet_ros.store.shared_files import shared_file


@pytest.mark.parametrize('place', ['data', 'user'])
def test_shared_files_are_found_wherever_pip_puts_them(monkeypatch, tmp_path, place):
    """With --user, and in the Python of Debian, that is not below sys.prefix."""
    (tmp_path / 'share/mrcnet_ros/models/own').mkdir(parents=True)
    if place == 'data':
        monkeypatch.setattr(sysconfig, 'get_path', lambda _: str(tmp_path))
    else:
        monkeypatch.setattr(site, 'getuserbase', lambda: str(tmp_path))
    assert shared_file('models/own') == tmp_path / 'share/mrcnet_ros/models/own'
    with pytest.raises(DatasetError, match='models/other is in none of'):
        shared_file('models/other')


@pytest.mark.parametrize('value', ['/a/parts #2/x', '/a/b: c', "/it's", '/a b/ä', '', None, True,
                                   3, 0.5])
def test_parameters_reach_the_node_as_they_are(value):
    """ROS reads each as YAML, in which a blank and # begin a comment."""
    assert yaml.safe_load(ros_value(value)) == (value if value is not None else '')


def test_a_training_starts_from_the_weights_of_the_sources_around(monkeypatch, tmp_path):
    """An installed package has the model without them."""
    installed = tmp_path / 'installed'
    installed.mkdir()
    monkeypatch.setattr(shared_files, 'shared_file', lambda name: installed)
    monkeypatch.chdir(tmp_path)
    assert new._start(None) == installed
    (tmp_path / 'models/lmo').mkdir(parents=True)
    (tmp_path / 'models/lmo/weights.pt').touch()
    assert new._start(None) == Path('models/lmo')
    (installed / 'weights.pt').touch()
    assert new._start(None) == installed


def test_a_pipe_that_is_closed_ends_a_command_quietly():
    """As by head, which has read enough."""
    code = textwrap.dedent('''
        import sys, types
        from mrcnet_ros.cli import main

        def run(args):
            for _ in range(100000):
                print('a line of a table')
            return 0

        module = types.SimpleNamespace(add_arguments=lambda parser: None, run=run)
        main._command = lambda name: module
        sys.exit(main.main(['bag']))''')
    with subprocess.Popen([sys.executable, '-c', code], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ''
        assert process.wait(60) == main.CLOSED_PIPE


def test_what_a_command_prints_arrives_line_by_line_in_a_pipe():
    """Also where PYTHONUNBUFFERED is not set: a process that waits for a line gets it."""
    code = textwrap.dedent('''
        import sys, types
        from mrcnet_ros.cli import main

        def run(args):
            print('working')
            sys.stdin.read()
            return 0

        module = types.SimpleNamespace(add_arguments=lambda parser: None, run=run)
        main._command = lambda name: module
        sys.exit(main.main(['bag']))''')
    variables = {k: v for k, v in os.environ.items() if k != 'PYTHONUNBUFFERED'}
    with subprocess.Popen([sys.executable, '-c', code], env=variables, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        came, _, _ = select.select([process.stdout], [], [], 60)
        process.stdin.close()
        assert came, 'the line waits for the end of the process'
        assert process.stdout.readline() == 'working\n'
