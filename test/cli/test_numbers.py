"""Numbers, paths and options that cannot be are refused before anything starts."""

import argparse
import errno
import importlib
import os
import pkgutil
import re

import pytest

from mrcnet_ros import cli
from mrcnet_ros.cli.main import main
from mrcnet_ros.store.atomic import write_atomically


@pytest.mark.parametrize(('words', 'option'), [
    (['fuzz', '--model', 'm'], '--timeout'), (['soak'], '--memory-limit'),
    (['soak'], '--silence-limit'), (['soak'], '--warm-up'), (['demo'], '--rate'),
    (['bag', 'from-bop', '--output', 'o'], '--rate'),
    (['bench', 'train', 'c.yaml'], '--max-difference')])
@pytest.mark.parametrize('value', ['nan', 'inf', '-1'])
def test_limits_and_rates_are_finite_and_not_negative(capsys, words, option, value):
    """No growth is above a limit of nan, so that any leak would pass."""
    with pytest.raises(SystemExit) as ended:
        main([*words, f'{option}={value}'])
    assert ended.value.code == 2
    assert f'argument {option}: must be' in capsys.readouterr().err


def options_of(parser):
    """Return all options, those of tasks too, as parser, name of the value and text of help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for task in action.choices.values():
                yield from options_of(task)
        elif action.help:
            yield parser, action.dest, parser._get_formatter()._expand_help(action)


def test_the_default_in_the_help_is_the_default():
    """Where it is a number, in the help of every command and task."""
    told = 0
    for module in pkgutil.iter_modules(cli.__path__):
        parser = argparse.ArgumentParser()
        getattr(importlib.import_module(f'mrcnet_ros.cli.{module.name}'), 'add_arguments',
                lambda parser: None)(parser)
        for owner, name, text in options_of(parser):
            for number in re.findall(r'default: (-?[\d.]+)\b', text):
                default = owner.get_default(name)
                if isinstance(default, int | float):  # others are chosen when the command runs
                    assert default == float(number), (module.name, name)
                    told += 1
    assert told > 30


@pytest.mark.parametrize(('number', 'remedy'), [
    (errno.ENOSPC, 'make room on its disk'), (errno.EACCES, 'let this user read and write there')])
def test_an_error_of_the_disk_is_told_with_the_file(tmp_path, capsys, monkeypatch, number, remedy):
    """Wherever it comes, not as a traceback; of a file that is written whole, with its name."""
    def full(_handle):
        raise OSError(number, os.strerror(number))

    def run(_args):
        monkeypatch.setattr(os, 'fsync', full)
        write_atomically(tmp_path / 'checkpoint.pt', b'data')

    monkeypatch.setattr('mrcnet_ros.cli.soak.run', run)
    assert main(['soak']) == 2
    told = capsys.readouterr().err
    assert f'{tmp_path}/checkpoint.pt cannot be used ({os.strerror(number)}); {remedy}' in told
    assert not list(tmp_path.iterdir())


def test_other_errors_of_the_system_are_not_hidden(monkeypatch):
    """They are mistakes of the program."""
    def run(_args):
        raise OSError(errno.EBADF, 'bad file descriptor')

    monkeypatch.setattr('mrcnet_ros.cli.soak.run', run)
    with pytest.raises(OSError, match='bad file descriptor'):
        main(['soak'])


@pytest.mark.parametrize('option', ['--scenes', '--frames'])
def test_a_demo_of_nothing_is_refused(capsys, option):
    """It would have nothing to judge."""
    with pytest.raises(SystemExit):
        main(['demo', f'{option}=0'])
    assert f'argument {option}: must be at least 1' in capsys.readouterr().err


@pytest.mark.parametrize(('words', 'idle'), [
    (['synth', '--models', 'm', '--output', 'o', '--unit', 'm'], '--unit'),
    (['export', 'c.yaml', '--output', 'o', '--precision', 'fp16', '--max-batch', '8'],
     '--precision, --max-batch'),
    (['export', '--model', 'm', '--backend', 'tensorrt', '--checkpoint', 'c'], '--checkpoint'),
    (['calibrate', '--model', 'm', '--synthetic', '--detection-boxes', 'mask'],
     '--detection-boxes'),
    (['calibrate', '--model', 'm', '--synthetic', '--limit', '5', '--split', 'train'],
     '--split, --limit'),
    (['calibrate', '--model', 'm', '--synthetic', '--detector', 'd', '--boxes', 'amodal',
      '--seed', '1'], '--boxes'),
    (['bench', 'track', '--detector', 'd', '--objects', '2', '--json', 'FOLDER/j'], '--objects'),
    (['evaluate', 'bag', '--bag', 'b', '--model', 'm', '--csv', 'FOLDER/c', '--json', 'FOLDER/j',
      '--rate', '5'], '--rate')])
def test_options_that_would_count_for_nothing_are_refused(tmp_path, capsys, words, idle):
    """As fp16 of an export, which is for engines: the graphs stayed fp32, with exit code 0."""
    assert main([word.replace('FOLDER', str(tmp_path)) for word in words]) == 2
    assert f'{idle} would have no effect' in capsys.readouterr().err


@pytest.mark.parametrize('words', [['demo'], ['soak'], ['fuzz', '--model', 'm'],
                                   ['synth', '--models', 'm', '--output', 'o']])
def test_a_seed_is_not_negative(capsys, words):
    """A generator of random numbers fails with one, after the node was started."""
    with pytest.raises(SystemExit):
        main([*words, '--seed=-1'])
    assert 'argument --seed: must be 0 or more, got -1' in capsys.readouterr().err


@pytest.mark.parametrize('option', ['--model', '--meshes'])
def test_an_empty_path_is_refused(capsys, option):
    """A variable of the shell that is not set would mean the present folder."""
    with pytest.raises(SystemExit):
        main(['templates', '--model', 'm', option, ''])
    assert f'argument {option}: is empty' in capsys.readouterr().err


def test_a_home_is_found_where_no_shell_replaces_it(monkeypatch, tmp_path, capsys):
    """In --model=~/m a shell leaves the ~ as it is."""
    monkeypatch.setenv('HOME', str(tmp_path))
    assert main(['templates', '--model=~/m']) == 2
    assert f'{tmp_path}/m' in capsys.readouterr().err


@pytest.mark.parametrize(('outputs', 'message'), [
    (('--json', 'FOLDER'), 'is a folder; give the name of a file'),
    (('--json', 'FOLDER/x.png', '--plot', 'FOLDER/x.png'), 'are one file'),
    (('--json', 'FOLDER/x.json', '--plot', 'FOLDER/x.jpeg2'), 'ends in .png')])
def test_files_that_cannot_be_written_are_told_before_the_work(tmp_path, capsys, outputs, message):
    """Not after hours, and none takes the place of another."""
    words = [word.replace('FOLDER', str(tmp_path)) for word in outputs]
    assert main(['bench', 'paper', *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_poses_are_not_replaced_by_their_figures(tmp_path, capsys):
    """The file that is scored is no place for the scores."""
    results = tmp_path / 'poses.csv'
    results.write_text('scene_id')
    assert main(['evaluate', 'csv', '--bop-dir', 'd', '--dataset', 'lmo', '--results',
                 str(results), '--json', str(tmp_path / '.' / 'poses.csv')]) == 2
    assert '--json and --results are one file' in capsys.readouterr().err
    assert results.read_text() == 'scene_id'
