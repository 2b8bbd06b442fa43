"""Configuration files of trainings: read whole, and what is wrong is named."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('torch', reason='needs the train extra')

import torch
import yaml

from mrcnet_ros.cli.main import main
from mrcnet_ros.errors import SpecError
from mrcnet_ros.specs import ModelSpec
from mrcnet_ros.training.config import TrainConfig
from mrcnet_ros.training.detector_config import DetectorConfig
from mrcnet_ros.training.painting import ComposerSpec
from mrcnet_ros.training.run_config import config_of, read_config

PAGE = Path(__file__).parents[2] / 'docs' / 'training.md'


def write_config(folder: Path, **changes: Any) -> Path:
    """Write a configuration file with all that is needed, changed."""
    values: dict[str, Any] = {'name': 'x', 'output': 'o', 'cache': 'c', 'models': 'm',
                              'backgrounds': ['b'], **changes}
    path = folder / 'train.yaml'
    path.write_text(yaml.safe_dump({k: v for k, v in values.items() if v != 'LEFT OUT'}))
    return path


def test_a_configuration_is_read_whole(tmp_path):
    """Fields become what the trainer takes; what is left out has its default."""
    config = read_config(TrainConfig, write_config(
        tmp_path, backgrounds=['a', 'b'], labels={3: 'cup'}, distance_m=[1, 2],
        spec={'network': {'hidden': 64}},
        view_prior={'elevation_min_deg': 0, 'elevation_max_deg': 90, 'tilt_max_deg': 10}))
    assert config.backgrounds == (Path('a'), Path('b'))
    assert config.labels == {3: 'cup'}
    assert config.distance_m == (1.0, 2.0)
    assert config.spec.network.hidden == 64
    assert config.spec.crop == ModelSpec().crop
    assert config.view_prior is not None
    assert config.view_prior.tilt_max_deg == 10
    assert config.steps == TrainConfig.steps


def test_fields_of_a_mapping_that_is_null_can_be_set():
    """As docs/training.md names them; mrcnet new writes null for views from all sides."""
    given = {'name': 'x', 'output': 'o', 'cache': 'c', 'models': 'm', 'backgrounds': ['b'],
             'view_prior': None}
    angles = {'elevation_min_deg': 0, 'elevation_max_deg': 90, 'tilt_max_deg': 40}
    changes = {f'view_prior.{name}': value for name, value in angles.items()}
    config = config_of(TrainConfig, given, changes, 'here')
    assert dataclasses.asdict(config)['view_prior'] == angles
    with pytest.raises(SpecError, match=r"view_prior: .*missing fields \['elevation_max_deg'"):
        config_of(TrainConfig, given, {'view_prior.tilt_max_deg': 40}, 'here')


def test_a_tilde_is_the_home_and_no_folder(tmp_path, monkeypatch):
    """In every path; removing a folder called ~ is dangerous."""
    monkeypatch.setenv('HOME', '/home/me')
    config = read_config(TrainConfig, write_config(tmp_path, output='~/x', backgrounds=['~/y']))
    assert (config.output, config.backgrounds) == (Path('/home/me/x'), (Path('/home/me/y'),))


def _defaults(kind: type) -> dict[str, str]:
    """Return the fields as a configuration file would have their defaults."""
    shown = {}
    for declared in dataclasses.fields(kind):
        value = declared.default
        if declared.default_factory is not dataclasses.MISSING:
            value = {} if declared.name == 'spec' else declared.default_factory()
        shown[declared.name] = ('required' if value is dataclasses.MISSING
                                else json.dumps(value, default=str))
    return shown


def test_the_page_has_every_field_with_its_default():
    """`--set NAME=VALUE` of three commands needs the names."""
    text = PAGE.read_text(encoding='utf-8')
    poses, detector, chances = map(_defaults, (TrainConfig, DetectorConfig, ComposerSpec))
    rows = {name: (own, other) for name, own, other in re.findall(
        r'^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|', text, re.MULTILINE)}
    assert rows == {name: (poses.get(name, '-'), detector.get(name, '-'))
                    for name in {**poses, **detector}}
    del chances['crop']
    assert dict(re.findall(r'^\| `chances\.(\w+)` \| ([^|]+) \|', text, re.MULTILINE)) == chances


@pytest.mark.parametrize(('changes', 'problem'), [
    ({'stepz': 3}, r"unknown fields \['stepz'\]; known: .*'steps'"),
    ({'models': 'LEFT OUT'}, "'models'"),
    ({'backgrounds': 'LEFT OUT'}, "'backgrounds'"),
    ({'spec': {'network': {'hiden': 3}}}, r"network: unknown fields \['hiden'\]"),
    ({'spec': {'crops': {}}}, r"unknown fields \['crops'\].*is 'crop' meant"),
    ({'spec': 3}, 'spec must be a mapping of names to values, got 3'),
    ({'spec': None}, 'spec must be a mapping of names to values, got None'),
    ({'spec': {'crop': None}}, r'spec\.crop must be a mapping .* got None'),
    ({'view_prior': 3}, 'view_prior must be a mapping'),
    ({'view_prior': {'tilt_max_deg': 3}}, r'view_prior: .*missing fields'),
    ({'steps': 'many'}, "steps must be a number .*'many'"),
    ({'learning_rate': 'fast'}, r"learning_rate must be a number .*'fast'"),
    ({'learning_rate': float('nan')}, 'learning_rate must be a number .*nan'),
    ({'learning_rate': -1.0}, 'learning_rate must be above 0'),
    ({'freeze_shared': 'off'}, "freeze_shared must be true or false, got 'off'"),
    ({'backgrounds': 'photos'}, "backgrounds must be a list, got 'photos'"),
    ({'labels': {1: True}}, 'labels: 1 must be text, got True; put it in quotes'),
    ({'labels': {'1_0': 'cup'}}, "a key of labels must be a number .*'1_0'"),
    ({'emphasis': {'cup': 1.5}}, r'emphasis: cup must be a number \(int\), got 1\.5'),
    ({'chances': {'occluded': 85}}, 'occluded must be 0 to 1, got 85'),
    ({'chances': {'occuded': 1.0}}, r"chances: unknown fields \['occuded'\].*'occluded' meant"),
    ({'chances': {'crop': 1.0}}, r"chances: unknown fields \['crop'\]"),
    ({'distance_m': [450, 1500]}, 'in metres, got 450 and 1500'),
    ({'view_prior': {'elevation_min_deg': 50, 'elevation_max_deg': 0, 'tilt_max_deg': 10}},
     'elevation_min_deg < elevation_max_deg'),
    ({'view_prior': {'elevation_min_deg': 0, 'elevation_max_deg': 1.57, 'tilt_max_deg': 0.8}},
     'in degrees; .* look like radians'),
    ({'spec': {'crop': {'size_px': 112}, 'template': {'size_px': 112}}},
     r'spec\.crop\.size_px must be a multiple of 32 .* got 112 and 112'),
    ({'spec': {'crop': {'size_px': 128}}}, r'equal to spec\.template\.size_px, got 128 and 96'),
    ({'spec': {'template': {'size_px': 64}}}, 'got 96 and 64'),
    ({'spec': {'bins': {'scale_bins': 1}}}, r'spec\.bins\.scale_bins must be at least 2, got 1'),
    ({'spec': {'crop': {'padding': 0.5}}}, 'crop: size_px and padding must be at least 1'),
    ({'spec': {'bins': {'scale_min': 3.0}}}, '0 < scale_min < scale_max'),
    ({'spec': {'bins': {'cells': 0}}}, 'bins: counts must be at least 1'),
    ({'spec': {'template': {'distance_diameters': 0.2}}}, 'distance_diameters above 1'),
    ({'spec': {'network': {'hidden': -5}}}, 'network: channels, embedding and hidden must be at'),
    ({'spec': {'network': {'hidden': '1_0'}}}, "hidden must be int, got '1_0'"),
    ({'batch_size': 0}, 'batch_size must be at least 1'),
    ({'distance_m': [1]}, 'train.yaml'),
    ({'checkpoint': 150}, r'checkpoint \(150\) must be a multiple of refresh \(100\)'),
    ({'device': 'gpu'}, "device must be cpu, cuda or cuda:N, got 'gpu'"),
    ({'device': 'cuda'}, 'device cuda needs processes 1, got 2'),
    ({'composers': 3}, 'composers needs processes 1, got 2'),
    ({'composers': -1}, 'composers must not be negative'),
    ({'series': -1}, 'series must be 0 to 99, got -1'),
    ({'freeze_shared': True}, 'freeze_shared needs init')])
def test_a_wrong_configuration_is_named(tmp_path, changes, problem):
    """The error names the field at fault."""
    with pytest.raises(SpecError, match=problem):
        read_config(TrainConfig, write_config(tmp_path, **changes))


@pytest.mark.parametrize('text', ['- a\n- b\n', 'steps: [1\n', None])
def test_a_file_that_is_no_configuration_is_named(tmp_path, text):
    """A list, broken YAML or a missing file is told by its name."""
    path = tmp_path / 'some.yaml'
    if text is not None:
        path.write_text(text)
    with pytest.raises(SpecError, match=r'some\.yaml'):
        read_config(TrainConfig, path)


@pytest.mark.parametrize(('words', 'said'), [
    (['--set', 'steps'], '--set steps: expected NAME=VALUE'),
    (['--set', 'steps=[1'], 'the value cannot be read'),
    (['--set', 'stepz=1'], "unknown fields ['stepz']"),
    (['--set', 'name.first=1'], "name is 'x' and has no field first"),
    (['--minutes', '0'], 'minutes must be positive, got 0.0'),
    (['--stem', 'absent.pt'], 'absent.pt: there is no such checkpoint'),
    (['--pieces-mib', '9'], '--pieces-mib would have no effect: it is for --pieces'),
    (['--pieces', __file__], f'--pieces {__file__} cannot be written')])
def test_a_wrong_option_of_the_command_is_told(tmp_path, capsys, words, said):
    """Misspelt fields and files that are missing are named."""
    assert main(['train', str(write_config(tmp_path)), *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize('preset', ['default', 'detector'])
@pytest.mark.parametrize(('weights', 'said'), [
    ({'conv1.weight': torch.zeros(3)}, "is no EfficientNet-Lite0: it has no '_bn0.weight'"),
    ([1, 2], 'is no EfficientNet-Lite0: ')])
def test_weights_of_another_network_are_told_before_the_training(tmp_path, capsys, preset,
                                                                 weights, said):
    """Such as a ResNet; nothing is rendered before."""
    torch.save(weights, tmp_path / 'other.pt')
    path = write_config(tmp_path, preset=preset, cache=str(tmp_path / 'cache'))
    assert main(['train', str(path), '--stem', str(tmp_path / 'other.pt')]) == 2
    assert f'other.pt: {said}' in capsys.readouterr().err
    assert not (tmp_path / 'cache').exists()


@pytest.mark.parametrize('value', ['nan', 'inf', '-1', '0'])
def test_a_wrong_size_of_pieces_is_told_before_the_training(tmp_path, capsys, value):
    """Not after it, which may have taken hours."""
    with pytest.raises(SystemExit):
        main(['train', str(write_config(tmp_path)), '--pieces', str(tmp_path / 'pieces'),
              f'--pieces-mib={value}'])
    assert 'argument --pieces-mib: must be above 0' in capsys.readouterr().err
    assert not (tmp_path / 'pieces').exists()
