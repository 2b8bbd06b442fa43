"""Training: goes on after a kill as if nothing had happened, learns, and says what is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('torch', reason='needs the train extra')

import torch
import yaml
from same_states import assert_same
from small_training import LOG_EVERY, VALIDATION_SAMPLES, metrics, write_whole_config
from tiny_model import SPEC, TinyModel, random_stem, write_material

from mrcnet_ros.cli.main import main
from mrcnet_ros.errors import SpecError
from mrcnet_ros.network.mrcnet import MrcNet
from mrcnet_ros.training import drawing_ahead
from mrcnet_ros.training.checkpoint import load_checkpoint
from mrcnet_ros.training.composed_run import check_start
from mrcnet_ros.training.config import TrainConfig
from mrcnet_ros.training.disturbers import load_disturbers
from mrcnet_ros.training.drawing_ahead import draw_ahead
from mrcnet_ros.training.gradient_exchange import WAIT_S
from mrcnet_ros.training.loop import append_metrics, drop_metrics, learning_rate
from mrcnet_ros.training.trainer import train
from mrcnet_ros.training.warm_start import object_parameters, read_start

# a training whose processes are all killed in the middle of step 12, after the checkpoint of 8
KILLED = f'''
import os, pickle, signal, sys
from mrcnet_ros.training import composed_run, targets, trainer

config, stem = pickle.load(open(sys.argv[1], 'rb'))
trainer.LOG_EVERY, trainer.VALIDATION_SAMPLES = {LOG_EVERY}, {VALIDATION_SAMPLES}
rate = composed_run.learning_rate

def fatal(config, step):
    if step == 12:
        os.killpg(0, signal.SIGKILL)
    return rate(config, step)

composed_run.learning_rate = fatal
trainer.train(config, stem)
'''


@pytest.fixture(scope='module')
def whole_run(material: TrainConfig, small_logs: None) -> TrainConfig:
    """Train once without a stop."""
    assert train(material, random_stem()) == material.output / 'checkpoint.pt'
    return material


def assert_same_training(config: TrainConfig, other: TrainConfig) -> None:
    """Compare the last checkpoints and all metrics of two runs."""
    first, second = (load_checkpoint(c.output / 'checkpoint.pt', SPEC) for c in (config, other))
    for part in ('step', 'network', 'average', 'optimizer'):
        assert_same(first[part], second[part], part)
    assert metrics(config) == metrics(other)


def test_a_killed_training_goes_on_as_if_nothing_had_happened(whole_run, tmp_path):
    """After SIGKILL of all processes, the resumed run ends with the same bits and metrics."""
    config = dataclasses.replace(whole_run, output=tmp_path / 'killed')
    job = tmp_path / 'job'
    job.write_bytes(pickle.dumps((config, random_stem())))
    ended = subprocess.run([sys.executable, '-c', KILLED, str(job)], start_new_session=True,
                           timeout=600, check=False)
    assert ended.returncode == -signal.SIGKILL
    checkpoint = load_checkpoint(config.output / 'checkpoint.pt', SPEC)
    assert checkpoint['step'] == 8
    assert max(metrics(config)) == (12, False)  # it was past the checkpoint
    train(config, random_stem())
    assert_same_training(whole_run, config)

# a training of which one process does nothing, and the other waits for it
STUCK = '''
import os, pickle, sys, time
from pathlib import Path
from mrcnet_ros.training import targets, trainer

def go(self, stop_after):
    Path(sys.argv[2]).with_suffix(f'.{self.exchange.rank}').write_text(str(os.getpid()))
    if self.exchange.rank == int(sys.argv[3]):
        time.sleep(10_000)
    self.exchange.wait()

trainer.TrainingRun.go = go
if __name__ == '__main__':
    trainer.train(*pickle.load(open(sys.argv[1], 'rb')))
'''


@pytest.mark.parametrize('victim', [0, 1])
def test_no_training_process_outlives_one_that_was_killed(material, tmp_path, victim):
    """When parent or child is killed alone, the other ends long before its patience does."""
    config = dataclasses.replace(material, output=tmp_path / 'run')
    script, job, name = (tmp_path / n for n in ('stuck.py', 'job', 'process'))
    script.write_text(STUCK)
    job.write_bytes(pickle.dumps((config, random_stem())))
    training = subprocess.Popen([sys.executable, str(script), str(job), str(name), str(victim)],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    files = [name.with_suffix(f'.{rank}') for rank in (0, 1)]
    while training.poll() is None and not all(f.exists() and f.read_text() for f in files):
        time.sleep(0.1)
    os.kill(int(files[victim].read_text()), signal.SIGKILL)
    training.communicate(timeout=WAIT_S / 2)  # until nobody holds the other end of the pipe
    assert training.returncode != 0


def test_a_stopped_training_goes_on_as_if_nothing_had_happened(whole_run, tmp_path):
    """Stopped on purpose between two checkpoints and resumed, a run ends the same."""
    config = dataclasses.replace(whole_run, output=tmp_path / 'stopped', checkpoint=24)
    train(config, random_stem(), stop_after=16)
    assert load_checkpoint(config.output / 'checkpoint.pt', SPEC)['step'] == 16
    train(config, random_stem())
    # buffers are averaged when they are saved: checkpoints at 8 do not change the run
    assert_same_training(whole_run, config)


# a training in a process of its own, as the command starts it: composers are processes of a data
# loader, which should not share one with all that other tests have loaded
APART = '''
import pickle, sys
from mrcnet_ros.training import trainer

if __name__ == '__main__':
    config, stem, trainer.LOG_EVERY, trainer.VALIDATION_SAMPLES = pickle.load(
        open(sys.argv[1], 'rb'))
    trainer.train(config, stem)
'''


def train_apart(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Train in another process; return its last checkpoint."""
    script, job = folder / 'apart.py', folder / 'apart.job'
    script.write_text(APART)
    job.write_bytes(pickle.dumps((config, random_stem(), LOG_EVERY, VALIDATION_SAMPLES)))
    ended = subprocess.run([sys.executable, str(script), str(job)], capture_output=True,
                           text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr
    return load_checkpoint(config.output / 'checkpoint.pt', SPEC)


def test_composers_give_the_same_training(own, tmp_path):
    """Whoever composes the images, the weights and metrics are the same to the bit."""
    config = dataclasses.replace(own, output=tmp_path / 'run', composers=2)
    train_apart(config, tmp_path)
    assert_same_training(own, config)


def test_another_series_has_other_samples_of_the_same_views(own, tmp_path):
    """A training that goes on from another one renders nothing, and no image is as before."""
    views = sorted(own.cache.rglob('*.np*'))
    config = dataclasses.replace(own, output=tmp_path / 'run', series=1)
    train(config, random_stem())
    assert views and sorted(own.cache.rglob('*.np*')) == views
    first, other = metrics(own), metrics(config)
    assert first.keys() == other.keys()
    assert all(first[key]['loss'] != other[key]['loss'] for key in first if not key[1])


# a training whose composer dies at its second batch
KILLED_COMPOSER = '''
import os, pickle, signal, sys
from mrcnet_ros.training import composer

sample = composer.Composer.sample

def fatal(self, seed, index):
    if index >= 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return sample(self, seed, index)

composer.Composer.sample = fatal
if __name__ == '__main__':
    from mrcnet_ros.errors import MrcnetError
    from mrcnet_ros.training import targets, trainer
    try:
        trainer.train(*pickle.load(open(sys.argv[1], 'rb')))
    except MrcnetError as error:
        print(error)
'''


def test_a_composer_that_dies_is_an_error(own, tmp_path):
    """The training ends at once and says that a composing process failed."""
    config = dataclasses.replace(own, output=tmp_path / 'run', composers=1)
    script, job = tmp_path / 'killed.py', tmp_path / 'job'
    script.write_text(KILLED_COMPOSER)
    job.write_bytes(pickle.dumps((config, random_stem())))
    ended = subprocess.run([sys.executable, str(script), str(job)], capture_output=True,
                           text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr
    assert re.match(r'a process that composes images failed: .* exited', ended.stdout)


def test_a_training_ends_when_its_time_is_over(material, tmp_path, small_logs):
    """All processes stop at the same step, with hardly any rate left, and leave a checkpoint."""
    config = dataclasses.replace(material, output=tmp_path / 'run', steps=1_000_000, warmup=1,
                                 minutes=0.4, shared_minutes=True, learning_rate=0.01)
    began = time.monotonic()
    state = load_checkpoint(train(config, random_stem()), SPEC)
    assert time.monotonic() - began > 24
    assert 0 < state['step'] < config.steps
    rates = {group['lr'] for group in state['optimizer']['param_groups']}
    assert max(rates) < 0.2 * config.learning_rate


def test_a_training_whose_time_is_over_goes_on_with_more_of_it(own, tmp_path, small_logs):
    """Twice the minutes leave half of them, as the advice at the end promises."""
    short = dataclasses.replace(own, output=tmp_path / 'run', steps=1_000_000, minutes=0.02,
                                shared_minutes=True)
    first = load_checkpoint(train(short, random_stem()), SPEC)
    longer = dataclasses.replace(short, minutes=0.04)
    assert check_start(short, short.load_objects()) == pytest.approx(1.0)
    assert check_start(longer, longer.load_objects()) == pytest.approx(0.5)
    second = load_checkpoint(train(longer, random_stem()), SPEC)
    assert first['spent'] == second['spent'] == 1.0 and second['step'] > first['step']


def test_time_that_is_over_before_the_first_step_is_told(own, tmp_path):
    """The error says that what was drawn is kept."""
    config = dataclasses.replace(own, output=tmp_path / 'run', minutes=1e-6)
    with pytest.raises(SpecError, match=r'minutes were over before the first step.*again'):
        train(config, random_stem())


def test_a_training_goes_on_with_other_batches(own, tmp_path, small_logs):
    """What large batches began is continued by two processes with samples not seen before."""
    large = dataclasses.replace(own, output=tmp_path / 'run', composers=1, batch_size=16)
    assert train_apart(large, tmp_path)['samples'] == 8 * 16
    small = dataclasses.replace(large, composers=0, batch_size=4, processes=2, steps=16)
    state = load_checkpoint(train(small, random_stem()), SPEC)
    assert (state['step'], state['samples']) == (16, 8 * 16 + 8 * 8)
    assert metrics(small)[12, False]['samples'] == 8 * 16 + 4 * 8


def test_the_command_trains_with_changed_fields(own, tmp_path, small_logs, capsys):
    """Fields come from the options, the stem from a file, and pieces are written."""
    stem, config = tmp_path / 'stem.pt', tmp_path / 'train.yaml'
    torch.save(random_stem(), stem)
    write_whole_config(config, own)
    assert main(['train', str(config), '--stem', str(stem), '--set', f'output={tmp_path / "run"}',
                 '--set', 'steps=8', '--set', 'chances.occluded=0.5',
                 '--pieces', str(tmp_path / 'pieces')]) == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / 'pieces' / 'checkpoint.pt.00'), str(tmp_path / 'run' / 'checkpoint.pt')]
    state = load_checkpoint(tmp_path / 'run' / 'checkpoint.pt', SPEC)
    assert state['step'] == 8
    assert state['config']['chances'] == {'occluded': 0.5}


def test_views_that_cannot_be_drawn_ahead_are_told_where_they_are_needed(
        tmp_path, caplog, monkeypatch):
    """Processes that draw pass on what went wrong, and what they could draw is kept."""
    config = dataclasses.replace(write_material(tmp_path / 'ahead'), bodies=3)
    objects = config.load_objects()
    (config.models.parent / 'box.ply').write_text('no mesh')
    draw_ahead(config, objects, 4)
    assert not config.cache.exists()  # so few views are drawn sooner by one process
    monkeypatch.setattr(drawing_ahead, 'WORTH_VIEWS', 1)
    draw_ahead(config, objects, 4)
    assert 'box could not be drawn ahead' in caplog.text
    assert len(list(config.cache.glob('blob-*/done'))) == 1
    assert not list(config.cache.glob('box-*/done'))
    assert len(list(config.cache.glob('shape*-*/done'))) == config.bodies
    assert len(load_disturbers(config, slice(1, None, 2))) == 1


def test_training_lowers_the_loss(whole_run):
    """The losses of the last steps are below those of the first."""
    rows = metrics(whole_run)
    first, last = rows[LOG_EVERY, False], rows[24, False]
    late = [rows[step, False]['loss'] for step in (16, 20, 24)]  # one row is of few samples
    assert sum(late) / len(late) < 0.85 * first['loss']
    assert last['mask'] < first['mask']
    assert set(rows) == {(s, False) for s in range(4, 25, 4)} | {(8, True), (16, True), (24, True)}


def test_a_finished_training_is_left_alone(whole_run, caplog):
    """Training again after the last step changes nothing, and says what to do."""
    caplog.set_level('INFO')
    before = (whole_run.output / 'checkpoint.pt').read_bytes()
    lines = (whole_run.output / 'metrics.jsonl').read_text()
    train(dataclasses.replace(whole_run, processes=1), random_stem())
    assert (whole_run.output / 'checkpoint.pt').read_bytes() == before
    assert (whole_run.output / 'metrics.jsonl').read_text() == lines
    assert 'checkpoint.pt is at step 24, steps is 24; set steps higher' in caplog.text


def test_frozen_shared_layers_leave_known_objects_as_they_were(tiny_model: TinyModel, small_logs,
                                                              tmp_path):
    """Adding an object to a model moves its own rows and not one other weight."""
    entries = yaml.safe_load(tiny_model.config.models.read_text())
    entries.append({**entries[1], 'id': 9, 'label': 'newcomer'})
    more = tiny_model.meshes / 'more.yaml'
    more.write_text(yaml.safe_dump(entries))
    config = dataclasses.replace(
        tiny_model.config, output=tmp_path / 'run', models=more, init=tiny_model.path,
        freeze_shared=True, processes=1, steps=8)
    state = load_checkpoint(train(config, random_stem()), SPEC)
    start = read_start(tiny_model.path, SPEC).weights
    rows = object_parameters(MrcNet(spec=SPEC, objects=3))
    moved = 0
    for weights in (state['network'], state['average']):
        for name, value in start.items():
            if name in rows:
                assert torch.equal(weights[name][:2], value), name
                moved += int(not torch.equal(weights[name][2], value.mean(0)))
            elif value.is_floating_point():
                assert torch.equal(weights[name], value), name
    assert moved >= len(rows)


def test_the_learning_rate_warms_up_and_falls_to_nothing(material):
    """It rises linearly to its highest at the end of the warm-up, then falls like a cosine."""
    rates = [learning_rate(material, step) for step in range(material.steps + 1)]
    assert rates[:4] == pytest.approx([material.learning_rate * k / 4 for k in (1, 2, 3, 4)])
    assert rates[4] == material.learning_rate
    assert rates[14] == pytest.approx(material.learning_rate / 2)
    assert rates[24] == pytest.approx(0.0)
    assert all(a > b for a, b in pairwise(rates[4:]))


def test_metrics_of_steps_that_are_done_again_are_dropped(tmp_path):
    """A run that goes on from step 8 leaves one line for each step, also after a torn one."""
    for step in (4, 8, 12):
        append_metrics(tmp_path, {'step': step, 'loss': 1.0})
    with (tmp_path / 'metrics.jsonl').open('a') as file:
        file.write('{"step": 1')
    drop_metrics(tmp_path, 8)
    append_metrics(tmp_path, {'step': 12, 'loss': 2.0})
    rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    assert rows == [{'step': 4, 'loss': 1.0}, {'step': 8, 'loss': 1.0}, {'step': 12, 'loss': 2.0}]
