"""``mrcnet bench train``: a device computes the step that the processor computes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from itertools import chain, repeat

import pytest

pytest.importorskip('torch', reason='needs the train extra')

import torch
import trimesh
from small_training import write_whole_config
from tiny_model import SPEC, random_stem

from mrcnet_ros.cli.bench_train import MAX_DIFFERENCE
from mrcnet_ros.cli.main import main
from mrcnet_ros.errors import SpecError
from mrcnet_ros.network.mrcnet import MrcNet
from mrcnet_ros.training import targets, throughput
from mrcnet_ros.training.training_start import build_network, check_device


@pytest.mark.parametrize('device', [
    'cpu', pytest.param('cuda', marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU'),
        pytest.mark.skipif(not trimesh.ray.has_embree, reason='needs embreex to draw views')])])
def test_a_device_computes_the_step_that_the_processor_computes(own, tmp_path, device):
    """The command compares losses and gradients, and times two widths and the composers."""
    stem, config, figures = (tmp_path / n for n in ('stem.pt', 'train.yaml', 'figures.json'))
    torch.save(random_stem(), stem)
    write_whole_config(config, own)
    ended = subprocess.run(
        [sys.executable, '-m', 'mrcnet_ros.cli.main', 'bench', 'train', str(config), '--stem',
         str(stem), '--set', f'device={device}', '--set', 'composers=2', '--compared', '8',
         '--steps', '2', '--json', str(figures)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(figures.read_text())
    assert found['compared']['devices'] == ['cpu', device]
    if device == 'cpu':
        for precision in ('float32', 'bfloat16'):
            assert found['compared'][precision]['largest_relative_difference'] == 0
    assert found['compared']['float32']['relative_difference_of_gradients'] < MAX_DIFFERENCE
    narrow, wide = found['widths']
    assert wide['parameters'] > 2 * narrow['parameters']
    assert min(narrow['samples_per_s'], found['composed']['samples_per_s']) > 0
    assert '2 composers:' in ended.stdout


def test_a_device_that_rounds_otherwise_passes(own, tmp_path, monkeypatch, capsys):
    """Weights off by what float32 rounds are no failure, though bfloat16 may take other bins."""
    def rounded(*given):
        network, generator = build_network(*given), torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in network.parameters():
                p.mul_(1 + next(noise, 0.0) * torch.randn(p.shape, generator=generator))
        return network

    stem, config, figures = (tmp_path / n for n in ('stem.pt', 'train.yaml', 'figures.json'))
    torch.save(random_stem(), stem)
    write_whole_config(config, own)
    count = len(list(MrcNet(spec=SPEC, objects=2).parameters()))
    # in float32 and in bfloat16, first the processor, then the device
    noise = chain.from_iterable(repeat(size, count) for size in (0.0, 2e-7, 0.0, 2e-7))
    monkeypatch.setattr(throughput, 'build_network', rounded)
    assert main(['bench', 'train', str(config), '--stem', str(stem), '--widths', '1',
                 '--compared', '8', '--steps', '1', '--json', str(figures)]) == 0
    found = json.loads(figures.read_text())['compared']
    assert 0 < found['float32']['largest_relative_difference'] < 1e-3
    assert 'bfloat16: loss' in capsys.readouterr().out


@pytest.mark.parametrize('factor', [2.0, float('nan')])
def test_a_device_that_computes_something_else_is_told(own, tmp_path, monkeypatch, capsys,
                                                       factor):
    """The command fails when a term of the loss differs too much, or is no number."""
    def wrong(self, device):
        return dataclasses.replace(self, points=factor * self.points)

    stem, config = tmp_path / 'stem.pt', tmp_path / 'train.yaml'
    torch.save(random_stem(), stem)
    write_whole_config(config, own)
    calls = iter([targets.ObjectShapes.to, wrong])
    monkeypatch.setattr(targets.ObjectShapes, 'to', lambda s, d: next(calls, wrong)(s, d))
    assert main(['bench', 'train', str(config), '--stem', str(stem), '--widths', '1',
                 '--compared', '4', '--steps', '1', '--json', str(tmp_path / 'out.json')]) == 1
    assert 'FAILED: the step differs by more than 0.01' in capsys.readouterr().out
    compared = json.loads((tmp_path / 'out.json').read_text())['compared']['float32']
    assert (compared['largest_relative_difference'] is None) == (factor != 2.0)


def test_a_gpu_that_is_not_there_is_told(material):
    """The error says what PyTorch sees; nothing is rendered before."""
    there = torch.cuda.device_count()
    with pytest.raises(SpecError, match=f'device cuda:{there}: PyTorch .* sees {there} GPUs'):
        check_device(dataclasses.replace(material, device=f'cuda:{there}'))
